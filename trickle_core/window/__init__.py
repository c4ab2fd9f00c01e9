"""The parts of a channel's window: segments, their readers and writers, and who waits for whom.

What comes in: bytes, pulls, the time. What goes out: pieces of shared memory, and wakings.
"""
