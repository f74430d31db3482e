"""`python -m polymix`: the command line, where the script is not on the path."""

from __future__ import annotations

from polymix.cli import main

main()
