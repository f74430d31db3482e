"""MFAS (Pérez-Rúa et al. 2019)."""
