"""Where a site lives inside a torch module: which call of which submodule, and how its heads lie in the tensor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import nn

if TYPE_CHECKING:
    import torch

    from neuros_mechint.adapters.splice import Splice

_NATIVE_NAME = re.compile(
    r"(?P<path>[^:\[#]*)(?::(?P<side>in|out|hidden|cell))?(?:\[(?P<key>\w+)\])?(?:#(?P<call>\d+))?"
)
Side = Literal["in", "out", "softmax", "hidden", "cell"]


@dataclass(frozen=True)
class HeadView:
    """How attention heads lie in the last axis of a native ``(batch, position, features)`` activation.

    Parameters
    ----------
    heads : int
        Number of heads of this part (key-value heads for ``k`` and ``v``).
    width : int
        Features per head.
    part : {"all", "q", "k", "v"}
        Which part of a fused projection this is; ``"all"`` for a projection of its own.
    layout : {"plain", "split", "grouped"}
        ``plain``: only this part. ``split``: ``[q | k | v]``. ``grouped``: for each key-value head, its query
        heads, then its key, then its value (GPT-NeoX, BLOOM, Falcon).
    query_heads : int
        Number of query heads, needed for fused layouts.

    Examples
    --------
    >>> import torch
    >>> HeadView(heads=2, width=3).read(torch.zeros(1, 5, 6)).shape
    torch.Size([1, 5, 2, 3])
    """

    heads: int
    width: int
    part: Literal["all", "q", "k", "v"] = "all"
    layout: Literal["plain", "split", "grouped"] = "plain"
    query_heads: int = 0

    def read(self, native: torch.Tensor) -> torch.Tensor:
        """Return the heads as ``(batch, position, head, unit)``."""
        block = self._block(native)
        return block.flatten(2, 3) if block.ndim == 5 else block

    def write(self, native: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
        """Return a copy of ``native`` whose heads are ``heads``, shaped ``(batch, position, head, unit)``."""
        written = native.contiguous().clone()
        block = self._block(written)
        block.copy_(heads.reshape(block.shape))
        return written

    def _block(self, native: torch.Tensor) -> torch.Tensor:
        """Return the part of ``native`` that holds these heads: a view wherever ``native`` is contiguous."""
        batch, position = native.shape[:2]
        if self.layout == "plain":
            return native.reshape(batch, position, self.heads, self.width)
        all_heads = native.shape[-1] // self.width
        key_heads = (all_heads - self.query_heads) // 2
        if self.layout == "split":
            start, stop = {
                "q": (0, self.query_heads),
                "k": (self.query_heads, self.query_heads + key_heads),
                "v": (self.query_heads + key_heads, all_heads),
            }[self.part]
            return native.reshape(batch, position, all_heads, self.width)[:, :, start:stop]
        groups = native.reshape(batch, position, key_heads, all_heads // key_heads, self.width)
        if self.part == "q":
            return groups[:, :, :, :-2]
        return groups[:, :, :, -2] if self.part == "k" else groups[:, :, :, -1]


@dataclass(frozen=True)
class Tap:
    """One place in a torch module where a tensor can be read and edited.

    Parameters
    ----------
    path : str
        Dotted path of the submodule; ``""`` is the model itself.
    side : {"in", "out", "softmax", "hidden", "cell"}
        An input, an output, a 4-d softmax computed while the submodule runs (the attention pattern), or the
        hidden or cell state of a recurrent submodule at every time step.
    key : int, str or None
        Which positional or keyword argument (``in``), or which item of a tuple or field of a structured output
        (``out``); for ``hidden`` and ``cell`` the layer.
    call : int or None
        Which call of the submodule within one pass. ``None``: every call, stacked as the time axis.
    view : HeadView, optional
        How to split the last axis into heads.
    flat : bool
        The native tensor is ``(batch * position, features)``.
    base : tuple of Tap
        The site's value is the sum of these taps and of this one; an edit is written into this one. It is how
        ``resid_mid`` is edited so that the skip path moves too.
    check : str
        The identity that proved the site.
    dims : tuple of str
        Names of the axes of the canonical tensor.
    splice : Splice, optional
        The site is a part of the dictionary that is spliced in here, after all edits of the site itself.
    """

    path: str
    side: Side = "out"
    key: int | str | None = None
    call: int | None = 0
    view: HeadView | None = None
    flat: bool = False
    base: tuple[Tap, ...] = ()
    check: str = field(default="", compare=False)
    dims: tuple[str, ...] = field(default=(), compare=False)
    splice: Splice | None = None

    @property
    def native(self) -> str:
        """Name of the place as a user may type it: ``path:side``, with the call, item and head layout it means."""
        text = f"{self.path}:{self.side}"
        if self.key not in (None, 0):
            text += f"[{self.key}]"
        if self.call:
            text += f"#{self.call}"
        if self.view is not None and self.view.layout != "plain":
            text += f"<{self.view.part} of {self.view.layout} qkv>"
        return " + ".join([*(tap.native for tap in self.base), text])


def any_overlap(taps: Sequence[Tap]) -> bool:
    """Return whether two of these taps lie in one tensor and share some of it.

    Examples
    --------
    >>> q, k = (Tap("attn", view=HeadView(2, 3, part, "split", 2)) for part in ("q", "k"))
    >>> any_overlap([q, k]), any_overlap([q, k, Tap("attn")])
    (False, True)
    """
    parts: dict[tuple[object, ...], list[str]] = {}
    for tap in taps:
        if tap.splice is not None:  # comes after the edits of the site it belongs to, whatever their order
            continue
        part = tap.view.part if tap.view is not None else "all"
        parts.setdefault((tap.path, tap.side, tap.key or 0, tap.call), []).append(part)
    return any(len(own) > 1 and (len(set(own)) < len(own) or "all" in own) for own in parts.values())


def native_tap(module: nn.Module, name: str) -> Tap | None:
    """Return the tap that a module path such as ``layer.0:in`` names, or ``None`` where it is no module path.

    Examples
    --------
    >>> native_tap(nn.Sequential(nn.ReLU()), "0:in")
    Tap(path='0', side='in', key=None, call=0, view=None, flat=False, base=(), check='', dims=(), splice=None)
    """
    match = _NATIVE_NAME.fullmatch(name)
    if match is None or (not match["path"] and match["side"] is None):
        return None
    try:
        submodule = module.get_submodule(match["path"])
    except AttributeError:
        return None
    if match["side"] in ("hidden", "cell") and not isinstance(submodule, nn.RNNBase):
        return None
    key = int(match["key"]) if match["key"] and match["key"].isdigit() else match["key"]
    every_call = isinstance(submodule, nn.RNNCellBase) and match["call"] is None
    call = None if every_call else int(match["call"] or 0)
    return Tap(match["path"], match["side"] or "out", key, call)  # type: ignore[arg-type]
