"""Whether a training goes on from the weights that were there when its record was saved."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.labels import as_numpy

_OF_EACH = 256
_ERRORS = 3.0  # of a correlation by chance
_CORRELATED = 0.5  # beyond, also a few weights have something in common
_ADVICE = (
    "load the weights that were saved together with the tracker before training goes on; for another training make a "
    "new tracker"
)


def weight_sample(weights: Sequence[torch.Tensor]) -> Floats:
    """Return up to 256 evenly spaced numbers of each tensor, one after the other.

    Examples
    --------
    >>> weight_sample([torch.arange(3.0), torch.ones(20, 30)]).shape
    (259,)
    """
    return np.concatenate(_samples(weights))


def _samples(weights: Sequence[torch.Tensor]) -> list[Floats]:
    return [_sampled(weight.detach()) for weight in weights]


def _sampled(weight: torch.Tensor) -> Floats:
    flat = (torch.view_as_real(weight) if weight.is_complex() else weight).reshape(-1)
    places = np.linspace(0, len(flat) - 1, min(len(flat), _OF_EACH)).round().astype(np.int64)
    found = as_numpy(flat[torch.from_numpy(places).to(flat.device)]).astype(np.float64)
    return np.nan_to_num(found, posinf=0.0, neginf=0.0)  # what has diverged says nothing


def doubt_of_continuation(saved: Floats, weights: Sequence[torch.Tensor], later: bool) -> str | None:
    """Return why these can hardly be the weights whose record is gone on with, or nothing.

    Parameters
    ----------
    saved : numpy.ndarray of shape (n_sampled,)
        `weight_sample` of the weights when the record was saved.
    weights : sequence of torch.Tensor
        The ones that are there now.
    later : bool
        Whether they may have been trained since. Then they need only have more in common with the saved ones than two
        random starts: a correlation beyond 3 standard errors.

    Examples
    --------
    >>> random = torch.Generator().manual_seed(0)
    >>> start, other = torch.randn(2, 20, 20, generator=random)
    >>> saved = weight_sample([start])
    >>> doubt_of_continuation(saved, [start], later=False), doubt_of_continuation(saved, [start + 1], later=True)
    (None, None)
    >>> doubt_of_continuation(saved, [other], later=True)[:48]
    'the weights have nothing in common with those of'
    """
    samples = _samples(weights)
    now = np.concatenate(samples)
    rounding = max(torch.finfo(weight.dtype).eps for weight in weights)  # they may be kept in fewer digits now
    if np.linalg.norm(now - saved) <= rounding * np.linalg.norm(saved):
        return None
    if not later:
        return f"the weights are not those with which this record was saved, at the same step: {_ADVICE}"
    ends = np.cumsum([len(sample) for sample in samples]).tolist()
    correlation, count = _correlation(saved, now, ends)
    if correlation < min(_CORRELATED, _ERRORS / max(count, 1) ** 0.5):
        return f"the weights have nothing in common with those of this record when it was saved: {_ADVICE}"
    return None


def _correlation(one: Floats, other: Floats, ends: Sequence[int]) -> tuple[float, int]:
    """Return the mean correlation within tensors that vary, by their size, and how many numbers it rests on."""
    total, count = 0.0, 0
    for start, stop in itertools.pairwise([0, *ends]):
        freedom = stop - start - 1
        if freedom > 0 and np.ptp(one[start:stop]) > 0 and np.ptp(other[start:stop]) > 0:
            r = float(np.corrcoef(one[start:stop], other[start:stop])[0, 1])
            total, count = total + freedom * r, count + freedom
    return (total / count if count else 1.0), count
