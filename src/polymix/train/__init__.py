"""Training, scoring, and what a score can be trusted to."""
