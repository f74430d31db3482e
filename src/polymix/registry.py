"""The one way to make a part known by its name: `register`.

A kind of part (encoders, strategies, metrics, …) is a `Parts`: it says which objects are of the
kind and what such an object must have. polymix's own parts register themselves as anybody's do,
when they are first looked up.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

from polymix import built_in, plugins
from polymix.errors import UsageError, did_you_mean

P = TypeVar("P")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

_kinds: list[Parts[Any]] = []


class Parts(Mapping[str, P]):
    """The parts of one kind, by name; polymix's own come first and are imported when asked for.

    Args:
        noun: the kind, with its article: "an encoder".
        what: what one is: "a class of polymix.Encoder".
        accepts: whether an object is of the kind.
        problems: what an object of the kind lacks, a line each.
        name: the attribute, or a function, that names an object.
        modules: the modules of polymix's own, by name.
        beside: kinds that share the names.
        of_classes: whether the parts are classes, not objects.
    """

    def __init__(
        self,
        noun: str,
        what: str,
        accepts: Callable[[Any], bool],
        problems: Callable[[Any], Iterable[str]],
        *,
        name: str | Callable[[Any], Any] = "name",
        modules: Mapping[str, str] | None = None,
        beside: Iterable[Parts[Any]] = (),
        of_classes: bool = True,
    ) -> None:
        self.noun, self.what, self.of_classes = noun, what, of_classes
        self.accepts, self._problems, self._name = accepts, problems, name
        self._modules = dict(modules or {})
        self._found: dict[str, P] = {}
        self._beside = list(beside)
        for other in self._beside:
            other._beside.append(self)
        _kinds.append(self)

    def __getitem__(self, name: str) -> P:
        if name not in self._found and name in self._modules:
            importlib.import_module(self._modules[name])
        if name not in self._found:
            plugins.discover()
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        plugins.discover()
        return iter(dict.fromkeys([*self._modules, *self._found]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        if name in self._modules or name in self._found:
            return True
        plugins.discover()
        return name in self._found

    def unknown(self, name: str) -> str:
        """A sentence for a name that is not there."""
        return f"no {self.noun.partition(' ')[2]} '{name}': {did_you_mean(name, self)}"

    def name_of(self, part: Any) -> Any:
        """What a part calls itself."""
        return self._name(part) if callable(self._name) else getattr(part, self._name, None)

    def add(self, part: P, replace: bool) -> list[str]:
        """Take a part in; or say all that is wrong with it."""
        name = self.name_of(part)
        problems = list(self._problems(part))
        field = self._name if isinstance(self._name, str) else "name"
        if not isinstance(name, str) or not name:
            if field == self._name or not problems:
                problems.insert(0, f"no {field}: {self.noun} is known by its '{field}'")
        elif not NAME.fullmatch(name):
            problems.insert(
                0, f"{field}={name!r}: letters, digits, '-', '_' and '.' make a name, 100 at most"
            )
        elif owner := self._owner(name, part):
            if self._modules.get(name) == _home(part):
                return []  # what was replaced before it was ever looked up
            if not replace or any(name in other._all() for other in self._beside):
                problems.append(f"the name '{name}' is taken by {owner}")
        if not problems:
            self._found[name] = part
        return problems

    def _all(self) -> set[str]:
        return {*self._modules, *self._found}

    def _owner(self, name: str, part: P) -> str | None:
        """Who else has a name. A class that was defined again, in a notebook's cell, is itself."""
        for parts in [self, *self._beside]:
            found = parts._found.get(name)
            if found is not None and found is not part and _identity(found) != _identity(part):
                return f"{_home(found)}.{getattr(found, '__qualname__', name)}"
            module = parts._modules.get(name)
            if found is None and module not in (None, _home(part)):
                return f"polymix's own, of {module}"
        return None


def _home(part: Any) -> str:
    return str(getattr(part, "__module__", ""))


def _identity(part: Any) -> tuple[Any, ...]:
    return (_home(part), part.__qualname__) if inspect.isclass(part) else (id(part),)


