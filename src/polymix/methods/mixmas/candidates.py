"""The candidates of MixMAS and of random search, and how fully the clock lets them be tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Annotated

from pydantic import AfterValidator

from polymix.data.schema import Kind, Schema
from polymix.errors import UsageError, did_you_mean
from polymix.genotype import Block
from polymix.methods.mixmas.space import MixSpace
from polymix.nn import catalog
from polymix.records import Fidelity, Proposal
from polymix.search.protocol import SearchTask
from polymix.space.mix import Fusion, Loss

MIXERS = ("mlp-mixer", "hyper-mixer")
CANDIDATES: dict[Kind, tuple[str, ...]] = {
    Kind.IMAGE: (*MIXERS, "ramlp", "conv", "mlp"),
    Kind.AUDIO: (*MIXERS, "monarch-mixer", "conv", "mlp"),
    Kind.TIMESERIES: (*MIXERS, "monarch-mixer", "conv", "mlp"),
    Kind.TEXT: (*MIXERS, "monarch-mixer", "conv", "mlp"),
    Kind.TABULAR: ("mlp",),
    Kind.FEATURES: (*MIXERS, "mlp"),
}
"""Table I's candidates, and two that are no mixers: a small CNN and a plain MLP.

Encoders that come with weights of their own are candidates too, as far as they are registered."""

LADDER = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Shares of the rows that a probe is cut to, where the clock is short."""


def _known_fusion(name: str) -> str:
    if name not in catalog.FUSIONS:
        raise ValueError(catalog.FUSIONS.unknown(name))
    return name


KnownFusion = Annotated[Fusion, AfterValidator(_known_fusion)]


def known_networks(names: list[str]) -> list[str]:
    """The names of fusion networks as they are given, `none` among them.

    Raises:
        ValueError: some are not known; all of them are told.
    """
    known = ["none", *catalog.network_names()]
    problems = [
        f"no fusion network '{n}': {did_you_mean(n, known)}" for n in names if n not in known
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return names


def candidate_space(
    schema: Schema,
    encoders: list[str] | dict[str, list[str]] | None,
    fusions: Sequence[Fusion],
    networks: Sequence[str],
    preset: str,
    loss: Loss,
) -> MixSpace:
    """The space of the candidates that options name.

    Args:
        schema: modalities.
        encoders: names for every modality that takes them, or names by modality; `CANDIDATES`
            and pretrained ones that are registered where not given.
        fusions: fusion functions.
        networks: fusion networks by name; `none` goes straight to the head.
        preset: of every candidate.
        loss: of all genotypes.

    Raises:
        UsageError: a modality or an encoder that there is not, or a modality that no encoder
            takes; all problems at once.
    """
    problems, found = [], {}
    if isinstance(encoders, dict):
        problems = [
            f"encoders: no modality '{name}': {did_you_mean(name, schema.names)}"
            for name in encoders
            if name not in schema.names
        ]
    lists = encoders.values() if isinstance(encoders, dict) else [encoders or []]
    problems += [
        f"no encoder '{n}': {did_you_mean(n, catalog.encoder_names())}"
        for n in dict.fromkeys(chain.from_iterable(lists))
        if n not in catalog.encoder_names()
    ]
    for modality in schema.modalities:
        fitting = catalog.encoders_for(modality.kind)
        own = encoders.get(modality.name) if isinstance(encoders, dict) else encoders
        # Pretrained encoders come as whole blocks: their options name their weights.
        ready = {block.name: block for block in catalog.pretrained_for(modality)}
        # Candidates in the order given: the first one stands for a stage that fails.
        wanted = [*CANDIDATES[modality.kind], *ready] if own is None else own
        names = [n for n in wanted if n in fitting]
        if not names and not problems:
            problems.append(
                f"none of {own} takes modality '{modality.name}' of kind {modality.kind}: "
                f"{', '.join(fitting)} do"
            )
        found[modality.name] = [ready.get(n, Block.of(n, preset)) for n in dict.fromkeys(names)]
    if problems:
        raise UsageError(problems)
    blocks = [None if n == "none" else Block.of(n, preset) for n in dict.fromkeys(networks)]
    return MixSpace(found, list(dict.fromkeys(fusions)), blocks, loss)


def affordable(
    task: SearchTask,
    wanted: Fidelity,
    probes: Callable[[Fidelity], Sequence[Proposal]],
    factor: float = 1.0,
) -> Fidelity:
    """The fullest fidelity at which all probes fit the strategy's share of the clock.

    Epochs are cut first, down to 3, then rows; a candidate that alone would take more than four
    even shares will be skipped, but no more than a quarter of them.

    Args:
        task: what the strategy is told.
        wanted: without a time limit.
        probes: all of them, at a fidelity.
        factor: share of the probes' price that is spent.
    """
    if task.seconds is None:
        return wanted
    # From the fullest to the scantiest; the last is taken even if it is too dear.
    tries = [(wanted.rows, e) for e in range(wanted.epochs, min(wanted.epochs, 3) - 1, -1)]
    least = tries[-1][1]
    tries += [(max(1, int(wanted.rows * f)), least) for f in LADDER[1:]]
    tries += [(tries[-1][0], e) for e in range(least - 1, 0, -1)]
    for rows, epochs in tries:
        fidelity = replace(wanted, rows=rows, epochs=epochs)
        costs = [task.predict(p) for p in probes(fidelity)]
        share = even_share(task, len(costs))
        # What exceeds its share is skipped by the driver, so it does not count against the others.
        fitting = [c for c in costs if c <= share]
        spent = sum(fitting) * factor
        if spent <= task.seconds and len(fitting) >= 0.75 * len(costs):
            break
    return fidelity


def even_share(task: SearchTask, probes: int) -> float:
    """Seconds that one of so many probes may take: four even shares."""
    return float("inf") if task.seconds is None else 4 * task.seconds / probes
