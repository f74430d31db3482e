"""Modules from outside that register parts: named by a person, or by an installed package.

A run folder records the names of the modules it was made with, and never has them imported: it is
data. A person names them again.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from polymix.errors import PolymixError, UsageError

GROUP = "polymix"
"""The entry points' group: each names a module to import."""

_imported: dict[str, None] = {}
_discovered = False


def imported() -> tuple[str, ...]:
    """What `load` imported so far: modules by name, files by their whole path."""
    return tuple(_imported)


def load(names: Sequence[str | Path]) -> None:
    """Import modules, by name or as `.py` files; what they register is then known by its name.

    A module's name is looked up in the working folder too, after all that is installed.

    Raises:
        UsageError: some cannot be imported; each is named with its cause.
    """
    problems = []
    for name in map(str, names):
        try:
            _load(name)
        except PolymixError as error:
            problems += [f"--import {name}: {problem}" for problem in error.problems]
        except Exception as error:
            problems.append(f"--import {name}: {_cause(error)}")
    if problems:
        raise UsageError(problems)


def recorded(name: str) -> str:
    """A name as a run records it: a file by its whole path."""
    return str(Path(name).resolve()) if name.endswith(".py") else name


def _load(name: str) -> None:
    if recorded(name) in _imported:
        return
    if name.endswith(".py"):
        _load_file(Path(name).resolve())
    else:
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)  # last: it must not hide what is installed
        importlib.invalidate_caches()
        importlib.import_module(name)
    _imported[recorded(name)] = None


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise UsageError("there is no such file")
    if path.stem in sys.modules:
        raise UsageError(f"a module '{path.stem}' is imported already: rename the file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise


def discover() -> None:
    """Import, once, what installed packages name as entry points of the group `polymix`.

    One that cannot be imported is told as a warning: polymix works without it.
    """
    global _discovered
    if _discovered:
        return
    _discovered = True  # before: what is imported may look parts up itself
    for point in metadata.entry_points(group=GROUP):
        try:
            importlib.import_module(point.module)
        except Exception as error:
            package = f" of {point.dist.name}" if point.dist else ""
            warnings.warn(
                f"entry point '{point.name}'{package} was left out: importing {point.module} "
                f"failed with {_cause(error)}",
                RuntimeWarning,
                stacklevel=2,
            )


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class Imports:
    """Stands first among what is sent to another process: unpickled, it imports the same there."""

    def __reduce__(self) -> tuple[Callable[[Sequence[str]], None], tuple[tuple[str, ...]]]:
        """What is called there, and with what."""
        return load, (imported(),)
