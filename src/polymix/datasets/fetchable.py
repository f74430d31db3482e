"""The datasets whose raw files can be fetched, and why the others' cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from polymix.datasets.avmnist.fetch import fetch_avmnist
from polymix.datasets.builder import Progress, silent
from polymix.errors import UsageError, did_you_mean

FETCHERS: Mapping[str, Callable[[Path, Progress], None]] = {"avmnist": fetch_avmnist}
WHY_NOT: Mapping[str, str] = {
    "demo": "it comes with installed packages: polymix search demo",
    "mimic": (
        "PhysioNet gives MIMIC-III to credentialed users alone: apply there, make or ask for "
        "MultiBench's im.pk, and name its folder, --raw DIR"
    ),
    "mmimdb": (
        "download multimodal_imdb.hdf5 or mmimdb.tar.gz from the page of its authors "
        "(github.com/johnarevalo/gmu-mmimdb), and name its folder, --raw DIR"
    ),
    "mosi": "its utterance features come with papers' code: name their folder, --raw DIR",
    "mosei": (
        "download mosei_senti_data.pkl, to which MultiBench links "
        "(github.com/pliang279/MultiBench), and name its folder, --raw DIR"
    ),
    "meld": (
        "download the three CSV files, and MELD.Features.Models.tar.gz for features, from the page "
        "of its authors (affective-meld.github.io), and name their folder, --raw DIR"
    ),
}


def fetch_dataset(name: str, folder: Path, progress: Progress = silent) -> None:
    """Fetch a dataset's raw files into `folder`.

    Args:
        name: one of `FETCHERS`.
        folder: where to; made where it is not there.
        progress: called as `progress(done, total, what)`.

    Raises:
        UsageError: it is not among them.
        DataError: something cannot be fetched, or is not what it must be.
        MissingExtraError: requests is not installed.
    """
    if name in WHY_NOT:
        raise UsageError(f"dataset '{name}' is not fetched: {WHY_NOT[name]}")
    if name not in FETCHERS:
        known = [*FETCHERS, *WHY_NOT]
        raise UsageError(f"no dataset '{name}': {did_you_mean(name, known)}")
    FETCHERS[name](folder, progress)
