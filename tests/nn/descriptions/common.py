"""What tests of descriptions share: an ONNX graph of one, and series of unlike length."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import numpy as np
import pytest
import torch

from polymix.data.schema import Kind, Modality


def series(length, channels, **fields):
    return Modality(name="s", kind=Kind.TIMESERIES, shape=(length, channels), dtype="float32",
                    **fields)  # fmt: skip


def padded_rows(lengths, steps, channels, seed=0):
    """Random walks `(B, T, 1 + C)` float32, the first column telling which steps are there."""
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.standard_normal((len(lengths), steps, channels + 1)), 1)
    there = np.arange(steps) < np.array(lengths)[:, None]
    x[~there] = 0
    x[..., 0] = there
    return torch.from_numpy(x.astype(np.float32))


@torch.no_grad()
def graph_of(description, x):
    """What an ONNX graph says of rows, exported on two of them with a dynamic batch."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    class Columns(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.description = description

        def forward(self, x):
            return self.description.columns(x)

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Columns().eval(), (x[:2],), dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    session = runtime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return found


def assert_same_graph(description, x):
    """A graph says the same as the description: 1e-5 relative, beyond one."""
    expected = description.columns(x).numpy()
    found = graph_of(description, x)
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    gap = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    assert gap.max() < 1e-5
