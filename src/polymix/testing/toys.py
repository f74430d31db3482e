"""Two toy strategies and a toy dataset: the smallest proof that the driver fits every method.

`ToyAskTell` is MFAS in miniature: trained backbones, then cohorts of fusion networks on their
banked features, each candidate starting from weights that the cohort before it left behind.
`ToyOneShot` is a differentiable search in miniature: a supernet with architecture logits, weights
on training rows, logits on validation rows, in turns.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import product
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from polymix import seeds
from polymix.data.dataset import Dataset
from polymix.data.schema import Kind, Modality, Schema, Target, Task
from polymix.data.split import stratified_codes
from polymix.genotype import Block, Genotype
from polymix.nn import build, catalog
from polymix.nn.absent import AbsentToken
from polymix.nn.by_modality import ByModality
from polymix.nn.model import Features, Model, Output
from polymix.nn.tokens import Pool
from polymix.records import EpochRecord, Fidelity, Proposal, Recipe, Trial
from polymix.search import protocol
from polymix.space.mix import MixGenotype
from polymix.train.feed import Feed, FeedTrainer
from polymix.train.optimizer import make_optimizer, optimizer_tensors, restore_optimizer

Activation = Literal["relu", "sigmoid"]

MODALITIES: dict[str, Modality] = {
    "image": Modality(name="image", kind=Kind.IMAGE, shape=(1, 8, 8), dtype="uint8"),
    "series": Modality(name="series", kind=Kind.TIMESERIES, shape=(6, 3), dtype="float32"),
    "table": Modality(name="table", kind=Kind.TABULAR, shape=(5,), dtype="float32"),
    "vectors": Modality(name="vectors", kind=Kind.FEATURES, shape=(4, 6), dtype="float32"),
}


def toy_dataset(
    rows: int = 200,
    modalities: Sequence[str] = ("image", "series", "table"),
    *,
    absent: float = 0.2,
    classes: int = 3,
    task: Task = Task.MULTICLASS,
    noise: float = 1.5,
    seed: int = 0,
) -> Dataset:
    """Rows whose target shows in every modality, through noise.

    Args:
        rows: how many; about a fifth are validation rows, and a fifth test rows.
        modalities: of `image`, `series`, `table` and `vectors`.
        absent: share of the rows that lack the last modality, where there are several.
        classes: of the target; two for a binary one, one for a regression's.
        task: what is predicted.
        noise: standard deviation of the noise, where the signal's is about 1.
        seed: of everything.
    """
    rng = seeds.stream(seed, "toy dataset")
    names = tuple(f"c{i}" for i in range(classes)) if task is not Task.REGRESSION else ()
    schema = Schema(
        modalities=tuple(MODALITIES[name] for name in modalities),
        target=Target(name="y", task=task, classes=names),
    )
    hidden = rng.standard_normal((rows, classes))
    targets: np.ndarray = hidden.argmax(1)
    if task is Task.MULTILABEL:
        targets = (hidden > 0).astype(np.float32)
    elif task is Task.REGRESSION:
        targets = hidden[:, 0].astype(np.float32) * 3 + 10
    arrays: dict[str, np.ndarray] = {}
    for name in modalities:
        shape = MODALITIES[name].shape
        signal = hidden @ rng.standard_normal((classes, int(np.prod(shape))))
        array = (signal + noise * rng.standard_normal(signal.shape)).reshape(rows, *shape)
        if name == "image":
            array = np.clip(128 + 30 * array, 0, 255)
        arrays[name] = array.astype(MODALITIES[name].dtype)
    present = np.ones((rows, len(modalities)), bool)
    if len(modalities) > 1:
        present[:, -1] = rng.random(rows) >= absent
    codes = stratified_codes(targets, 0.2, 0.2, seed)
    return Dataset.from_arrays("toy", schema, arrays, targets, codes, present)


class ToyGenotype(Genotype):
    """A fusion network on one feature of each modality's encoder.

    Attributes:
        encoders: by modality.
        features: which of the encoder's features is read, one a modality.
        width: of the fusion network.
        activation: of the fusion network.
    """

    kind: ClassVar[str] = "toy"

    encoders: tuple[tuple[str, Block], ...] = Field(min_length=1)
    features: tuple[int, ...]
    width: int = Field(default=8, ge=1)
    activation: Activation = "relu"

    def __str__(self) -> str:
        read = " ".join(f"{n}[{i}]" for (n, _), i in zip(self.encoders, self.features, strict=True))
        return f"{read} {self.activation}"


class ToyModel(Model):
    """The model of a `ToyGenotype`; every feature is offered, and the chosen ones are read.

    What the genotype decides is a buffer, so that models of one width stack. It is not
    persistent: inherited weights must not bring another genotype's choice with them.
    """

    pool = Pool(1)
    choice: Tensor

    def __init__(self, genotype: ToyGenotype, schema: Schema) -> None:
        super().__init__()
        made = {n: catalog.make_encoder(block, schema[n]) for n, block in genotype.encoders}
        self.columns = {name: schema.index(name) for name in made}
        self.encoders = ByModality(made)
        self.wants = {name: tuple(range(len(e.widths))) for name, e in made.items()}
        self.absent = ByModality(
            {
                name: nn.ModuleList(AbsentToken(w, schema[name].optional) for w in e.widths)
                for name, e in made.items()
            }
        )
        self.size = max(width for e in made.values() for width in e.widths)
        self.register_buffer("choice", torch.tensor(genotype.features), persistent=False)
        self.layer = nn.Linear(self.size * len(made), genotype.width)
        self.activation: nn.Module = nn.ReLU() if genotype.activation == "relu" else nn.Sigmoid()
        self.head = nn.Linear(genotype.width, schema.target.outputs)

    def offered(self, features: Features, present: Tensor | None) -> list[Tensor]:
        """Every feature of each modality, pooled and padded to one width: `(B, F, C)` each."""
        found = []
        for name, column in self.columns.items():
            there = None if present is None else present[:, column]
            absent = cast(nn.ModuleList, self.absent[name])
            tokens = [a(t, there) for a, t in zip(absent, features[name], strict=True)]
            pooled = [t.pooled() for t in tokens]
            padded = [nn.functional.pad(x, (0, self.size - x.shape[1])) for x in pooled]
            found.append(torch.stack(padded, 1))
        return found

    def join(self, chosen: Sequence[Tensor]) -> Output:
        """One feature `(B, C)` of each modality to outputs."""
        hidden = self.activation(self.layer(torch.cat(list(chosen), 1)))
        return Output(self.head(hidden), {})

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Features, and presence by modality `(B, k)`, none where all are there, to outputs."""
        return self.join(
            [
                torch.index_select(offered, 1, self.choice[m : m + 1])[:, 0]
                for m, offered in enumerate(self.offered(features, present))
            ]
        )