@overload
def register(part: P, *, replace: bool = ...) -> P: ...
@overload
def register(*, replace: bool = ...) -> Callable[[P], P]: ...
def register(part: Any = None, *, replace: bool = False) -> Any:
    """Make a part of your own known by its name, wherever names are given; also a decorator.

    Encoders, mixer stacks, fusion functions, BM-NAS's operations, genotypes and their models,
    strategies and datasets are classes; a metric is an object.

    Args:
        part: the class or object.
        replace: whether it takes the place of another of its kind and name.

    Returns:
        The part, as it is.

    Raises:
        UsageError: it is of no kind that polymix knows, or lacks something; all reasons at once.

    Examples:
        >>> from polymix import Encoder, register
        >>> @register
        ... class Nameless(Encoder):
        ...     pass
        Traceback (most recent call last):
        polymix.errors.UsageError: ...
    """
    if part is None:
        return lambda found: register(found, replace=replace)
    kind = _kind_of(part)
    shown = part.__qualname__ if inspect.isclass(part) else repr(part)
    if kind is None:
        raise UsageError(f"{shown[:100]} cannot be registered: {_why(part)}")
    problems = kind.add(part, replace)
    if problems:
        raise UsageError([f"{shown[:100]} is no {kind.noun.partition(' ')[2]} yet: {p}"
                          for p in problems])  # fmt: skip
    return part


def _kind_of(part: Any) -> Parts[Any] | None:
    found = [kind for kind in _kinds if kind.accepts(part)]
    if not found:
        for module in built_in.KINDS:
            importlib.import_module(module)
        found = [kind for kind in _kinds if kind.accepts(part)]
    return found[0] if found else None


def _why(part: Any) -> str:
    for kind in _kinds:
        if kind.of_classes and not inspect.isclass(part) and kind.accepts(type(part)):
            return f"it is an object of {type(part).__qualname__}; register the class"
    return "it is no part. " + "; ".join(f"{kind.noun} is {kind.what}" for kind in _kinds)


def classes_of(base: type) -> Callable[[Any], bool]:
    """Whether an object is a class of a base."""
    return lambda part: inspect.isclass(part) and issubclass(part, base)


def lacking(cls: type, base: type, attributes: Mapping[str, str], methods: Iterable[str]) -> (
    Iterator[str]
):  # fmt: skip
    """What a class lacks of its base's promises.

    Args:
        cls: the class.
        base: its base, whose methods must be overridden.
        attributes: those that must be set, and what each is.
        methods: those that must be defined.
    """
    for name, meaning in attributes.items():
        if getattr(cls, name, None) in (None, "", (), frozenset()):
            yield f"no {name}: {meaning}"
    version = getattr(cls, "VERSION", None)
    if version is not None and (type(version) is not int or version < 1):
        yield f"VERSION={version!r}: a whole number from 1 on"
    for name in methods:
        inherited = inspect.getattr_static(base, name, None)
        if inspect.getattr_static(cls, name, None) in (None, inherited):
            yield f"no method {name}"
    if inspect.isabstract(cls):
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        yield f"abstract methods are missing: {', '.join(missing)}"


def presets(cls: type, *fields: str) -> Iterator[str]:
    """What is wrong with a class's presets: mappings of options by preset, `small` among them."""
    for field in fields:
        found = getattr(cls, field, None)
        if found is None:
            yield f"no {field}: options by preset, such as {{'small': {{}}}}"
        elif not isinstance(found, Mapping) or "small" not in found:
            yield f"{field} has no 'small'"


VERSION = {"VERSION": "a whole number, raised when outputs change for the same weights"}


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """What is registered inside is forgotten outside; for tests."""
    before = [(kind, dict(kind._found)) for kind in _kinds]
    try:
        yield
    finally:
        for kind, found in before:
            # polymix's own stay: their modules are not imported anew.
            own = {n: p for n, p in kind._found.items() if kind._modules.get(n) == _home(p)}
            kind._found = {**own, **found}
