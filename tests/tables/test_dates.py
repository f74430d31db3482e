"""Dates in cells: the layout is the one that fits the most of them."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.tables.dates import LAYOUTS, date_format, dates_of
from polymix.tables.infer_columns import infer_column
from polymix.tables.recipe import ColumnType

DAYS = [dt.datetime(2010, 1, 1) + dt.timedelta(days=37 * i, hours=5, minutes=7) for i in range(40)]


@pytest.mark.parametrize("layout", [
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%Y/%m/%d", "%d %b %Y", "%d %B %Y",
    "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%m/%d/%y", "%d/%m/%y", "%Y%m%d", "%a, %d %b %Y",
    "%d/%m/%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d %b %Y %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f",
])  # fmt: skip
def test_a_layout_is_found_and_read_back(layout: str) -> None:
    cells = [day.strftime(layout) for day in DAYS]
    kind, _ = infer_column("when", cells, len(cells))
    assert kind is ColumnType.DATE
    found = date_format(cells)
    assert found is not None
    times = dates_of(np.array([*cells, None, "soon"], object), found)
    assert [t.date() for t in times[:-2]] == [day.date() for day in DAYS]
    assert times[-2:].isna().all()


def test_zones_and_what_iso_calls_a_time() -> None:
    cells = ["2010-09-07T10:00:00+02:00", "2010-09-07 08:00:00Z", "2010-09-07"]
    assert date_format(cells) == "ISO8601"
    times = dates_of(np.array(cells, object), "ISO8601")
    assert times[0] == times[1] == pd.Timestamp("2010-09-07 08:00", tz="UTC")
    assert date_format(["07/09/2010 10:00:00 +0200", "27/09/2010 10:00:00 +0200"]) is not None


def test_days_without_zeros_and_named_months() -> None:
    assert date_format(["7 Sep 2010", "17 October 2011", "1 Jan 2012"], 0.6) == "%d %b %Y"
    assert date_format(["Sep 7, 2010", "Oct 17, 2011"]) == "%b %d, %Y"


def test_numbers_are_compact_dates_only_where_all_are() -> None:
    whole = [int(day.strftime("%Y%m%d")) for day in DAYS]
    assert infer_column("when", whole, 40)[0] is ColumnType.DATE
    assert infer_column("when", [*whole[:-1], 20109999], 40)[0] is ColumnType.NUMERICAL
    years = [1990 + i % 30 for i in range(40)]
    assert infer_column("year", years, 40)[0] is ColumnType.NUMERICAL
    assert infer_column("year", list(map(str, years)), 40)[0] is ColumnType.NUMERICAL


TIMES = st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2060, 1, 1))
WHOLE = [layout for layout in LAYOUTS if "z" not in layout and "%Y" in layout]


@given(st.lists(TIMES, min_size=3), st.sampled_from(WHOLE))
def test_whatever_the_layout_most_cells_are_read(times: list[dt.datetime], layout: str) -> None:
    cells = [time.strftime(layout) for time in times]
    found = date_format(cells)
    assert found is not None
    assert dates_of(np.array(cells, object), found).notna().all()


@given(st.lists(st.text(max_size=20) | st.integers() | st.floats(), max_size=5))
def test_any_cells_are_looked_at_without_a_stumble(cells: list[object]) -> None:
    layout = date_format(cells)
    assert layout is None or dates_of(np.array(cells, object), layout).notna().any()
