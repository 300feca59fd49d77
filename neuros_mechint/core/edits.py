"""Edits: what to do to the activation at a site. An adapter applies them while the model runs."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.sites import Selection, SiteReference, Window

if TYPE_CHECKING:
    from neuros_mechint.core.activations import Activations

Array = Any  # torch tensor, numpy array or nested numbers: whatever torch.as_tensor takes


@dataclass(frozen=True, eq=False)
class Edit(ABC):
    """Base of all edits.

    Parameters
    ----------
    site : str
        Name, pattern or indexed name: ``"blocks.1.z[head=2]"``. A pattern edits every site it matches.
    """

    site: str

    @cached_property
    def reference(self) -> SiteReference:
        """The site and index this edit is about."""
        return SiteReference.parse(self.site)

    def apply(self, values: torch.Tensor, dims: Sequence[str], window: Window | None = None) -> torch.Tensor:
        """Return the edited activation; ``values`` itself is never written to.

        Parameters
        ----------
        values : torch.Tensor
            The activation at the site, axes ``dims``.
        dims : sequence of str
            Names of its axes.
        window : mapping of str to (start, total), optional
            Axes of which ``values`` is a piece (see `SiteReference.locate`).

        Raises
        ------
        InputError
            The edit's own values do not fit the selected block.
        """
        selection = self.reference.locate(dims, values.shape, window)
        if selection is None:
            return values
        if selection.whole:
            # a copy: the model may go on to write in place, and what an edit holds is the caller's
            return self._checked(values, selection, dims).clone()
        block = values[selection.here]
        kept = block.squeeze(selection.dropped) if selection.dropped else block
        edited = values.clone()
        edited[selection.here] = self._checked(kept, selection, dims).reshape(block.shape)
        return edited

    def _checked(self, block: torch.Tensor, selection: Selection, dims: Sequence[str]) -> torch.Tensor:
        after = self._transform(block, selection, tuple(dims))
        if after.shape != block.shape:
            raise InputError(
                f"{type(self).__name__}({self.site!r}) changed the shape of the activation",
                expected=f"shape {tuple(block.shape)}",
                got=f"shape {tuple(after.shape)}",
            )
        return after.to(block.dtype)

    @abstractmethod
    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        """Return the new values of the selected block, without writing into it."""

    def _fit(self, value: Array, block: torch.Tensor, selection: Selection) -> torch.Tensor:
        """Return ``value`` cut to this piece of the selected block, on its device and in its dtype."""
        tensor = torch.as_tensor(value).to(device=block.device, dtype=block.dtype)
        axes = list(selection.sizes)
        expected = tuple(selection.sizes.values())
        fits = tensor.ndim <= len(expected) and all(
            have in (1, want) for have, want in zip(tensor.shape[::-1], expected[::-1], strict=False)
        )
        if not fits:
            raise InputError(
                f"{type(self).__name__}({self.site!r}) got values that do not fit the site",
                expected=f"shape {expected} for ({', '.join(axes)}), or one that broadcasts to it",
                got=f"shape {tuple(tensor.shape)}",
            )
        for position, axis in enumerate(axes[len(axes) - tensor.ndim :]):
            if tensor.shape[position] > 1:
                tensor = tensor[(slice(None),) * position + (selection.inside[axis],)]
        return tensor


@dataclass(frozen=True, eq=False)
class Zero(Edit):
    """Set the activation to zero.

    Examples
    --------
    >>> Zero("h[unit=1]").apply(torch.ones(2, 3), ("sample", "unit"))
    tensor([[1., 0., 1.],
            [1., 0., 1.]])
    """

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        return torch.zeros_like(block)


@dataclass(frozen=True, eq=False)
class Replace(Edit):
    """Put given values in place of the activation.

    Parameters
    ----------
    value : array
        Shape of the selected block, or one that broadcasts to it.

    Examples
    --------
    >>> Replace("h[unit=0]", 5.0).apply(torch.zeros(1, 2), ("sample", "unit"))
    tensor([[5., 0.]])
    """

    value: Array

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        return self._fit(self.value, block, selection).expand_as(block)


@dataclass(frozen=True, eq=False)
class Add(Edit):
    """Add a vector or tensor, as in activation steering.

    Parameters
    ----------
    value : array
        Shape of the selected block, or one that broadcasts to it (a direction of shape ``(n_units,)``).
    scale : float
        Factor on ``value``.

    Examples
    --------
    >>> Add("h", [1.0, 0.0], scale=3.0).apply(torch.zeros(1, 2), ("sample", "unit"))
    tensor([[3., 0.]])
    """

    value: Array
    scale: float = 1.0

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        return block + self.scale * self._fit(self.value, block, selection)


@dataclass(frozen=True, eq=False)
class Scale(Edit):
    """Multiply the activation by a factor.

    Parameters
    ----------
    factor : float or array
        A number, or values that broadcast to the selected block.

    Examples
    --------
    >>> Scale("h", 2.0).apply(torch.ones(1, 2), ("sample", "unit"))
    tensor([[2., 2.]])
    """

    factor: Array

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        return block * self._fit(self.factor, block, selection)


@dataclass(frozen=True, eq=False)
class Clamp(Edit):
    """Keep the activation between bounds.

    Parameters
    ----------
    minimum, maximum : float, optional
        Bounds; at least one.

    Examples
    --------
    >>> Clamp("h", maximum=1.0).apply(torch.tensor([[3.0, -3.0]]), ("sample", "unit"))
    tensor([[ 1., -3.]])
    """

    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if self.minimum is None and self.maximum is None:
            raise InputError("Clamp needs a bound", expected="minimum, maximum or both")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise InputError("Clamp's bounds are swapped", got=f"minimum={self.minimum}, maximum={self.maximum}")

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        return block.clamp(self.minimum, self.maximum)


@dataclass(frozen=True, eq=False)
class Project(Edit):
    """Remove the component of the activation within a subspace, or keep nothing but it.

    Parameters
    ----------
    basis : array of shape (n_directions, n_units) or (n_units,)
        Directions that span the subspace; they need not be orthogonal.
    remove : bool
        ``True`` projects the subspace out; ``False`` keeps only what lies in it.

    Examples
    --------
    >>> Project("h", [2.0, 0.0]).apply(torch.tensor([[3.0, 4.0]]), ("sample", "unit"))
    tensor([[0., 4.]])
    """

    basis: Array
    remove: bool = True

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        directions = self._orthonormal.to(block.device)
        if directions.shape[0] != block.shape[-1]:
            raise InputError(
                f"Project({self.site!r}) got directions of another width than the site",
                expected=f"({block.shape[-1]},) or (n_directions, {block.shape[-1]})",
                got=f"width {directions.shape[0]}",
            )
        wide = block.to(directions.dtype)
        inside = (wide @ directions) @ directions.T
        return wide - inside if self.remove else inside

    @cached_property
    def _orthonormal(self) -> torch.Tensor:
        """Orthonormal directions of the span, ``(n_units, rank)``, in double precision."""
        basis = torch.atleast_2d(torch.as_tensor(self.basis).double())
        _, singular, directions = torch.linalg.svd(basis, full_matrices=False)
        spanned = singular > singular.max() * max(basis.shape) * torch.finfo(basis.dtype).eps
        if not spanned.any():
            raise InputError(f"Project({self.site!r}) got only zero directions", expected="a nonzero direction")
        return directions[spanned].T


@dataclass(frozen=True, eq=False)
class _FromReference(Edit):
    """Base of the edits that take their values from activations on other inputs.

    Parameters
    ----------
    values_from : Activations or array
        Activations that hold the site, or its tensor with the same axes (any number of samples).
    """

    values_from: Activations | Array
    _memory: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor], init=False, repr=False)

    def _reference_block(self, dims: tuple[str, ...], selection: Selection, free: tuple[str, ...]) -> torch.Tensor:
        """Return the selected block of all reference samples; others than ``free`` axes as long as the site's."""
        values = self.values_from
        if not isinstance(values, torch.Tensor) and hasattr(values, "dims") and hasattr(values, "xarray"):
            values = values[self.reference.name]
        tensor = torch.as_tensor(values)
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
        # an index of samples says which inputs to edit; the reference has samples of its own
        index = {axis: entries for axis, entries in self.reference.index.items() if axis != "sample"}
        chosen = replace(self.reference, index=index).locate(dims, tensor.shape)
        assert chosen is not None  # a whole tensor is never outside its own window
        return tensor[chosen.here]


