"""MPEG-TS without I/O: bytes to access units and back."""
