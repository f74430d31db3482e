"""Scores, and what they can be trusted to: metrics, intervals, bootstrap, calibration."""
