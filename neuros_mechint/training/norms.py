"""How large the weights of each layer are, and how fast they move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from neuros_mechint.core.arrays import Floats


def layer_of(name: str) -> str:
    """Return the layer that a weight belongs to: the path down to the first number, or else its module.

    Examples
    --------
    >>> layer_of("blocks.0.attention.query.weight"), layer_of("unembedding.bias"), layer_of("2.weight"), layer_of("w")
    ('blocks.0', 'unembedding', '2', 'w')
    """
    parts = name.split(".")
    for place, part in enumerate(parts[:-1]):
        if part.isdecimal():
            return ".".join(parts[: place + 1])
    return ".".join(parts[:-1]) or name


def by_layer(names: Sequence[str]) -> dict[str, list[int]]:
    """Return which weights belong to each layer, in order.

    Examples
    --------
    >>> by_layer(["0.weight", "0.bias", "2.weight"])
    {'0': [0, 1], '2': [2]}
    """
    layers: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        layers.setdefault(layer_of(name), []).append(index)
    return layers


def layer_norms(tensors: Sequence[torch.Tensor], layers: Mapping[str, Sequence[int]]) -> Floats:
    """Return the length of each layer's tensors, taken together as one vector.

    Parameters
    ----------
    tensors : sequence of torch.Tensor
    layers : mapping of str to sequence of int
        See `by_layer`.

    Returns
    -------
    numpy.ndarray of shape (n_layers,)

    Examples
    --------
    >>> layer_norms([torch.tensor([3.0]), torch.tensor([4.0]), torch.zeros(2)], {"a": [0, 1], "b": [2]}).tolist()
    [5.0, 0.0]
    """
    squares = squared_lengths(tensors)
    return np.array([np.sqrt(squares[list(members)].sum()) for members in layers.values()])


def squared_lengths(tensors: Sequence[torch.Tensor]) -> Floats:
    """Return the squared length of each tensor, as one vector.

    Examples
    --------
    >>> squared_lengths([torch.tensor([3.0]), torch.tensor([4.0])]).tolist()
    [9.0, 16.0]
    """
    short = (torch.bfloat16, torch.float16)
    lengths = [
        torch.linalg.vector_norm(tensor.detach(), dtype=torch.float32 if tensor.dtype in short else None)
        for tensor in tensors
    ]
    return np.array([float(length) for length in lengths]) ** 2


def learning_speed(
    before: Sequence[torch.Tensor], now: Sequence[torch.Tensor], layers: Mapping[str, Sequence[int]], n_steps: int
) -> Floats:
    r"""Return :math:`|w - w_0| / (|w_0| n)` of each layer: how far it came in each of ``n`` steps, relative to itself.

    The way from one end to the other counts: a layer that goes back and forth is slow. NaN where a layer was zero.

    Parameters
    ----------
    before, now : sequence of torch.Tensor
        The weights at both ends.
    layers : mapping of str to sequence of int
    n_steps : int
        Between them.

    Returns
    -------
    numpy.ndarray of shape (n_layers,)

    Examples
    --------
    >>> learning_speed([torch.tensor([2.0])], [torch.tensor([3.0])], {"a": [0]}, n_steps=10).tolist()
    [0.05]
    """
    moved = [new.detach() - old.to(new.device) for old, new in zip(before, now, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = layer_norms(moved, layers) / layer_norms(before, layers) / n_steps
    return np.where(np.isfinite(speed), speed, np.nan)
