"""What every encoder and every stack of mixer blocks must keep (see `polymix.nn.encoder`).

Both contracts ask the same of a module that gives features: `_Features` holds it, and each
contract says how to build one and what goes in. All computing is in float64 unless said.
"""

from __future__ import annotations

import copy
from math import prod
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from polymix import seeds
from polymix.data.schema import Kind, Modality
from polymix.genotype import Block
from polymix.nn import catalog
from polymix.nn.encoder import Encoder, Stack
from polymix.nn.tokens import Tokens

EXAMPLES: dict[Kind, Modality] = {
    Kind.IMAGE: Modality(name="image", kind=Kind.IMAGE, shape=(2, 16, 12), dtype="float32"),
    Kind.AUDIO: Modality(name="audio", kind=Kind.AUDIO, shape=(1, 12, 20), dtype="float32"),
    Kind.TIMESERIES: Modality(
        name="timeseries", kind=Kind.TIMESERIES, shape=(6, 3), dtype="float32"
    ),
    Kind.TEXT: Modality(name="text", kind=Kind.TEXT, shape=(7,), dtype="int32", vocabulary=11),
    Kind.TABULAR: Modality(name="tabular", kind=Kind.TABULAR, shape=(5,), dtype="float32"),
    Kind.FEATURES: Modality(name="features", kind=Kind.FEATURES, shape=(4, 3), dtype="float32"),
}
"""A small modality of every kind."""


def random_rows(modality: Modality, rows: int, seed: int = 0) -> Tensor:
    """A batch as a model receives it: normal numbers in float64, or token ids, 0 among them."""
    rng = seeds.stream(seed, "rows", modality.name)
    shape = (rows, *modality.shape)
    if modality.vocabulary is not None:
        ids = rng.integers(0, modality.vocabulary, shape)
        ids[:, 0] = ids[:, 0].clip(1)  # no row is padding alone
        return torch.from_numpy(ids)
    return torch.from_numpy(rng.standard_normal(shape))


class EncoderCase(NamedTuple):
    """An encoder, and the modality it is to take."""

    block: Block
    modality: Modality

    def __str__(self) -> str:
        return f"{self.block}-{self.modality.kind}-{'x'.join(map(str, self.modality.shape))}"


class StackCase(NamedTuple):
    """A stack as a fusion network: over T tokens of C channels, on a grid or on none."""

    block: Block
    tokens: int
    channels: int
    grid: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{self.block}-{self.tokens}x{self.channels}-{'grid' if self.grid else 'line'}"


