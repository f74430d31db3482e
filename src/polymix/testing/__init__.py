"""The contracts as test classes: subclass one, name what to check, and let pytest run it.

    class TestMine(EncoderContract):
        @pytest.fixture(params=[EncoderCase(Block.of("mine"), EXAMPLES[Kind.IMAGE])], ids=str)
        def case(self, request):
            return request.param

polymix itself never imports this package, nor does this package import pytest.
"""

from polymix.testing.encoders import (
    EXAMPLES,
    EncoderCase,
    EncoderContract,
    StackCase,
    StackContract,
    random_rows,
)
from polymix.testing.golden import GoldenOutputs, golden_outputs, write_golden
from polymix.testing.recorded import run_strategy
from polymix.testing.spaces import SpaceContract
from polymix.testing.strategies import StrategyContract
from polymix.testing.toy_data import toy_dataset
from polymix.testing.toy_model import ToyGenotype
from polymix.testing.toys import ToyAskTell, ToyOneShot

__all__ = [
    "EXAMPLES",
    "EncoderCase",
    "EncoderContract",
    "GoldenOutputs",
    "SpaceContract",
    "StackCase",
    "StackContract",
    "StrategyContract",
    "ToyAskTell",
    "ToyGenotype",
    "ToyOneShot",
    "golden_outputs",
    "random_rows",
    "run_strategy",
    "toy_dataset",
    "write_golden",
]
