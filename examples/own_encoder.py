"""A search in which an encoder of your own competes with polymix's.

    python examples/own_encoder.py [--time-limit 60s] [--run-dir runs/own-encoder]

The encoder is one class: it maps one modality to tokens. Registered under its name, it can be
named wherever an encoder can, and is rebuilt from its name when the run is loaded again: register
it there too.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from polymix import Encoder, Kind, Modality, Predictor, Tokens, register
from polymix.nn.encoder import Options, check_sizes


@register
class Strips(Encoder):
    """Cuts a map into vertical strips, one token each, and mixes each strip's pixels.

    Args:
        modality: an image or a spectrogram.
        channels: C of the tokens.
        strips: T, how many.
    """

    name = "strips"
    VERSION = 1
    kinds = frozenset({Kind.IMAGE, Kind.AUDIO})
    presets: ClassVar[Mapping[str, Options]] = {"small": {}}

    def __init__(self, modality: Modality, *, channels: int = 64, strips: int = 8) -> None:
        super().__init__()
        check_sizes(self.name, channels=channels, strips=strips)
        height = modality.shape[1]
        self.pool = nn.AdaptiveAvgPool2d((height, strips))
        self.mix = nn.Sequential(
            nn.Linear(modality.channels * height, channels), nn.GELU(), nn.LayerNorm(channels)
        )
        self.widths = (channels,)

    def features(self, x: Tensor) -> list[Tokens]:
        """One feature: a token a strip, `(B, T, C)` from `(B, channels, H, W)`."""
        strips = self.pool(x).flatten(1, 2).transpose(1, 2)  # (B, T, channels * H)
        return [Tokens(self.mix(strips))]


def main() -> None:
    """Search the demo with the encoder among the candidates."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--time-limit", default="60s")
    parser.add_argument("--run-dir", default=None)
    asked = parser.parse_args()
    predictor = Predictor(path=asked.run_dir).fit(
        "demo",
        time_limit=asked.time_limit,
        options={"encoders": {"image": ["mlp", "strips"], "audio": ["conv", "strips"]}},
    )
    board = predictor.leaderboard()
    print(board[["label", "architecture", "score_val", "params"]].to_string())
    found = predictor.evaluate()
    print(f"{found['metric']} on {found['n']} test rows: {found['metrics'][found['metric']]}")


if __name__ == "__main__":
    main()