@dataclass(frozen=True, eq=False)
class Mean(_FromReference):
    """Put the mean over reference activations in place of the activation (mean ablation).

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
            reference = self._reference_block(dims, selection, self.over)
            axes = [axis for axis, name in enumerate(dims) if name in self.over]
            mean = reference.double().mean(axes, keepdim=True)
            self._memory["mean"] = mean.squeeze(selection.dropped) if selection.dropped else mean
        return self._fit(self._memory["mean"], block, selection).expand_as(block)


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
            reference = self._reference_block(dims, selection, ())
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


@dataclass(frozen=True, eq=False)
class Apply(Edit):
    """Apply a function to the activation.

    Parameters
    ----------
    function : callable
        ``f(activation) -> activation``, or a TransformerLens hook ``f(activation, hook)``, which may also write
        in place and return ``None``. It sees only the selected block.

    Examples
    --------
    >>> Apply("h", torch.relu).apply(torch.tensor([[-1.0, 1.0]]), ("sample", "unit"))
    tensor([[0., 1.]])
    """

    function: Callable[..., torch.Tensor | None]

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        own = block.clone()
        after = self.function(own, hook=HookName(self.reference.name)) if self._is_hook else self.function(own)
        if after is None:
            after = own
        if not isinstance(after, torch.Tensor):
            raise InputError(
                f"the function given to Apply({self.site!r}) returned no tensor",
                expected="a torch.Tensor or None",
                got=type(after).__name__,
            )
        return after

    @cached_property
    def _is_hook(self) -> bool:
        try:
            return "hook" in inspect.signature(self.function).parameters
        except (TypeError, ValueError):  # builtins without a signature
            return False


@dataclass(frozen=True)
class HookName:
    """What a TransformerLens hook function may ask of its ``hook`` argument.

    Examples
    --------
    >>> HookName("blocks.3.resid_pre").layer()
    3
    """

    site: str
    ctx: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def name(self) -> str:
        """TransformerLens's name of the site."""
        from neuros_mechint.core.sites import transformer_lens_name

        return transformer_lens_name(self.site)

    def layer(self) -> int:
        """Index of the block the site belongs to."""
        return int(self.site.split(".")[self.site.split(".").index("blocks") + 1])
