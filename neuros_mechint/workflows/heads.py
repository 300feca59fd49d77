"""How a head of a transformer is called."""

from __future__ import annotations


def head_name(layer: int | str, head: int) -> str:
    """Return the name of a head as the field writes it, both numbers counted from 0.

    Parameters
    ----------
    layer : int or str
        Its number, or a site of this layer.
    head : int

    Examples
    --------
    >>> head_name(1, 4), head_name("blocks.1.z", 4)
    ('L1H4', 'L1H4')
    """
    return f"L{layer_of(layer) if isinstance(layer, str) else layer}H{head}"


def layer_of(site: str) -> int:
    """Return the layer of a site ``blocks.LAYER.name``.

    Examples
    --------
    >>> layer_of("blocks.11.mlp_out")
    11
    """
    return int(site.split(".")[1])
