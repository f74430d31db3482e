"""The model as an ONNX graph: raw rows and presence masks in, predictions out.

Normalisation, absent-tokens and the target's own units are in the graph, so that nothing but
arrays is needed where it runs. The file is kept only if it says what the model says.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polymix.data.batch import convert
from polymix.data.schema import Schema
from polymix.datasets import Progress
from polymix.errors import MissingExtraError, PolymixError, SearchError
from polymix.nn.model import Model
from polymix.runs.inference import Served, on_schema
from polymix.runs.open_run import OpenRun
from polymix.runs.rows import GivenRows, labelled, open_rows
from polymix.runs.run_data import Data
from polymix.store.outputs import check_output, write_output
from polymix.train.objective import Objective

SCHEMA_VERSION = 1
TOLERANCE = 1e-4
"""How far a prediction of the graph may be from the model's, relative to values above one; values
of a regression in the target's standard deviations."""
MAX_PARITY_ROWS = 256
OUTPUT = "predictions"


def mask_name(modality: str) -> str:
    """What the graph calls a modality's presence mask: no modality has a dot in its name."""
    return f"{modality}.present"


class Exported(nn.Module):
    """A model from raw rows to predictions, as the graph has it.

    Args:
        model: in evaluation mode.
        schema: what it was built on.
    """

    def __init__(self, model: Model, schema: Schema) -> None:
        super().__init__()
        self.model, self.schema = model, schema
        self.objective = Objective(schema)
        self.reads = [name for name in schema.names if name in model.encoders]

    def forward(self, *arrays: Tensor) -> Tensor:
        """Raw rows `(B, *shape)` of each modality read, then masks `(B,)` bool, to `(B, K)`."""
        rows, masks = arrays[: len(self.reads)], arrays[len(self.reads) :]
        there = dict(zip(self.reads, masks, strict=True))
        inputs = {}
        for name, raw in zip(self.reads, rows, strict=True):
            # What an absent cell holds may be NaN, and must not reach the absent-token's place.
            here = there[name].reshape(-1, *[1] * (raw.dim() - 1))
            blank = torch.where(here, raw, torch.zeros_like(raw))
            inputs[name] = convert(self.schema[name], blank, raw.device)
        absent = torch.zeros_like(masks[0])
        present = torch.stack([there.get(name, absent) for name in self.schema.names], 1)
        return self.objective.predict(self.model(inputs, present).fused)


