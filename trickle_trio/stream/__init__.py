"""The nursery that joins the stations of one stream, and supervises them."""
