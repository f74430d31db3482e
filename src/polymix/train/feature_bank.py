"""The feature bank: the features of frozen encoders, computed once and memory-mapped.

One file per (encoder's weights, data, feature, pooling): `(N, T, C)`, native channels, float16
unless an encoder's numbers must be exact (`Encoder.dtype`), written in chunks beside its place and
moved there when whole. An extraction that was killed goes on from what it last noted (see
`polymix.train.resumable_arrays`). Rows that lack the modality are never computed; models put their
absent-tokens there. Sealed rows are computed for the last refit alone.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polymix.data.batch import Batch, RowSource, Source
from polymix.data.dataset import Dataset
from polymix.errors import DataError
from polymix.nn.encoder import Encoder, StackEncoder
from polymix.nn.model import Model
from polymix.nn.tokens import Features, Moments, Pool, Tokens
from polymix.train.moments import moments_of
from polymix.train.resumable_arrays import ResumableArrays, is_kept

FeatureProgress = Callable[[str, int, int], None]
Pack = Callable[[Features], Features]

CHUNK = 512
"""Rows between two notes of how far an extraction is."""

STEP = 32
"""Rows an encoder sees at once: the maps of more would not fit into memory that is used again, and
the system would hand out fresh pages, zeroed, for each layer of each step."""

PACKED = 2**30
"""Bytes of packed features that are kept in memory; what is more is packed batch by batch."""


class FeatureBank:
    """Features of frozen encoders.

    Args:
        folder: where files go.
        dataset: whose training and validation rows are computed.
        device: where encoders run.
        progress: called with the modality, the rows done and how many there are, each chunk.
        rows: those that are computed; training and validation rows where not given.
    """

    def __init__(
        self,
        folder: Path,
        dataset: Dataset,
        device: torch.device,
        progress: FeatureProgress | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self.folder, self.dataset, self.device = folder, dataset, device
        self.progress = progress
        self._rows = dataset.split.development if rows is None else np.sort(rows)
        self._slots = np.full(len(dataset), -1, np.int64)
        self._slots[self._rows] = np.arange(len(self._rows))
        self._last: tuple[object, BankSource] | None = None

    def source(self, model: Model) -> BankSource:
        """Batches of what a model's `fuse` reads, computing what is not there.

        A model that wants it is calibrated on all training rows. The last source is kept: a
        search asks for the same features again and again.
        """
        paths = {
            name: self._paths(name, encoder, model.wants[name], model.pool)
            for name, encoder in model.encoders.items()
        }
        key = (type(model).pack, tuple(path for each in paths.values() for path in each))
        if self._last is None or self._last[0] != key or not all(map(is_kept, key[1])):
            self._last = None  # two packed sources need not fit into memory
            features = {
                name: self._features(name, encoder, model.wants[name], model.pool, paths[name])
                for name, encoder in model.encoders.items()
            }
            made = BankSource(self.dataset, features, self._slots, self.device)
            if model.calibrated:
                columns = {name: self.dataset.schema.index(name) for name in paths}
                made.moments = moments_of(made, lambda f: f, self.dataset.split.train, columns)
                model.calibrate(made.moments)  # `pack` standardises by them
            if type(model).pack is not Model.pack:
                made.pack(model.pack)
            self._last = key, made
        source = self._last[1]
        if source.moments is not None:
            model.calibrate(source.moments)
        return source

    def beside(self, model: Model, rows: Callable[[list[str]], Source]) -> Source:
        """Batches for a model that trains, but for its frozen encoders: those are computed once.

        Args:
            model: some of its encoders are frozen.
            rows: gives a source of raw rows of some modalities.
        """
        still = [n for n, e in model.encoders.items() if getattr(e, "frozen", False)]
        features = {}
        for name in still:
            encoder = model.encoders[name]
            assert isinstance(encoder, Encoder)
            wanted = model.wants[name]
            paths = self._paths(name, encoder, wanted, model.pool)
            features[name] = self._features(name, encoder, wanted, model.pool, paths)
        banked = BankSource(self.dataset, features, self._slots, self.device)
        others = [name for name in model.encoders if name not in still]
        return MixedSource(rows(others), banked) if others else banked

    def computed(self, name: str, encoder: Encoder, path: Path) -> np.ndarray:
        """An encoder's last feature of every row `(N', T, C)`, computed unless it is there.

        Args:
            name: the modality's.
            encoder: what computes it.
            path: the file that keeps it.
        """
        if not is_kept(path):
            self._extract(name, encoder, [len(encoder.widths) - 1], None, [path])
        found: np.ndarray = np.load(path, mmap_mode="c", allow_pickle=False)
        return found

    def _paths(
        self, name: str, encoder: torch.nn.Module, wanted: Sequence[int], pool: Pool | None
    ) -> list[Path]:
        assert isinstance(encoder, Encoder)
        key = encoder_digest(self.dataset, name, encoder)
        return [self.folder / f"{name}-{key}-{i}-{pool or 'all'}.npy" for i in wanted]

    def _features(
        self,
        name: str,
        encoder: torch.nn.Module,
        wanted: Sequence[int],
        pool: Pool | None,
        paths: Sequence[Path],
    ) -> list[tuple[np.ndarray, tuple[int, int] | None]]:
        assert isinstance(encoder, Encoder)
        grids = self._grids(name, encoder, wanted)
        missing = {i: p for i, p in zip(wanted, paths, strict=True) if not is_kept(p)}
        if missing:
            self._extract(name, encoder, list(missing), pool, list(missing.values()))
        arrays = [np.load(path, mmap_mode="c", allow_pickle=False) for path in paths]
        return [(a, g if pool is None else None) for a, g in zip(arrays, grids, strict=True)]

    @torch.no_grad()
    def _grids(
        self, name: str, encoder: Encoder, wanted: Sequence[int]
    ) -> list[tuple[int, int] | None]:
        batch = RowSource(self.dataset, self.device, [name]).batch(self._rows[:1])
        features = encoder.eval().features(batch.inputs[name])  # type: ignore[arg-type]
        return [features[i].grid for i in wanted]

    @torch.no_grad()
    def _extract(
        self,
        name: str,
        encoder: Encoder,
        wanted: Sequence[int],
        pool: Pool | None,
        paths: Sequence[Path],
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        source = RowSource(self.dataset, self.device, [name])
        column = self.dataset.schema.index(name)
        drafts = ResumableArrays(paths, str(encoder.dtype).removeprefix("torch."))
        encoder.eval()
        try:
            begin = drafts.resume(len(self._rows))
            arrays = drafts.arrays
            for start in range(begin, len(self._rows), CHUNK):
                rows = self._rows[start : start + CHUNK]
                slots = np.arange(start, start + len(rows))[self.dataset.present[rows, column]]
                if self.progress:
                    self.progress(name, start, len(self._rows))
                if not len(slots):
                    continue
                step = CHUNK if encoder.cuts else STEP
                for few in np.split(slots, range(step, len(slots), step)):
                    x = source.batch(self._rows[few]).inputs[name]
                    with encoder.banking():
                        every = encoder.features(x)  # type: ignore[arg-type]
                    for k, i in enumerate(wanted):
                        tokens = every[i].x if pool is None else pool(every[i]).x
                        if len(arrays) <= k:
                            shape = (len(self._rows), *tokens.shape[1:])
                            self._check_room(encoder.dtype.itemsize * math.prod(shape))
                            drafts.open(k, shape)
                        arrays[k][few] = tokens.to(encoder.dtype).cpu().numpy()
                drafts.note(start + len(rows))
            if not arrays:
                raise DataError(f"no row has modality '{name}': its features cannot be computed")
            drafts.finish()
            if self.progress:
                self.progress(name, len(self._rows), len(self._rows))
        except OSError as error:
            drafts.drop()
            raise DataError(
                f"the feature bank in {self.folder} could not be written: {error}. "
                "Free some space, or move the run folder, and resume"
            ) from None
        except Exception:  # whoever is killed, or interrupted, leaves what there is
            drafts.drop()
            raise

    def _check_room(self, needed: int) -> None:
        # A mapped file that outgrows the disk kills the process, so that it is asked beforehand.
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(f"{needed:,} bytes are needed, but its disk has {free:,}")


class BankSource:
    """Batches of banked features: `inputs[name]` is a list of `Tokens`.

    Args:
        dataset: for presence and targets.
        features: by modality, `(array (N', T, C), grid)` a feature.
        slots: each row's place in the arrays, `(N,)`.
        device: where batches go.

    Attributes:
        moments: of the features over training rows, where a model wants them.
    """

    def __init__(
        self,
        dataset: Dataset,
        features: Mapping[str, Sequence[tuple[np.ndarray, tuple[int, int] | None]]],
        slots: np.ndarray,
        device: torch.device,
    ) -> None:
        self._features = {
            name: [(torch.from_numpy(a), g) for a, g in arrays] for name, arrays in features.items()
        }
        self._slots, self._device = slots, device
        self._pack: Pack | None = None
        self.moments: Moments | None = None
        self._present = None if dataset.present.all() else torch.from_numpy(dataset.present)
        self._targets = torch.from_numpy(dataset.targets)

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return self._device

    def batch(self, rows: np.ndarray) -> Batch:
        """The batch of these rows, indices `(B,)` int64; training or validation rows alone."""
        places = self._slots[rows]
        if (places < 0).any():
            raise DataError("the feature bank holds no test rows")
        slots = torch.from_numpy(places)
        index = torch.from_numpy(rows)
        return Batch(
            inputs=self._inputs(slots),
            present=None if self._present is None else self._present[index].to(self._device),
            target=self._targets[index].to(self._device),
        )

    def _inputs(self, slots: Tensor) -> Features:
        inputs = {
            name: [Tokens(self._convert(array[slots]), grid) for array, grid in arrays]
            for name, arrays in self._features.items()
        }
        return self._pack(inputs) if self._pack else inputs

    @torch.no_grad()
    def pack(self, pack: Pack, limit: int = PACKED) -> None:
        """Give what a model's `pack` makes of the features: made once, where it fits `limit`."""
        count = len(next(iter(self._features.values()))[0][0])
        wide = sum(t.x[0].nbytes for ts in pack(self._inputs(torch.arange(1))).values() for t in ts)
        if wide * count > limit:
            self._pack = pack
            return
        whole: dict[str, list[tuple[Tensor, tuple[int, int] | None]]] = {}
        for start in range(0, count, CHUNK):
            slots = torch.arange(start, min(start + CHUNK, count))
            for name, tokens in pack(self._inputs(slots)).items():
                for k, (x, grid) in enumerate(tokens):
                    arrays = whole.setdefault(name, [])
                    if len(arrays) <= k:
                        arrays.append((x.new_empty((count, *x.shape[1:])), grid))
                    arrays[k][0][start : start + len(slots)] = x
        self._features = whole

    def _convert(self, raw: Tensor) -> Tensor:
        if not raw.is_floating_point():
            return raw.to(self._device).long()  # token ids
        return raw.to(self._device).to(torch.get_default_dtype())


class MixedSource:
    """Batches of raw rows of some modalities, and of banked features of the others.

    Args:
        rows: supplies the raw rows.
        banked: supplies the features.
    """

    def __init__(self, rows: Source, banked: BankSource) -> None:
        self._rows, self._banked = rows, banked

    @property
    def device(self) -> torch.device:
        """Where batches lie."""
        return self._rows.device

    def batch(self, rows: np.ndarray) -> Batch:
        """The batch of these rows, indices `(B,)` int64; training or validation rows alone."""
        raw = self._rows.batch(rows)
        inputs = {**raw.inputs, **self._banked.batch(rows).inputs}
        return Batch(inputs, raw.present, raw.target)


def encoder_digest(dataset: Dataset, name: str, encoder: Encoder) -> str:
    """Sixteen hex digits that stand for an encoder's weights and the rows it is to see."""
    modality = dataset.schema[name]
    code = type(encoder.stack) if isinstance(encoder, StackEncoder) else type(encoder)
    about = f"{code.__qualname__}{code.VERSION}{modality.model_dump_json()}{dataset.fingerprint}"
    digest = hashlib.sha256(f"{about}{dataset.split.fingerprint}".encode())
    for key, tensor in encoder.state_dict().items():
        digest.update(f"{key}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