def export_run(
    run: OpenRun, path: Path, data: Data | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write a run's model as an ONNX file; see `export_onnx`.

    Args:
        run: whose model it is.
        path: the file to write.
        data: rows on which the two are compared; the run's own validation rows where not given.
        progress: called as `progress(done, total, what)` while rows are read.
    """
    served = run.served
    if data is None:
        own = on_schema(run.data(None, progress), served.schema)
        rows = labelled(own, own.split.val, "validation")
    else:
        rows = GivenRows.every(on_schema(open_rows(run, data, progress), served.schema))
    return export_onnx(served, path, rows)


def export_onnx(served: Served, path: Path, rows: GivenRows) -> dict[str, Any]:
    """Write a run's model as an ONNX file, once it is seen to predict alike.

    Args:
        served: the run's model.
        path: the file to write; one that is there is replaced.
        rows: real rows, on which the graph is compared with the model: as they are, and with each
            modality, and all of them, absent.

    Returns:
        `{schema_version, path, inputs: [{name, shape, dtype}], output: {name, shape}, n,
        tolerance, largest_difference}`.

    Raises:
        MissingExtraError: the `onnx` extra is not installed.
        UsageError: the file cannot be written.
        SearchError: something in the model has no ONNX counterpart, or predictions differ.
    """
    _need_extra()
    path = Path(path)
    check_output(path, "--onnx")
    rows = rows.drawn(MAX_PARITY_ROWS)
    module = Exported(served.model.to("cpu").eval(), served.schema).eval()
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "model.onnx"
        _write(module, draft)
        data = draft.read_bytes()
    difference = _compare(data, module, Served(served.model, served.schema, _CPU), rows)
    if not difference <= TOLERANCE:
        raise SearchError(
            f"the ONNX graph's predictions differ by {difference:.2g} from the model's, and "
            f"{TOLERANCE:g} is the most: {path} was not written"
        )
    try:
        write_output(path, data, "--onnx")
    finally:
        served.model.to(served.device)
    schema = served.schema
    return {
        "schema_version": SCHEMA_VERSION,
        "path": str(path),
        "inputs": [
            *(
                {
                    "name": name,
                    "shape": ["batch", *schema[name].shape],
                    "dtype": schema[name].dtype,
                }
                for name in module.reads
            ),
            *(
                {"name": mask_name(name), "shape": ["batch"], "dtype": "bool"}
                for name in module.reads
            ),
        ],
        "output": {"name": OUTPUT, "shape": ["batch", schema.target.outputs]},
        "n": len(rows.index),
        "tolerance": TOLERANCE,
        "largest_difference": difference,
    }


_CPU = torch.device("cpu")


def _need_extra() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"an ONNX file needs {error.name}: pip install 'polymix[onnx]'"
        ) from None


def _write(module: Exported, path: Path) -> None:
    """Trace the module and write its graph, weights within."""
    names, schema = module.reads, module.schema
    examples = tuple(
        torch.zeros((2, *schema[name].shape), dtype=getattr(torch, schema[name].dtype))
        for name in names
    ) + tuple(torch.tensor([True, False]) for _ in names)
    batch = torch.export.Dim("batch")
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module,
                examples,
                dynamo=True,
                dynamic_shapes=(tuple({0: batch} for _ in examples),),
                input_names=[*names, *map(mask_name, names)],
                output_names=[OUTPUT],
                verbose=False,
            )
            assert program is not None
            program.save(str(path), external_data=False)
    except PolymixError:
        raise
    except Exception as error:  # the exporter raises whatever it meets on its way
        reason = " ".join(str(error).split())[:200]
        raise SearchError(
            f"this architecture cannot be exported to ONNX: {type(error).__name__}: {reason}"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's own talk."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def run_graph(
    session: Any, arrays: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Predictions `(N, K)` of a graph on raw rows, by modality, and masks `(N,)`."""
    feeds: dict[str, np.ndarray] = {}
    for entry in session.get_inputs():
        name = entry.name.removesuffix(".present")
        feeds[entry.name] = masks[name] if name != entry.name else arrays[name]
    found: np.ndarray = session.run([OUTPUT], feeds)[0]
    return found


def _compare(data: bytes, module: Exported, served: Served, rows: GivenRows) -> float:
    """The largest difference between the graph's predictions and the model's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    dataset, worst = rows.dataset, 0.0
    arrays = {n: np.ascontiguousarray(dataset.arrays[n][rows.index]) for n in module.reads}
    hidden = [frozenset[str](), *({name} for name in module.reads), frozenset(module.reads)]
    for absent in hidden:
        shown = np.array([name not in absent for name in served.schema.names])
        present = dataset.present[rows.index] & shown
        masks = {n: np.ascontiguousarray(present[:, served.schema.index(n)]) for n in module.reads}
        ours = served.predict(replace(dataset, present=dataset.present & shown), rows.index)
        try:
            theirs = run_graph(session, arrays, masks)
        except Exception as error:  # the runtime raises classes of its own
            reason = " ".join(str(error).split())[:200]
            raise SearchError(f"the ONNX graph does not run on these rows: {reason}") from error
        gap = _gap(theirs, ours, served.schema)
        worst = max(worst, float(gap.max())) if np.isfinite(gap).all() else np.inf
    return worst


def _gap(theirs: np.ndarray, ours: np.ndarray, schema: Schema) -> np.ndarray:
    """How far predictions `(N, K)` are apart, relative to values above one."""
    fitted = schema.target.statistics
    if fitted is not None:  # beside a time in seconds, an error of an hour would look small
        theirs, ours = ((each - fitted.mean[0]) / fitted.std[0] for each in (theirs, ours))
    return np.asarray(np.abs(theirs - ours) / np.maximum(1.0, np.abs(ours)))
