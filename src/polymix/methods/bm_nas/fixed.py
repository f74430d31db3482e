"""Networks that BM-NAS is compared with: fixed fusions by name, and pairs chosen otherwise.

Table 7 keeps the pairs and fixes what is done with them; Table 6 keeps the steps and takes other
pairs (Yin et al. 2022, section 4.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, cycle, islice

import numpy as np
from pydantic import ValidationError

from polymix.errors import GenotypeError, describe, did_you_mean
from polymix.methods.bm_nas.space import BMNASGenotype, Cell, Inputs, Step

FUSIONS: dict[str, tuple[Step, ...]] = {
    "sum": (Step(inputs=(0, 1), operation="sum"),),
    "concat-fc": (Step(inputs=(0, 1), operation="concat-fc"),),
    "mha": (
        Step(inputs=(0, 1), operation="attention"),
        Step(inputs=(0, 1), operation="attention"),
    ),
    "aoa": (
        Step(inputs=(0, 1), operation="attention"),
        Step(inputs=(2, 0), operation="linear-glu"),
    ),
}
"""The steps of Fig. 2 and Table 7: DARTS's sum, MFAS's ConcatFC, two heads of attention (a head is
a step), and attention on attention, whose second step gates what the first one attended to."""


def with_fusion(genotype: BMNASGenotype, name: str) -> BMNASGenotype:
    """The same pairs, each fused by a fixed fusion.

    Raises:
        GenotypeError: no such fusion, or Cells that do not take two nodes.
    """
    if name not in FUSIONS:
        raise GenotypeError(f"no fixed fusion '{name}': {did_you_mean(name, FUSIONS)}")
    if len(genotype.cells[0].inputs) != 2:
        raise GenotypeError(
            f"fixed fusions fuse two nodes, but a Cell takes {len(genotype.cells[0].inputs)}"
        )
    cells = (Cell(inputs=cell.inputs, steps=FUSIONS[name]) for cell in genotype.cells)
    return genotype.model_copy(update={"cells": tuple(cells)})


def with_pairs(genotype: BMNASGenotype, pairs: Sequence[Inputs]) -> BMNASGenotype:
    """The same steps on other pairs of nodes, one a Cell.

    Raises:
        GenotypeError: a pair that its Cell cannot take, or more or fewer than there are Cells.
    """
    if len(pairs) != len(genotype.cells):
        raise GenotypeError(f"{len(genotype.cells)} Cells take as many pairs, but got {len(pairs)}")
    cells = [
        {"inputs": tuple(sorted(pair)), "steps": [s.model_dump() for s in cell.steps]}
        for pair, cell in zip(pairs, genotype.cells, strict=True)
    ]
    fields = {**genotype.model_dump(), "cells": cells}
    try:
        return BMNASGenotype.model_validate(fields)
    except ValidationError as error:
        raise GenotypeError([describe(p) for p in error.errors()]) from None


def random_pairs(genotype: BMNASGenotype, rng: np.random.Generator) -> list[Inputs]:
    """A pair for each Cell, drawn uniformly."""
    found: list[Inputs] = []
    for n, cell in enumerate(genotype.cells):
        # Earlier Cells are nodes too, which the public code never lets a Cell choose.
        before, arity = len(genotype.nodes) + n, len(cell.inputs)
        drawn = rng.choice(before, size=arity, replace=False)
        found.append(tuple(sorted(map(int, drawn))))
    return found


def late_pairs(genotype: BMNASGenotype) -> list[Inputs]:
    """Late fusion's: the last features, of each pair of modalities in turn.

    Raises:
        GenotypeError: there are fewer modalities than a Cell takes nodes.
    """
    # Nodes are listed modality by modality: the last of each is where its features end.
    last, place = [], -1
    for indices in genotype.features:
        place += len(indices)
        last.append(place)
    return _paired(genotype, [last])


def mfas_pairs(genotype: BMNASGenotype, layers: Sequence[Sequence[int]]) -> list[Inputs]:
    """The features that MFAS fuses, a layer a Cell.

    Args:
        genotype: whose Cells take them.
        layers: of each of MFAS's fusion layers, the index of each backbone's feature.

    Raises:
        GenotypeError: no layer, one that has not an index of each backbone, a feature that is no
            node here, or fewer modalities than a Cell takes nodes.
    """
    names = [name for name, _ in genotype.backbones]
    if not layers or any(len(layer) != len(names) for layer in layers):
        raise GenotypeError(
            f"a layer, of one at least, has an index of each of {names}, "
            f"but got {[list(layer) for layer in layers]}"
        )
    nodes = {node: i for i, node in enumerate(genotype.nodes)}
    chosen = []
    for layer in layers:
        wanted = list(zip(names, layer, strict=True))
        missing = [f"{name}[{index}]" for name, index in wanted if (name, index) not in nodes]
        if missing:
            raise GenotypeError(f"{', '.join(missing)} is not among the nodes: {list(nodes)}")
        chosen.append([nodes[node] for node in wanted])
    return _paired(genotype, chosen)


def _paired(genotype: BMNASGenotype, chosen: Sequence[Sequence[int]]) -> list[Inputs]:
    """Tuples of the nodes chosen together, as many as there are Cells, from the first again."""
    arity = len(genotype.cells[0].inputs)
    every = [inputs for nodes in chosen for inputs in combinations(sorted(nodes), arity)]
    if not every:
        raise GenotypeError(
            f"a Cell takes {arity} nodes of different modalities, "
            f"but there are {len(genotype.features)} modalities"
        )
    return list(islice(cycle(every), len(genotype.cells)))
