"""M2-Mixer (Bezirganyan et al. 2023)."""
