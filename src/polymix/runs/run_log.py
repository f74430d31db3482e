"""What went wrong in a run, with its tracebacks, as a text beside its ledger."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polymix.errors import printable

LOG = "log.txt"


class _Plain(logging.Formatter):
    """What people's names and values would command a terminal with stands there as an escape."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), lines=True)


@contextmanager
def run_log(folder: Path) -> Iterator[None]:
    """Append what polymix logs to `log.txt` in a run's folder; no file where there is nothing.

    Args:
        folder: the run's.
    """
    handler = logging.FileHandler(folder / LOG, encoding="utf-8", errors="replace", delay=True)
    # A failed trial's traceback, which may come from another process, is the record's own field.
    handler.setFormatter(
        _Plain("%(asctime)s %(levelname)s %(message)s%(traceback)s", defaults={"traceback": ""})
    )
    logger = logging.getLogger("polymix")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
