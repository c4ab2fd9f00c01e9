"""Pictures and samples: frames, conversion, decoding, encoding, and what can be published.

What comes in and goes out: access units. Everything blocks, is used by one thread at a time, and knows
neither network nor Trio.
"""
