"""MFAS's networks of one length and width, side by side, as a few matrix products a step.

Of all layers of all networks, those that read one feature of one backbone share a product: their
parts of W_l lie below each other, `(n·D, C)`, and the feature's own C columns are all that is
stored and trained of them (what `MFASModel` pads them to is multiplied by zeros). No gradient is
asked for with respect to features. Everything is kept with rows last, `(…, D, B)`, so that
putting the layers back into order copies whole blocks.

Shapes: K networks, L layers, D their width, B batch, F features, C channels, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from polymix.nn.by_modality import key_of
from polymix.nn.tokens import Features, Output

SLOPES = {"relu": 0.0, "leaky-relu": 0.01, "sigmoid": 0.0}


class FusionNetwork(Protocol):
    """What a stack asks of an `MFASModel`."""

    fusion: nn.ModuleList
    columns: dict[str, int]
    width: int

    @property
    def layers(self) -> Any:
        """What each layer reads, and its activation."""

    @property
    def linears(self) -> list[nn.Linear]:
        """W_l and its bias, of every layer."""

    @property
    def head(self) -> nn.Module:
        """What reads the last layer."""

    @property
    def heads(self) -> Any:
        """Each modality's own head, by its name."""

    @property
    def standards(self) -> Any:
        """What standardises each modality's features, by its name."""

    def absent_table(self, name: str) -> Tensor:
        """A modality's absent-tokens, `(F, C)`."""

    def state_dict(self) -> dict[str, Any]:
        """All parameters and buffers."""


class MFASStack:
    """K `MFASModel`s of one length and width.

    Args:
        models: at least one.
    """

    def __init__(self, models: Sequence[FusionNetwork]) -> None:
        first = models[0]
        self._start = [{n: t.clone() for n, t in m.state_dict().items()} for m in models]
        self._size, self._length, self._width = len(models), len(first.fusion), first.width
        self._parts = [
            _Part(name, column, list(first.standards[name].widths), number, models)
            for number, (name, column) in enumerate(first.columns.items())
        ]
        offset = 0
        for part in self._parts:
            part.take(models, offset)
            offset += max(part.widths)

        def stacked(tensors: Sequence[Any]) -> nn.Parameter:
            return nn.Parameter(torch.stack([t.detach() for t in tensors]))

        each = [m.linears for m in models]
        # (L, K, D, 1), (L - 1, K, D, D), (K, O, D), (K, O, 1)
        self._bias = nn.Parameter(
            torch.stack([torch.stack([e[i].bias.detach() for e in each])[..., None]
                         for i in range(self._length)])
        )  # fmt: skip
        inner = [
            torch.stack([e[i].weight.detach()[:, offset:] for e in each])
            for i in range(1, self._length)
        ]
        self._inner = nn.Parameter(torch.stack(inner)) if inner else None
        self._out = stacked([m.head.weight for m in models])
        self._out_bias = stacked([m.head.bias[:, None] for m in models])  # type: ignore[index]
        self._acts = [
            _Activation([m.layers[i][1] for m in models], self._out) for i in range(self._length)
        ]
        self._heads = {
            name: (
                stacked([m.heads[name].weight for m in models]),
                stacked([m.heads[name].bias[:, None] for m in models]),
            )
            for name in first.heads
        }

    def __call__(self, features: Features, present: Tensor | None) -> Output:
        """Tables `(B, F, C)` by modality to the logits of each network, `(K, B, O)`."""
        tables = [features[part.name][0].x for part in self._parts]
        inputs = [part.inputs(t, present) for part, t in zip(self._parts, tables, strict=True)]
        weights = [w for part in self._parts for w in part.weights.values()]
        total: Tensor = _Entering.apply(self._parts, inputs, self._bias, *weights)  # type: ignore[no-untyped-call]
        if present is not None:
            # W_l is linear: what an absent row lacks is W_l of the token, added where it is absent.
            for part in self._parts:
                there = present[:, part.column].to(total.dtype)
                total = total + part.absent()[..., None] * (1 - there)
        hidden: Tensor | None = None
        inner = [None] if self._inner is None else [None, *self._inner.unbind(0)]
        for z, before, act in zip(total.unbind(0), inner, self._acts, strict=True):
            if before is not None and hidden is not None:
                z = torch.baddbmm(z, before, hidden)  # Eq. (1)
            hidden = act(z)
        assert hidden is not None
        fused = torch.baddbmm(self._out_bias, self._out, hidden)
        unimodal = {
            part.name: part.last(features[part.name][0].x, present, *self._heads[part.name])
            for part in self._parts
            if part.name in self._heads
        }
        return Output(fused.transpose(1, 2), unimodal)  # rows were last: (K, O, B)

    def tensors(self) -> dict[str, Tensor]:
        """All parameters as they are stacked for training, and the absent-tokens that are fixed."""
        found: dict[str, Tensor] = {
            "bias": self._bias,
            "out": self._out,
            "out_bias": self._out_bias,
        }
        if self._inner is not None:
            found["inner"] = self._inner
        for part in self._parts:
            found[f"{part.name}/token"] = part.token
            found.update({f"{part.name}/{f}": w for f, w in part.weights.items()})
        for name, (weight, bias) in self._heads.items():
            found.update({f"{name}/head": weight, f"{name}/head_bias": bias})
        return found

    @torch.no_grad()
    def state(self, index: int) -> dict[str, Tensor]:
        """A copy of one network's parameters and buffers; padding is as it was at the start."""
        state = {name: tensor.clone() for name, tensor in self._start[index].items()}
        offset = 0
        for part in self._parts:
            part.give(state, index, offset)
            offset += max(part.widths)
        for i in range(self._length):
            state[f"fusion.{i}.bias"].copy_(self._bias[i, index, :, 0])
            if i and self._inner is not None:
                state[f"fusion.{i}.weight"][:, offset:] = self._inner[i - 1, index]
        state[f"classify.h{self._length}.weight"].copy_(self._out[index])
        state[f"classify.h{self._length}.bias"].copy_(self._out_bias[index, :, 0])
        for name, (weight, bias) in self._heads.items():
            state[f"heads.{key_of(name)}.weight"].copy_(weight[index])
            state[f"heads.{key_of(name)}.bias"].copy_(bias[index, :, 0])
        return state


