"""A fitted model over fixed views of each modality, as a genotype."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from polymix.genotype import Block, Genotype
from polymix.registry import register

LEARNERS = ("gradient-boosting", "extra-trees", "linear", "kernel", "network", "tuned")


@register
class TabularGenotype(Genotype):
    """A learner on views of the modalities, and on what other such models predict.

    Attributes:
        views: what describes each modality: `token-ids`, `columns`, `codes`, `tf-idf`, `summary`
            or a pretrained encoder, frozen; a modality may have several. One that keeps its tokens
            is what the learner `tuned` tunes the layers above of.
        learner: one of `LEARNERS`, with its options.
        transform: of a regression's target, undone at prediction: none, `log`, or `normal`, by
            its quantiles.
        base: models whose predictions are further columns (stacked generalisation, Wolpert 1992):
            of training rows those made out of fold.
    """

    kind: ClassVar[str] = "tabular"

    views: tuple[tuple[str, Block], ...] = Field(min_length=1)
    learner: Block
    transform: Literal["none", "log", "normal"] = "none"
    base: tuple[TabularGenotype, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(set(self.views)) != len(self.views):
            raise ValueError(f"a view is used once, but got {self.views}")
        if self.learner.name not in LEARNERS:
            known = ", ".join(LEARNERS)
            raise ValueError(f"no learner '{self.learner.name}': choose one of {known}")
        if any(one.base for one in self.base):
            raise ValueError("a base model has no base models of its own")
        return self

    @property
    def every_view(self) -> tuple[tuple[str, Block], ...]:
        """The views of this model and of its base, each once."""
        parts = [self.views, *(one.views for one in self.base)]
        return tuple(dict.fromkeys(view for views in parts for view in views))

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that are read, each once."""
        return tuple(dict.fromkeys(name for name, _ in self.every_view))

    @property
    def family(self) -> str:
        """Those of one learner, on views alone or on other models too."""
        return f"{self.learner.name} on models" if self.base else self.learner.name

    @property
    def learns(self) -> str:
        """The learner's name."""
        return self.learner.name

    def __str__(self) -> str:
        views: dict[str, list[str]] = {}
        for name, block in self.views:
            views.setdefault(name, []).append(block.name)
        parts = [f"{name}:{'+'.join(blocks)}" for name, blocks in views.items()]
        parts += [f"({one})" for one in self.base]
        target = "" if self.transform == "none" else f" of the target's {self.transform}"
        return f"{' + '.join(parts)} → {self.learner}{target}"
