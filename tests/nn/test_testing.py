"""The contracts catch what they are there to catch."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from polymix.data.schema import Kind
from polymix.genotype import Block
from polymix.nn.encoder import ALL_KINDS, Encoder, Stack
from polymix.nn.tokens import Tokens
from polymix.registry import register
from polymix.testing import EXAMPLES, EncoderCase, EncoderContract, StackCase, StackContract


class Good(Encoder):
    """Linear on the flattened table; the broken ones below change one thing."""

    name = "sample"
    VERSION = 1
    kinds = ALL_KINDS
    presets = {"small": {}}  # noqa: RUF012

    def __init__(self, modality):
        super().__init__()
        self.linear = nn.Linear(modality.shape[0], 4)
        self.widths = (4,)

    def features(self, x):
        return [Tokens(self.linear(x).unsqueeze(1))]


class Batch(Good):
    def __init__(self, modality):
        super().__init__(modality)
        self.norm = nn.BatchNorm1d(4)

    def features(self, x):
        return [Tokens(self.norm(self.linear(x)).unsqueeze(1))]


class Unused(Good):
    def __init__(self, modality):
        super().__init__(modality)
        self.spare = nn.Linear(2, 2)


class Unregistered(Good):
    def __init__(self, modality):
        super().__init__(modality)
        self.hidden = {"linear": self._modules.pop("linear")}

    def features(self, x):
        return [Tokens(self.hidden["linear"](x.float()).double().unsqueeze(1))]


class Detached(Good):
    def features(self, x):
        out = self.linear(x)
        return [Tokens((out * out.detach()).unsqueeze(1))]


class Random(Good):
    def features(self, x):
        return [Tokens(self.linear(x + 0.1 * torch.rand_like(x)).unsqueeze(1))]


class Wide(Good):
    def __init__(self, modality):
        super().__init__(modality)
        self.widths = (5,)


class Gridded(Good):
    def features(self, x):
        return [Tokens(self.linear(x).unsqueeze(1), (2, 2))]


class Deaf(Good):
    def features(self, x):
        return [Tokens((self.linear(x) * 0 + self.linear.bias).unsqueeze(1))]


class Narrow(Good):
    def features(self, x):
        return [Tokens(self.linear(x).float().unsqueeze(1))]


class Counting(Good):
    def __init__(self, modality):
        super().__init__(modality)
        self.register_buffer("seen", torch.zeros(()))

    def features(self, x):
        self.seen += 1
        return super().features(x)


BROKEN = [
    (Batch, "test_one_row"),
    (Batch, "test_rows_are_independent"),
    (Unused, "test_every_parameter_is_trained"),
    (Unregistered, "test_weights_round_trip"),
    (Detached, "test_gradients_are_right"),
    (Random, "test_evaluation"),
    (Random, "test_rows_are_independent"),
    (Wide, "test_features"),
    (Gridded, "test_features"),
    (Deaf, "test_rows_matter"),
    (Narrow, "test_dtype"),
    (Counting, "test_evaluation"),
]
CHECKS = [name for name in dir(EncoderContract) if name.startswith("test_")]
CASE = EncoderCase(Block.of("sample"), EXAMPLES[Kind.TABULAR])


@pytest.mark.parametrize("check", CHECKS)
def test_a_good_encoder_passes(check, registrations):
    register(Good)
    getattr(EncoderContract(), check)(CASE)


@pytest.mark.parametrize(("encoder", "check"), BROKEN)
def test_a_broken_encoder_fails(encoder, check, registrations):
    register(encoder)
    with pytest.raises((AssertionError, ValueError, RuntimeError)):
        getattr(EncoderContract(), check)(CASE)


class Channels(Stack):
    """Mixes channels where tokens are meant, as the public HyperMixer does."""

    name = "sample-stack"
    VERSION = 1
    any_length = True
    presets = network_presets = {"small": {}}  # noqa: RUF012

    def __init__(self, tokens, channels):
        super().__init__()
        self.depth = 1
        self.linear = nn.Linear(channels, channels)

    def features(self, tokens):
        return [tokens._replace(x=self.linear(tokens.x))]


class Fixed(Channels):
    def __init__(self, tokens, channels):
        super().__init__(tokens, channels)
        self.linear = nn.Linear(tokens, tokens)

    def features(self, tokens):
        return [tokens._replace(x=self.linear(tokens.x.transpose(1, 2)).transpose(1, 2))]


class Pooling(Channels):
    def features(self, tokens):
        return [Tokens(self.linear(tokens.x).mean(1, keepdim=True))]


@pytest.mark.parametrize(
    ("stack", "check"),
    [
        (Channels, "test_tokens_meet"),
        (Fixed, "test_any_length"),
        (Pooling, "test_features"),
    ],
)
def test_a_broken_stack_fails(stack, check, registrations):
    register(stack)
    with pytest.raises((AssertionError, RuntimeError)):
        getattr(StackContract(), check)(StackCase(Block.of("sample-stack"), 4, 6, (2, 2)))


def test_polymix_imports_neither_pytest_nor_its_contracts():
    code = (
        "import sys, polymix, polymix.nn.build; "
        "assert not {'pytest', 'polymix.testing'} & set(sys.modules); "
        "import polymix.testing; assert 'pytest' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
