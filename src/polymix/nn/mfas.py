"""MFAS's fusion network: h_l = σ(W_l [x_m; y_n; h_{l-1}]) on pooled features of backbones.

Every feature of a backbone is pooled over its positions, standardised by its moments on training
rows, and padded with zeros to the backbone's widest (all of that is `pack`, done once for a whole
bank). So every network of one length and width has weights of one shape; which feature enters a
layer, and its activation, are buffers, and a cohort is a few batched products.

Source: Pérez-Rúa et al. 2019, section 3. Shapes: B batch, F features, C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymix.data.schema import Schema
from polymix.errors import GenotypeError, did_you_mean
from polymix.nn import catalog
from polymix.nn.absent import AbsentToken
from polymix.nn.by_modality import ByModality
from polymix.nn.encoder import Encoder
from polymix.nn.model import Features, Model, Moments, Output
from polymix.nn.tokens import Pool, Tokens
from polymix.space.mfas import MFASGenotype

VERSION = 1
SLOPES = {"relu": 0.0, "leaky-relu": 0.01, "sigmoid": 0.0}


def scale_of(mean: Tensor, deviation: Tensor) -> Tensor:
    """What standardises: 1/deviation, and 1 where a channel never varies."""
    flat = deviation <= 1e-6 * (1 + mean.abs())
    return torch.where(flat, torch.ones_like(deviation), 1 / deviation.clamp(min=1e-12))


class Standard(nn.Module):
    """Pools, standardises and pads the features of one backbone.

    The moments are buffers that are kept with the weights: a prediction standardises as the
    training did. A channel that never varies is only centred.

    Args:
        widths: C of each feature.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths, self.wide = widths, max(widths)
        self.register_buffer("mean", torch.zeros(len(widths), self.wide))
        self.register_buffer("scale", torch.ones(len(widths), self.wide))

    def forward(self, tokens: list[Tokens]) -> Tokens:
        """Features `(B, T_i, C_i)` to a table `(B, F, C)`."""
        padded = [functional.pad(t.pooled(), (0, self.wide - t.x.shape[2])) for t in tokens]
        return Tokens((torch.stack(padded, 1) - self.mean) * self.scale)

    @torch.no_grad()
    def calibrate(self, moments: list[tuple[Tensor, Tensor]]) -> None:
        """Take the moments of each feature, `(C_i,)` each."""
        for i, (mean, deviation) in enumerate(moments):
            self.mean[i, : len(mean)] = mean.to(self.mean)
            self.scale[i, : len(mean)] = scale_of(mean, deviation).to(self.scale)


