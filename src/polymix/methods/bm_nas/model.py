"""BM-NAS's network: reshaped features of backbones, Cells over them, one classifier.

Every feature is pooled to L positions, standardised by its moments on training rows (both once for
a whole bank: `native`, `pack`) and brought to C channels by a trained layer. The norms are over
channels, where the public code has batch norms: a row's output does not depend on its neighbours.
No ReLU stands between a feature and its Cells, as in the paper's text: Eq. 5 to 8 see both signs.

Source: Yin et al. 2022, section 3. Shapes: B batch, L positions, C channels, N Cells, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from polymix.data.schema import Schema
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import Block
from polymix.methods.bm_nas.operations import FusionCell, operation_class
from polymix.methods.bm_nas.space import BMNASGenotype
from polymix.methods.mfas.model import scale_of
from polymix.nn import catalog
from polymix.nn.absent import AbsentToken
from polymix.nn.by_modality import ByModality
from polymix.nn.encoder import Encoder
from polymix.nn.model import Model
from polymix.nn.tokens import Features, Moments, Output, Pool, Tokens
from polymix.registry import register

VERSION = 1


class Standardize(nn.Module):
    """Standardises a feature's channels; the moments are kept with the weights.

    Args:
        channels: of the feature.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, tokens: Tokens) -> Tokens:
        """A feature to the same shape, each channel with mean 0 and deviation 1."""
        return Tokens((tokens.x - self.mean) * self.scale)

    @torch.no_grad()
    def calibrate(self, mean: Tensor, deviation: Tensor) -> None:
        """Take the moments, `(C,)` each."""
        self.mean.copy_(mean)
        self.scale.copy_(scale_of(mean, deviation))


