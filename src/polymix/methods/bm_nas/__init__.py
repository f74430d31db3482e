"""BM-NAS (Yin et al. 2022)."""
