"""Where models run: devices and threads."""

from __future__ import annotations

import os

import torch

from polymix.errors import UsageError


def check_device(name: str) -> torch.device:
    """The device of a name.

    Raises:
        UsageError: there is no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: not usable here ({reason}); try cpu") from None
    return device


def default_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_threads(jobs: int) -> int:
    """Threads of each of `jobs` processes, all processors together."""
    return max(1, len(os.sched_getaffinity(0)) // jobs if hasattr(os, "sched_getaffinity")
               else (os.cpu_count() or 1) // jobs)  # fmt: skip
