"""The last layers of a pretrained network, tuned together with a head that reads all else.

    a text's states below them, frozen, computed once   ->  layers, mean over tokens   |  head
    dense views, and what base models predict           ->  as `Vectors` has them      |

The head is a linear model, and a small network beside it whose output is zero at first.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymix.comparators.tabular.learner import Learner
from polymix.comparators.tabular.sample import Sample
from polymix.comparators.tabular.vectors import Scaled, Vectors
from polymix.comparators.tabular.views import Form, Layout
from polymix.data.schema import Target
from polymix.errors import GenotypeError
from polymix.nn.encoder import check_sizes
from polymix.nn.encoders.upper import UpperLayers

EPOCHS = 4


class TunedNetwork(Learner):
    """Layers above token states, and a head on them and on all dense views; `Tuned` fits them.

    Args:
        layouts: of the views; one at least is states of tokens.
        target: what is predicted.
        epochs: passes over the rows, at most.
        batch: rows of a step.
        lr: of the layers, at its highest.
        head_lr: of the head's network; the linear model stays as it starts.
        hidden: width of the head's network.
        dropout: in it.
        numbers: a number's weight beside what is tuned.

    Raises:
        GenotypeError: no view keeps states of tokens, or an option's value is out of range.
    """

    name: ClassVar[str] = "tuned"
    forms: ClassVar[frozenset[Form]] = frozenset(
        {"columns", "numbers", "dense", "embedding", "states"}
    )

    def __init__(
        self,
        layouts: Sequence[Layout],
        target: Target,
        *,
        epochs: int = EPOCHS,
        batch: int = 32,
        lr: float = 1e-4,
        head_lr: float = 1e-3,
        hidden: int = 128,
        dropout: float = 0.1,
        numbers: float = 0.3,
    ) -> None:
        super().__init__(layouts, target)
        check_sizes(self.name, dropout, epochs=epochs, batch=batch, hidden=hidden)
        if not (0 < lr < 1 and 0 < head_lr < 1):
            raise GenotypeError(
                f"tuned: 0 < lr < 1 and 0 < head_lr < 1 must hold, but got lr={lr}, "
                f"head_lr={head_lr}"
            )
        above = {i: one.above for i, one in enumerate(layouts) if one.above is not None}
        if not above:
            raise GenotypeError("tuned: no view keeps the states of tokens that it tunes upon")
        self.target, self.epochs, self.batch, self.dropout = target, epochs, batch, dropout
        self.rates = {"layers": lr, "head": head_lr}
        self.texts = list(above)
        self.rest = [i for i in range(len(layouts)) if i not in above]
        # As the network came with them: each fit starts from there. No part of this model.
        self._came = tuple(above.values())
        self.layers = nn.ModuleList(copy.deepcopy(one) for one in self._came)
        self.scales = nn.ModuleList(Scaled(one.width, each=False) for one in self._came)
        self.vectors = Vectors([layouts[i] for i in self.rest], None, 1, numbers)
        width = sum(one.width for one in self._came)
        width += len(self.texts) + self.vectors.dense_width
        # Views have a mean squared length of one each, a network wants columns of one.
        self.spread = math.sqrt(width / (len(self.texts) + len(self.vectors.groups)))
        self.linear = nn.Linear(width, self.sums)
        self.middle = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, self.sums)
        self.requires_grad_(False).train(False)

    def train(self, mode: bool = True) -> TunedNetwork:  # noqa: ARG002
        """Training mode changes nothing: a pretrained network drops nothing at random here."""
        return super().train(False)

    def forward(self, sample: Sample) -> Tensor:
        """Rows to sums `(B, S)`."""
        pooled = [self.pooled(k, *text) for k, text in enumerate(self.texts_of(sample))]
        return self.head(self.scaled(pooled), self.fixed(sample)).double()

    def texts_of(self, sample: Sample) -> list[tuple[Tensor, Tensor]]:
        """Each text's states `(B, T, C)`, and which rows have it `(B,)`."""
        return [(sample.views[i], sample.present[i]) for i in self.texts]

    def pooled(self, text: int, states: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """What the layers say of a text `(B, W_k)`, and which rows have a token of it `(B,)`."""
        tokens = (states != 0).any(2) & present[:, None]
        return self.layers[text](states.float(), tokens), tokens.any(1)

    def scaled(self, texts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """What `pooled` gives of each text, scaled, zeros where there is no token: `(B, W)`."""
        found = []
        for scale, (pooled, there) in zip(self.scales, texts, strict=True):
            z = scale(pooled)
            found.append(torch.where(there[:, None], z, torch.zeros_like(z)).float())
        return torch.cat(found, 1)

    def fixed(self, sample: Sample) -> Tensor:
        """All else that the head reads, `(B, D)`: flags of absent texts, then the other views."""
        absent = [(~sample.present[i][:, None]).double() for i in self.texts]
        if self.rest:
            absent.append(self.vectors.dense(sample.pick(self.rest)))
        return torch.cat(absent, 1).float()

    def head(self, tuned: Tensor, fixed: Tensor, training: bool = False) -> Tensor:
        """`(B, W)` and `(B, D)` to sums `(B, S)`."""
        z = torch.cat([tuned, fixed], 1)
        middle = functional.relu(self.middle(z * self.spread))
        middle = functional.dropout(middle, self.dropout, training)
        found: Tensor = self.linear(z) + self.out(middle)
        return found

    @property
    def upper(self) -> list[UpperLayers]:
        """The layers that are tuned, of each modality."""
        return [one for one in self.layers if isinstance(one, UpperLayers)]

    @property
    def heads(self) -> tuple[nn.Module, ...]:
        """What is trained beside the layers."""
        return self.middle, self.out

    def reset(self) -> None:
        """Put the layers back to what the network came with, and draw the head's network."""
        for own, came in zip(self.layers, self._came, strict=True):
            own.load_state_dict(came.state_dict())
        self.middle.reset_parameters()
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
