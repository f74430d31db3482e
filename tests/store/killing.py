"""Child processes that are killed, as by `kill -9`, at a step of what they do."""

from __future__ import annotations

import os
import signal
import stat
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

STEPS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove"}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def survives(work: Callable[[], object]) -> bool:
    """Run it in a child process: whether it came to its end (True) or was killed (False)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12, of forking with threads
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def die_before(step: int, folder: Path) -> None:
    """Die before the given step, from 1, that changes something below the folder's parent.

    An fsync is a step, too: before it, half of the file is lost.
    """
    taken = 0

    def count() -> bool:
        nonlocal taken
        taken += 1
        return taken == step

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in STEPS and args and str(folder.parent) in str(args[0]):
            if event == "open" and args[1] in ("r", "rb"):
                return
            if count():
                die()

    fsync = os.fsync

    def lossy(handle: int) -> None:
        if count():
            if stat.S_ISREG(os.fstat(handle).st_mode):
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            die()
        fsync(handle)

    os.fsync = lossy
    sys.addaudithook(hook)
