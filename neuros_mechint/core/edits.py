"""Edits: what to do to the activation at a site. An adapter applies them while the model runs."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch

from neuros_mechint.core.directions import (
    along_features,
    check_width,
    feature_axis,
    one_direction,
    orthonormal_directions,
)
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.numbers import as_array, graph_tensor, is_tensor, real_array, refuse_masked
from neuros_mechint.core.sites import Selection, SiteReference, Window

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
    by_position: ClassVar[bool] = False
    """Whether each position is edited by itself, so that the edit is the same on a part of a sequence."""

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
        edited = values.clone()
        after = self._checked(selection.pick(values), selection, dims)
        edited[selection.here] = after.reshape(edited[selection.here].shape)
        return edited

    def _checked(self, block: torch.Tensor, selection: Selection, dims: Sequence[str]) -> torch.Tensor:
        after = self._transform(block, selection, tuple(dims))
        if after.shape != block.shape:
            raise InputError(
                f"{type(self).__name__}({self.site!r}) changed the shape of the activation",
                expected=f"shape {tuple(block.shape)}",
                got=f"shape {tuple(after.shape)}",
            )
        return _in_type_of(block, after, f"{type(self).__name__}({self.site!r})")

    @abstractmethod
    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        """Return the new values of the selected block, without writing into it."""

    def _fit(self, value: Array, block: torch.Tensor, selection: Selection) -> torch.Tensor:
        """Return ``value`` cut to this piece of the selected block, on its device and in its dtype."""
        who = f"{type(self).__name__}({self.site!r})"
        tensor = _in_type_of(block, as_tensor(value, f"value of {who}"), who).to(block.device)
        axes = list(selection.sizes)
        expected = tuple(selection.sizes.values())
        fits = tensor.ndim <= len(expected) and all(
            have in (1, want) for have, want in zip(tensor.shape[::-1], expected[::-1], strict=False)
        )
        if not fits:
            raise InputError(
                f"{who} got values that do not fit the site",
                expected=f"shape {expected} for ({', '.join(axes)}), or one that broadcasts to it",
                got=f"shape {tuple(tensor.shape)}",
            )
        for position, axis in enumerate(axes[len(axes) - tensor.ndim :]):
            if tensor.shape[position] > 1:
                tensor = tensor[(slice(None),) * position + (selection.inside[axis],)]
        return tensor


def as_tensor(value: Array, name: str) -> torch.Tensor:
    """Return values as a tensor; plain numbers in double precision, for torch would round them to single."""
    if isinstance(value, torch.Tensor):
        return value if value.is_complex() else graph_tensor(value, name)
    array = as_array(value, name)
    return torch.from_numpy(array.astype(np.complex128)) if array.dtype.kind == "c" else graph_tensor(array, name)


def _in_type_of(block: torch.Tensor, values: torch.Tensor, who: str) -> torch.Tensor:
    """Return values in the type of the activation; raise where that would cut fractions or imaginary parts off."""
    if values.is_complex() and not block.is_complex():
        raise InputError(
            f"{who} puts complex numbers into real ones",
            expected=f"values of type {block.dtype}, as the activation is",
            got=values.dtype,
        )
    whole = values.is_floating_point() and not block.is_floating_point() and not block.is_complex()
    if whole and not torch.equal(values.to(block.dtype).to(values.dtype), values):
        fractions = not torch.equal(values, values.round())
        raise InputError(
            f"{who} puts fractions into whole numbers" if fractions else f"{who} puts in numbers that do not fit there",
            expected=f"values of type {block.dtype}, as the activation is",
            got=f"{values.dtype} " + ("with fractions" if fractions else f"up to {float(values.abs().max()):.4g}"),
            fix="edit a site of real numbers: the embedding rather than the token ids",
        )
    return values.to(block.dtype)


@dataclass(frozen=True, eq=False)
class Zero(Edit):
    """Set the activation to zero.

    Examples
    --------
    >>> Zero("h[unit=1]").apply(torch.ones(2, 3), ("sample", "unit"))
    tensor([[1., 0., 1.],
            [1., 0., 1.]])
    """

    by_position = True

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

    by_position = True
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

    by_position = True
    value: Array
    scale: float = 1.0

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        scale = self.scale if isinstance(self.scale, Real) else self._fit(self.scale, block, selection)
        return block + scale * self._fit(self.value, block, selection)


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

    by_position = True
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

    by_position = True
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        least, most = (self._bound(name) for name in ("minimum", "maximum"))
        if least is None and most is None:
            raise InputError("Clamp needs a bound", expected="minimum, maximum or both")
        if least is not None and most is not None and least > most:
            raise InputError("Clamp's bounds are swapped", got=f"minimum={self.minimum}, maximum={self.maximum}")

    def _bound(self, name: str) -> float | None:
        """Return a bound as a number; units, which adapters check, are left out."""
        value, called = getattr(self, name), f"{name} of Clamp({self.site!r})"
        if value is None:
            return None
        refuse_masked(value, called)
        nested = isinstance(value, (list, tuple))
        array = None if nested else real_array(value if is_tensor(value) else np.asarray(value), called, finite=False)
        if array is None or array.ndim or np.isnan(array):
            raise InputError(f"{called} is no number", expected="a number or None", got=repr(value))
        return float(array)

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        return block.clamp(self._bound("minimum"), self._bound("maximum"))


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

    by_position = True
    basis: Array
    remove: bool = True

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        directions, who = self._orthonormal.to(block.device), f"Project({self.site!r})"
        features = feature_axis(selection.sizes, who)
        wide = block.to(directions.dtype).movedim(features, -1)
        check_width(directions, wide.shape[-1], who)
        inside = (wide @ directions) @ directions.T
        return (wide - inside if self.remove else inside).movedim(-1, features)

    @cached_property
    def _orthonormal(self) -> torch.Tensor:
        return orthonormal_directions(self.basis, f"Project({self.site!r})")


@dataclass(frozen=True, eq=False)
class SetComponent(Edit):
    """Set how far the activation reaches along a direction, and leave all that is orthogonal to it alone.

    Parameters
    ----------
    direction : array of shape (n_units,)
        Only where it points counts, not its length.
    value : float or array
        The new component ``a . d / |d|``, in units of the activation: a number, or values of the shape of the
        selected block without its feature axis, or that broadcast to it.

    Examples
    --------
    >>> SetComponent("h", [2.0, 0.0], 7.0).apply(torch.tensor([[3.0, 4.0]]), ("sample", "unit"))
    tensor([[7., 4.]])
    """

    by_position = True
    direction: Array
    value: Array

    def _transform(self, block: torch.Tensor, selection: Selection, dims: tuple[str, ...]) -> torch.Tensor:
        axes, who = list(selection.sizes), f"SetComponent({self.site!r})"
        features = feature_axis(axes, who)
        check_width(self._unit, block.shape[features], who)
        unit = along_features(self._unit, axes, who).to(block.device)
        value = as_tensor(self.value, f"value of {who}")
        behind = len(axes) - 1 - features  # axes behind that of the features
        if value.ndim >= behind:
            value = value.unsqueeze(value.ndim - behind)
        now = (block * unit).sum(features, keepdim=True)
        return block + (self._fit(value, block, selection) - now) * unit

    @cached_property
    def _unit(self) -> torch.Tensor:
        direction = one_direction(self.direction, f"SetComponent({self.site!r})").double()
        return direction / direction.norm()


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

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputError(f"Apply({self.site!r}) has no function", expected="a callable", got=repr(self.function))

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
        from neuros_mechint.core.site_names import transformer_lens_name

        return transformer_lens_name(self.site)

    def layer(self) -> int:
        """Index of the block the site belongs to."""
        return int(self.site.split(".")[self.site.split(".").index("blocks") + 1])
