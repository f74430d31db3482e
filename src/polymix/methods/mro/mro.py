"""MRO (Kim and Song 2025): which modality should attend to which, searched in one supernet.

    Table 1                                                here
    Supernet ← build_CMT_Supernet()                        `start`
    Masks ← uniform_sample(n) while warming up             `_draw`
    Masks ← prior_guided_sample(Prior, n) later            `_draw`, path e with chance σ(s_e)
    L ← TaskLoss(Supernet(mask)); optimize(L)              `_train`, all n masks from one pass
    R, the hinge over pairs                                `_train`, where `rank_term` is hinge
    Prior ← update(Prior, Losses)                          `Prior.learn`, Eq. 1 and 2
    top k                                                  `chosen`, `derive`

Whatever was sampled, the last epoch's full pass scores all masks where they are not too many, and
says how good the sampled search was: what it lost, and the rank of its best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PrivateAttr
from torch import Tensor

from polymix import seeds
from polymix.errors import UsageError, did_you_mean
from polymix.genotype import Block
from polymix.methods.mro.graph import ModalRelationGraph, Power, Prior, hinge_term, spearman
from polymix.methods.mro.model import MROModel, PartFlops, part_flops
from polymix.methods.mro.scores import MaskScores, Pass, full_pass, score_masks
from polymix.methods.mro.space import MROGenotype, MROSpace, Path, draw_mask, paths_of
from polymix.nn import catalog
from polymix.records import EpochRecord, Fidelity, Proposal, Recipe, Schedule
from polymix.registry import register
from polymix.search.estimate import BACKWARD
from polymix.search.protocol import SearchTask, Strategy
from polymix.train.optimizer import make_optimizer, optimizer_tensors, restore_optimizer
from polymix.train.supernet import RowLoader, SupernetTrainer


@register
class MRO(Strategy):
    """A supernet of cross-modal attention paths, masks sampled by what a graph foretells.

    Attributes:
        encoders: names by modality; linear tokens where not given.
        dim: channels of the paths.
        heads: of their attention.
        ff: hidden channels of their feed-forward halves, in multiples of `dim`.
        dropout: see `MROGenotype`; 0.3 and 0.4 in the paper (Table 3).
        horizon: epochs of the search.
        warmup: share of them that samples masks uniformly.
        masks: sampled an epoch.
        batch_size: of the search and of the full training.
        lr: of the shared weights.
        weight_decay: of the shared weights and of the full training.
        prior: whether later epochs sample by the prior (Table 5, w/o prior guidance).
        graph: whether the prior comes from the Modal Relation Graph (w/o MRG prior).
        rank_term: `rank`, Eq. 2, which trains the graph; `hinge`, Table 1's R, which trains the
            shared weights; `none`.
        p: of Eq. 2; 0 counts differing ranks, and trains nothing.
        rank_weight: of the hinge beside the task's loss.
        graph_lr: of the graph.
        graph_steps: of the graph, an epoch.
        exhaustive: whether all masks are scored at the end; where not given, they are if there are
            no more than `affordable`.
        affordable: masks up to which all of them are scored.
        flops_weight: λ: a mask is chosen by score - λ·(share of the dearest mask's FLOPs).
        top: how many masks are trained in full.
        init: `scratch`, or `supernet`: from the shared weights.
        probe_epochs: of a mask that random search draws.
        full_epochs: of the full training, at most.
        full_lr: its learning rate at the start.
        full_schedule: of its learning rate.
    """

    name: ClassVar[str] = "mro"
    summary: ClassVar[str] = "which modality attends to which: masks of paths in one supernet"

    encoders: dict[str, str] = Field(default_factory=dict)
    dim: int = Field(default=64, ge=1)
    heads: int = Field(default=4, ge=1)
    ff: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    horizon: int = Field(default=20, ge=1)
    warmup: float = Field(default=0.25, ge=0, le=1)
    masks: int = Field(default=8, ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    prior: bool = True
    graph: bool = True
    rank_term: Literal["rank", "hinge", "none"] = "rank"
    p: Power = "1"
    rank_weight: float = Field(default=1.0, ge=0)
    graph_lr: float = Field(default=0.02, gt=0)
    graph_steps: int = Field(default=20, ge=0)
    exhaustive: bool | None = None
    affordable: int = Field(default=4095, ge=1)
    flops_weight: float = Field(default=0.0, ge=0)
    top: int = Field(default=1, ge=1)
    init: Literal["scratch", "supernet"] = "scratch"
    probe_epochs: int = Field(default=5, ge=1)
    full_epochs: int = Field(default=30, ge=1)
    full_lr: float = Field(default=1e-3, gt=0)
    full_schedule: Schedule = "cosine"

    _task: SearchTask = PrivateAttr()
    _space: MROSpace = PrivateAttr()
    _net: MROModel = PrivateAttr()
    _prior: Prior = PrivateAttr()
    _optimizer: torch.optim.Optimizer = PrivateAttr()
    _flops: PartFlops = PrivateAttr()
    _trainer: SupernetTrainer | None = PrivateAttr(default=None)
    _epochs: int = PrivateAttr(default=0)
    _epoch: int = PrivateAttr(default=0)
    # Every mask that was sampled, in the order of its first draw.
    _seen: list[tuple[int, ...]] = PrivateAttr(default_factory=list)
    _scores: MaskScores | None = PrivateAttr(default=None)

    def setup(self, task: SearchTask) -> None:
        """Lay out the space.

        Raises:
            UsageError: one modality, heads that do not divide, or encoders that do not fit.
        """
        self._task = task
        names, problems = task.schema.names, []
        if len(names) < 2:
            problems.append(f"mro searches paths between modalities, but there is one: {names[0]}")
        if self.dim % self.heads:
            problems.append(f"heads divide dim, but got heads={self.heads}, dim={self.dim}")
        for name, encoder in self.encoders.items():
            if name not in names:
                problems.append(f"encoders: no modality '{name}': {did_you_mean(name, names)}")
            elif encoder not in (fitting := catalog.encoders_for(task.schema[name].kind)):
                problems.append(
                    f"encoders: no '{encoder}' for {name}: {did_you_mean(encoder, fitting)}"
                )
        if problems:
            raise UsageError(problems)
        self._space = MROSpace(
            MROGenotype(
                encoders=tuple((name, self._encoder(name)) for name in names),
                mask=(1,) * len(paths_of(names)),
                dim=self.dim,
                heads=self.heads,
                ff=self.ff,
                dropout=self.dropout,
            )
        )

    def _encoder(self, name: str) -> Block:
        chosen = self.encoders.get(name, "linear-tokens")
        # An encoder of the paths' own width spares the map to it.
        sized = "channels" in catalog.encoder_class(chosen).presets["small"]
        return Block.of(chosen, channels=self.dim) if sized else Block.of(chosen)

    def start(self, horizon: int | None, trainer: SupernetTrainer) -> int:
        """Build the supernet and the graph anew."""
        model = trainer.model(self._space.full)
        assert isinstance(model, MROModel)
        self._net, self._trainer = model, trainer
        with seeds.torch_stream("cpu", trainer.seed, "mro graph"):
            graph = ModalRelationGraph(len(self._task.schema.names), graph=self.graph)
        self._prior = Prior(graph, self.graph_lr, self.graph_steps)
        recipe = Recipe(lr=self.lr, weight_decay=self.weight_decay)
        trained: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(trained, recipe)
        self._flops = part_flops(model, self._task.schema)
        self._epochs, self._epoch, self._seen, self._scores = horizon or self.horizon, 0, [], None
        return self._epochs

    def epoch(self, trainer: SupernetTrainer, train: RowLoader, val: RowLoader) -> EpochRecord:
        """Sample masks, train them, see how they do, learn the prior from it (Table 1)."""
        epoch = self._epoch
        prior = self._prior.scores()  # s_e, `(P,)`
        masks = self._draw(prior, trainer.seed, epoch)
        self._seen += [mask for mask in masks.tolist() if mask not in self._seen]
        sampled = np.array(self._seen, np.uint8)
        loss, gradients = self._train(trainer, train, masks, prior)
        seen = full_pass(self._net, val)
        # One pass scores any masks: those of earlier epochs, too, with the weights as they are now.
        found = self._score(seen, sampled, trainer)
        # Performance is the validation loss: unlike a score it has no ties, and no ceiling.
        performance, taken = -torch.from_numpy(found.losses), torch.from_numpy(sampled).float()
        numbers = {
            "score": float(found.scores.max()),
            "loss": loss,
            "flops": self._spent(masks, len(train), len(val)),
            "rho": spearman(taken @ prior, performance),
        }
        self._prior.measure(seen.similarity, gradients, seen.attention)  # Eq. 1
        learner = trainer if self.rank_term == "rank" else None
        numbers["rank_term"] = self._prior.learn(taken, performance, self.p, learner)  # Eq. 2
        # top k: of all masks where they can be afforded
        if epoch + 1 == self._epochs or train.stopped:
            numbers |= self._conclude(seen, trainer)
        # Both are told of each edge: s_e, by which masks are drawn, and Eq. 1's softmax p, by which
        # the paper reports. At two modalities p is 1 of every edge, so that it cannot draw.
        scores = self._prior.scores()
        shares = self._prior.graph.shares(scores)
        for (i, j), s, p in zip(self._space.paths, scores.tolist(), shares.tolist(), strict=True):
            numbers |= {f"s {i}>{j}": s, f"p {i}>{j}": p}
        self._epoch += 1
        return EpochRecord(epoch, tuple(numbers.items()))

    def _draw(self, prior: Tensor, seed: int, epoch: int) -> np.ndarray:
        """The epoch's masks `(M, P)`, each once: uniform at first, then by the prior."""
        chances = np.full(len(prior), 0.5)  # every mask alike
        if self.prior and epoch >= math.ceil(self.warmup * self._epochs):
            chances = torch.sigmoid(prior).double().numpy()
        rng = seeds.stream(seed, "mro masks", epoch)
        # A mask drawn twice would count twice in the mean loss, and say nothing more of its rank.
        drawn = dict.fromkeys(draw_mask(chances, rng) for _ in range(self.masks))
        return np.array(list(drawn), np.uint8)

    def _train(
        self, trainer: SupernetTrainer, train: RowLoader, masks: np.ndarray, prior: Tensor
    ) -> tuple[float, Tensor]:
        """Train the shared weights on the mean loss of the masks; one pass computes their paths.

        Returns:
            The mean loss, and the variance of each path's gradients `(P,)`, nan if never taken.
        """
        net = self._net
        # Paths do not see each other before the average: each is computed once for all masks.
        only = np.flatnonzero(masks.any(0)).tolist()
        needed = {name for place in only for name in self._space.paths[place]}
        taken = torch.from_numpy(masks[:, only]).to(trainer.device)
        foretold = (torch.from_numpy(masks).float() @ prior).to(trainer.device)
        net.train()
        total, steps = torch.zeros((), device=trainer.device), 0
        variance = torch.full((len(self._space.paths),), math.nan)
        variance[only] = 0.0
        with trainer.dropout("mro epoch", self._epoch):
            for batch in train.shuffled(self.batch_size, self._epoch):
                given = {n: x for n, x in batch.inputs.items() if n in needed}
                paths = net.paths(net.encode(given), batch.present, only)  # type: ignore[arg-type]
                assert batch.target is not None
                target = batch.target
                # (M, B, K) logits to (M,) losses of the same rows.
                losses = torch.stack(
                    [
                        trainer.objective.row_losses(logits, target).mean()
                        for logits in net.mask_logits(paths, taken)
                    ]
                )
                loss = losses.mean()
                if self.rank_term == "hinge":  # Table 1's R, whose gradient is through the losses
                    loss = loss + self.rank_weight * hinge_term(losses, foretold)
                trainer.step(loss, self._optimizer)
                for place in only:  # Var_g of Eq. 1, of the gradients that the step just used
                    variance[place] += net.gradient_variance(place)
                total, steps = total + losses.detach().mean(), steps + 1
        return float(total) / steps, variance / steps

    def _conclude(self, seen: Pass, trainer: SupernetTrainer) -> dict[str, float]:
        """Score all masks, or those that were sampled; how good the sampled search was."""
        sampled = np.array(self._seen, np.uint8)
        every = self.exhaustive
        if every is None:
            every = len(self._space) <= self.affordable
        scores = self._score(seen, self._space.masks() if every else sampled, trainer)
        self._scores = scores
        if not every:
            return {"sampled": float(len(sampled))}
        regret, rank = scores.regret(sampled)
        prior = torch.from_numpy(scores.masks).float() @ self._prior.scores()
        return {
            "sampled": float(len(sampled)),
            "regret": regret,
            "rank": float(rank),
            "rho_all": spearman(prior, -torch.from_numpy(scores.losses)),
        }

    def _score(self, seen: Pass, masks: np.ndarray, trainer: SupernetTrainer) -> MaskScores:
        flops = [self._flops.of(self._space.paths, mask) for mask in masks.tolist()]
        return score_masks(self._net, seen, masks, flops, trainer)

    def _spent(self, masks: np.ndarray, rows: int, val: int) -> float:
        """FLOPs of the epoch: of the paths that any mask takes, and of the full pass."""
        # As `_train` computes them: the union of the masks' paths once, not each mask's.
        union = self._flops.of(self._space.paths, masks.max(0).tolist())
        full = self._flops.of(self._space.paths, self._space.full.mask)
        return float((1 + BACKWARD) * rows * union + val * full)

    # What comes of it.

    def chosen(self) -> list[MROGenotype]:
        """The `top` best masks; the full one where nothing was searched."""
        if self._scores is None:
            return [self._space.full]
        order = self._scores.order(self.flops_weight)[: self.top]
        return [self._space.genotype(mask) for mask in self._scores.masks[order].tolist()]

    def derive(self) -> Sequence[Proposal]:
        """The best masks, each to be trained alone."""
        init: tuple[str, ...] = ()
        if self.init == "supernet" and self._trainer is not None and self._scores is not None:
            init = (self._trainer.keep(self._net.state_dict()),)
        fidelity = Fidelity(self._task.rows, self.full_epochs, self._task.seed)
        return [
            Proposal(genotype, fidelity, self._recipe(), init, stage="winner")
            for genotype in self.chosen()
        ]

    def _recipe(self) -> Recipe:
        return Recipe(
            lr=self.full_lr,
            batch_size=self.batch_size,
            weight_decay=self.weight_decay,
            schedule=self.full_schedule,
        )

    def chosen_encoders(self) -> Mapping[str, Block]:
        """A plain MLP for each modality: linear tokens without a path are no more than linear."""
        block = Block.of("mlp", channels=self.dim, layers=2, dropout=self.dropout)
        return {m.name: block for m in self._task.schema.modalities}

    def random(self, rng: np.random.Generator) -> Proposal:
        """A mask drawn uniformly, trained alone and briefly."""
        fidelity = Fidelity(self._task.rows, self.probe_epochs, self._task.seed)
        return Proposal(self._space.sample(rng), fidelity, self._recipe(), stage="random")

    @property
    def paths(self) -> list[Path]:
        """All paths, in a mask's order."""
        return self._space.paths

    @property
    def scores(self) -> MaskScores | None:
        """The masks that could be chosen, scored with the shared weights; none before the end."""
        return self._scores

    @property
    def supernet(self) -> MROModel:
        """The network of all paths, as far as it is trained; `load_matching` gives it to a mask."""
        return self._net

    def size(self) -> int:
        """2^(k(k-1)) - 1."""
        return len(self._space)

    # Stopped and resumed.

    def state(self) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
        """The supernet, the graph, both optimizers, what was measured, sampled and scored."""
        tensors = {f"net/{n}": t.detach() for n, t in self._net.state_dict().items()}
        tensors |= optimizer_tensors(self._optimizer, "optimizer/net") | self._prior.state()
        tensors["seen"] = torch.tensor(self._seen, dtype=torch.uint8)
        if self._scores is not None:
            found = vars(self._scores)
            tensors |= {f"scores/{n}": torch.from_numpy(array) for n, array in found.items()}
        return tensors, {"epoch": self._epoch}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._net.load_state_dict(_under("net/", tensors))
        restore_optimizer(self._optimizer, tensors, "optimizer/net")
        self._prior.load_state(tensors)
        self._seen = tensors["seen"].tolist()
        found = {n: t.numpy() for n, t in _under("scores/", tensors).items()}
        self._scores = MaskScores(**found) if found else None
        self._epoch = meta["epoch"]


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
