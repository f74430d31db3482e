"""AV-MNIST: written and spoken digits (Vielzeuf et al. 2018)."""