class _Features:
    """Checks on a module whose `features(rows)` are tokens."""

    def make(self, case: Any, seed: int = 0) -> Any:
        """The module, in float64, with the initial weights of a seed."""
        with seeds.torch_stream("cpu", seed, "weights"):
            return self.build(case).double()

    def build(self, case: Any) -> nn.Module:
        raise TypeError(f"{type(self).__name__} must define build for {case}")

    def rows(self, case: Any, count: int, seed: int = 0) -> Any:
        """What goes in."""
        raise TypeError(f"{type(self).__name__} must define rows for {case}, {count}, {seed}")

    def take(self, rows: Any, index: int) -> Any:
        """One row of what goes in, still as a batch."""
        raise TypeError(f"{type(self).__name__} must define take for {rows}, {index}")

    def test_one_row(self, case: Any) -> None:
        """A batch of one works, in training too: the last batch of an epoch may be one."""
        for training in (True, False):
            module = self.make(case).train(training)
            assert module(self.rows(case, 1)).x.shape[0] == 1

    def test_rows_are_independent(self, case: Any) -> None:
        """A row's features are those it has alone: neighbours, absent ones too, don't matter."""
        rows = self.rows(case, 4)
        for training in (False, True):
            module = _without_dropout(self.make(case)).train(training)
            together = module.features(rows)
            for i in range(4):
                alone = module.features(self.take(rows, i))
                for a, b in zip(together, alone, strict=True):
                    torch.testing.assert_close(a.x[i : i + 1], b.x, rtol=0, atol=1e-10)

    def test_rows_matter(self, case: Any) -> None:
        """Different rows have different features."""
        x = self.make(case).eval()(self.rows(case, 2)).x
        assert (x[0] - x[1]).abs().max() > 1e-6

    def test_seed(self, case: Any) -> None:
        """The same seed gives the same weights and outputs, another seed others."""
        rows = self.rows(case, 2)
        first, again, other = (self.make(case, seed).eval()(rows).x for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.allclose(first, other)

    def test_every_parameter_is_trained(self, case: Any) -> None:
        """Each parameter has a finite gradient that is not zero everywhere."""
        module = _without_dropout(self.make(case)).train()
        for seed in range(3):
            _projection(module(self.rows(case, 4, seed)).x, seed).backward()  # type: ignore[no-untyped-call]
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.isfinite().all(), f"{name}: a gradient is not finite"
            assert parameter.grad.abs().max() > 0, f"{name}: all gradients are zero"

    def test_gradients_are_right(self, case: Any) -> None:
        """Gradients by parameters and inputs agree with finite differences."""
        module, rows = _without_dropout(self.make(case)).eval(), self.rows(case, 2)
        names = [name for name, _ in module.named_parameters()]
        x = rows.x if isinstance(rows, Tokens) else rows
        floats = x.is_floating_point()

        def run(*values: Tensor) -> Tensor:
            given = values[-1] if floats else x
            inputs = rows._replace(x=given) if isinstance(rows, Tokens) else given
            weights = dict(zip(names, values, strict=False))
            out: Tensor = functional_call(module, weights, (inputs,)).x
            return out

        values = [p.detach().requires_grad_() for p in module.parameters()]
        values += [x.clone().requires_grad_()] if floats else []
        assert torch.autograd.gradcheck(run, values, fast_mode=True, atol=1e-4, rtol=1e-3)

    def test_weights_round_trip(self, case: Any) -> None:
        """Weights go through safetensors' bytes, and give the same outputs again."""
        one, other = self.make(case, 0).eval(), self.make(case, 1).eval()
        other.load_state_dict(safetensors.torch.load(safetensors.torch.save(one.state_dict())))
        rows = self.rows(case, 2)
        assert torch.equal(one(rows).x, other(rows).x)

    def test_evaluation(self, case: Any) -> None:
        """Evaluating is repeatable, changes no buffer, and needs no gradient."""
        module, rows = self.make(case).eval(), self.rows(case, 2)
        before = copy.deepcopy(module.state_dict())
        with torch.no_grad():
            first, again = module(rows).x, module(rows).x
        assert torch.equal(first, again)
        assert torch.equal(first, module(rows).x)
        assert not first.requires_grad
        assert all(torch.equal(before[name], t) for name, t in module.state_dict().items())

    def test_dtype(self, case: Any) -> None:
        """float64 stays float64, and float32 is near it."""
        module, rows = self.make(case).eval(), self.rows(case, 2)
        wide = module(rows).x
        assert wide.dtype == torch.float64
        narrow = module.float()(_to(rows, torch.float32)).x
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-3, atol=1e-3)

    def test_stacked(self, case: Any) -> None:
        """Models side by side in one computation are each as alone."""
        modules = [_without_dropout(self.make(case, seed)) for seed in (0, 1)]
        parameters, buffers = stack_module_state(modules)
        shell, rows = copy.deepcopy(modules[0]).to("meta"), self.rows(case, 2)

        def one(weights: dict[str, Tensor], state: dict[str, Tensor]) -> Tensor:
            out: Tensor = functional_call(shell, (weights, state), (rows,)).x
            return out

        for module, stacked in zip(modules, vmap(one)(parameters, buffers), strict=True):
            torch.testing.assert_close(stacked, module(rows).x, rtol=0, atol=1e-9)


