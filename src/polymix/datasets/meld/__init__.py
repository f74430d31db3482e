"""MELD: utterances of a television series (Poria et al. 2019)."""
