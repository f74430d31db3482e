"""MRO: search over cross-modal attention paths."""
