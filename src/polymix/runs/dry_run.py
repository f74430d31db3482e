"""What a search would try, and what that would cost: nothing is trained but a few timed steps."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from polymix.data.dataset import Dataset
from polymix.errors import GenotypeError, UsageError
from polymix.records import Budget, Fidelity, Proposal
from polymix.runs.config import RunConfig
from polymix.runs.preflight import preflight_driver
from polymix.search.driver import Driver
from polymix.search.protocol import OneShot, Strategy
from polymix.units import show_duration


def dry_run(config: RunConfig, dataset: Dataset, strategy: Strategy) -> dict[str, Any]:
    """The space's size, each expected trial's cost, and what fits the budget.

    Raises:
        UsageError: what would be trained in full cannot be built.
    """
    budget = Budget(config.time_limit, config.trials)
    with preflight_driver(config, dataset, strategy, budget) as driver:
        driver.prepare(timed=True)
        probes = [_row(driver, p) for p in strategy.expected()]
        winner = strategy.derive()[0]
        epoch = _row(driver, winner.at(Fidelity(len(dataset.split.train), 1, 0)))
    if epoch["error"]:
        said = f"{config.strategy}: its model cannot be built on these data: {epoch['error']}"
        raise UsageError(said)
    total = sum(row["seconds"] or 0.0 for row in probes)
    return {
        "schema_version": 1,
        "strategy": config.strategy,
        "supernet": isinstance(strategy, OneShot),
        "space": strategy.size(),
        "rows": len(dataset.split.train),
        "trials": probes,
        "search_seconds": total,
        "full_epoch_seconds": epoch["seconds"],
        "full_epochs": winner.fidelity.epochs,
        "time_limit": config.time_limit,
        "fits": None if config.time_limit is None else sum(
            row["seconds"] is not None and not row["skipped"] for row in probes
        ),
    }  # fmt: skip


def _row(driver: Driver, proposal: Proposal) -> dict[str, Any]:
    try:
        cost = driver.evaluator.cost(proposal.genotype, proposal.recipe)
    except GenotypeError as error:
        return {"architecture": str(proposal.genotype), "error": str(error), "seconds": None,
                "params": None, "flops": None, "skipped": True}  # fmt: skip
    seconds = driver.state.predict(proposal)
    return {
        "architecture": str(proposal.genotype),
        "rows": proposal.fidelity.rows,
        "epochs": proposal.fidelity.epochs,
        "params": cost.params,
        "flops": cost.flops,
        "seconds": seconds,
        "skipped": seconds > proposal.share,
        "error": None,
    }


def show_dry_run(console: Console, plan: dict[str, Any]) -> None:
    """The plan as a table."""
    table = Table(title="Trials of the search, predicted")
    for name in ("architecture", "rows", "epochs", "params", "MFLOPs", "time"):
        table.add_column(name, justify="left" if name == "architecture" else "right")
    for row in plan["trials"]:
        if row["error"]:
            table.add_row(row["architecture"], "", "", "", "", row["error"])
            continue
        shown = show_duration(row["seconds"]) + (" skipped" if row["skipped"] else "")
        table.add_row(row["architecture"], str(row["rows"]), str(row["epochs"]),
                      f"{row['params']:,}", f"{row['flops'] / 1e6:.2f}", shown)  # fmt: skip
    if plan["trials"]:
        console.print(table)
    size = "no space to search" if plan["space"] is None else f"{plan['space']} genotypes"
    console.print(f"space: {size}")
    trials = f"{len(plan['trials'])} trials, about {show_duration(plan['search_seconds'])}"
    if plan["supernet"]:
        trials += ", and a supernet, which is timed by a few steps"
    console.print(
        f"search: {trials}; an epoch of the full training on {plan['rows']} rows: about "
        f"{plan['full_epoch_seconds']:.1f}s, {plan['full_epochs']} epochs at most",
        soft_wrap=True,
    )
    if plan["time_limit"] is not None and plan["trials"]:
        console.print(
            f"within {show_duration(plan['time_limit'])}: {plan['fits']} of "
            f"{len(plan['trials'])} trials fit their share; the finalists get half of the time"
        )