@build.build.register
def _build_toy(genotype: ToyGenotype, schema: Schema) -> Model:
    return ToyModel(genotype, schema)


@build.versions.register
def _versions_toy(genotype: ToyGenotype) -> dict[str, int]:
    return {"toy": 1, **{block.name: catalog.version(block) for _, block in genotype.encoders}}


@build.stack_key.register
def _stack_key_toy(genotype: ToyGenotype, schema: Schema) -> Hashable:  # noqa: ARG001
    return (genotype.encoders, genotype.width, genotype.activation)


class _Toy(protocol.Strategy):
    """What both toys share: the same plain encoder for each modality."""

    width: int = Field(default=8, ge=1)
    layers: int = Field(default=3, ge=1)
    epochs: int = Field(default=2, ge=1)
    full_epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=0.01, gt=0)

    _task: protocol.Task = PrivateAttr()

    def setup(self, task: protocol.Task) -> None:
        """Begin."""
        self._task = task

    def chosen_encoders(self) -> dict[str, Block]:
        """An MLP for each modality; its layers are the features."""
        block = Block.of("mlp", channels=self.width, layers=self.layers)
        return {m.name: block for m in self._task.schema.modalities}

    def _recipe(self, frozen: bool = False) -> Recipe:
        return Recipe(lr=self.lr, batch_size=self.batch_size, frozen=frozen)

    def _genotype(self, features: Sequence[int], activation: Activation) -> ToyGenotype:
        return ToyGenotype(
            encoders=tuple(self.chosen_encoders().items()),
            features=tuple(features),
            width=self.width,
            activation=activation,
        )


