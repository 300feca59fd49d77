"""Seeds: every random step of this package draws from a generator made here, never from global state."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from neuros_mechint.core.errors import InputError

if TYPE_CHECKING:
    import torch

SeedLike: TypeAlias = int | np.random.Generator


def generator(seed: SeedLike) -> np.random.Generator:
    """Return a NumPy generator for ``seed``; a generator passes through and goes on where it stands.

    Parameters
    ----------
    seed : int or numpy.random.Generator
        A non-negative integer gives the same numbers every time.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    InputError
        If ``seed`` is None, a bool, a float, negative, or anything else.

    Examples
    --------
    >>> int(generator(0).integers(100)) == int(generator(0).integers(100))
    True
    """
    if isinstance(seed, np.random.Generator):
        return seed
    # bool is a subclass of int, and seed=True is always a mistake (a flag passed in the wrong place).
    if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)):
        raise InputError(
            "this is not a seed",
            expected="a non-negative int or a numpy.random.Generator",
            got=f"{seed!r} of type {type(seed).__name__}",
            fix="pass an integer such as seed=0, so that the result can be repeated",
        )
    if seed < 0:
        raise InputError("a seed cannot be negative", expected="an int >= 0", got=int(seed), fix="pass seed=0")
    return np.random.default_rng(int(seed))


def torch_generator(seed: SeedLike) -> torch.Generator:
    """Return a torch generator (CPU) seeded by one draw of ``generator(seed)``.

    The same integer gives the same torch generator every time; a NumPy generator is advanced by that one
    draw, so that two calls with the same generator object give different streams.

    Parameters
    ----------
    seed : int or numpy.random.Generator
        See `generator`.

    Returns
    -------
    torch.Generator

    Raises
    ------
    InputError
        If ``seed`` is not a seed.

    Examples
    --------
    >>> import torch
    >>> torch.equal(torch.rand(3, generator=torch_generator(0)), torch.rand(3, generator=torch_generator(0)))
    True
    """
    import torch

    return torch.Generator().manual_seed(int(generator(seed).integers(2**63)))
