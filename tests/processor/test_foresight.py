"""Which handlers will ask for tensors, told from their code."""

from __future__ import annotations

import functools
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trickle_trio.processor import as_processor, foresight
from trickle_trio.processor.foresight import MOST, asks_for_tensors


def passthrough(frame: Any) -> Any:
    return frame


def from_array(frame: Any) -> Any:
    return frame.replace_tensor(255 - frame.to_ndarray())


def direct(frame: Any) -> Any:
    return frame.replace_tensor(frame.tensor * 0.5)


async def in_async(frame: Any) -> Any:
    return frame.to_tensor(layout="CHW")


def imports_inside(frame: Any) -> Any:
    import torch  # noqa: PLC0415  as users do

    return torch.nn.functional.relu(frame)


def by_helper(frame: Any) -> Any:
    return helper(frame)


def helper(frame: Any) -> Any:
    return deeper(frame)


def deeper(frame: Any) -> Any:
    return frame.tensor


def in_lambda(frame: Any) -> Any:
    return [*map(lambda each: each.tensor, [frame])]  # noqa: C417  a function inside a function


def loops(frame: Any) -> Any:
    return loops_too(frame)


def loops_too(frame: Any) -> Any:
    return loops(frame)


def wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any) -> Any:
        return function(*args)

    return wrapped


class Model:
    def handle(self, frame: Any) -> Any:
        return self._step(frame)

    def _step(self, frame: Any) -> Any:
        return self._static(frame)

    @staticmethod
    def _static(frame: Any) -> Any:
        return frame.tensor

    def idle(self, frame: Any) -> Any:
        return frame

    def __call__(self, frame: Any) -> Any:
        return self._step(frame)


class Heir(Model):
    def _step(self, frame: Any) -> Any:
        return frame


@pytest.mark.parametrize(
    "handler",
    [
        direct,
        in_async,
        imports_inside,
        by_helper,
        in_lambda,
        wrapping(direct),
        functools.partial(direct),
        Model().handle,
        Model(),
        lambda frame: frame.tensor,
    ],
)
def test_what_speaks_of_tensors_will_ask_for_them(handler: Callable[..., Any]) -> None:
    assert asks_for_tensors(handler)


@pytest.mark.parametrize(
    "handler",
    [
        passthrough,
        from_array,
        loops,
        Model().idle,
        Heir().handle,
        Heir(),
        print,
        functools.partial(passthrough),
        object(),
    ],
)
def test_what_does_not_will_not(handler: Any) -> None:
    assert not asks_for_tensors(handler)


def test_code_without_end_is_not_read_to_its_end() -> None:
    namespace: dict[str, Any] = {"__name__": "endless"}
    for number in range(2 * MOST):
        exec(f"def f{number}(frame): return f{number + 1}(frame)", namespace)  # noqa: S102  many of them
    exec(f"def f{2 * MOST}(frame): return frame.tensor", namespace)  # noqa: S102
    assert not asks_for_tensors(namespace["f0"])
    assert asks_for_tensors(namespace[f"f{MOST + 50}"])


def test_the_collector_leaves_out_what_was_imported_and_works_on() -> None:
    program = (
        "import gc\n"
        "from trickle_trio.processor.foresight import import_tensors\n"
        "import_tensors()\n"
        "frozen = gc.get_freeze_count()\n"
        "import_tensors()\n"
        "print(frozen > 50_000, gc.get_freeze_count() == frozen, gc.isenabled())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.split() == ["True", "True", "True"]


@pytest.mark.parametrize("fault", ["ImportError", "OSError"])
async def test_torch_that_cannot_be_imported_is_left_to_the_frame_that_needs_it(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library of CUDA's that is missing is an OSError."""
    (tmp_path / "broken_tensors.py").write_text(f"raise {fault}('libcudnn.so')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(foresight, "TENSORS", "broken_tensors")
    await as_processor(direct).prepare()
    gc.unfreeze()  # nothing came that stays


def prepared(handler: str) -> list[str]:
    """Whether torch is there after preparing, and what the handler's first call still imports."""
    program = (
        "import sys, trio, numpy\n"
        "from trickle_trio.processor import as_processor\n"
        "from trickle_trio.media.frames import VideoFrame\n"
        f"async def handler(frame): {handler}\n"
        "async def main():\n"
        "    handlers = as_processor(handler)\n"
        "    await handlers.prepare()\n"
        "    print('torch' in sys.modules)\n"
        "    await handlers.video(VideoFrame.from_ndarray(numpy.zeros((4, 4, 3), 'uint8')))\n"
        "    print('torch' in sys.modules)\n"
        "trio.run(main)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return result.stdout.split()


def test_preparing_brings_torch_in_for_those_who_will_ask_and_for_no_others() -> None:
    assert prepared("return frame.replace_tensor(frame.tensor * 2)") == ["True", "True"]
    assert prepared("return frame.replace_tensor(frame.to_ndarray())") == ["False", "False"]
