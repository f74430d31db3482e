"""Fitted models on fixed views of each modality: linear, kernel and tree ensembles, and stacks."""
