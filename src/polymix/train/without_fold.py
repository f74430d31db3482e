"""What was scored out of fold, trained again without a fold's rows: for reports on those rows.

Folds keep no weights when they score: what ships is fitted to more rows.
"""

from __future__ import annotations

from dataclasses import replace

from polymix.errors import SearchError
from polymix.nn.model import Model, load_matching
from polymix.records import Proposal
from polymix.train.absent_tokens import with_absent_tokens
from polymix.train.cross_validation import inner_split
from polymix.train.evaluate import Evaluator
from polymix.train.groups import Group
from polymix.train.loop import Trainer


def trained_without(evaluator: Evaluator, proposal: Proposal, fold: int) -> Model:
    """The model of a proposal that did not see a fold's rows.

    Args:
        evaluator: of the rows, cut into folds.
        proposal: as it was scored out of fold.
        fold: from 0.

    Raises:
        SearchError: its loss or outputs are not finite.
    """
    train, _ = evaluator.dataset.split.fold_rows(fold)
    models, source = evaluator.prepared(Group((proposal,), ("",)))
    rows, val = train, train[:0]
    if not models[0].fitted:
        rows, val = inner_split(evaluator.dataset.targets, train, proposal.fidelity.seed)
    targets = evaluator.dataset.targets[val]
    job = evaluator.job(proposal, source, models[0], rows, val, targets, None)
    trainer = Trainer(evaluator.learner(models, proposal), replace(job, keep=True))
    trainer.run()
    state = trainer.best[0].state
    if state is None:
        raise SearchError(f"{proposal.genotype} could not be trained again: it was not finite")
    frozen = proposal.recipe.frozen
    state = with_absent_tokens(models[0], state, source, rows, frozen)
    model = evaluator.model(proposal)
    load_matching(model, state)
    return model.eval()
