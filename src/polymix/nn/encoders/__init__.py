"""Encoders: one modality to tokens."""
