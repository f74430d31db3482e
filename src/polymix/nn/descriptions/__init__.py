"""Fixed descriptions of a modality: a row as numbers, by no gradient and without its target.

A description is an encoder that is fitted to training rows once, or needs no fitting. All is in
double precision: trees cut columns, and a rounding that differs between machines would move rows.
"""

from polymix.nn.descriptions.describers import (
    DESCRIPTIONS,
    describers_for,
    description_version,
    is_pretrained,
    make_description,
)
from polymix.nn.descriptions.description import Description, Frozen
from polymix.nn.descriptions.gaps import GapStatistics
from polymix.nn.descriptions.kernels import Kernels
from polymix.nn.descriptions.series import SeriesStatistics
from polymix.nn.descriptions.sound import SoundStatistics
from polymix.nn.descriptions.summary import Summary, is_columns
from polymix.nn.descriptions.tf_idf import TfIdf
from polymix.nn.descriptions.token_states import TokenStates

__all__ = [
    "DESCRIPTIONS",
    "Description",
    "Frozen",
    "GapStatistics",
    "Kernels",
    "SeriesStatistics",
    "SoundStatistics",
    "Summary",
    "TfIdf",
    "TokenStates",
    "describers_for",
    "description_version",
    "is_columns",
    "is_pretrained",
    "make_description",
]
