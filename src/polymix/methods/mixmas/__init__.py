"""MixMAS (Chergui et al. 2025)."""
