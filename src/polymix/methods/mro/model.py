"""The model of a mask: its cross-modal paths, averaged, and one head (MRO, section 3.2).

Paths do not see each other before the average, and the head is linear. So one pass of the full
network has every path's output, and every mask's logits are means of paths' logits:
`mask_logits` scores all masks from one pass. Shapes: B batch, T tokens, D channels of the paths,
P paths taken, M masks, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from polymix.data.schema import Schema
from polymix.methods.mro.path import CrossModalPath
from polymix.methods.mro.space import MROGenotype, Path
from polymix.nn import catalog
from polymix.nn.absent import AbsentToken
from polymix.nn.by_modality import ByModality
from polymix.nn.model import Model, blank, make_encoders
from polymix.nn.tokens import Features, Output
from polymix.registry import register

Watch = Callable[[int, Tensor, Tensor | None], None]
"""A function that is told a path's place, its attention weights `(B, H, T, S)`, and which of the
asked tokens are there."""


class Asked(NamedTuple):
    """A modality's tokens as paths see them: `(B, T, D)`, and which are there `(B, T)`, or all.

    All of them answer; the one that the row is about asks, or all.
    """

    x: Tensor
    there: Tensor | None
    focus: int | None = None

    def asking(self) -> tuple[Tensor, Tensor | None]:
        """The tokens that ask, `(B, 1 or T, D)`, and which of them are there."""
        if self.focus is None:
            return self.x, self.there
        here = slice(self.focus, self.focus + 1)
        return self.x[:, here], None if self.there is None else self.there[:, here]


@register
class MROModel(Model):
    """The model of an `MROGenotype`: nothing is built but what its paths use.

    An absent modality is fed its absent-token; its paths stay. Of a modality whose rows are about
    one token, that one asks, and the others are there to answer.

    Args:
        genotype: what to build.
        schema: what comes in and out.

    Raises:
        GenotypeError: it cannot be built on this schema; every problem is told.
    """

    builds = MROGenotype

    def __init__(self, genotype: MROGenotype, schema: Schema) -> None:
        super().__init__()
        self.taken: list[Path] = genotype.paths
        used = {name for path in self.taken for name in path}
        made = {n: e for n, e in make_encoders(genotype.encoders, schema).items() if n in used}
        self.columns = {name: schema.index(name) for name in made}
        self.pads = {name: encoder.pads for name, encoder in made.items()}
        self.focus = {name: (schema[name].focus, schema[name].shape[0]) for name in made}
        self.encoders = ByModality(made)
        self.wants = {name: (len(e.widths) - 1,) for name, e in made.items()}
        self.absent = ByModality(
            {
                name: nn.ModuleList([AbsentToken(e.channels, schema[name].optional, e.pads)])
                for name, e in made.items()
            }
        )
        dim = genotype.dim
        self.align = ByModality(
            {n: nn.Linear(e.channels, dim) for n, e in made.items() if e.channels != dim}
        )
        self.dropout = nn.Dropout(genotype.dropout)
        self.layers = nn.ModuleDict(
            {
                f"{i}>{j}": CrossModalPath(dim, genotype.heads, genotype.ff, genotype.dropout)
                for i, j in self.taken
            }
        )
        self.head = nn.Linear(dim, schema.target.outputs)

    @classmethod
    def versions(cls, genotype: MROGenotype) -> dict[str, int]:
        """Of the method and its encoders."""
        blocks = {block.name: catalog.version(block) for _, block in genotype.encoders}
        return {"mro": 2, "cross-modal": CrossModalPath.VERSION, **blocks}

    def encode(self, inputs: Mapping[str, Tensor]) -> Features:
        """Inputs to features; modalities that are not given are left out."""
        given = {name: inputs[name] for name in self.encoders if name in inputs}
        return {
            name: [self.encoders[name](x)]  # the last feature, as in `wants`
            for name, x in given.items()
        }

    def asked(self, features: Features, present: Tensor | None) -> dict[str, Asked]:
        """Each modality's tokens, absent ones replaced, at the paths' width."""
        found = {}
        for name in features:
            tokens = features[name][0]
            here = None if present is None else present[:, self.columns[name]]
            # A padding encoder gives zeros where there is no token: (B, T).
            there = (tokens.x != 0).any(-1) if self.pads[name] else None
            if there is not None and here is not None:
                # An absent modality has no padding: its absent-token stands in every place.
                there = there | ~here[:, None]
            x = self.absent[name][0](tokens, here).x  # type: ignore[index]
            x = self.align[name](x) if name in self.align else x
            focus, length = self.focus[name]
            # An encoder may give other tokens than it is given: then all of them ask.
            found[name] = Asked(self.dropout(x), there, focus if x.shape[1] == length else None)
        return found

    def paths(
        self,
        features: Features,
        present: Tensor | None = None,
        only: Sequence[int] | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Outputs of the paths, `(P, B, D)`; no other path is computed.

        Args:
            features: by modality; those of the paths' modalities suffice.
            present: by modality `(B, k)`, none where all are there.
            only: places of the paths wanted among those taken; all where not given.
            watch: is told each path's attention.
        """
        return self.routes(self.asked(features, present), only, watch)

    def routes(
        self,
        tokens: Mapping[str, Asked],
        only: Sequence[int] | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Outputs of the paths, `(P, B, D)`, from what `asked` returned; see `paths`."""
        found = []
        for place in range(len(self.taken)) if only is None else only:
            i, j = self.taken[place]
            layer = self.layers[f"{i}>{j}"]
            assert isinstance(layer, CrossModalPath)
            (query, there), answers = tokens[i].asking(), tokens[j]
            pooled, weights = layer.attend(query, answers.x, there, answers.there)
            if watch is not None:
                watch(place, weights.detach(), answers.there)
            found.append(pooled)
        return torch.stack(found)

    def mask_logits(self, paths: Tensor, masks: Tensor) -> Tensor:
        """Logits of masks `(M, B, K)` from outputs of paths `(P, B, D)` and masks `(M, P)`.

        The head is linear: a mean of outputs has the mean of their logits.
        """
        each = nn.functional.linear(paths, self.head.weight)
        # A mask's mean over its paths is a product with its row, divided by its number of paths.
        shares = masks.to(each.dtype)
        shares = shares / shares.sum(1, keepdim=True)
        logits: Tensor = torch.tensordot(shares, each, 1) + self.head.bias
        return logits

    def gradient_variance(self, place: int) -> float:
        """Eq. 1's Var_g: the variance of a path's gradients, over all its parameters."""
        i, j = self.taken[place]
        layer = self.layers[f"{i}>{j}"]
        parts = [p.grad.flatten() for p in layer.parameters() if p.grad is not None]
        return float(torch.cat(parts).var())

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Features, and presence by modality `(B, k)`, none where all are there, to outputs."""
        return Output(self.head(self.paths(features, present).mean(0)), {})


class PartFlops(NamedTuple):
    """FLOPs of one row's forward pass through each part of a network."""

    tokens: dict[str, int]
    paths: list[int]
    head: int

    def of(self, taken: Sequence[Path], mask: Sequence[int]) -> int:
        """FLOPs of a mask's network: its paths, the encoders of their modalities, the head."""
        places = [place for place, bit in enumerate(mask) if bit]
        used = {name for place in places for name in taken[place]}
        return sum(self.tokens[n] for n in used) + sum(self.paths[p] for p in places) + self.head


@torch.no_grad()
def part_flops(model: MROModel, schema: Schema) -> PartFlops:
    """Count a network's parts, once for all masks."""
    mode = model.training
    model.eval()
    weight = model.head.weight
    inputs = {
        name: blank(schema, name).to(weight.device, weight.dtype)
        if schema[name].kind != "text"
        else blank(schema, name).to(weight.device)
        for name in model.encoders
    }
    tokens, paths = {}, []
    for name, x in inputs.items():
        with FlopCounterMode(display=False) as counter:
            model.asked(model.encode({name: x}), None)
        tokens[name] = int(counter.get_total_flops())
    asked = model.asked(model.encode(inputs), None)
    for i, j in model.taken:
        with FlopCounterMode(display=False) as counter:
            query, there = asked[i].asking()
            out = model.layers[f"{i}>{j}"](query, asked[j].x, there, asked[j].there)
        paths.append(int(counter.get_total_flops()))
    with FlopCounterMode(display=False) as counter:
        model.head(out)
    model.train(mode)
    return PartFlops(tokens, paths, int(counter.get_total_flops()))
