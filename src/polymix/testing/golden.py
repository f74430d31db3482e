"""Golden outputs: a block's outputs, for given weights, may change only with its VERSION.

The ledger trusts VERSION: an old trial answers for a block that still computes the same. The
golden file keeps, for every block, preset and use, its version, options, number of parameters
and, for the small preset, a few outputs. Weights and inputs come from a formula, not from a
generator, and the computing is in float64, so that every machine finds the same numbers.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from polymix.data.schema import Modality
from polymix.genotype import Block
from polymix.methods.bm_nas.operations import OPERATIONS
from polymix.methods.mro.path import CrossModalPath
from polymix.nn import catalog
from polymix.nn.encoders.mlp import PooledNetwork
from polymix.nn.tokens import Tokens
from polymix.testing.encoders import EXAMPLES

TOLERANCE = 1e-4
CURE = "raise VERSION and run `python tests/nn/make_golden.py`"

Entry = dict[str, Any]


def golden_outputs() -> dict[str, Entry]:
    """What every block of the catalog computes now, by `name/preset/use`."""
    return dict(_entries())


def differences(kept: Entry | None, found: Entry | None) -> list[str]:
    """What differs between an entry as kept and as found."""
    if kept is None or found is None:
        return [f"only {'found' if kept is None else 'kept'}"]
    told = [
        f"{part}: {kept[part]} became {found[part]}"
        for part in ("version", "options", "parameters")
        if kept[part] != found[part]
    ]
    old, new = (torch.tensor(e["values"], dtype=torch.float64) for e in (kept, found))
    if old.shape != new.shape or not torch.allclose(old, new, rtol=TOLERANCE, atol=TOLERANCE):
        told.append(f"values: {kept['values']} became {found['values']}")
    return told


def write_golden(path: Path) -> list[str]:
    """Write the golden file; returns what a block changed without raising its version.

    Where anything is returned, nothing is written.
    """
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    found = golden_outputs()
    silent = [
        f"{key}: {told}"
        for key in sorted(kept.keys() & found.keys())
        for told in differences(kept[key], found[key])
        if kept[key]["version"] == found[key]["version"]
    ]
    if not silent:
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", "utf-8")
    return silent


class GoldenOutputs:
    """The golden file agrees with the code. A subclass sets `path`."""

    path: ClassVar[Path]

    def test_golden(self) -> None:
        """Nothing changed, or the version did and the file was written anew."""
        kept, found = json.loads(self.path.read_text("utf-8")), golden_outputs()
        told = [
            f"{key}: {difference}"
            for key in sorted(kept.keys() | found.keys())
            for difference in differences(kept.get(key), found.get(key))
        ]
        assert not told, "\n".join([*told, f"If it is meant, {CURE}"])


def _entries() -> Iterator[tuple[str, Entry]]:
    for name in sorted(set(catalog.encoder_names()) - set(catalog.PRETRAINED)):
        cls = catalog.encoder_class(name)
        for preset in cls.presets:
            block = Block.of(name, preset)
            for kind in sorted(cls.kinds):
                with torch.device("meta"):
                    encoder = catalog.make_encoder(block, EXAMPLES[kind])
                yield (
                    f"{name}/{preset}/{kind}",
                    _entry(
                        encoder,
                        cls.VERSION,
                        cls.presets[preset],
                        preset,
                        (_inputs(EXAMPLES[kind]),),
                    ),
                )
    for name, stack in catalog.STACKS.items():
        for preset, options in stack.network_presets.items():
            with torch.device("meta"):
                network = catalog.make_network(Block.of(name, preset), 6, 8)
            tokens = Tokens(_formula("tokens", (2, 6, 8)), (2, 3))
            yield (
                f"{name}/{preset}/network",
                _entry(network, stack.VERSION, options, preset, (tokens,)),
            )
    for preset, options in PooledNetwork.network_presets.items():
        with torch.device("meta"):
            pooled = catalog.make_pooled_network(Block.of("mlp", preset), 8)
        vector = _formula("vector", (2, 8))
        yield (
            f"mlp/{preset}/network",
            _entry(pooled, PooledNetwork.VERSION, options, preset, (vector,)),
        )
    path = CrossModalPath(8, 2, 2, 0.0)
    asked = [_formula(name, (2, t, 8)) for name, t in (("query", 3), ("asked", 4))]
    yield "cross-modal/small/path", _entry(path, path.VERSION, {}, "small", tuple(asked))
    fused = tuple(_formula(name, (2, 4, 8)) for name in ("x", "y"))
    for name, operation in OPERATIONS.items():
        made = operation(8, 2, 0.0)
        yield f"{name}/small/operation", _entry(made, operation.VERSION, {}, "small", fused)
    parts = [Tokens(_formula(str(t), (2, t, 8))) for t in (5, 3)]
    for name, function in catalog.FUSIONS.items():
        yield f"{name}/small/fusion", _entry(function(), function.VERSION, {}, "small", (parts,))


def _entry(
    module: nn.Module, version: int, options: Any, preset: str, inputs: tuple[Any, ...]
) -> Entry:
    entry = {
        "version": version,
        "options": json.loads(json.dumps(dict(options))),
        "parameters": sum(p.numel() for p in module.parameters()),
        "values": [],
    }
    if preset == "small":
        module = module.to_empty(device="cpu").double().eval()
        with torch.no_grad():
            for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
                tensor.copy_(_weight(name, tuple(tensor.shape)))
            out = module(*inputs)
        flat = (out.x if isinstance(out, Tokens) else out).flatten()
        picked = flat[torch.linspace(0, flat.numel() - 1, 6).long()]
        entry["values"] = [round(float(v), 6) for v in picked]
    return entry


def _inputs(modality: Modality) -> Tensor:
    rows = _formula(modality.name, (2, *modality.shape))
    if modality.vocabulary is None:
        return rows
    return ((rows + 1) / 2 * modality.vocabulary).long()


def _formula(name: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers in [-1, 1) that depend on the name and the place alone: a scrambled count."""
    mixed = torch.arange(torch.Size(shape).numel(), dtype=torch.int64) + zlib.crc32(name.encode())
    for factor in (2_654_435_761, 2_246_822_519):
        mixed = mixed % 2**31 * factor % 2**31
        mixed = mixed ^ (mixed >> 13)
    return (mixed.double() / 2**30 - 1).reshape(shape)


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """Near one for a vector (so that no norm is switched off), scaled by fan-in for a matrix."""
    values = _formula(name, shape)
    fan_in = torch.Size(shape[1:]).numel()
    return 1 + 0.5 * values if len(shape) < 2 else values * math.sqrt(3 / fan_in)
