"""Named streams: the same in any company."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import torch

from polymix import seeds


def drawn(number):
    with seeds.torch_stream("cpu", 0, "stream", number):
        first = torch.randn(3)
        time.sleep(0.002)  # another thread would be in its own block by now
        return torch.cat([first, torch.randn(3)])


def test_threads_draw_beside_each_other_what_each_draws_alone():
    alone = [drawn(number) for number in range(16)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(drawn, range(16)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_within_a_stream_comes_back_to_it():
    with seeds.torch_stream("cpu", 0, "outer"):
        plain = torch.cat([torch.randn(2), torch.randn(2)])
    with seeds.torch_stream("cpu", 0, "outer"):
        first = torch.randn(2)
        drawn(1)
        assert torch.equal(torch.cat([first, torch.randn(2)]), plain)
