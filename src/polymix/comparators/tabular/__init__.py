"""Gradient-boosted trees on descriptions of each modality (Friedman 2001)."""
