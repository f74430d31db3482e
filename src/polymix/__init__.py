"""polymix finds the architecture that best fuses your multimodal data, under a budget you name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from polymix.errors import PolymixError
from polymix.version import __version__

if TYPE_CHECKING:
    from polymix.predictor import Predictor

__all__ = ["PolymixError", "Predictor", "__version__"]


# A library is silent unless whoever uses it asks to hear.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import: it is not for `polymix --help` to wait for.
    if name == "Predictor":
        from polymix.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'polymix' has no attribute '{name}'")
