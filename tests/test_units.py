from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.errors import UsageError
from polymix.units import parse_duration, show_count, show_duration, show_score


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5 h", 5400), ("2 min", 120),
        (" 1D ", 86_400), ("0.5s", 0.5), ("1h 2m 3s", 3723), ("7 ", 7),
    ],
)  # fmt: skip
def test_durations_as_people_write_them(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "10 parsecs", "m", "-5", "-5s", "0", "0s", "1h30", "30 1h", "ten", "1e3", "1,5h",
        "nan", "inf", "9" * 400, "5 s s", "5..5s", "٣s", "10m!", "1h\n-2m",
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_the_cure(text):
    with pytest.raises(UsageError, match="write 90s, 10m, 1h30m") as error:
        parse_duration(text)
    assert repr(text) in str(error.value)


def test_a_long_line_of_digits_takes_no_longer_than_it_is():
    start = time.process_time()
    with pytest.raises(UsageError):
        parse_duration("1" * 5000 + "!")
    assert time.process_time() - start < 1


@given(st.text(alphabet="0123456789.smhdin -", max_size=12))
def test_anything_is_a_positive_number_or_refused(text):
    try:
        seconds = parse_duration(text)
    except UsageError:
        return
    assert 0 < seconds < math.inf


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_parts_add_up(hours, minutes, seconds):
    total = 3600 * hours + 60 * minutes + seconds
    if total:
        assert parse_duration(f"{hours}h{minutes}m {seconds}s") == total
        assert parse_duration(str(total)) == total


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0s"), (8, "8s"), (59.6, "1m 00s"), (185, "3m 05s"), (3720, "1h 02m"),
        (90_000, "25h 00m"),
    ],
)  # fmt: skip
def test_durations_are_shown_short(seconds, text):
    assert show_duration(seconds) == text


@given(st.floats(0, 1e6))
def test_what_is_shown_can_be_read_back(seconds):
    shown = show_duration(seconds)
    if shown != "0s":
        assert parse_duration(shown) == pytest.approx(seconds, abs=60 if "h" in shown else 1)


def test_scores_and_counts():
    assert [show_score(v) for v in (None, 0.5, -1.23456)] == ["-", "0.5000", "-1.2346"]
    assert [show_count(n) for n in (0, 61_949, 999_499, 1_250_000)] == [
        "0k",
        "62k",
        "999k",
        "1.25M",
    ]
