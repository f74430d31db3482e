"""Signals that end a command as Ctrl-C does: what is open is closed, and the status says which."""

from __future__ import annotations

import math
import signal
import time
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
"""Ctrl-C, `kill` or a batch system's end of time, and a terminal that was closed."""


CLOSING_S = 5.0
"""Seconds in which what is open may be closed, before another signal counts."""


class Ended(KeyboardInterrupt):
    """A signal that asks the process to end; whatever handles Ctrl-C handles it.

    Args:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def listen() -> None:
    """Take the ending signals as Ctrl-C, but for those that the caller had ignored (`nohup`)."""
    last = -math.inf

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal last
        # A second Ctrl-C would break off what the first one has closed.
        if time.monotonic() - last > CLOSING_S:
            last = time.monotonic()
            raise Ended(number)

    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def ignore() -> None:
    """Take no more signals: what is left to do is to exit."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def exit_status(interrupt: BaseException) -> int:
    """As shells have it: 128 and the signal's number, 130 for Ctrl-C."""
    return 128 + (interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT)
