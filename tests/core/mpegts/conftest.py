"""No test here asserts how long something takes, and Hypothesis must not either."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
