"""polymix finds the architecture that best fuses your multimodal data, under a budget you name."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from polymix.errors import PolymixError
from polymix.registry import register
from polymix.version import __version__

if TYPE_CHECKING:
    from polymix.data.dataset import Dataset
    from polymix.data.schema import Kind, Modality, Schema, Target
    from polymix.genotype import Block
    from polymix.nn.encoder import Encoder, Stack
    from polymix.nn.tokens import Tokens
    from polymix.predictor import Predictor
    from polymix.search.callbacks import Callback
    from polymix.search.protocol import Strategy

__all__ = [
    "Block",
    "Callback",
    "Dataset",
    "Encoder",
    "Kind",
    "Modality",
    "PolymixError",
    "Predictor",
    "Schema",
    "Stack",
    "Strategy",
    "Target",
    "Tokens",
    "__version__",
    "register",
]

_MODULES = {
    "Block": "polymix.genotype",
    "Callback": "polymix.search.callbacks",
    "Dataset": "polymix.data.dataset",
    "Encoder": "polymix.nn.encoder",
    "Kind": "polymix.data.schema",
    "Modality": "polymix.data.schema",
    "Predictor": "polymix.predictor",
    "Schema": "polymix.data.schema",
    "Stack": "polymix.nn.encoder",
    "Strategy": "polymix.search.protocol",
    "Target": "polymix.data.schema",
    "Tokens": "polymix.nn.tokens",
}


# A library is silent unless whoever uses it asks to hear.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import: it is not for `polymix --help` to wait for.
    if name not in _MODULES:
        raise AttributeError(f"module 'polymix' has no attribute '{name}'")
    found = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
