"""What the figures were measured on."""

from __future__ import annotations

import os
import platform


def usable_cpus() -> int:
    """Those that this process may use, where the system tells."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def machine_name() -> str:
    """The system and its processor, as ``Linux x86_64``."""
    return f"{platform.system()} {platform.machine()}"
