"""Absence: one learned token per (modality, feature), used wherever a row lacks the modality."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymix.nn.tokens import Tokens, mean_there


class AbsentToken(nn.Module):
    """Stands for every token of a feature that a row does not have.

    Where training rows may lack the modality the token is a parameter, trained with the rest.
    Where none ever does, nothing could train it: it is a buffer, and `settle` sets it to the
    feature's mean over training rows, so that a new row without the modality is predicted from
    what is usual, not from zeros.

    Args:
        channels: C of the feature; `(F, C)` of a table of packed features, a token for each.
        optional: whether training rows may lack the modality.
        pads: whether a token of zeros is padding, which says nothing of the feature.
    """

    def __init__(self, channels: int | tuple[int, int], optional: bool, pads: bool = False) -> None:
        super().__init__()
        self.optional, self.pads = optional, pads
        if optional:
            self.token = nn.Parameter(torch.randn(channels) * 0.02)
        else:
            self.register_buffer("token", torch.zeros(channels))

    def told(self, x: Tensor) -> Tensor:
        """What tokens `(B, T, C)` say of a row's feature: `(B, C)`; of a table, `(B, F, C)`.

        Rows of padding alone say nothing, and are left out.
        """
        if self.token.ndim == 2:
            return x
        there = (x != 0).any(-1) if self.pads else None
        means = mean_there(x, there)
        return means if there is None else means[there.any(1)]

    def forward(self, tokens: Tokens, present: Tensor | None) -> Tokens:
        """Tokens `(B, T, C)` with absent rows replaced; `present` `(B,)` bool, none for all."""
        if present is None:
            return tokens
        return tokens._replace(x=torch.where(present[:, None, None], tokens.x, self.token))

    @torch.no_grad()
    def set_mean(self, mean: Tensor) -> None:
        """Set an untrained token to the feature's mean, `(C,)` or `(F, C)`."""
        if not self.optional:
            self.token.copy_(mean)
