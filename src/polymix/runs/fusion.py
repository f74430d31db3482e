"""What fusion gained, as one number and one sentence, wherever it is told.

The number is that of the run: the best model of several modalities minus the best of one, on the
rows that chose, paired by row. Nothing else computes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polymix.scoring.intervals import interval_json
from polymix.search.standings import FusionGain, Standing, Standings
from polymix.units import show_score


def fusion_json(standings: Standings, metric: str) -> dict[str, Any]:
    """`{fusion_gain, fusion_missing}` for `metrics.json`: one of them, and none for the other.

    `fusion_gain` is `{value, ci, verdict, split, n, fused: {label, modalities, score}, single:
    {label, modalities, score}, search, said}`; `said` is the sentence, `verdict` is `gained`,
    `lost`, `within the noise`, or `not settled`, where a trial of the search that fuses scored
    `search`, above `single`, and no finalist came as far.
    """
    gain, chosen = standings.gain, standings.chosen
    if gain is None or chosen is None:
        return {"fusion_gain": None, "fusion_missing": _missing(standings)}
    told: dict[str, Any] = {
        **interval_json(gain.difference),
        "verdict": _verdict(gain),
        "split": "out-of-fold" if chosen.proposal.fidelity.folds else "validation",
        "n": 0 if chosen.predictions is None else len(chosen.predictions),
        "fused": _side(gain.fused, gain.scores[0]),
        "single": _side(gain.single, gain.scores[1]),
        "search": None if gain.missed is None else gain.missed.value,
    }
    return {"fusion_gain": {**told, "said": _sentence(told, metric)}, "fusion_missing": None}


def fusion_line(found: Mapping[str, Any]) -> str | None:
    """What to say of fusion, of anything that carries `fusion_json`; none before there is a model.

    A run folder of an earlier polymix has the number alone.
    """
    gain, missing = found.get("fusion_gain"), found.get("fusion_missing")
    if gain:
        return str(gain.get("said") or f"fusion gained {gain['value']:+.4f}")
    return None if missing is None else f"what fusion gained is not known: {missing}"


def _side(row: Standing, score: float) -> dict[str, Any]:
    genotype = row.finalist.proposal.genotype
    return {
        "label": row.finalist.label,
        "modalities": list(genotype.modalities),
        "score": score,
    }


def _verdict(gain: FusionGain) -> str:
    if gain.difference.noise:
        return "within the noise"
    if gain.missed is not None:
        return "not settled"
    return "gained" if gain.difference.low > 0 else "lost"


def _sentence(told: Mapping[str, Any], metric: str) -> str:
    remark = {
        "gained": "",
        "within the noise": " (within the noise)",
        "lost": " (it lost: one modality alone is better)",
        "not settled": f" (not settled: a trial of the search that fuses scored "
        f"{show_score(told['search'])}, and the finalists had less time)",
    }[told["verdict"]]
    ours, theirs = (f"{s['label']} ({show_score(s['score'])})" for s in _sides(told))
    low, high = (("?" if end is None else f"{end:+.4f}") for end in told["ci"])
    return (
        f"fusion gained {told['value']:+.4f} [{low}, {high}]{remark}: {ours} minus {theirs}, the "
        f"best model of one modality; {metric} on {told['n']} {told['split']} rows"
    )


def _sides(told: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return told["fused"], told["single"]


def _missing(standings: Standings) -> str:
    """Why there is nothing to compare."""
    ranked = [r.finalist for r in standings.rows if r.rank]
    if not ranked:
        return "no model has a score yet"
    if not any(f.alone for f in ranked):
        return "no model of one modality alone was scored"
    fused = [f for f in ranked if not f.alone]
    if not fused:
        names = sorted({name for f in ranked for name in f.proposal.genotype.modalities})
        return f"every model that was scored reads one modality alone ({', '.join(names)})"
    return f"nothing like {fused[0].label} was tried on one modality alone"
