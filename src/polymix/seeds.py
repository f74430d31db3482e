"""Named random streams, all drawn from one seed. Nothing in polymix seeds globally.

A stream is named by what it is for (`stream(seed, "order", epoch)`), so that adding one
never moves another, and a killed run can take up any stream where it stood.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_DRAWING = threading.RLock()
"""Held while torch's own stream is another; a stream may be opened within one."""


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream `names` of `seed`."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the stream `names` of `seed`."""
    return np.random.default_rng(derive(seed, *names))


@contextmanager
def torch_stream(device: torch.device | str, seed: int, *names: str | int) -> Iterator[None]:
    """Run a block under torch's stream `names` of `seed`; the global state comes back after.

    All threads share torch's stream: a block waits for those of other threads to end.
    """
    import torch

    kind = torch.device(device)
    forked = [kind] if kind.type == "cuda" else []
    with _DRAWING, torch.random.fork_rng(devices=forked):
        torch.manual_seed(derive(seed, *names))
        yield
