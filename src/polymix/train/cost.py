"""What a model costs: parameters, and FLOPs of one row, counted by running it once."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch.utils.flop_counter import FlopCounterMode

from polymix.data.schema import Schema
from polymix.errors import GenotypeError
from polymix.genotype import Genotype
from polymix.nn.build import stack_key
from polymix.nn.model import Model, blank
from polymix.records import Cost


def cost_key(genotype: Genotype, schema: Schema) -> Hashable:
    """Equal for genotypes of one cost: models that could be stacked differ in values alone."""
    key = stack_key(genotype, schema)
    same = genotype.digest if key is None else (type(genotype), key)
    return same, tuple(m.optional for m in schema.modalities)


@torch.no_grad()
def count_cost(model: Model, schema: Schema) -> Cost:
    """Trainable parameters, or numbers fitted, and FLOPs of one row's forward pass."""
    model.eval()
    inputs = {name: blank(schema, name) for name in model.encoders}
    with FlopCounterMode(display=False) as counter:
        model(inputs)
    tensors = model.state_dict().values() if model.fitted else model.parameters()
    parameters = sum(t.numel() for t in tensors if t.requires_grad or model.fitted)
    if not parameters:
        raise GenotypeError("the model has no trainable parameter")
    return Cost(parameters, int(counter.get_total_flops()) + model.uncounted)


@torch.no_grad()
def count_fusing(model: Model, schema: Schema) -> int:
    """FLOPs of one row's pass through a model's second half, on features as the bank has them."""
    model.eval()
    packed = model.pack(model.native({name: blank(schema, name) for name in model.encoders}))
    with FlopCounterMode(display=False) as counter:
        model.fuse(packed, None)
    return int(counter.get_total_flops())