class CellModel(Model):
    """What the derived network and the supernet share: all but how Cells are wired.

    No parameter has the name and shape of one of a backbone's own, encoders aside, so that its
    kept weights bring the encoder and nothing else.

    Args:
        backbones: an encoder per modality.
        features: of each backbone, those that are nodes.
        used: the nodes that a Cell reads.
        channels: C.
        length: L.
        dropout: on reshaped features.
        cells: the Cells.
        schema: what comes in and out.

    Raises:
        GenotypeError: it cannot be built on this schema; every problem is told.
    """

    calibrated = True

    def __init__(
        self,
        backbones: Sequence[tuple[str, Block]],
        features: Sequence[Sequence[int]],
        used: Iterable[int],
        channels: int,
        length: int,
        dropout: float,
        cells: Sequence[FusionCell],
        schema: Schema,
    ) -> None:
        super().__init__()
        made = make_backbones(backbones, features, schema)
        self.pool = Pool(length, "max")
        self.columns = {name: schema.index(name) for name in made}
        self.encoders = ByModality(made)
        asked = dict(zip(made, features, strict=True))
        self.wants = {name: tuple(indices) for name, indices in asked.items()}
        widths = {name: [made[name].widths[i] for i in indices] for name, indices in asked.items()}
        self.standards = ByModality(
            {name: nn.ModuleList(map(Standardize, each)) for name, each in widths.items()}
        )
        # The upper level's first nodes: all features of the first modality, then of the next.
        flat = [(name, width) for name, each in widths.items() for width in each]
        read = set(used)
        tokens: dict[str, list[AbsentToken]] = {name: [] for name in made}
        for node, (name, width) in enumerate(flat):
            # No token is trained that no Cell reads: it would have no gradient.
            trained = schema[name].optional and node in read
            tokens[name].append(AbsentToken((length, width), trained))
        self.absent = ByModality({name: nn.ModuleList(each) for name, each in tokens.items()})
        self.reshape = nn.ModuleDict(
            {
                str(node): nn.Sequential(
                    nn.Linear(flat[node][1], channels),
                    nn.LayerNorm(channels),
                    nn.Dropout(dropout),
                )
                for node in sorted(read)
            }
        )
        self.cells = nn.ModuleList(cells)
        # All Cells go to the classifier, so that none is left out of the gradient.
        wide = len(cells) * channels
        self.norm = nn.LayerNorm(wide)
        self.classify = nn.Linear(wide * length, schema.target.outputs)

    def pack(self, features: Features) -> Features:
        """Pooled features `(B, L, C_i)`, standardised."""
        return {
            name: [
                standard(tokens)
                for standard, tokens in zip(self.standards[name], each, strict=True)  # type: ignore[call-overload]
            ]
            for name, each in features.items()
        }

    @torch.no_grad()
    def calibrate(self, moments: Moments) -> None:
        """Standardise by these moments."""
        for name, standards in self.standards.items():
            for standard, (mean, deviation) in zip(standards, moments[name], strict=True):  # type: ignore[call-overload]
                standard.calibrate(mean, deviation)

    def wire(self, n: int, nodes: Mapping[int, Tensor]) -> Tensor:  # noqa: ARG002
        """A Cell's output `(B, L, C)`, from the nodes before it."""
        raise TypeError(f"{type(self).__name__} must define wire")

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Features, and presence by modality `(B, k)`, none where all are there, to outputs."""
        nodes: dict[int, Tensor] = {}  # (B, L, C) each; features, then Cells
        node = 0
        for name, column in self.columns.items():
            there = None if present is None else present[:, column]
            for token, tokens in zip(self.absent[name], features[name], strict=True):  # type: ignore[call-overload]
                if str(node) in self.reshape:
                    nodes[node] = self.reshape[str(node)](token(tokens, there).x)
                node += 1
        outputs = []
        # `node` counts all features by now, read or not: Cell n is node `node + n`.
        for n in range(len(self.cells)):
            nodes[node + n] = self.wire(n, nodes)
            outputs.append(nodes[node + n])
        # (B, L, N·C), flattened over positions for the classifier.
        joined = torch.relu(self.norm(torch.cat(outputs, -1)))
        return Output(self.classify(joined.flatten(1)), {})


@register
class BMNASModel(CellModel):
    """The model of a `BMNASGenotype`: what no Cell reads is not built.

    Args:
        genotype: what to build.
        schema: what comes in and out.

    Raises:
        GenotypeError: it cannot be built on this schema; every problem is told.
    """

    builds = BMNASGenotype

    def __init__(self, genotype: BMNASGenotype, schema: Schema) -> None:
        self.inputs = [cell.inputs for cell in genotype.cells]
        self.steps = [[step.inputs for step in cell.steps] for cell in genotype.cells]
        check_operations({s.operation for c in genotype.cells for s in c.steps})
        count = len(genotype.nodes)
        cells = [
            FusionCell(
                [[step.operation] for step in cell.steps],
                genotype.channels,
                len(cell.inputs),
                genotype.dropout,
            )
            for cell in genotype.cells
        ]
        super().__init__(
            genotype.backbones,
            genotype.features,
            {i for inputs in self.inputs for i in inputs if i < count},
            genotype.channels,
            genotype.length,
            genotype.dropout,
            cells,
            schema,
        )

    @classmethod
    def versions(cls, genotype: BMNASGenotype) -> dict[str, int]:
        """Of the method, its operations and its encoders."""
        blocks = {block.name: catalog.version(block) for _, block in genotype.backbones}
        used = {step.operation for cell in genotype.cells for step in cell.steps}
        operations = {f"operation {name}": operation_class(name).VERSION for name in sorted(used)}
        return {"bm-nas": VERSION, **operations, **blocks}

    def wire(self, n: int, nodes: Mapping[int, Tensor]) -> Tensor:
        """A Cell's output, from the nodes that its genotype names."""
        out: Tensor = self.cells[n](
            [nodes[i] for i in self.inputs[n]],
            lambda m, inner: [inner[i] for i in self.steps[n][m]],
        )
        return out


def check_operations(names: Iterable[str]) -> None:
    """Raise a GenotypeError that names every operation that there is not."""
    problems: list[str] = []
    for name in sorted(names):
        try:
            operation_class(name)
        except GenotypeError as error:
            problems += error.problems
    if problems:
        raise GenotypeError(problems)


def make_backbones(
    backbones: Sequence[tuple[str, Block]], features: Sequence[Sequence[int]], schema: Schema
) -> dict[str, Encoder]:
    """The encoders by modality; every problem of all of them is told."""
    made, problems = {}, []
    for (name, block), indices in zip(backbones, features, strict=True):
        if name not in schema.names:
            problems.append(f"no modality '{name}': {did_you_mean(name, schema.names)}")
            continue
        try:
            made[name] = catalog.make_encoder(block, schema[name])
        except GenotypeError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
            continue
        count = len(made[name].widths)
        if max(indices) >= count:
            problems.append(f"{name}: {block} has features 0 to {count - 1}, but got {indices[-1]}")
    if problems:
        raise GenotypeError(problems)
    return made
