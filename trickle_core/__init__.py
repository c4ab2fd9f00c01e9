"""Every decision about the trickle protocol, and its container format, without any I/O.

What comes in: facts (events) and the time. What goes out: orders (commands) and answers.
"""
