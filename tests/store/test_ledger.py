from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polymix.errors import LedgerError
from polymix.genotype import Block, Genotype
from polymix.records import (
    Cost,
    EpochRecord,
    Fidelity,
    Proposal,
    Recipe,
    Role,
    Score,
    Status,
    Trial,
)
from polymix.store import Ledger, blobs
from polymix.store.rows import clean

from .conftest import ToyGenotype


def proposal(name: str = "a", **fields: Any) -> Proposal:
    return Proposal(ToyGenotype(name=name), Fidelity(10, 2), **fields)


def trial(key: str, **fields: Any) -> Trial:
    defaults: dict[str, Any] = {
        "proposal": proposal(key),
        "status": Status.DONE,
        "score": Score(0.5, 0.7, 1),
        "cost": Cost(10, 20, 3, 1.5, 2.5),
    }
    return Trial(key=key, **(defaults | fields))


def bits(value: Any) -> Any:
    """A value in which NaN equals NaN and 0.0 is not -0.0."""
    if isinstance(value, float):
        return struct.pack("<d", math.nan if math.isnan(value) else value)
    if isinstance(value, tuple):
        return tuple(bits(part) for part in value)
    if hasattr(value, "__dataclass_fields__"):
        return tuple(
            (name, bits(getattr(value, name)))
            for name in value.__dataclass_fields__
            if name != "predictions"
        )
    return value


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
counts = st.integers(0, 2**63 - 1)
sizes = st.integers(1, 2**63 - 1)
finite = st.floats(allow_nan=False)
options = st.one_of(st.booleans(), st.integers(-9, 9), names, st.tuples(st.integers(0, 9)))
blocks = st.builds(
    lambda name, kwargs: Block(name=name, options=tuple(sorted(kwargs.items()))),
    names,
    st.dictionaries(names, options, max_size=2),
)
proposals = st.builds(
    Proposal,
    st.builds(ToyGenotype, name=names, blocks=st.lists(blocks, max_size=2).map(tuple)),
    st.builds(Fidelity, sizes, sizes, counts),
    st.builds(
        Recipe,
        lr=st.floats(min_value=0, exclude_min=True),
        batch_size=sizes,
        weight_decay=finite,
        schedule=st.sampled_from(["constant", "cosine", "plateau"]),
        plateau_factor=finite,
        plateau_patience=counts,
        patience=counts,
        modality_dropout=st.floats(0, 1, exclude_max=True),
        frozen=st.booleans(),
    ),
    init=st.lists(names, max_size=3).map(tuple),
    keep=st.booleans(),
    stage=names,
)
pairs = st.lists(st.tuples(names, st.floats()), max_size=3).map(tuple)
trial_fields = st.builds(
    Trial,
    proposal=proposals,
    key=names.filter(bool),
    status=st.sampled_from(Status),
    score=st.none() | st.builds(Score, st.floats(), st.floats(), counts, pairs),
    cost=st.builds(Cost, counts, counts, counts, st.floats(), st.floats()),
    curve=st.lists(st.floats(), max_size=4).map(tuple),
    weights=st.none() | names,
    error=st.none() | names,
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(trial_fields, st.sampled_from(Role))
def test_a_trial_comes_back_as_it_went_in(made: Trial, role: Role) -> None:
    with Ledger.open("sqlite://") as ledger:
        assert bits(tuple(ledger.put([(made, None)], role))) == bits((made,))
        found = ledger.get(made.key, made.proposal)
        assert found is not None
        assert found.proposal is made.proposal
        assert bits(found) == bits(made)
        (row,) = ledger.rows()
        assert bits(row.trial) == bits(made)
        assert (row.key, row.role, row.origin) == (made.key, role, "own")


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        names.filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from(
                [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16, torch.uint8]
            ),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=3,
    )
)
def test_tensors_come_back_bit_for_bit(spec: Mapping[str, tuple[torch.dtype, list[int]]]) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randint(0, 2, shape, generator=generator).to(dtype)
        for name, (dtype, shape) in spec.items()
    }
    with Ledger.open("sqlite://") as ledger:
        (done,) = ledger.put([(trial("k"), tensors)])
        assert done.weights is not None
        assert len(done.weights) == 32
        back = ledger.weights(done.weights)
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_stacked_views_are_kept_apart(ledger: Ledger) -> None:
    stack = torch.arange(12.0).reshape(3, 4)
    entries = [(trial(str(i)), {"w": stack[i], "t": stack.T[i], "all": stack}) for i in range(3)]
    for i, done in enumerate(ledger.put(entries)):
        assert torch.equal(ledger.weights(str(done.weights))["w"], stack[i])
        assert torch.equal(ledger.weights(str(done.weights))["t"], stack.T[i])


