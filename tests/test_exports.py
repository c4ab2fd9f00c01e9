"""The package's front door: every name is there, and asking for one does not open all the rooms."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

import trickle_trio

HEAVY = {"torch", "av", "numpy", "quart", "hypercorn"}


@pytest.mark.parametrize("name", trickle_trio.__all__)
def test_every_name_is_there(name: str) -> None:
    assert name in dir(trickle_trio)
    getattr(trickle_trio, name)


PROMISED = {
    *("serve", "StreamProcessor", "FrameProcessor", "StreamServer", "create_app", "TrickleApp"),
    *("TrickleClient", "SimpleTrickleClient", "TrickleSubscriber", "TricklePublisher"),
    *("video_handler", "audio_handler", "model_loader", "param_updater"),
    *("on_stream_start", "on_stream_stop", "VideoFrame", "AudioFrame", "VideoOutput"),
    *("AudioOutput", "Withheld", "VideoProcessingResult", "open_subscription", "open_publication"),
}
"""What users of today's library import, and what the project's own documents show."""


def test_what_is_promised_is_there() -> None:
    assert set(trickle_trio.__all__) >= PROMISED


@pytest.mark.parametrize("room", ["frames", "decorators"])
def test_the_rooms_that_users_know_hold_the_same_things(room: str) -> None:
    module = importlib.import_module(f"trickle_trio.{room}")
    assert set(module.__all__) <= PROMISED
    for name in module.__all__:
        assert getattr(module, name) is getattr(trickle_trio, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = trickle_trio.nothing_of_the_kind


@pytest.mark.parametrize(("given", "threads"), [({}, None), ({"OMP_NUM_THREADS": "7"}, "7")])
def test_torch_is_told_to_leave_a_core_unless_the_user_says_otherwise(
    given: dict[str, str], threads: str | None
) -> None:
    program = "import os, trickle_trio\nprint(os.environ['OMP_NUM_THREADS'])"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == (threads or str(max(1, (os.cpu_count() or 1) - 1)))


def test_dir_names_what_was_not_imported_yet() -> None:
    assert set(trickle_trio.__all__) <= set(dir(trickle_trio))


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("from trickle_trio import open_subscription, open_publication", HEAVY),
        ("from trickle_trio import serve_relay", HEAVY),
        ("import trickle_trio.cli.main", HEAVY | {"trio", "httpx"}),
        ("from trickle_trio import VideoFrame, StreamProcessor, serve", {"torch"}),
        (
            "import trickle_core.subscriber, trickle_core.publisher, trickle_core.relay",
            HEAVY | {"trio", "httpx"},
        ),
    ],
)
def test_what_is_not_needed_is_not_imported(program: str, absent: set[str]) -> None:
    check = f"{program}\nimport sys\nprint(*({absent!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
