"""Which copies and positions of a recorded run are run again, and the arguments of a block cut to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from neuros_mechint.adapters.batches import map_items


@dataclass(frozen=True)
class Span:
    """Positions ``start`` up to ``stop`` of ``copies`` copies of the recorded samples.

    Parameters
    ----------
    n_samples, n_positions : int
        Size of the recorded run.
    copies : int
        How often every sample is there.
    start, stop : int
        First position, and the one after the last.

    Examples
    --------
    >>> Span(n_samples=1, n_positions=5, copies=3, start=2, stop=5).of(torch.zeros(1, 5, 8)).shape
    torch.Size([3, 3, 8])
    """

    n_samples: int
    n_positions: int
    copies: int
    start: int
    stop: int

    def of(self, values: torch.Tensor, axis: int = 1) -> torch.Tensor:
        """Return this part of a recorded ``(sample, position, ...)`` tensor, contiguous as models expect it."""
        return self.repeated(values.narrow(axis, self.start, self.stop - self.start)).contiguous()

    def repeated(self, values: torch.Tensor) -> torch.Tensor:
        """Return ``copies`` copies along the first axis."""
        if self.copies == 1:
            return values
        if self.n_samples == 1:
            return values.expand(self.copies, *values.shape[1:])
        return values.expand(self.copies, *values.shape).flatten(0, 1)

    def arguments(self, value: Any) -> Any:
        """Return the arguments of a recorded call as they would be for this part.

        Which axis of an argument counts positions is told from its size: of ``(..., S, S)`` the first one is cut and
        the second, of the keys, ends at ``stop``. Whether that was right is checked by `proof.prove`.
        """
        if isinstance(value, torch.Tensor):
            return self._argument(value)
        if isinstance(value, (Mapping, tuple, list)):
            return map_items(self.arguments, value)
        return value

    def _argument(self, value: torch.Tensor) -> torch.Tensor:
        axes = [axis for axis, size in enumerate(value.shape) if size == self.n_positions and (axis or value.ndim < 3)]
        # a mask ends in queries and keys; in (sample, position, unit) the width may happen to equal the length
        square = value.ndim in (2, 4) and axes[-2:] == [value.ndim - 2, value.ndim - 1]
        for axis, first in zip(axes[-2:] if square else axes[:1], (self.start, 0), strict=False):
            value = value.narrow(axis, first, self.stop - first)
        if value.ndim > 1 and value.shape[0] == self.n_samples > 1 and 0 not in axes:
            return self.repeated(value)
        if value.ndim == 3 and value.shape[0] > self.n_samples and value.shape[0] % self.n_samples == 0:
            return value.repeat(self.copies, 1, 1)  # (sample * head, ...), as biases by distance come
        return value
