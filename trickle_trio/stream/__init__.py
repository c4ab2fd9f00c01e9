"""The nursery that joins the stations of one stream, and supervises them.

The way of a frame, a file a station: ingest, decode, process, encode, egress; sound goes past them or
through its own. What comes in: a subscription and a processor. What goes out: a publication, events,
data. Control, events and data run beside the media and never hold it up.
"""
