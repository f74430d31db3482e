"""A weighted mean of trained models (Caruana et al. 2004)."""
