"""The outside: the control API, the dashboard, and ``serve()``.

HTTP requests come in, ``Streams`` decides, and each stream is seen only through ``trickle_trio.stream``.
"""

from __future__ import annotations

from trickle_trio.service.app import TrickleApp, create_app
from trickle_trio.service.hosting import Address
from trickle_trio.service.running import Service
from trickle_trio.service.serve import serve

__all__ = ["Address", "Service", "TrickleApp", "create_app", "serve"]
