"""Runs: started, resumed, evaluated, and read back from their folders."""
