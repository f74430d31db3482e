"""What a model costs: parameters, and FLOPs of one row, counted by running it once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from polymix.data.schema import Schema
from polymix.errors import GenotypeError
from polymix.genotype import Genotype
from polymix.nn.build import stack_key
from polymix.nn.encoder import Encoder
from polymix.nn.model import Model, blank
from polymix.records import Cost


def cost_key(genotype: Genotype, schema: Schema) -> Hashable:
    """Equal for genotypes of one cost: models that could be stacked differ in values alone."""
    key = stack_key(genotype, schema)
    same = genotype.digest if key is None else (type(genotype), key)
    return same, tuple(m.optional for m in schema.modalities)


@torch.no_grad()
def count_cost(model: Model, schema: Schema) -> Cost:
    """Trainable parameters, or numbers fitted, and FLOPs of one row's forward pass.

    A frozen encoder's weights are neither.
    """
    model.eval()
    inputs = {name: blank(schema, name) for name in model.encoders}
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    if model.fitted:
        still = [m for m in model.modules() if isinstance(m, Encoder) and m.frozen]
        own = {id(t) for m in still for t in m.state_dict(keep_vars=True).values()}
        fitted = model.state_dict(keep_vars=True).values()
        parameters = sum(t.numel() for t in fitted if id(t) not in own)
    else:
        parameters = sum(t.numel() for t in model.parameters() if t.requires_grad)
    if not parameters:
        raise GenotypeError("the model has no trainable parameter")
    return Cost(parameters, int(counter.get_total_flops()) + model.uncounted)


@torch.no_grad()
def count_trained(model: Model, schema: Schema) -> int:
    """FLOPs of one row's forward pass without the frozen encoders, whose features are banked."""
    model.eval()
    inputs: dict[str, Any] = {name: blank(schema, name) for name in model.encoders}
    for name, encoder in model.encoders.items():
        if getattr(encoder, "frozen", False):
            inputs[name] = model.native_of(name, inputs[name])
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    return int(counter.get_total_flops()) + model.uncounted


@torch.no_grad()
def count_fusing(model: Model, schema: Schema) -> int:
    """FLOPs of one row's pass through a model's second half, on features as the bank has them."""
    model.eval()
    packed = model.pack(model.native({name: blank(schema, name) for name in model.encoders}))
    with FlopCounterMode(display=False) as counter:
        model.fuse(packed, None)
    return int(counter.get_total_flops())
