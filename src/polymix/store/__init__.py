"""What a run leaves: the ledger of its trials, and the run folder."""

from polymix.store.ledger import JSON, Ledger
from polymix.store.rows import LedgerRow
from polymix.store.run_folder import RunFolder

__all__ = ["JSON", "Ledger", "LedgerRow", "RunFolder"]
