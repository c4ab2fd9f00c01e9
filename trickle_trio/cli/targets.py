"""Finding the user's processor, ``package.module:name`` or ``path/app.py:name``, and making a service of it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from trickle_trio.service import Service

_HOUSE: Final = Path(__file__).parents[2]
_OURS: Final = tuple(f"{_HOUSE / package}{os.sep}" for package in ("trickle_core", "trickle_trio"))

_INSTALLED: Final = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
"""Where libraries lie, ours and the user's. What they generate lies in no file: ``<attrs generated ...>``."""


def load_target(target: str) -> object:
    """Import what a target names.

    A target that names nothing is bad usage. When the user's module raises, its own traceback is
    shown, without our frames, and the command fails.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise click.BadParameter(
            f"{target!r}: package.module:name or path/app.py:name is expected", param_hint="TARGET"
        )
    module = _import(place)
    found: object = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise click.BadParameter(f"{place} has no {name!r}", param_hint="TARGET") from None
    return found


def _import(place: str) -> ModuleType:
    """Import a module by its name or its file, with the user's folder on the path as ``python
    app.py`` has it.
    """
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise click.BadParameter(f"{place}: no such file", param_hint="TARGET")
    sys.path.insert(0, str(Path(place).resolve().parent if is_file else Path.cwd()))
    try:
        return _import_file(Path(place)) if is_file else importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and f"{place}.".startswith(f"{error.name}."):
            raise click.BadParameter(f"there is no module {place!r}", param_hint="TARGET") from None
        _show(error)
    except Exception as error:  # noqa: BLE001  the user's module may raise anything; shown as theirs
        _show(error)
    raise click.ClickException(f"{place} cannot be imported")


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise click.BadParameter(f"{path}: not a Python file", param_hint="TARGET")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def service_of(target: object, **options: Any) -> Service:
    """Make a service of a processor that was found.

    What is no processor, or is told what cannot be, is bad usage. Where the user's code raises while one is made, its
    traceback is shown, as when it is imported.
    """
    from trickle_trio.service import serve

    try:
        return serve(target, **options)
    except Exception as error:
        if _is_theirs(error):
            _show(error)
            raise click.ClickException("the processor cannot be made") from error
        if isinstance(error, TypeError | ValueError):
            raise click.UsageError(str(error)) from error
        raise


def _is_theirs(error: BaseException) -> bool:
    """Whether the user's code raised this: something of it stands between our call and the end."""
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    return not all(_is_ours(file) or file.startswith(("<", *_INSTALLED)) for file in files)


def _show(error: BaseException) -> None:
    """The user's traceback: from the first frame that is neither ours nor the import
    machinery's.
    """
    trace = error.__traceback__
    while trace and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    text = traceback.format_exception(type(error), error, trace, chain=True)
    click.echo("".join(text), err=True, nl=False)


def _is_ours(filename: str) -> bool:
    return filename.startswith((*_OURS, "<frozen importlib")) or "importlib" in Path(filename).parts
