"""Chooses what to search by the data and the budget."""
