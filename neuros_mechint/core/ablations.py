"""Edits that put activations of reference inputs in place of the present ones: mean and resample ablation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from neuros_mechint.core.edits import Array, Edit, as_tensor
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.labels import mask_along, padded_axis
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.sites import Selection

if TYPE_CHECKING:
    from neuros_mechint.core.activations import Activations


@dataclass(frozen=True, eq=False)
class _FromReference(Edit):
    """Base of the edits that take their values from activations on other inputs.

    Parameters
    ----------
    values_from : Activations or array
        Activations that hold the site, or its tensor with the same axes (any number of samples).
    """

    by_position = True
    values_from: Activations | Array
    _memory: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor], init=False, repr=False)

    def _reference(self, dims: tuple[str, ...], selection: Selection, free: tuple[str, ...]) -> torch.Tensor:
        """Return all of the site at all reference samples; others than ``free`` axes as long as the site's."""
        values = self.values_from
        if not isinstance(values, torch.Tensor) and hasattr(values, "dims") and hasattr(values, "xarray"):
            values = values[self.reference.name]
        tensor = as_tensor(values, f"reference of {type(self).__name__}({self.site!r})")
        if tensor.ndim != len(dims):
            raise InputError(
                f"{type(self).__name__}({self.site!r}) got reference activations of another rank than the site",
                expected=f"axes ({', '.join(dims)})",
                got=f"shape {tuple(tensor.shape)}",
            )
        wrong = [
            axis
            for axis, size in zip(dims, tensor.shape, strict=True)
            if axis not in (*free, "sample") and size != selection.totals[axis]
        ]
        if wrong:
            raise InputError(
                f"{type(self).__name__}({self.site!r}) got reference activations that are not of this site",
                expected=", ".join(f"{axis}={selection.totals[axis]}" for axis in wrong),
                got=f"shape {tuple(tensor.shape)} for ({', '.join(dims)})",
            )
        return tensor

    def _chosen(self, tensor: torch.Tensor, dims: tuple[str, ...]) -> torch.Tensor:
        """Return the part of a whole site that is edited."""
        # an index of samples says which inputs to edit; the reference has samples of its own
        index = {axis: entries for axis, entries in self.reference.index.items() if axis != "sample"}
        chosen = replace(self.reference, index=index).locate(dims, tensor.shape)
        assert chosen is not None  # a whole tensor is never outside its own window
        return tensor[chosen.here]


@dataclass(frozen=True, eq=False)
class Mean(_FromReference):
    """Put the mean over reference activations in place of the activation (mean ablation).

    Padded positions of the reference are left out of the mean, unless all that it is taken over are padding.

    Parameters
    ----------
    values_from : Activations or array
        Reference activations of the site, same axes, any number of samples.
    over : tuple of str
        Axes to average over, where the site has them; ``("sample",)`` keeps a mean per position or pixel.

    Examples
    --------
    >>> reference = torch.tensor([[0.0, 2.0], [4.0, 4.0]])
    >>> Mean("h", reference).apply(torch.zeros(1, 2), ("sample", "unit"))
    tensor([[2., 3.]])
    """

    over: tuple[str, ...] = ("sample", "position", "time", "depth", "height", "width")

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        if "mean" not in self._memory:
            whole = self._reference(dims, selection, self.over)
            axes = [axis for axis, name in enumerate(dims) if name in self.over]
            if not axes:
                raise InputError(
                    f"Mean({self.site!r}) has no axis to average over",
                    expected="some of " + ", ".join(dims),
                    got=f"over={self.over}",
                )
            mean = self._mean(whole, dims, axes)
            self._memory["mean"] = mean.squeeze(selection.dropped) if selection.dropped else mean
        return self._fit(self._memory["mean"], block, selection).expand_as(block)

    def _mean(self, whole: torch.Tensor, dims: tuple[str, ...], axes: list[int]) -> torch.Tensor:
        reference = self._chosen(whole, dims).double()
        mean = reference.mean(axes, keepdim=True)
        mask, along = getattr(self.values_from, "attention_mask", None), padded_axis(self.reference.name, dims)
        if mask is None or along is None:
            return mean
        if tuple(mask.shape) != (whole.shape[dims.index("sample")], whole.shape[dims.index(along)]):
            return mean  # positions of another sequence than the one that was padded
        kept = self._chosen(mask_along(mask.bool(), dims, along).expand(whole.shape), dims).to(reference.device)
        tokens = reference.masked_fill(~kept, torch.nan).nanmean(axes, keepdim=True)
        return torch.where(tokens.isnan(), mean, tokens)


@dataclass(frozen=True, eq=False)
class Resample(_FromReference):
    """Put another sample's activation in place of each sample's (resample ablation).

    With as many reference samples as inputs they are taken for the same data, and no sample receives its own.

    Parameters
    ----------
    values_from : Activations or array
        Reference activations of the site, same axes.
    seed : int or numpy.random.Generator
        Draws which sample goes where; the draw does not depend on the batch size.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [2.0]])
    >>> Resample("h", x, seed=0).apply(x, ("sample", "unit"))
    tensor([[2.],
            [1.]])
    """

    seed: SeedLike = 0

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        n_samples = selection.sizes.get("sample", 1)
        key = f"drawn for {n_samples} samples"
        if key not in self._memory:
            reference = self._chosen(self._reference(dims, selection, ()), dims)
            rows = self._draw(reference.shape[0], n_samples)
            drawn = reference[torch.as_tensor(rows, device=reference.device)]
            self._memory[key] = drawn.squeeze(selection.dropped) if selection.dropped else drawn
        return self._fit(self._memory[key], block, selection).expand_as(block)

    def _draw(self, n_reference: int, n_samples: int) -> list[int]:
        rng = generator(self.seed)
        order = [int(row) for row in rng.permutation(n_reference)]
        if n_reference == n_samples > 1:  # one cycle through all samples has no fixed point
            source = dict(zip(order, [*order[1:], order[0]], strict=True))
            return [source[row] for row in range(n_samples)]
        if n_reference > n_samples:
            return order[:n_samples]
        return [int(row) for row in rng.integers(n_reference, size=n_samples)]
