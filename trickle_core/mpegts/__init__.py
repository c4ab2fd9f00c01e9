"""MPEG-TS without I/O: bytes to access units and back.

What may come in: bytes, whatever they are. What goes out: ``AccessUnit``, one coded picture or audio
frame, with its time. Nothing here decodes.
"""

from __future__ import annotations

from trickle_core.mpegts.audio import (
    AudioHeader,
    Unreadable,
    adts_header,
    opus_head,
    opus_samples,
    parse_adts,
    parse_mpeg_audio,
)
from trickle_core.mpegts.demuxer import Demuxer
from trickle_core.mpegts.findings import Damage, DamageReason, ProgramMap, TsEvent
from trickle_core.mpegts.muxer import Muxer
from trickle_core.mpegts.nal import (
    ParameterSets,
    is_key,
    nal_type,
    nal_units,
    parameter_sets,
    with_delimiter,
)
from trickle_core.mpegts.timeline import Timeline, TimelineSettings
from trickle_core.mpegts.units import (
    CLOCK_RATE,
    CLOCK_WRAP,
    AccessUnit,
    Codec,
    ElementaryStream,
)

__all__ = [
    "CLOCK_RATE",
    "CLOCK_WRAP",
    "AccessUnit",
    "AudioHeader",
    "Codec",
    "Damage",
    "DamageReason",
    "Demuxer",
    "ElementaryStream",
    "Muxer",
    "ParameterSets",
    "ProgramMap",
    "Timeline",
    "TimelineSettings",
    "TsEvent",
    "Unreadable",
    "adts_header",
    "is_key",
    "nal_type",
    "nal_units",
    "opus_head",
    "opus_samples",
    "parameter_sets",
    "parse_adts",
    "parse_mpeg_audio",
    "with_delimiter",
]