class ToyAskTell(_Toy):
    """Backbones, then cohorts of fusion networks on their features, with inherited weights.

    Attributes:
        cohorts: of candidates.
        candidates: in a cohort.
    """

    name: ClassVar[str] = "toy-ask-tell"
    summary: ClassVar[str] = "cohorts with inherited weights on banked features, in miniature"

    cohorts: int = Field(default=3, ge=1)
    candidates: int = Field(default=4, ge=1)

    _asked: int = PrivateAttr(default=0)
    _rng: np.random.Generator = PrivateAttr()
    _backbones: tuple[str, ...] = PrivateAttr(default=())
    _inherited: tuple[str, ...] = PrivateAttr(default=())
    _best: Trial | None = PrivateAttr(default=None)

    def setup(self, task: protocol.Task) -> None:
        """Begin."""
        super().setup(task)
        self._rng = seeds.stream(task.seed, "toy candidates")

    def _fidelity(self, epochs: int) -> Fidelity:
        return Fidelity(self._task.rows, epochs, self._task.seed)

    def _space(self) -> list[ToyGenotype]:
        activations: tuple[Activation, ...] = ("relu", "sigmoid")
        count = len(self._task.schema.modalities)
        return [
            self._genotype(features, activation)
            for features in product(range(self.layers), repeat=count)
            for activation in activations
        ]

    def ask(self) -> Sequence[Proposal]:
        """The backbones, then the cohorts."""
        if self._asked > self.cohorts:
            return []
        fidelity = self._fidelity(self.epochs)
        if self._asked == 0:
            return [
                Proposal(
                    MixGenotype.single(name, block), fidelity, self._recipe(), keep=True,
                    stage="backbones",
                )
                for name, block in self.chosen_encoders().items()
            ]  # fmt: skip
        space = self._space()
        size = min(self.candidates, len(space))
        # All of a cohort inherit the weights as they stand at its start.
        init = (*self._backbones, *self._inherited)
        return [
            Proposal(
                space[i], fidelity, self._recipe(frozen=True), init, keep=True,
                stage=f"cohort {self._asked}",
            )
            for i in self._rng.choice(len(space), size, replace=False)
        ]  # fmt: skip

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep weights and the best."""
        if self._asked == 0:
            self._backbones = tuple(t.weights for t in trials if t.weights)
        else:
            for trial in trials:  # in the order of proposals: the last one's weights stay
                if trial.weights:
                    self._inherited = (trial.weights,)
                if trial.usable and (self._best is None or trial.value > self._best.value):
                    self._best = trial
        self._asked += 1

    def derive(self) -> Sequence[Proposal]:
        """The best candidate, trained anew on the backbones' features."""
        genotype = self._best.proposal.genotype if self._best else self._space()[0]
        recipe = self._recipe(frozen=bool(self._backbones))
        return [Proposal(genotype, self._fidelity(self.full_epochs), recipe, self._backbones)]

    def random(self, rng: np.random.Generator) -> Proposal:
        """A candidate that inherits nothing."""
        space = self._space()
        return Proposal(
            space[int(rng.integers(len(space)))], self._fidelity(self.epochs),
            self._recipe(frozen=True), self._backbones, stage="random",
        )  # fmt: skip

    def size(self) -> int:
        """How many candidates there are."""
        return len(self._space())


