"""Genotypes and their spaces, a file a method; no torch."""
