"""Models in two halves: `encode` rows to features, `fuse` features to outputs.

Training on raw rows and on banked features differ only in who supplies the features.
Shapes: B batch, T tokens, C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from polymix import built_in, registry
from polymix.data.batch import Source
from polymix.data.schema import Schema
from polymix.errors import GenotypeError, did_you_mean
from polymix.genotype import Block, Genotype
from polymix.nn import catalog
from polymix.nn.absent import AbsentToken
from polymix.nn.by_modality import ByModality
from polymix.nn.encoder import Encoder
from polymix.nn.encoders.mlp import PooledNetwork
from polymix.nn.stack import ModelStack, VmapStack
from polymix.nn.tokens import Features, Moments, Output, Pool, Tokens
from polymix.registry import Parts, classes_of, register
from polymix.space.mix import MixGenotype


class Model(nn.Module):
    """Base of all models. A subclass is built from `(genotype, schema)`, and is registered.

    Attributes:
        builds: the class of genotypes it is the model of.
        encoders: one encoder per modality.
        absent: absent-tokens by modality, one per feature that `fuse` reads.
        wants: the features that `fuse` reads, by modality: indices into the encoder's list.
        pool: what features are pooled by, in the bank too; none keeps all tokens.
        calibrated: whether the model is to be told its features' moments before it is trained.
        fitted: whether `fit` makes it what it is, in place of gradient steps.
        uncounted: FLOPs of a row's pass that are no tensor product's: comparisons, sums.

    What `fuse` reads may be prepared without anything trained (pooled, standardised, padded): that
    is `pack`'s, so that the bank can do it once for all rows and all models on the same features.
    It may depend on the encoders, `wants` and `calibrate`, not on the rest of a genotype.
    """

    builds: ClassVar[type[Genotype]]
    encoders: nn.ModuleDict
    absent: nn.ModuleDict
    wants: Mapping[str, tuple[int, ...]]
    pool: Pool | None = None
    calibrated: bool = False
    fitted: bool = False
    uncounted: int = 0

    @classmethod
    def versions(cls, genotype: Any) -> dict[str, int]:  # noqa: ARG003
        """The versions of the code that a genotype uses, by name: part of the ledger's key."""
        raise TypeError(f"{cls.__name__} must define versions")

    @classmethod
    def stack_key(cls, genotype: Any, schema: Schema) -> Hashable | None:  # noqa: ARG003
        """Equal for genotypes whose models differ in parameters and buffers alone.

        Such models, free of dropout and batch statistics, are trained in one stacked computation.
        None, the default, is for a model that is trained by itself.
        """
        return None

    @classmethod
    def fit_seconds(cls, genotype: Any, schema: Schema, rows: int) -> float | None:  # noqa: ARG003
        """About how long a `fitted` model's fit to `rows` rows takes; none for gradient steps."""
        return None

    @classmethod
    def one_core(cls, genotype: Any) -> bool:  # noqa: ARG003
        """Whether a `fitted` model's fit keeps one core busy, and may run beside others.

        Such a fit draws from torch's own stream only within `seeds.torch_stream`.
        """
        return False

    @classmethod
    def frozen_blocks(cls, genotype: Any) -> set[tuple[str, Block]]:  # noqa: ARG003
        """The encoders, by modality, that are never trained, where all others are."""
        return set()

    def native(self, inputs: Mapping[str, Tensor]) -> Features:
        """Inputs by modality (see `Kind`) to the features wanted, pooled as the bank has them.

        What the bank has of frozen encoders passes as it is.
        """
        return {
            name: self.native_of(name, x) if isinstance(x := inputs[name], Tensor) else list(x)
            for name in self.encoders
        }

    def native_of(self, name: str, x: Tensor) -> list[Tokens]:
        """One modality's features of `native`."""
        encoder = self.encoders[name]
        assert isinstance(encoder, Encoder)
        every = encoder.features(x)
        wanted = [every[i] for i in self.wants[name]]
        return [self.pool(t) for t in wanted] if self.pool else wanted

    def pack(self, features: Features) -> Features:
        """Features as `native` gives them to what `fuse` reads."""
        return features

    def encode(self, inputs: Mapping[str, Tensor]) -> Features:
        """Inputs by modality (see `Kind`) to what `fuse` reads, by modality."""
        return self.pack(self.native(inputs))

    def calibrate(self, moments: Moments) -> None:
        """Take notice of the features' means and deviations over training rows, before training."""

    def fuse(self, features: Features, present: Tensor | None) -> Output:  # noqa: ARG002
        """Features, and presence by modality `(B, k)`, none where all are there, to outputs."""
        raise TypeError(f"{type(self).__name__} must define fuse")

    def forward(self, inputs: Mapping[str, Tensor], present: Tensor | None = None) -> Output:
        """Inputs by modality to outputs."""
        return self.fuse(self.encode(inputs), present)

    def stack(self, models: Sequence[Model]) -> ModelStack:
        """This model and others of its shape (see `polymix.nn.build.stack_key`), side by side."""
        return VmapStack(models)

    def head_weights(self, epoch: int) -> tuple[float, dict[str, float]]:  # noqa: ARG002
        """The loss weights of the fused head and of each modality's, at an epoch from 1."""
        return 1.0, {}

    def take(self, position: int, tensors: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Copy what fits of kept weights, by name and shape; the others are left.

        Args:
            position: theirs, of the weights that a proposal starts from.
            tensors: the weights.
        """
        load_matching(self, tensors)

    def fit(
        self,
        source: Source,  # noqa: ARG002
        train: np.ndarray,  # noqa: ARG002
        val: np.ndarray,  # noqa: ARG002
        seed: int,  # noqa: ARG002
        deadline: float | None,  # noqa: ARG002
    ) -> bool:
        """Fit a `fitted` model to training rows; validation rows say when it is enough.

        Args:
            source: supplies batches of raw rows.
            train: training rows `(N,)`.
            val: validation rows.
            seed: of whatever is drawn.
            deadline: on `time.monotonic`'s clock; none for no limit.

        Returns:
            Whether there was time for all of it.
        """
        raise TypeError(f"{type(self).__name__} must define fit")

    @torch.no_grad()
    def set_absent_tokens(self, means: Mapping[str, Sequence[Tensor]]) -> None:
        """Set the absent-tokens that no row could train to the features' means."""
        for name, tokens in self.absent.items():
            assert isinstance(tokens, nn.ModuleList)
            for token, mean in zip(tokens, means[name], strict=True):
                assert isinstance(token, AbsentToken)
                token.set_mean(mean)


def load_matching(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors that fit a model's, by name and shape; the others are left."""
    own = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in own and own[name].shape == tensor.shape:
                own[name].copy_(tensor)


MODELS: Parts[type[Model]] = Parts(
    "a model",
    "a class of polymix.nn.model.Model",
    classes_of(Model),
    lambda cls: registry.lacking(
        cls, Model, {"builds": "the class of genotypes it is the model of"}, ["versions", "fuse"]
    ),
    name=lambda cls: getattr(getattr(cls, "builds", None), "kind", None),
    modules=built_in.MODELS,
)
"""By the kind of genotype."""


@register
class MixModel(Model):
    """The model of a `MixGenotype`: M2-Mixer's shape, with any encoder, function and network.

    Args:
        genotype: what to build.
        schema: what comes in and out.

    Raises:
        GenotypeError: it cannot be built on this schema.
    """

    builds = MixGenotype

    def __init__(self, genotype: MixGenotype, schema: Schema) -> None:
        super().__init__()
        self.loss = genotype.loss
        built = make_encoders(genotype.encoders, schema)
        self.columns = {name: schema.index(name) for name in built}
        self.encoders = ByModality(built)
        self.wants = {name: (len(e.widths) - 1,) for name, e in built.items()}
        self.absent = ByModality(
            {
                name: nn.ModuleList([AbsentToken(e.channels, schema[name].optional, e.pads)])
                for name, e in built.items()
            }
        )
        widths = {name: e.channels for name, e in built.items()}
        outputs = schema.target.outputs
        self.combine = catalog.fusion_class(genotype.fusion)() if genotype.fusion else None
        pooled = genotype.network is not None and genotype.network.name == "mlp"
        token_network = genotype.network is not None and not pooled
        self.align = self._alignment(widths, token_network)
        aligned = {n: max(widths.values()) if n in self.align else w for n, w in widths.items()}
        one_width = self.combine is None or self.combine.same_channels or token_network
        width = max(aligned.values()) if one_width else sum(aligned.values())
        self.network: nn.Module | None = None
        self.pooled_network = pooled
        if genotype.network is not None and pooled:
            self.network = catalog.make_pooled_network(genotype.network, width)
            width = self.network.channels
        elif genotype.network is not None:
            tokens = self._fused_tokens(schema)
            self.network = catalog.make_network(genotype.network, tokens, width)
        self.head = nn.Linear(width, outputs)
        heads = widths if genotype.loss.multi_head else {}
        self.heads = ByModality({name: nn.Linear(w, outputs) for name, w in heads.items()})

    @classmethod
    def versions(cls, genotype: MixGenotype) -> dict[str, int]:
        """Of its encoders, function and network."""
        found = {block.name: catalog.version(block) for _, block in genotype.encoders}
        if genotype.network and genotype.network.name == PooledNetwork.name:
            found["pooled " + PooledNetwork.name] = PooledNetwork.VERSION
        elif genotype.network:
            found[genotype.network.name] = catalog.version(genotype.network)
        if genotype.fusion:
            found[genotype.fusion] = catalog.fusion_class(genotype.fusion).VERSION
        return found

    @classmethod
    def frozen_blocks(cls, genotype: MixGenotype) -> set[tuple[str, Block]]:
        """The pretrained encoders, unless their options say otherwise."""
        return {
            (name, block)
            for name, block in genotype.encoders
            if catalog.encoder_class(block.name) in catalog.PRETRAINED.values()
            and dict(block.options).get("frozen", True)
        }

    def _alignment(self, widths: Mapping[str, int], token_network: bool) -> nn.ModuleDict:
        """Linear maps to one width, for the modalities that need one."""
        if self.combine is None or not (self.combine.same_channels or token_network):
            return ByModality()
        most = max(widths.values())
        return ByModality({n: nn.Linear(w, most) for n, w in widths.items() if w != most})

    @torch.no_grad()
    def _fused_tokens(self, schema: Schema) -> int:
        counts = [token_count(self.encoders[n], schema, n) for n in self.encoders]
        if self.combine is None or self.combine.same_channels:
            return min(counts)
        return sum(counts)

    def head_weights(self, epoch: int) -> tuple[float, dict[str, float]]:
        """M2-Mixer, Eq. 6 and 7; see `Loss.weights`."""
        fused, each = self.loss.weights(len(self.columns), epoch)
        return fused, dict.fromkeys(self.heads, each)

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Features, and presence by modality `(B, k)`, none where all are there, to outputs."""
        tokens = {
            name: self.absent[name][0](  # type: ignore[index]
                features[name][0], None if present is None else present[:, column]
            )
            for name, column in self.columns.items()
        }
        unimodal = {name: head(tokens[name].pooled()) for name, head in self.heads.items()}  # Eq. 5
        aligned = [
            t._replace(x=self.align[n](t.x)) if n in self.align else t for n, t in tokens.items()
        ]
        if self.network is None or self.pooled_network:
            joined = self.combine.pooled(aligned) if self.combine else aligned[0].pooled()
            joined = self.network(joined) if self.network is not None else joined
        else:
            fused = self.combine(aligned) if self.combine else aligned[0]
            joined = self.network(fused).pooled()  # Eq. 3, 4
        return Output(self.head(joined), unimodal)


def make_encoders(pairs: Sequence[tuple[str, Block]], schema: Schema) -> dict[str, Encoder]:
    """The encoders by modality.

    Raises:
        GenotypeError: some cannot be built on this schema; every problem of all is told.
    """
    built, problems = {}, []
    for name, block in pairs:
        if name not in schema.names:
            problems.append(f"no modality '{name}': {did_you_mean(name, schema.names)}")
            continue
        try:
            built[name] = catalog.make_encoder(block, schema[name])
        except GenotypeError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if problems:
        raise GenotypeError(problems)
    return built


@torch.no_grad()
def token_count(encoder: nn.Module, schema: Schema, name: str) -> int:
    """T of an encoder's last feature, by one row of zeros."""
    count: int = encoder(blank(schema, name)).x.shape[1]
    return count


def blank(schema: Schema, name: str, rows: int = 1) -> Tensor:
    """Zero inputs of a modality, as a batch would hold them."""
    modality = schema[name]
    dtype = torch.int64 if modality.kind == "text" else torch.get_default_dtype()
    return torch.zeros((rows, *modality.shape), dtype=dtype)