class _Supernet(ToyModel):
    """All choices at once, weighed by architecture logits, `(k, F)`."""

    def __init__(self, genotype: ToyGenotype, schema: Schema, features: int) -> None:
        super().__init__(genotype, schema)
        self.dropout = nn.Dropout(0.1)
        self.logits = nn.Parameter(torch.zeros(len(genotype.encoders), features))

    def fuse(self, features: Features, present: Tensor | None) -> Output:
        """Every feature, weighed by its share."""
        shares = torch.softmax(self.logits, 1)
        offered = self.offered(features, present)
        mixed = [torch.einsum("bfc,f->bc", x, s) for x, s in zip(offered, shares, strict=True)]
        return self.join([self.dropout(x) for x in mixed])

    def weights(self) -> list[Tensor]:
        """All parameters but the architecture's."""
        return [p for name, p in self.named_parameters() if name != "logits"]


class ToyOneShot(_Toy):
    """A supernet: weights on training rows and architecture on validation rows, in turns.

    Attributes:
        horizon: epochs of the search.
    """

    name: ClassVar[str] = "toy-one-shot"
    summary: ClassVar[str] = "a supernet with architecture logits, in miniature"

    horizon: int = Field(default=3, ge=1)

    _net: _Supernet | None = PrivateAttr(default=None)
    _optimizers: tuple[torch.optim.Optimizer, ...] = PrivateAttr(default=())
    _epoch: int = PrivateAttr(default=0)

    def start(self, horizon: int | None, trainer: FeedTrainer) -> int:
        """Build the supernet anew."""
        schema = self._task.schema
        genotype = self._genotype([0] * len(schema.modalities), "relu")
        with seeds.torch_stream("cpu", trainer.seed, "toy supernet"):
            net = _Supernet(genotype, schema, self.layers)
        self._net, self._epoch = net.to(trainer.device), 0
        self._optimizers = (
            make_optimizer(self._net.weights(), Recipe(lr=self.lr)),
            make_optimizer([self._net.logits], Recipe(lr=0.1)),
        )
        return horizon or self.horizon

    def epoch(self, trainer: FeedTrainer, train: Feed, val: Feed) -> EpochRecord:
        """Weights on all training rows, then the architecture on all validation rows."""
        net, epoch = self._net, self._epoch
        assert net is not None
        losses = []
        with trainer.dropout("toy epoch", epoch):
            net.train()
            for feed, optimizer in zip((train, val), self._optimizers, strict=True):
                for batch in feed.shuffled(self.batch_size, epoch):
                    output = net(batch.inputs, batch.present)
                    assert batch.target is not None
                    loss = trainer.objective(output, batch.target, batch.present, (1.0, {}))
                    trainer.step(loss, optimizer)
                    losses.append(float(loss.detach()))
        self._epoch += 1
        return EpochRecord(epoch, (("loss", float(np.mean(losses))),))

    def state(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """The supernet, both optimizers, and the epoch."""
        assert self._net is not None
        tensors = {f"net/{name}": t.detach() for name, t in self._net.state_dict().items()}
        for k, optimizer in enumerate(self._optimizers):
            tensors |= optimizer_tensors(optimizer, f"optimizer/{k}")
        return tensors, {"epoch": self._epoch}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        assert self._net is not None
        net = {n.removeprefix("net/"): t for n, t in tensors.items() if n.startswith("net/")}
        self._net.load_state_dict(net)
        for k, optimizer in enumerate(self._optimizers):
            restore_optimizer(optimizer, tensors, f"optimizer/{k}")
        self._epoch = meta["epoch"]

    def derive(self) -> Sequence[Proposal]:
        """The features with the largest logits, trained from scratch."""
        features = [0] * len(self._task.schema.modalities)
        if self._net is not None:
            features = [int(i) for i in self._net.logits.detach().argmax(1)]
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [Proposal(self._genotype(features, "relu"), fidelity, self._recipe())]


__all__ = ["ToyAskTell", "ToyGenotype", "ToyModel", "ToyOneShot", "toy_dataset"]