class MFASModel(Model):
    """The model of an `MFASGenotype`.

    No module is named as a backbone's own are, encoders aside, so that a backbone's kept weights
    (`MixModel`'s: `head`, `absent`) bring the encoder and nothing else.

    Args:
        genotype: what to build.
        schema: what comes in and out.

    Raises:
        GenotypeError: it cannot be built on this schema; every problem is told.
    """

    pool = Pool(1)
    calibrated = True
    reads: Tensor
    slopes: Tensor
    smooth: Tensor

    def __init__(self, genotype: MFASGenotype, schema: Schema) -> None:
        super().__init__()
        made = _backbones(genotype, schema)
        self.columns = {name: schema.index(name) for name in made}
        self.encoders = ByModality(made)
        self.wants = {name: tuple(range(len(e.widths))) for name, e in made.items()}
        self.standards = ByModality({name: Standard(e.widths) for name, e in made.items()})
        self.absent = ByModality(
            {
                name: nn.ModuleList(
                    [AbsentToken((len(e.widths), max(e.widths)), schema[name].optional)]
                )
                for name, e in made.items()
            }
        )
        # Not kept: inherited weights must not bring another genotype's choice with them.
        self.register_buffer("reads", torch.tensor([f for f, _ in genotype.layers]), False)
        slopes = torch.tensor([SLOPES[a] for _, a in genotype.layers])
        self.register_buffer("slopes", slopes, False)
        smooth = torch.tensor([a == "sigmoid" for _, a in genotype.layers])
        self.register_buffer("smooth", smooth, False)
        width, wide = genotype.width, sum(max(e.widths) for e in made.values())
        self.fusion = nn.ModuleList(
            nn.Linear(wide + (width if number else 0), width)
            for number in range(len(genotype.layers))
        )
        # A head of its own for each length: what it reads is another thing.
        outputs = schema.target.outputs
        self.classify = nn.ModuleDict({f"h{len(genotype.layers)}": nn.Linear(width, outputs)})
        own = made if genotype.multitask else {}
        self.heads = ByModality({n: nn.Linear(max(e.widths), outputs) for n, e in own.items()})

    def pack(self, features: Features) -> Features:
        """Features `(B, T_i, C_i)` to one table a modality, `(B, F, C)`."""
        return {name: [self.standards[name](tokens)] for name, tokens in features.items()}

    def calibrate(self, moments: Moments) -> None:
        """Standardise by these moments."""
        for name, standard in self.standards.items():
            assert isinstance(standard, Standard)
            standard.calibrate(list(moments[name]))

    def head_weights(self, epoch: int) -> tuple[float, dict[str, float]]:  # noqa: ARG002
        """CE(ẑ_xy) + CE(ẑ_x) + CE(ẑ_y) of the final training, unweighted; else the first alone."""
        return 1.0, dict.fromkeys(self.heads, 1.0)

    def _chosen(self, name: str, table: Tensor, present: Tensor | None, index: Tensor) -> Tensor:
        """Features of a table `(B, F, C)`, by their indices `(L,)`: `(L, B, C)`."""
        rows, count, channels = table.shape
        # An embedding copies whole features, for a stack of models too; a gather goes one number
        # at a time.
        flat = table.transpose(0, 1).reshape(count, rows * channels)
        chosen = functional.embedding(index, flat).reshape(-1, rows, channels)
        if present is None:
            return chosen
        token: Tensor = self.absent[name][0].token  # type: ignore[index]
        there = present[:, self.columns[name], None]
        return torch.where(there, chosen, token.index_select(0, index)[:, None])

    def _entering(self, features: Features, present: Tensor | None) -> Sequence[Tensor]:
        """W_l [x_m; y_n] + b of every layer, `(B, width)` each.

        All layers at once, and apart from W_l h_{l-1}: what does not depend on the layer below is
        one product a modality, and is asked for no gradient with respect to the features.
        """
        total = torch.stack([linear.bias for linear in self._layers])[:, None]
        start = 0
        for m, name in enumerate(self.columns):
            table = features[name][0].x
            chosen = self._chosen(name, table, present, self.reads[:, m])
            end = start + table.shape[2]
            weights = torch.stack([linear.weight[:, start:end] for linear in self._layers])
            total = total + chosen @ weights.transpose(1, 2)
            start = end
        return total.unbind(0)

    @property
    def _layers(self) -> list[nn.Linear]:
        return [linear for linear in self.fusion if isinstance(linear, nn.Linear)]

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Tables, and presence by modality `(B, k)`, none where all are there, to outputs."""
        hidden: Tensor | None = None
        for number, z in enumerate(self._entering(features, present)):
            if hidden is not None:
                before = self._layers[number].weight[:, -hidden.shape[-1] :]
                z = z + functional.linear(hidden, before)  # Eq. (1)
            # ReLU and leaky ReLU are one function of two slopes.
            slope = torch.where(z.detach() > 0, torch.ones_like(z), self.slopes[number])
            hidden = torch.where(self.smooth[number], torch.sigmoid(z), slope * z)
        (classify,) = self.classify.values()
        unimodal = {}
        for name, head in self.heads.items():
            table = features[name][0].x
            last = torch.tensor([table.shape[1] - 1], device=table.device)
            unimodal[name] = head(self._chosen(name, table, present, last)[0])
        return Output(classify(hidden), unimodal)


def _backbones(genotype: MFASGenotype, schema: Schema) -> dict[str, Encoder]:
    made, problems = {}, []
    for m, (name, block) in enumerate(genotype.backbones):
        if name not in schema.names:
            problems.append(f"no modality '{name}': {did_you_mean(name, schema.names)}")
            continue
        try:
            made[name] = catalog.make_encoder(block, schema[name])
        except GenotypeError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
            continue
        count, asked = len(made[name].widths), max(f[m] for f, _ in genotype.layers)
        if asked >= count:
            problems.append(f"{name}: {block} has features 0 to {count - 1}, but got {asked}")
    if problems:
        raise GenotypeError(problems)
    return made
