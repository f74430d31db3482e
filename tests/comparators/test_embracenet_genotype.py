import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymix.comparators.embracenet.genotype import EmbraceGenotype
from polymix.errors import GenotypeError
from polymix.genotype import Block, parse_genotype

PAIRS = (("t", Block.of("mlp")), ("a", Block.of("mlp", channels=8)))


@given(st.integers(1, 10**6), st.floats(0, 0.99))
def test_json_both_ways(width, dropout):
    genotype = EmbraceGenotype(encoders=PAIRS, width=width, dropout=dropout)
    again = parse_genotype(genotype.to_json())
    assert again == genotype
    assert again.digest == genotype.digest


def test_what_it_is_called():
    assert str(EmbraceGenotype(encoders=PAIRS)) == "t:mlp + a:mlp(channels=8) + embrace64"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"encoders": [["t", {"name": "mlp"}]]}, "encoders"),
        ({"encoders": [["t", {"name": "mlp"}]] * 2}, "['t', 't']"),
        ({"width": 0}, "width"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_what_cannot_be_is_told(changes, told):
    fields = json.loads(EmbraceGenotype(encoders=PAIRS).to_json())
    with pytest.raises(GenotypeError) as caught:
        parse_genotype(json.dumps({**fields, **changes}))
    assert told in str(caught.value)
