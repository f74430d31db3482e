"""MFAS's fusion network: h_l = σ(W_l [x_m; y_n; h_{l-1}]) on pooled features of backbones.

Every feature of a backbone is pooled over its positions, standardised by its moments on training
rows, and padded with zeros to the backbone's widest (all of that is `pack`, done once for a whole
bank). So every network of one length and width has weights of one shape, whatever it reads: W_l
can be inherited, and a cohort is trained in a few products (`MFASStack`).

Source: Pérez-Rúa et al. 2019, section 3. Shapes: B batch, F features, C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymix.data.schema import Schema
from polymix.errors import GenotypeError, did_you_mean
from polymix.methods.mfas.space import MFASGenotype
from polymix.methods.mfas.stack import MFASStack
from polymix.nn import catalog
from polymix.nn.absent import AbsentToken
from polymix.nn.by_modality import ByModality
from polymix.nn.encoder import Encoder
from polymix.nn.model import Model
from polymix.nn.stack import ModelStack
from polymix.nn.tokens import Features, Moments, Output, Pool, Tokens
from polymix.registry import register

VERSION = 2
SIGMA: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "leaky-relu": functional.leaky_relu,
    "sigmoid": torch.sigmoid,
}


def scale_of(mean: Tensor, deviation: Tensor) -> Tensor:
    """The factor that standardises a channel: 1/deviation, or 1 where it never varies."""
    flat = deviation <= 1e-6 * (1 + mean.abs())
    return torch.where(flat, torch.ones_like(deviation), 1 / deviation.clamp(min=1e-12))


class Standardize(nn.Module):
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
        # Zero columns up to the widest: W_l has one shape, whichever feature it reads.
        padded = [functional.pad(t.pooled(), (0, self.wide - t.x.shape[2])) for t in tokens]
        return Tokens((torch.stack(padded, 1) - self.mean) * self.scale)

    @torch.no_grad()
    def calibrate(self, moments: list[tuple[Tensor, Tensor]]) -> None:
        """Take the moments of each feature, `(C_i,)` each."""
        for i, (mean, deviation) in enumerate(moments):
            self.mean[i, : len(mean)] = mean.to(self.mean)
            self.scale[i, : len(mean)] = scale_of(mean, deviation).to(self.scale)


@register
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

    builds = MFASGenotype

    def __init__(self, genotype: MFASGenotype, schema: Schema) -> None:
        super().__init__()
        made = _backbones(genotype, schema)
        self.columns = {name: schema.index(name) for name in made}
        self.encoders = ByModality(made)
        self.wants = {name: tuple(range(len(e.widths))) for name, e in made.items()}
        self.standards = ByModality({name: Standardize(e.widths) for name, e in made.items()})
        self.absent = ByModality(
            {
                name: nn.ModuleList(
                    [AbsentToken((len(e.widths), max(e.widths)), schema[name].optional)]
                )
                for name, e in made.items()
            }
        )
        self.layers, self.width = genotype.layers, genotype.width
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

    @classmethod
    def versions(cls, genotype: MFASGenotype) -> dict[str, int]:
        """Of the method and its encoders."""
        blocks = {block.name: catalog.version(block) for _, block in genotype.backbones}
        return {"mfas": VERSION, **blocks}

    @classmethod
    def stack_key(cls, genotype: MFASGenotype, schema: Schema) -> Hashable:  # noqa: ARG003
        """What decides the shapes."""
        return genotype.backbones, len(genotype.layers), genotype.width, genotype.multitask

    def pack(self, features: Features) -> Features:
        """Features `(B, T_i, C_i)` to one table a modality, `(B, F, C)`."""
        return {name: [self.standards[name](tokens)] for name, tokens in features.items()}

    def calibrate(self, moments: Moments) -> None:
        """Standardise by these moments."""
        for name, standard in self.standards.items():
            assert isinstance(standard, Standardize)
            standard.calibrate(list(moments[name]))

    def head_weights(self, epoch: int) -> tuple[float, dict[str, float]]:  # noqa: ARG002
        """CE(ẑ_xy) + CE(ẑ_x) + CE(ẑ_y) of the final training, unweighted; else the first alone."""
        return 1.0, dict.fromkeys(self.heads, 1.0)

    @property
    def linears(self) -> list[nn.Linear]:
        """W_l and its bias, of every layer."""
        return [linear for linear in self.fusion if isinstance(linear, nn.Linear)]

    @property
    def head(self) -> nn.Module:
        """The classifier of the last layer, by which lengths differ."""
        (head,) = self.classify.values()
        return head

    def absent_table(self, name: str) -> Tensor:
        """A modality's absent-tokens, `(F, C)`."""
        token: Tensor = self.absent[name][0].token  # type: ignore[index]
        return token

    def _read(self, features: Features, present: Tensor | None, name: str, index: int) -> Tensor:
        """A feature or, for rows without the modality, its absent-token: `(B, C)`."""
        x = features[name][0].x[:, index]
        if present is None:
            return x
        # As wide as the feature is: padding stays zero, and nothing that reads it is trained.
        standard = self.standards[name]
        assert isinstance(standard, Standardize)
        width = standard.widths[index]
        token = functional.pad(self.absent_table(name)[index, :width], (0, x.shape[1] - width))
        return torch.where(present[:, self.columns[name], None], x, token)

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Tables, and presence by modality `(B, k)`, none where all are there, to outputs."""
        hidden: list[Tensor] = []  # h_{l-1}, `(B, width)`; nothing before the first layer
        for linear, (reads, activation) in zip(self.linears, self.layers, strict=True):
            chosen = zip(self.columns, reads, strict=True)
            parts = [self._read(features, present, name, index) for name, index in chosen]
            hidden = [SIGMA[activation](linear(torch.cat([*parts, *hidden], 1)))]  # Eq. (1)
        unimodal = {
            name: head(self._read(features, present, name, len(self.wants[name]) - 1))
            for name, head in self.heads.items()
        }
        return Output(self.head(hidden[0]), unimodal)

    def stack(self, models: Sequence[Model]) -> ModelStack:
        """Networks of one length and width: see `MFASStack`."""
        return MFASStack([m for m in models if isinstance(m, MFASModel)])


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
