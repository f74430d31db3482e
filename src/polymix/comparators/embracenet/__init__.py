"""EmbraceNet (Choi and Lee 2019)."""