class _Part:
    """What one modality gives all layers of all networks: W_l's columns for it.

    Args:
        name: of the modality.
        column: its place in presence masks.
        widths: C of each feature.
        number: which of the genotypes' features is its.
        models: the networks.
    """

    def __init__(
        self,
        name: str,
        column: int,
        widths: list[int],
        number: int,
        models: Sequence[FusionNetwork],
    ) -> None:
        self.name, self.column, self.widths = name, column, widths
        self.members: dict[int, list[tuple[int, int]]] = {}
        for level in range(len(models[0].layers)):
            for k, model in enumerate(models):
                read = model.layers[level][0][number]
                self.members.setdefault(read, []).append((level, k))
        # Products come feature by feature; `order` puts them back by layer and network.
        placed = [pair for pairs in self.members.values() for pair in pairs]
        where = [level * len(models) + k for level, k in placed]
        device = next(models[0].fusion.parameters()).device
        self.place = torch.tensor(where, device=device)
        self.order = torch.argsort(self.place)
        self.shape = (len(models[0].layers), len(models))
        self.readers = {
            f: torch.tensor([k for _, k in p], device=device) for f, p in self.members.items()
        }

    def take(self, models: Sequence[FusionNetwork], offset: int) -> None:
        """Copy the networks' weights."""
        self.weights = {
            f: nn.Parameter(
                torch.cat([
                    models[k].linears[i].weight.detach()[:, offset : offset + self.widths[f]]
                    for i, k in pairs
                ])
            )
            for f, pairs in self.members.items()
        }  # fmt: skip
        tokens = [m.absent_table(self.name) for m in models]
        self.token = torch.stack([t.detach() for t in tokens])
        if isinstance(tokens[0], nn.Parameter):
            self.token = nn.Parameter(self.token)

    def give(self, state: dict[str, Tensor], index: int, offset: int) -> None:
        """Copy the weights back into a network's state."""
        state[f"absent.{key_of(self.name)}.0.token"].copy_(self.token[index])
        for f, pairs in self.members.items():
            blocks = self.weights[f].reshape(len(pairs), -1, self.widths[f])
            for block, (level, k) in zip(blocks, pairs, strict=True):
                if k == index:
                    columns = slice(offset, offset + self.widths[f])
                    state[f"fusion.{level}.weight"][:, columns] = block

    def inputs(self, table: Tensor, present: Tensor | None) -> list[Tensor]:
        """Each feature that is read `(B, C_f)`, zeros where absent, of a table `(B, F, C)`."""
        found = [table[:, f, : self.widths[f]] for f in self.members]
        if present is None:
            return found
        return [torch.where(present[:, self.column, None], x, 0.0) for x in found]

    def absent(self) -> Tensor:
        """W_l of the absent-tokens, `(L, K, D)`."""
        parts = []
        for f, weight in self.weights.items():
            tokens = self.token[self.readers[f], f, : self.widths[f], None]
            parts.append(weight.reshape(len(tokens), -1, self.widths[f]) @ tokens)
        found = torch.cat(parts)[self.order]
        return found.reshape(*self.shape, -1)

    def last(self, table: Tensor, present: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
        """Heads `(K, O, C)` on the last feature: `(K, B, O)`."""
        own = self.widths[-1]
        x = table[:, -1].expand(len(weight), -1, -1)
        if present is not None:
            real = torch.arange(table.shape[2], device=table.device) < own
            there = present[:, self.column, None]
            x = torch.where(there, x, (self.token[:, -1] * real)[:, None])
        return torch.baddbmm(bias, weight, x.transpose(1, 2)).transpose(1, 2)


class _Entering(torch.autograd.Function):
    """Σ W_l x + b over modalities, `(L, K, D, B)`.

    Of inputs `(B, C_f)` and, for each, the weights of all that read it, `(n_f·D, C_f)`. Written
    by hand: autograd would scatter where the gradient can be gathered, and would copy what
    products can write in place.
    """

    @staticmethod
    def forward(
        ctx: Any,
        parts: Sequence[_Part],
        inputs: Sequence[Sequence[Tensor]],
        bias: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        ctx.parts, ctx.inputs, ctx.rows = parts, inputs, [len(w) for w in weights]
        rest, total = list(weights), torch.empty(())
        joined = bias.new_empty((bias[..., 0].numel(), len(inputs[0][0])))
        blocks = joined.reshape(-1, bias.shape[2], joined.shape[1])
        for part, xs in zip(parts, inputs, strict=True):
            begin = 0
            for x in xs:
                weight = rest.pop(0)
                torch.mm(weight, x.t(), out=joined[begin : begin + len(weight)])
                begin += len(weight)
            ordered = blocks.index_select(0, part.order).reshape(*part.shape, *blocks.shape[1:])
            total = ordered.add_(bias if part is parts[0] else total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        found: list[Tensor] = []
        for part, xs in zip(ctx.parts, ctx.inputs, strict=True):
            joined = grad.flatten(0, 1).index_select(0, part.place).flatten(0, 1)
            rows = ctx.rows[len(found) : len(found) + len(xs)]
            found += [g @ x for g, x in zip(torch.split(joined, rows), xs, strict=True)]
        return None, None, grad.sum(3, keepdim=True), *found


class _Activation:
    """σ of one layer of every network, `(K, D, B)`.

    Args:
        names: each network's.
        like: a tensor of the right kind.
    """

    def __init__(self, names: Sequence[str], like: Tensor) -> None:
        smooth = [k for k, name in enumerate(names) if name == "sigmoid"]
        self.smooth = torch.tensor(smooth, device=like.device, dtype=torch.int64)
        slopes = like.new_tensor([SLOPES[name] for name in names])[:, None, None]
        self.slopes = slopes if slopes.any() else None

    def __call__(self, z: Tensor) -> Tensor:
        found: Tensor = _Mixed.apply(z, self.smooth, self.slopes)  # type: ignore[no-untyped-call]
        return found


class _Mixed(torch.autograd.Function):
    """max(z, slope·z), and the sigmoid for the networks of an index: no network has both."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, smooth: Tensor, slopes: Tensor | None) -> Tensor:
        h = z.clamp_min(0) if slopes is None else torch.maximum(z, slopes * z)
        if len(smooth):
            h.index_copy_(0, smooth, z.index_select(0, smooth).sigmoid_())
        ctx.save_for_backward(h, smooth)
        ctx.slopes = slopes
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        h, smooth = ctx.saved_tensors
        # What is above zero came through as it was; h has z's sign, as slopes are not negative.
        kept = grad * (h > 0) if ctx.slopes is None else torch.where(h > 0, grad, ctx.slopes * grad)
        if len(smooth):
            s = h.index_select(0, smooth)
            kept.index_copy_(0, smooth, grad.index_select(0, smooth) * s * (1 - s))
        return kept, None, None
