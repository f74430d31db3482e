"""A run from what is asked to its end; or, after an interruption, from where it stood."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from polymix.data.dataset import Dataset
from polymix.datasets import Progress
from polymix.datasets.own_table import report_of
from polymix.nn.encoders.pretrained_files import downloads
from polymix.runs.open_run import OpenRun
from polymix.runs.request import Request
from polymix.runs.session import Session
from polymix.search.callbacks import Callback
from polymix.search.protocol import Strategy
from polymix.tables.join import MoreTables


def search(
    request: Request, callbacks: Sequence[Callback] = (), progress: Progress | None = None
) -> Dataset:
    """Search, compare, train, choose; everything is in `request.path` then.

    Args:
        request: what is asked.
        callbacks: watch the run.
        progress: called as `progress(done, total, what)` while a dataset is built.

    Returns:
        The rows, for as long as somebody wants them.

    Raises:
        PolymixError: something cannot be used; nothing was written.
    """
    with downloads(request.asked.allow_download):
        plan = request.resolve(progress)
        report = report_of(plan.dataset)
        for callback in callbacks if report else ():
            callback.on_table(report)
        session = Session.start(plan, callbacks)
        with session.folder:
            session.run()
    return plan.dataset


def resume(
    run: OpenRun,
    data: Dataset | pd.DataFrame | None = None,
    named: MoreTables | None = None,
    *,
    strategy: Strategy | None = None,
    allow_download: bool = False,
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
) -> Dataset | None:
    """Go on with a run that was interrupted; a finished one stays as it is.

    Args:
        run: is held meanwhile.
        data: its data, if it was given as an object.
        named: its tables of validation and of test rows, if they were frames.
        strategy: its strategy, if that was of a class polymix does not know.
        allow_download: fetch pretrained models that it names and are not here.
        callbacks: watch the run.
        progress: called as `progress(done, total, what)` while a dataset is built.

    Returns:
        The rows, where they were opened.

    Raises:
        RunFolderError: it belongs to other data.
    """
    with run.folder.hold(), downloads(allow_download):
        if run.finished:
            return None
        dataset = run.data(data, progress, named)
        Session.resume(run.folder, dataset, strategy, callbacks, run.address).run()
    return dataset
