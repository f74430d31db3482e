"""What a model says of rows that lack something; and copies of its folder."""

from __future__ import annotations

import numpy as np
import pytest

from cli_support import LEARNS, rows_of, synthetic
from polymix import Predictor
from polymix.data.schema import Task
from polymix.datasets import open_dataset
from polymix.errors import DataError, RunFolderError

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    data = synthetic(Task.MULTICLASS, rows=160, lacking=0.3)
    path = tmp_path_factory.mktemp("absent") / "run"
    predictor = Predictor(path=path).fit(data, options=LEARNS)
    assert "picture" in predictor.leaderboard().architecture[0]
    return data, predictor


class TestAbsence:
    @pytest.fixture
    def fused(self, fitted):
        """Rows to predict, and a predictor whose model sees both modalities."""
        data, predictor = fitted
        return rows_of(data, np.arange(6)), predictor

    def test_an_absent_picture_is_not_a_black_one(self, fused):
        rows, predictor = fused
        black = rows | {"picture": np.zeros_like(rows["picture"])}
        absent = predictor.predict_proba(rows | {"picture": None})
        left_out = predictor.predict_proba({"table": rows["table"]})
        assert np.array_equal(absent, left_out)
        assert np.abs(absent - predictor.predict_proba(black)).max() > 1e-4

    def test_some_rows_may_lack_it(self, fused):
        rows, predictor = fused
        here = np.array([True, False, True, False, True, True])
        mixed = predictor.predict_proba(rows, {"picture": here})
        full, none = (
            predictor.predict_proba(rows),
            predictor.predict_proba({"table": rows["table"]}),
        )
        assert mixed[here] == pytest.approx(full[here], abs=1e-6)
        assert mixed[~here] == pytest.approx(none[~here], abs=1e-6)

    def test_what_an_absent_cell_holds_is_no_matter(self, fused):
        rows, predictor = fused
        here = np.array([True, False, True, False, True, True])
        noise = rows["picture"].copy()
        noise[~here] = np.nan
        one = predictor.predict_proba(rows, {"picture": here})
        other = predictor.predict_proba(rows | {"picture": noise}, {"picture": here})
        assert np.array_equal(one, other)

    def test_a_row_with_nothing_is_predicted_all_the_same(self, fused):
        rows, predictor = fused
        gone = np.zeros(6, bool)
        found = predictor.predict_proba(rows, {"picture": gone, "table": gone})
        assert np.isfinite(found).all()
        assert np.ptp(found, axis=0) == pytest.approx(0, abs=1e-6)

    def test_no_rows(self, fused):
        rows, predictor = fused
        none = {name: array[:0] for name, array in rows.items()}
        assert predictor.predict_proba(none).shape == (0, 4)

    def test_all_that_does_not_fit_is_told_at_once(self, fused):
        rows, predictor = fused
        wrong = {"pictur": rows["picture"], "table": rows["table"][:3, :2].astype(np.float64)}
        with pytest.raises(DataError) as error:
            predictor.predict(wrong)
        said = "\n".join(error.value.problems)
        assert "no modality 'pictur': did you mean 'picture'?" in said
        assert "as many rows" in said
        assert "modality 'table': rows of (4,) float32 expected, but got (2,) float64" in said


class TestSaving:
    def test_a_copy_predicts_alike(self, finished):
        predictor = Predictor.load(finished)
        predictor.save("far/copy")
        copy = Predictor.load("far/copy")
        rows = rows_of(open_dataset("demo"), np.arange(20))
        assert np.array_equal(copy.predict(rows), predictor.predict(rows))
        assert copy.leaderboard().equals(predictor.leaderboard())
        assert set(copy.predict(rows)) <= set("0123456789")
        copy.evaluate()

    def test_a_place_that_is_taken(self, finished, workplace):
        with pytest.raises(RunFolderError, match="exists: name another place"):
            Predictor.load(finished).save(workplace)

    def test_nothing_to_save(self, workplace):
        with pytest.raises(RunFolderError):
            Predictor(path="nowhere").save("copy")
        assert not list(workplace.iterdir())
