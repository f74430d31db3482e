"""Views of every modality, fitted and computed once for all models that read them.

A view is fitted to development rows without their targets, and kept: what it says of a row does not
depend on the model that reads it, nor on the fold. Its numbers are the feature bank's. Those of
sealed rows are computed for the last refit alone, once the choice is made.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from polymix import seeds
from polymix.data.batch import RowSource
from polymix.data.dataset import Dataset
from polymix.errors import PolymixWarning
from polymix.genotype import Block
from polymix.nn.descriptions import Description, Frozen, TokenStates, make_description
from polymix.nn.model import Model
from polymix.nn.views import FITTED, Views
from polymix.train.feature_bank import BankSource, FeatureBank, FeatureProgress

State = dict[str, Tensor]

TIMED = 32
"""Rows by which a pass through a frozen network is timed."""


class ViewBank:
    """The views of one dataset's rows.

    Args:
        folder: where files go.
        dataset: whose rows they are.
        device: where views are computed.
        bank: computes those of development rows.

    Attributes:
        progress: called while a network's features are computed.
    """

    def __init__(
        self, folder: Path, dataset: Dataset, device: torch.device, bank: FeatureBank
    ) -> None:
        self.folder, self.dataset, self.device, self.bank = folder, dataset, device, bank
        self.progress: FeatureProgress | None = None
        self._sealed: FeatureBank | None = None
        self._states: dict[str, State] = {}
        self._timed: dict[tuple[str, Block], float] = {}

    def prepare(self, model: Model) -> None:
        """Bring a model's views to the state that they were fitted to, fitting those of none."""
        for name, views in model.encoders.items():
            if not isinstance(views, Views):
                continue
            for place, part in enumerate(views):
                if part.needs_fit and not part.ready:
                    part.load_state_dict(self._state(name, part, self._key(name, views, place)))

    def source(self, model: Model, *, sealed: bool = False) -> BankSource:
        """Batches of what a model's views say, computing what is not there.

        Args:
            model: whose encoders are views, prepared.
            sealed: whether sealed rows are among those asked for.
        """
        rows = self.dataset.split.development
        if sealed:
            rows = np.concatenate([rows, self.dataset.split.test.open()])
        slots = np.full(len(self.dataset), -1, np.int64)
        slots[rows] = np.arange(len(rows))
        features = {}
        for name, views in model.encoders.items():
            assert isinstance(views, Views)
            arrays = [self._array(name, views, place, sealed) for place in range(len(views.blocks))]
            features[name] = [(array, None) for array in arrays]
        return BankSource(self.dataset, features, slots, self.device)

    def pass_seconds(self, name: str, block: Block) -> float:
        """Seconds that a frozen network takes for a row, by a few that are timed."""
        if (name, block) not in self._timed:
            part = make_description(block, self.dataset.schema[name]).to(self.device).eval()
            rows = self.dataset.split.development
            rows = rows[self.dataset.present[rows, self.dataset.schema.index(name)]][:TIMED]
            x = RowSource(self.dataset, self.device, [name]).batch(rows).inputs[name]
            assert isinstance(x, Tensor)
            taken = []
            with torch.no_grad(), part.banking():
                for few in (x[:2], x):  # the first call of all takes longer than any other
                    begun = time.monotonic()
                    if len(few):
                        part.features(few)
                    taken.append(time.monotonic() - begun)
            self._timed[name, block] = taken[-1] / max(len(rows), 1)
        return self._timed[name, block]

    def _array(self, name: str, views: Views, place: int, sealed: bool) -> np.ndarray:
        part, key = list(views)[place], self._key(name, views, place)
        # Only a network's pass takes time that is worth telling.
        self.bank.progress = self.progress if isinstance(part, Frozen | TokenStates) else None
        known = self.bank.computed(name, part, self.folder / f"{name}-{key}.npy")
        if not sealed:
            return known
        test = self.dataset.split.test.open()
        if not self.dataset.present[test, self.dataset.schema.index(name)].any():
            # Nothing to compute: models put their absent-tokens there.
            return np.concatenate([known, np.zeros((len(test), *known.shape[1:]), known.dtype)])
        if self._sealed is None:
            self._sealed = FeatureBank(self.folder, self.dataset, self.device, rows=test)
        rest = self._sealed.computed(name, part, self.folder / f"{name}-{key}-sealed.npy")
        return np.concatenate([known, rest])

    def _key(self, name: str, views: Views, place: int) -> str:
        """Sixteen hex digits for a view and the rows it is fitted to."""
        part, block = list(views)[place], views.blocks[place]
        about = [
            type(part).__qualname__, str(getattr(part, "VERSION", 0)), block.model_dump_json(),
            self.dataset.schema[name].model_dump_json(), self.dataset.fingerprint,
            self.dataset.split.fingerprint,
        ]  # fmt: skip
        return hashlib.sha256("|".join(about).encode()).hexdigest()[:16]

    def _state(self, name: str, part: Description, key: str) -> State:
        """A view's fitted state: known, kept, or fitted now."""
        if key not in self._states:
            path = self.folder / f"{name}-{key}.safetensors"
            state = self._kept(path, part)
            if state is None:
                self._fit(name, part)
                state = {n: t.detach().cpu().clone() for n, t in part.state_dict().items()}
                self.folder.mkdir(parents=True, exist_ok=True)
                draft = path.with_suffix(".draft")
                save_file(state, draft, {"sha256": _digest(state)})
                draft.replace(path)
            self._states[key] = state
        return self._states[key]

    def _kept(self, path: Path, part: Description) -> State | None:
        """What an earlier session kept, if it is whole."""
        try:
            with safe_open(path, "pt") as file:
                digest = (file.metadata() or {}).get("sha256")
                state = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError):
            return None
        if digest != _digest(state):
            warnings.warn(
                f"{path} is not what was written: it is fitted again", PolymixWarning, stacklevel=2
            )
            return None
        shapes = {name: tensor.shape for name, tensor in part.state_dict().items()}
        return state if {n: t.shape for n, t in state.items()} == shapes else None

    @torch.no_grad()
    def _fit(self, name: str, part: Description) -> None:
        """Fit a view to some development rows that have its modality, without their targets."""
        rows = self.dataset.split.development
        rows = rows[self.dataset.present[rows, self.dataset.schema.index(name)]]
        drawn = np.sort(seeds.stream(0, "descriptions").permutation(rows)[:FITTED])
        source = RowSource(self.dataset, self.device, [name])
        x = source.batch(drawn).inputs[name]
        assert isinstance(x, Tensor)
        part.fit(x, seeds.derive(0, "views") % 2**31)


def _digest(state: State) -> str:
    """What stands for every byte of a state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
