"""The features of a site, encoded block by block out of activations in memory or on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from neuros_mechint.core.dictionary import Dictionary, as_taken_by, n_features
from neuros_mechint.core.directions import feature_axis
from neuros_mechint.core.labels import LabelledTensors, rows_kept
from neuros_mechint.features.observations import check_finite

_BLOCK_ROWS = 4096
_BLOCK_NUMBERS = 2**23
"""Features held at once, of all rows of a block together: what bounds the memory."""

Places = npt.NDArray[np.int64]


class Codes:
    """What a dictionary makes of the activations at one site, where there is no padding.

    Blocks depend on the shape of the activations alone, not on how the model was batched.

    Parameters
    ----------
    activations : Activations or ActivationStore
        With the site; read piece by piece.
    site : str
        The name under which they hold it.
    dictionary : Dictionary
    attention_mask : torch.Tensor of shape (n_samples, n_positions) or None
        False at padding.

    Raises
    ------
    InputError
        The dictionary does not take activations of this width, or the site has no axis of units.
    """

    def __init__(
        self,
        activations: LabelledTensors,
        site: str,
        dictionary: Dictionary,
        attention_mask: torch.Tensor | None,
    ) -> None:
        self.site, self.dictionary = site, dictionary
        self._array = activations.xarray(site)
        self._mask = attention_mask
        dims = activations.dims(site)
        last = feature_axis(dims, "a dictionary")
        first = last - 1 if last and dims[last - 1].endswith("head") else last  # heads and their units lie together
        self._inputs = dims[first : last + 1]
        others = [axis for axis in dims if axis not in self._inputs]
        self.axes = tuple(sorted(others, key=lambda axis: axis != "sample"))
        self.shape = tuple(int(self._array.sizes[axis]) for axis in self.axes)
        self.width = math.prod(int(self._array.sizes[axis]) for axis in self._inputs)
        self.n_features = n_features(dictionary, self.width)

    def blocks(self) -> Iterator[tuple[torch.Tensor, Places]]:
        """Yield features ``(n_rows, n_features)``, and where each row lies, ``(n_rows, n_axes)``."""
        per_sample = math.prod(self.shape[1:])
        step = max(1, _BLOCK_ROWS // per_sample)
        for start in range(0, self.shape[0], step):
            yield from self.of_samples(start, min(start + step, self.shape[0]))

    @torch.no_grad()
    def of_samples(self, start: int, stop: int) -> Iterator[tuple[torch.Tensor, Places]]:
        """Yield what `blocks` does, for the samples from ``start`` up to ``stop``."""
        block = self._array.isel({self.axes[0]: slice(start, stop)})
        values = np.array(block.transpose(*self.axes, *self._inputs).values, order="C")
        rows = torch.from_numpy(values).reshape(-1, self.width)
        places = np.stack([axis.ravel() for axis in np.indices((stop - start, *self.shape[1:]))], axis=1)
        places[:, 0] += start
        kept = self._kept(start, stop)
        if kept is not None:
            rows, places = rows[torch.from_numpy(kept)], places[kept]
        check_finite(rows)
        step = max(1, min(_BLOCK_ROWS, _BLOCK_NUMBERS // self.n_features))
        for first in range(0, len(rows), step):
            piece = as_taken_by(self.dictionary, rows[first : first + step])
            yield self.dictionary.encode(piece).cpu(), places[first : first + step]

    def _kept(self, start: int, stop: int) -> npt.NDArray[np.bool_] | None:
        if "position" not in self.axes or self._mask is None:
            return None
        along = self.axes.index("position")
        pair = ("sample", "position")
        kept = rows_kept(self.site, pair, (stop - start, self.shape[along]), self._mask[start:stop])
        if kept is None:
            return None
        shape = [stop - start if axis == "sample" else 1 for axis in self.axes]
        shape[along] = self.shape[along]
        return np.broadcast_to(kept.numpy().reshape(shape), (stop - start, *self.shape[1:])).flatten()


def window_codes(codes: Codes, sample: int, chosen: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return chosen features at all positions of one sample, ``(n_positions, n_chosen)``, NaN at padding."""
    values = np.full((codes.shape[1], len(chosen)), np.nan)
    for block, places in codes.of_samples(sample, sample + 1):
        values[places[:, 1]] = block[:, list(chosen)].double().numpy()
    return values
