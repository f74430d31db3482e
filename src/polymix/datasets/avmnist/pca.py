"""Images made poor: what the leading principal components keep of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polymix.errors import DataError

CHUNK = 4096


@dataclass(frozen=True)
class LeadingComponents:
    """The leading principal components of images.

    Attributes:
        mean: `(D,)` float64, the training images' mean.
        basis: `(D, k)` float64, the components that are kept, orthonormal.
        explained: the share of variance that they explain together.
    """

    mean: np.ndarray
    basis: np.ndarray
    explained: float

    @classmethod
    def fit(cls, images: np.ndarray, over: float) -> LeadingComponents:
        """Keep components up to and including the one that takes their share over `over`.

        Args:
            images: `(N, ...)` uint8.
            over: share of the variance, in (0, 1).

        Raises:
            DataError: the images do not vary.
        """
        flat = images.reshape(len(images), -1)
        total, second = np.zeros(flat.shape[1]), np.zeros((flat.shape[1],) * 2)
        # Sums of products of bytes are whole numbers below 2**53: exact in any order, and so
        # the same whatever the number of threads.
        for start in range(0, len(flat), CHUNK):
            chunk = flat[start : start + CHUNK].astype(np.float64)
            total += chunk.sum(0)
            second += chunk.T @ chunk
        mean = total / len(flat)
        covariance = second / len(flat) - np.outer(mean, mean)
        if not np.trace(covariance) > 1e-9:
            raise DataError(f"the {len(images)} training images are all alike: nothing to learn")
        values, vectors = np.linalg.eigh(covariance)
        shares = np.maximum(values[::-1], 0)
        explained = np.cumsum(shares) / shares.sum()
        kept = int(np.searchsorted(explained, over, side="right")) + 1
        kept = min(kept, len(explained))
        return cls(mean, vectors[:, ::-1][:, :kept], float(explained[kept - 1]))

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """What the components keep of `(N, ...)` uint8 images: the same shape, uint8."""
        flat = images.reshape(len(images), -1)
        out = np.empty(flat.shape, np.uint8)
        for start in range(0, len(flat), CHUNK):
            chunk = flat[start : start + CHUNK].astype(np.float64) - self.mean
            kept = chunk @ self.basis @ self.basis.T + self.mean
            out[start : start + CHUNK] = np.clip(np.rint(kept), 0, 255)
        return out.reshape(images.shape)
