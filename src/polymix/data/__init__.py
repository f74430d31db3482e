"""Rows: what they are, where they lie, who may see them."""
