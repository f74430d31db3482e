"""The genotype: the description of one architecture; frozen, hashable, JSON both ways, no torch."""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polymix import built_in
from polymix.errors import GenotypeError, describe, did_you_mean
from polymix.registry import Parts, classes_of, lacking

Scalar = bool | int | float | str | tuple[int, ...]
"""What a block's option may be."""

_MODEL = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def is_model_name(text: str) -> bool:
    """Whether a text is a hub id, `model` or `owner/model`, and so cannot lead to a folder."""
    return _MODEL.fullmatch(text) is not None and ".." not in text and "--" not in text


class Block(BaseModel):
    """A building block by name, at a preset, with options that depart from the preset.

    Attributes:
        name: the block's name, e.g. `mlp-mixer`.
        preset: one of the block's presets.
        options: departures from the preset, sorted by name.

    >>> Block.of("mlp-mixer", channels=32)
    mlp-mixer(channels=32)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(max_length=100)]
    preset: Annotated[str, Field(max_length=100)] = "small"
    options: tuple[tuple[str, Scalar], ...] = ()

    @classmethod
    def of(cls, name: str, preset: str = "small", **options: Scalar) -> Block:
        """A block, options given as keywords."""
        return cls(name=name, preset=preset, options=tuple(sorted(options.items())))

    def __str__(self) -> str:
        parts = [self.preset] if self.preset != "small" else []
        parts += [f"{key}={textwrap.shorten(str(value), 40)}" for key, value in self.options]
        return f"{self.name}({', '.join(parts)})" if parts else self.name

    __repr__ = __str__


class Genotype(BaseModel):
    """Base of all genotypes.

    A subclass sets `kind`, which names it in JSON, adds fields, and is registered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ClassVar[str]

    def to_json(self) -> str:
        """Canonical JSON: the same genotype always gives the same text."""
        fields = {"kind": self.kind, **self.model_dump(mode="json")}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    def draw(self) -> str:
        """The architecture as text for people, a drawing where a kind has one."""
        return str(self)

    def parts(self) -> tuple[Genotype, ...]:
        """The genotypes that it is put together from, each trained by itself; none for most."""
        return ()

    @property
    def family(self) -> str:
        """Genotypes of one family are estimated alike: those of a kind, or finer."""
        return self.kind

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are read, each once; nothing where a kind does not say."""
        return tuple(dict.fromkeys(name for part in self.parts() for name in part.modalities))

    @property
    def learns(self) -> str:
        """What learns: two that learn alike differ in their inputs and settings alone."""
        return "network"

    @property
    def digest(self) -> str:
        """Sixteen hex digits that stand for the genotype."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


GENOTYPES: Parts[type[Genotype]] = Parts(
    "a genotype",
    "a class of polymix.genotype.Genotype",
    classes_of(Genotype),
    lambda cls: lacking(cls, Genotype, {}, ()),
    name="kind",
    modules=built_in.GENOTYPES,
)


def parse_genotype(text: str, where: str = "genotype") -> Genotype:
    """Read any genotype from JSON.

    Raises:
        GenotypeError: the text is not a genotype's; every problem is listed.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GenotypeError(f"{where}: not JSON ({error})") from None
    if not isinstance(fields, dict):
        raise GenotypeError(f"{where}: a genotype is a JSON object, but got {text[:60]!r}")
    paths = list(_paths(fields))
    if paths:
        raise GenotypeError(
            [f"{where}: a genotype names models by their hub id, not {path!r}" for path in paths]
        )
    kind = str(fields.pop("kind", ""))
    if kind not in GENOTYPES:
        raise GenotypeError(
            f"{where}: no genotype of kind '{kind[:60]}': {did_you_mean(kind[:60], GENOTYPES)}"
        )
    try:
        return GENOTYPES[kind].model_validate_json(json.dumps(fields))
    except ValidationError as error:
        raise GenotypeError([f"{where}: {describe(p)}" for p in error.errors()]) from None


def _paths(value: object) -> Iterator[str]:
    """What a block's option `model` names that is no model's name."""
    if isinstance(value, dict):
        for each in value.values():
            yield from _paths(each)
    elif isinstance(value, list):
        match value:
            case ["model", str(name)] if not is_model_name(name):
                yield name[:100]
        for each in value:
            yield from _paths(each)
