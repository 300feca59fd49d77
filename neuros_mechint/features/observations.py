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

from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import as_matrix, rows_kept
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
    if not torch.isfinite(rows).all():
        raise InputError("activations are NaN or infinite", expected="finite numbers", fix="find out where they arise")
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
    if not isinstance(activations, (Activations, ActivationStore)):
        return site
    if site is None and len(list(activations)) != 1:
        raise InputError("which site?", expected="site=, one of " + ", ".join(activations), fix="name the site")
    return activations.resolve(next(iter(activations)) if site is None else site)


def rows_of(x: Any, site: str | None) -> torch.Tensor:
    """Return activations in memory as rows, float32."""
    if isinstance(x, (Activations, ActivationStore)):
        x = x.matrix(str(only_site(x, site)))
    rows = torch.as_tensor(x).detach().to(torch.float32)
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 1:
        raise InputError("no observations", expected="(n_observations >= 2, n_inputs)", got=tuple(rows.shape))
    return rows


def _from_memory(activations: Any, site: str | None, validation: float) -> Observations:
    rows = check_finite(rows_of(activations, site))
    n_held = min(max(1, round(validation * len(rows))), _HELD_OUT_ROWS)
    training = rows[:-n_held]
    return Observations(
        lambda i: training[i * _BLOCK_ROWS : (i + 1) * _BLOCK_ROWS],
        math.ceil(len(training) / _BLOCK_ROWS),
        len(training),
        rows[-n_held:],
    )


def _from_store(store: ActivationStore, site: str | None, validation: float) -> Observations:
    name = str(only_site(store, site))
    lazy, dims, mask = store.xarray(name), store.dims(name), store.attention_mask
    if store.n_samples < 2:
        raise InputError("too few samples", expected="at least 2", got=store.n_samples)

    def rows(start: int, stop: int) -> torch.Tensor:
        values = torch.from_numpy(np.array(lazy[start:stop].values))
        kept = rows_kept(name, dims, values.shape, None if mask is None else mask[start:stop])
        matrix = as_matrix(values, dims)
        return (matrix if kept is None else matrix[kept]).to(torch.float32)

    per_sample = max(1, len(rows(0, 1)))
    n_held = min(max(1, round(validation * store.n_samples)), math.ceil(_HELD_OUT_ROWS / per_sample))
    n_training, step = store.n_samples - n_held, max(1, _BLOCK_ROWS // per_sample)
    return Observations(
        lambda i: rows(i * step, min((i + 1) * step, n_training)),
        math.ceil(n_training / step),
        n_training * per_sample,
        rows(n_training, store.n_samples),
    )
