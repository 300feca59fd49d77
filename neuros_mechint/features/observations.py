"""Where an autoencoder's observations come from: memory, or a store that is read piece by piece."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.fingerprint import fingerprint_array
from neuros_mechint.core.labels import LabelledTensors, observed
from neuros_mechint.core.random import generator
from neuros_mechint.core.store import ActivationStore
from neuros_mechint.core.store_files import shuffled_batches

_BLOCK_ROWS = 4096
_POOL_BLOCKS = 16
_HELD_OUT_ROWS = 8192


@dataclass(frozen=True)
class Observations:
    """Training rows by block, and the rows held out.

    Parameters
    ----------
    block : callable
        ``block(i)`` returns rows ``(n, n_inputs)``, float32.
    n_blocks : int
    n_rows : int
        At most so many rows to train on.
    held_out : torch.Tensor of shape (n_held_out, n_inputs)
        Never among the blocks.
    """

    block: Callable[[int], torch.Tensor]
    n_blocks: int
    n_rows: int
    held_out: torch.Tensor

    def batches(self, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
        """Yield full, finite batches in random order without end."""
        random = generator(seed)
        for _ in itertools.count():
            for batch in shuffled_batches(self.block, self.n_blocks, _POOL_BLOCKS, batch_size, random):
                if len(batch) == batch_size:
                    yield check_finite(batch)


def check_finite(rows: torch.Tensor) -> torch.Tensor:
    """Return ``rows``, or raise `InputError` where one is NaN or infinite."""
    finite = torch.isfinite(rows)
    if not finite.all():
        raise InputError(
            "the activations are not finite",
            got=f"{int((~finite).sum())} of {rows.numel()} values are NaN or infinite",
            fix="find out where they come from; without them it would be other data",
        )
    return rows


def observations(activations: Any, site: str | None, validation: float, n_features: int) -> Observations:
    """Split activations into training blocks and the last rows, or samples of a store, held out.

    Raises
    ------
    InputError
        NaN, infinite or constant activations, too few, or not a matrix.
    SiteError
        No such site.
    """
    if not 0 < validation < 1:
        raise InputError("validation is out of range", expected="a share between 0 and 1", got=validation)
    split = _from_store if isinstance(activations, ActivationStore) else _from_memory
    found = split(activations, site, validation)
    check_finite(found.held_out)
    first = check_finite(found.block(0))
    if bool((first == first[:1]).all()) and bool((found.held_out == first[:1]).all()):
        raise InputError("the activations are constant", expected="observations that differ", fix="check the site")
    if found.n_rows < n_features:
        warnings.warn(f"fewer observations ({found.n_rows}) than features ({n_features})", stacklevel=3)
    return found


def only_site(activations: Any, site: str | None) -> str | None:
    """Return the site that is meant: the one given, or the only one there is."""
    if not isinstance(activations, LabelledTensors):
        return site
    if site is None and len(list(activations)) != 1:
        raise InputError("which site?", expected="site=, one of " + ", ".join(activations), fix="name the site")
    return activations.resolve(next(iter(activations)) if site is None else site)


def row_batches(activations: Any, site: str | None = None) -> Iterator[torch.Tensor]:
    """Yield activations as batches ``(n, n_inputs)`` in their own order, checked.

    Raises
    ------
    InputError
        No matrix, no site named, too few rows, or values that are not finite.
    """
    if isinstance(activations, LabelledTensors):
        if site is None:
            raise InputError(
                "which site?", expected=f"site=, one of {', '.join(map(repr, activations))}", got="site=None"
            )
        if isinstance(activations, ActivationStore):
            batches: Iterator[torch.Tensor] = activations.batches(site, _BLOCK_ROWS, shuffle=False)
        else:
            batches = iter(activations.matrix(site).split(_BLOCK_ROWS))
    else:
        batches = iter(as_rows(activations).split(_BLOCK_ROWS))
    yield from map(check_finite, batches)


def as_rows(array: Any) -> torch.Tensor:
    """Return a matrix of observations as a tensor.

    Raises
    ------
    InputError
        Something else than a matrix of real numbers with at least two rows.
    """
    try:
        matrix = array.detach() if isinstance(array, torch.Tensor) else torch.as_tensor(np.asarray(array))
    except (TypeError, ValueError) as error:
        raise InputError("these are no activations", got=error) from error
    if matrix.ndim != 2 or matrix.shape[0] < 2 or matrix.shape[1] < 1 or matrix.is_complex():
        raise InputError(
            "activations are a matrix",
            expected="real numbers of shape (n_observations, n_inputs), at least two observations",
            got=f"shape {tuple(matrix.shape)}, {matrix.dtype}",
            fix="flatten samples and positions into rows, or pass Activations with site=",
        )
    return matrix if matrix.is_floating_point() else matrix.float()


def data_fingerprint(activations: Any, site: str | None = None) -> str:
    """Return an identity of activations, of their first rows, by which those an autoencoder was fitted on are known."""
    return fingerprint_array(next(row_batches(activations, site)).float())


def _from_memory(activations: Any, site: str | None, validation: float) -> Observations:
    held = activations.matrix(str(site)) if isinstance(activations, LabelledTensors) else activations
    rows = check_finite(as_rows(held).to(torch.float32))
    n_held = min(max(1, round(validation * len(rows))), _HELD_OUT_ROWS)
    training = rows[:-n_held]
    return Observations(
        lambda i: training[i * _BLOCK_ROWS : (i + 1) * _BLOCK_ROWS],
        math.ceil(len(training) / _BLOCK_ROWS),
        len(training),
        rows[-n_held:],
    )


def _from_store(store: ActivationStore, site: str | None, validation: float) -> Observations:
    name = str(site)
    lazy, dims, mask = store.xarray(name), store.dims(name), store.attention_mask
    if store.n_samples < 2:
        raise InputError("too few samples", expected="at least 2", got=store.n_samples)

    def rows(start: int, stop: int) -> torch.Tensor:
        values = torch.from_numpy(np.array(lazy[start:stop].values))
        return observed(name, values, dims, None if mask is None else mask[start:stop]).to(torch.float32)

    per_sample = max(1, len(rows(0, 1)))
    n_held = min(max(1, round(validation * store.n_samples)), math.ceil(_HELD_OUT_ROWS / per_sample))
    n_training, step = store.n_samples - n_held, max(1, _BLOCK_ROWS // per_sample)
    return Observations(
        lambda i: rows(i * step, min((i + 1) * step, n_training)),
        math.ceil(n_training / step),
        n_training * per_sample,
        rows(n_training, store.n_samples),
    )