def test_same_weights_are_kept_once(ledger: Ledger) -> None:
    tensors = {"w": torch.ones(3)}
    done = ledger.put([(trial("a"), tensors), (trial("b"), tensors)])
    (later,) = ledger.put([(trial("c"), dict(reversed(list(tensors.items()))))])
    assert {t.weights for t in (*done, later)} == {done[0].weights}


def test_long_blobs_are_kept_in_parts(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "PART", 7)
    (done,) = ledger.put([(trial("a"), {"w": torch.arange(50)})])
    assert torch.equal(ledger.weights(str(done.weights))["w"], torch.arange(50))
    ledger.save_checkpoint("c", {"w": torch.arange(9)})
    ledger.save_checkpoint("c", {"w": torch.arange(3)})
    assert torch.equal(ledger.load_checkpoint("c")[0]["w"], torch.arange(3))  # type: ignore[index]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
def test_predictions_come_back(ledger: Ledger, dtype: str) -> None:
    outputs = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)[:, ::-1]
    ledger.put([(trial("a", predictions=outputs), None), (trial("b"), None)])
    found = ledger.get("a", proposal("a"))
    assert found is not None
    for back in (found.predictions, ledger.predictions("a")):
        assert back is not None
        assert back.dtype == outputs.dtype
        np.testing.assert_array_equal(back, outputs)
    assert ledger.predictions("b") is None
    assert ledger.predictions("nowhere") is None
    assert [t.predictions for t in ledger.trials()] == [None, None]


def test_an_unknown_trial_is_none(ledger: Ledger) -> None:
    assert ledger.get("a", proposal()) is None


def test_the_given_proposal_needs_no_parsing(path: Path) -> None:
    class PassingGenotype(Genotype):
        kind = "store-passing"

    asked = Proposal(PassingGenotype(), Fidelity(1, 1))
    with Ledger.open(path) as ledger:
        ledger.put([(trial("a", proposal=asked), None)])
        found = ledger.get("a", asked)
        assert found is not None
        assert found.proposal is asked
        with pytest.raises(LedgerError, match="no genotype of kind 'store-passing'"):
            ledger.trials()


def test_the_order_is_that_of_writing(ledger: Ledger) -> None:
    ledger.put([(trial(key), None) for key in "cab"])
    ledger.put([(trial("0"), None)], Role.RANDOM)
    assert [t.key for t in ledger.trials()] == ["c", "a", "b", "0"]
    rows = ledger.rows()
    assert [row.role for row in rows] == [*[Role.SEARCH] * 3, Role.RANDOM]
    assert sorted(row.order for row in rows) == [row.order for row in rows]
    assert all(row.created_at.endswith("+00:00") for row in rows)


@pytest.mark.parametrize("keys", [["new", "old"], ["twice", "twice"]])
def test_a_key_is_written_once(ledger: Ledger, keys: list[str]) -> None:
    ledger.put([(trial("old"), {"w": torch.ones(1)})])
    with pytest.raises(LedgerError, match=f"trial '{keys[1]}'"):
        ledger.put([(trial(key), None) for key in keys])
    assert [t.key for t in ledger.trials()] == ["old"]


def test_an_empty_cohort_is_nothing(ledger: Ledger) -> None:
    assert ledger.put([]) == []


def test_texts_no_database_takes_are_escaped(ledger: Ledger) -> None:
    (done,) = ledger.put([(trial("a", error="bad \udcff\0 path"), None)])
    assert done.error == "bad \\udcff\\x00 path"
    assert ledger.trials()[0].error == done.error


