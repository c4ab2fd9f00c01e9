"""Pictures and samples: frames, conversion, decoding, encoding. Knows no network."""