class EncoderContract(_Features):
    """What an encoder must keep. A subclass gives a fixture `case`, an `EncoderCase`."""

    def build(self, case: EncoderCase) -> Encoder:
        """The encoder."""
        return catalog.make_encoder(case.block, case.modality)

    def rows(self, case: EncoderCase, count: int, seed: int = 0) -> Tensor:
        """Random rows of the modality."""
        return random_rows(case.modality, count, seed)

    def take(self, rows: Tensor, index: int) -> Tensor:
        """One row."""
        return rows[index : index + 1]

    def test_features(self, case: EncoderCase) -> None:
        """`(B, T, C)` with the widths announced, a grid that agrees with T, the output last."""
        encoder, rows = self.make(case).eval(), self.rows(case, 3)
        features = encoder.features(rows)
        assert [f.x.shape[::2] for f in features] == [(3, width) for width in encoder.widths]
        assert all(f.grid is None or prod(f.grid) == f.x.shape[1] for f in features)
        assert encoder.channels == encoder.widths[-1]
        assert torch.equal(encoder(rows).x, features[-1].x)
        assert encoder(rows).grid == features[-1].grid

    def test_listing(self, case: EncoderCase) -> None:
        """The catalog has it, for this kind, with a small preset and a version."""
        cls = catalog.encoder_class(case.block.name)
        assert case.block.name == cls.name
        assert case.modality.kind in cls.kinds
        assert {"small", case.block.preset} <= set(cls.presets)
        assert cls.VERSION >= 1


class StackContract(_Features):
    """What a stack must keep as a fusion network. A subclass gives a fixture `case`, a `StackCase`.

    As an encoder, behind a tokenizer, it keeps `EncoderContract` too.
    """

    def build(self, case: StackCase) -> Stack:
        """The stack."""
        return catalog.make_network(case.block, case.tokens, case.channels)

    def rows(self, case: StackCase, count: int, seed: int = 0) -> Tokens:
        """Random tokens."""
        rng = seeds.stream(seed, "tokens")
        x = rng.standard_normal((count, case.tokens, case.channels))
        return Tokens(torch.from_numpy(x), case.grid)

    def take(self, rows: Tokens, index: int) -> Tokens:
        """One row."""
        return rows._replace(x=rows.x[index : index + 1])

    def test_features(self, case: StackCase) -> None:
        """`depth` features of the shape and the grid that came in, the output last."""
        stack, rows = self.make(case).eval(), self.rows(case, 3)
        features = stack.features(rows)
        assert len(features) == stack.depth
        assert all(f.x.shape == rows.x.shape and f.grid == rows.grid for f in features)
        assert torch.equal(stack(rows).x, features[-1].x)

    def test_tokens_meet(self, case: StackCase) -> None:
        """A token's output depends on its neighbour's input: the stack mixes tokens."""
        if case.tokens == 1:
            return
        stack, rows = self.make(case).eval(), self.rows(case, 1)
        changed = rows.x.clone()
        changed[:, 0] += torch.linspace(-1, 1, case.channels, dtype=torch.float64)
        after, before = stack(rows._replace(x=changed)).x, stack(rows).x
        assert (after - before)[:, 1:].abs().max() > 1e-9

    def test_any_length(self, case: StackCase) -> None:
        """Where it says so, it takes another T than it was built for."""
        stack = self.make(case).eval()
        if not stack.any_length:
            return
        for tokens in (1, case.tokens + 3):
            rows = self.rows(case._replace(tokens=tokens, grid=None), 2)
            assert stack(rows).x.shape == rows.x.shape
            assert stack(rows).x.isfinite().all()


def _without_dropout(module: Any) -> Any:
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return module


def _projection(x: Tensor, seed: int) -> Tensor:
    """A random sum: a plain one would be constant behind a LayerNorm."""
    rng = seeds.stream(seed, "projection")
    return (x * torch.from_numpy(rng.standard_normal(tuple(x.shape)))).sum()


def _to(rows: Any, dtype: torch.dtype) -> Any:
    if isinstance(rows, Tokens):
        return rows._replace(x=rows.x.to(dtype))
    return rows.to(dtype) if rows.is_floating_point() else rows