@pytest.mark.parametrize("text", ["Traceback:\n  é\ud800\0", "x" * 200_000, ""])
def test_a_failed_trials_traceback_is_kept(ledger: Ledger, text: str) -> None:
    done = trial("b", status=Status.DONE)
    ledger.put([(trial("a", status=Status.FAILED, traceback=text), None), (done, None)])
    assert ledger.traceback("a") == (clean(text) or "\n")
    assert ledger.traceback("b") is None
    assert ledger.traceback("c") is None


def test_a_lost_trial_gives_its_place_to_the_same_one_made_again(ledger: Ledger) -> None:
    lost = trial("b", status=Status.LOST, error="out of memory", traceback="Traceback: b")
    ledger.put([(trial("a"), None), (lost, None), (trial("c"), None)])
    again = trial("b", status=Status.LOST, error="out of memory, again", traceback="Traceback: 2")
    ledger.put([(again, None)])
    assert ledger.traceback("b") == "Traceback: 2"
    (done,) = ledger.put([(trial("b"), {"w": torch.ones(2)})])
    assert ledger.traceback("b") is None
    assert ledger.trials() == [trial("a"), done, trial("c")]
    assert torch.equal(ledger.weights(str(done.weights))["w"], torch.ones(2))
    with pytest.raises(LedgerError, match="'b' is in the ledger already"):
        ledger.put([(trial("b"), None)])


def test_numpy_numbers_are_numbers(ledger: Ledger) -> None:
    made = trial(
        "a",
        score=Score(np.float32(0.25), np.float64(0.5), np.int64(1)),  # type: ignore[arg-type]
        cost=Cost(np.int64(3), np.int32(4), 5, np.float32(0.5), 1),  # type: ignore[arg-type]
        curve=(np.float32(0.25),),
    )
    ledger.put([(made, None)])
    assert ledger.trials() == [made]


def test_a_number_too_large_is_told(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="cannot hold"):
        ledger.put([(trial("a", cost=Cost(2**63, 0)), None)])
    assert ledger.trials() == []


def test_tensors_no_format_takes_are_told(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="cannot keep"):
        ledger.put([(trial("a"), {"w": torch.eye(2).to_sparse()})])
    with pytest.raises(LedgerError, match="cannot keep"):
        ledger.put([(trial("a", predictions=np.array([object()])), None)])
    assert ledger.trials() == []


