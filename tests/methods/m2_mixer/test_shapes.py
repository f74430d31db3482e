"""The M2-Mixer on pictures that its patch does not divide, and where it cannot be built."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from polymix.data.dataset import Dataset
from polymix.data.schema import Schema
from polymix.errors import GenotypeError, UsageError
from polymix.methods.m2_mixer.m2_mixer import M2Mixer, genotype_on
from polymix.nn.build import build, build_seeded
from polymix.nn.model import Model
from polymix.runs.config import RunConfig, SourceConfig
from polymix.runs.dry_run import dry_run
from polymix.runs.preflight import check_setup
from polymix.space.mix import MixGenotype
from polymix.testing import toy_dataset
from polymix.testing.recorded import run_strategy
from polymix.train.evaluate import Evaluator


def with_pictures(height: int, width: int, rows: int = 60) -> Dataset:
    """The toy rows with pictures of another shape."""
    data = toy_dataset(rows, ("image", "series"))
    image = data.schema.modalities[0].model_copy(update={"shape": (3, height, width)})
    schema = data.schema.model_copy(update={"modalities": (image, data.schema.modalities[1])})
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (rows, 3, height, width)).astype(np.uint8)
    return replace(data, schema=schema, arrays={**data.arrays, "image": pictures})


@pytest.mark.parametrize(
    ("height", "width", "grid"),
    [(128, 80, (4, 2)), (33, 33, (2, 2)), (64, 48, (3, 2)), (28, 28, (2, 2)), (1, 7, (1, 7))],
)
@pytest.mark.parametrize("name", ["S", "H"])
def test_pictures_of_any_shape_are_cut_into_patches(
    height: int, width: int, grid: tuple[int, int], name: str
) -> None:
    data = with_pictures(height, width, rows=20)
    model = build(genotype_on(data.schema, name), data.schema).eval()
    tokens = model.encoders["image"](torch.rand(2, 3, height, width))
    assert tokens.grid == grid
    assert tokens.x.shape[1] == grid[0] * grid[1]


@pytest.mark.parametrize(("height", "width"), [(33, 33), (20, 13)])
def test_it_ships_its_own_model_on_them(height: int, width: int, tmp_path) -> None:
    data = with_pictures(height, width)
    record = run_strategy(M2Mixer(epochs=1), data, tmp_path, trials=4)
    own = record.trials[0]
    assert own["role"].value == "winner"
    assert own["status"].value == "done", own["error"]


def build_others(genotype: MixGenotype, schema: Schema, seed: int) -> Model:
    """Build anything but an M2-Mixer."""
    if genotype.network is not None:
        raise GenotypeError("no plan for these data")
    return build_seeded(genotype, schema, seed)


def test_a_winner_that_failed_is_noted_whatever_ships(tmp_path) -> None:
    data = toy_dataset(60, ("series", "table"))

    class Flawed(Evaluator):
        def model(self, proposal):
            if proposal.stage.startswith("m2-mixer"):
                raise RuntimeError("it would not be built")
            return super().model(proposal)

    record = run_strategy(M2Mixer(epochs=1), data, tmp_path, trials=6, evaluator=Flawed)
    (note,) = [n for n in record.outcome.notes if "could not be trained" in n]
    assert note.startswith("what m2-mixer chose could not be trained: RuntimeError: it would not")
    assert "; what ships is " in note


@pytest.mark.parametrize("what", [dry_run, check_setup])
def test_what_cannot_be_built_is_a_sentence_before_anything_is_trained(what, monkeypatch) -> None:
    data = toy_dataset(60, ("series", "table"))
    config = RunConfig(
        source=SourceConfig(name="toy", reopen=False), strategy="m2-mixer", options={},
        metric="accuracy",
    )  # fmt: skip
    monkeypatch.setattr("polymix.train.costs.build_seeded", build_others)
    with pytest.raises(UsageError, match="no plan for these data"):
        what(config, data, M2Mixer())