def test_missing_weights_are_told(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no weights or outputs named 'abc'"):
        ledger.weights("abc")


# ------------------------------------------------------------------------------------- reuse


def test_reused_trials_are_taken_over_and_cost_nothing(tmp_path: Path) -> None:
    outputs = np.ones((2, 2))
    run = tmp_path / "old"
    run.mkdir()
    with Ledger.open(run / "ledger.sqlite") as old:
        (made,) = old.put([(trial("a", predictions=outputs), {"w": torch.ones(2)})], Role.RANDOM)
    before = (run / "ledger.sqlite").read_bytes()
    asked = proposal("a", stage="here")
    with Ledger.open(tmp_path / "new.sqlite", reuse=[run]) as new:
        new.put([(trial("b"), None)])
        found = new.get("a", asked, Role.SINGLE)
        assert found is not None
        assert found.proposal is asked
        assert (found.score, found.weights) == (made.score, made.weights)
        assert new.get("c", proposal("c")) is None
    assert (run / "ledger.sqlite").read_bytes() == before
    assert [p.name for p in run.iterdir()] == ["ledger.sqlite"]
    with Ledger.open(tmp_path / "new.sqlite") as new:  # without the other ledger
        assert torch.equal(new.weights(str(made.weights))["w"], torch.ones(2))
        np.testing.assert_array_equal(new.predictions("a"), outputs)
        assert new.spent_cpu_s() == 1.5
        own, reused = new.rows()
        assert (own.origin, reused.origin) == ("own", "reused")
        assert reused.role is Role.SINGLE
        assert reused.trial.proposal.stage == "here"


def test_a_ledger_in_use_can_be_reused(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "a.sqlite") as first:
        first.put([(trial("a"), None)])
        with Ledger.open(tmp_path / "b.sqlite", reuse=[str(tmp_path / "a.sqlite")]) as second:
            assert second.get("a", proposal("a")) is not None
            first.put([(trial("b"), None)])
            assert second.get("b", proposal("b")) is not None


def test_a_ledger_to_reuse_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such ledger"):
        Ledger.open(tmp_path / "a.sqlite", reuse=[tmp_path / "b.sqlite"])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b.sqlite").touch()
    with pytest.raises(LedgerError, match="holds no ledger"):
        Ledger.open(tmp_path / "a.sqlite", reuse=[tmp_path / "b.sqlite"])


def test_odd_paths(tmp_path: Path) -> None:
    folder = tmp_path / "a b?c#d%20é"
    folder.mkdir()
    with Ledger.open(folder / "x&mode=ro.sqlite") as ledger:
        ledger.put([(trial("a"), None)])
    with Ledger.open(tmp_path / "new.sqlite", reuse=[folder / "x&mode=ro.sqlite"]) as ledger:
        assert ledger.get("a", proposal("a")) is not None


# ------------------------------------------------------------------- decisions and checkpoints


def test_a_decision_is_made_once(path: Path) -> None:
    with Ledger.open(path) as ledger, Ledger.open(path) as other:
        assert ledger.decision("horizon") is None
        assert ledger.record_decision("horizon", {"epochs": 3, "best": -math.inf}) == {
            "epochs": 3,
            "best": -math.inf,
        }
        assert other.record_decision("horizon", {"epochs": 4}) == {"epochs": 3, "best": -math.inf}
        assert other.record_decision("pair", (1, 2)) == [1, 2]
        assert other.record_decision("none", None) is None
        assert ledger.record_decision("none", 1) is None
        with pytest.raises(LedgerError, match="decision 'bad' is not JSON"):
            ledger.record_decision("bad", {1: object()})  # type: ignore[dict-item]


def test_a_checkpoint_is_replaced_and_dropped(ledger: Ledger) -> None:
    assert ledger.load_checkpoint("a") is None
    ledger.save_checkpoint("a", {"w": torch.zeros(2)}, {"epoch": 0})
    ledger.save_checkpoint("a", {"w": torch.ones(2)}, {"epoch": 1, "best": -math.inf})
    ledger.save_checkpoint("b", {"w": torch.ones(2)})
    found = ledger.load_checkpoint("a")
    assert found is not None
    assert torch.equal(found[0]["w"], torch.ones(2))
    assert found[1] == {"epoch": 1, "best": -math.inf}
    ledger.drop_checkpoint("a")
    ledger.drop_checkpoint("a")
    assert ledger.load_checkpoint("a") is None
    assert ledger.load_checkpoint("b") is not None


def test_putting_a_trial_drops_its_checkpoint(ledger: Ledger) -> None:
    (done,) = ledger.put([(trial("z"), {"w": torch.ones(2)})])
    for name in "ab":
        ledger.save_checkpoint(name, {"w": torch.ones(2)})
    with pytest.raises(LedgerError):
        ledger.put([(trial("a"), None), (trial("z"), None)])
    assert ledger.load_checkpoint("a") is not None
    ledger.put([(trial("a"), None)])
    assert ledger.load_checkpoint("a") is None
    assert ledger.load_checkpoint("b") is not None
    assert ledger.weights(str(done.weights))


def test_an_epoch_and_its_state_are_one(ledger: Ledger) -> None:
    assert ledger.epochs("s") == []
    records = [EpochRecord(i, (("loss", math.inf if i else 0.1), ("arch", -0.0))) for i in range(2)]
    for record in records:
        ledger.put_epoch("s", record, {"w": torch.full((1,), record.epoch)}, {"at": record.epoch})
    assert ledger.epochs("s") == records
    with pytest.raises(LedgerError, match="epoch 1 of 's' is in the ledger already"):
        ledger.put_epoch("s", records[1], {"w": torch.zeros(1)}, {"at": 9})
    found = ledger.load_checkpoint("s")
    assert found is not None
    assert found[1] == {"at": 1}


def test_the_clock_is_summed_over_resumptions(path: Path) -> None:
    with Ledger.open(path) as ledger:
        assert ledger.used_seconds() == 0
        ledger.add_used(1.5)
    with Ledger.open(path) as ledger:
        ledger.add_used(2.0)
        assert ledger.used_seconds() == 3.5
        assert ledger.spent_cpu_s() == 0
