"""The activation at a site as signals over time or positions, without its padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.labels import rows_kept
from neuros_mechint.neuro.fractals.signals import TIME_AXES


@dataclass(frozen=True)
class SiteSequences:
    """The sequences at one site, in double precision.

    Parameters
    ----------
    values : torch.Tensor of shape (n_samples, n_steps, n_units)
        All axes but those of samples and time are units: of heads too, each with its own.
    kept : torch.Tensor of bool, shape (n_samples, n_steps)
        False where a sequence is padded.
    axis : str
        The axis of time.
    dims, shape : tuple
        Of the tensor it was.
    """

    values: torch.Tensor
    kept: torch.Tensor
    axis: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(
        cls,
        name: str,
        tensor: torch.Tensor,
        dims: Sequence[str],
        attention_mask: torch.Tensor | None = None,
        axis: str | None = None,
    ) -> SiteSequences:
        """Return the sequences at a site.

        Parameters
        ----------
        name : str
            The site, maybe with an index.
        tensor : torch.Tensor
            Real numbers.
        dims : sequence of str
            Names of its axes.
        attention_mask : torch.Tensor of shape (n_samples, n_positions), optional
        axis : {"time", "position"}, optional
            By default the first of these that the site has.

        Raises
        ------
        InputError
            No such axis, or values that are not finite real numbers.

        Examples
        --------
        >>> found = SiteSequences.of("blocks.0.z", torch.zeros(2, 7, 4, 8), ("sample", "position", "head", "unit"))
        >>> found.values.shape, found.axis
        (torch.Size([2, 7, 32]), 'position')
        """
        if axis is not None:
            check_option("axis", axis, TIME_AXES)
        found = next((one for one in TIME_AXES if one in dims and axis in (None, one)), None)
        if found is None:
            raise InputError(
                f"site {name!r} has no axis of time",
                expected=f"an axis {' or '.join(map(repr, TIME_AXES if axis is None else (axis,)))}",
                got=", ".join(dims),
            )
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"the activation at {name!r} is no signal",
                expected="finite real numbers",
                got=f"{tensor.dtype}" + (" with NaN or infinity" if tensor.is_floating_point() else ""),
            )
        front = _front(dims, found)
        moved = tensor.detach().double().movedim(front, list(range(len(front))))
        moved = moved if "sample" in dims else moved[None]
        values = moved.reshape(*moved.shape[:2], -1)
        kept = rows_kept(name, dims, tensor.shape, attention_mask) if found == "position" else None
        everything = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        kept = everything if kept is None else kept.to(values.device).reshape(values.shape[:2])
        return cls(values, kept, found, tuple(dims), tuple(tensor.shape))

    @property
    def lengths(self) -> torch.Tensor:
        """How many steps of each sequence are no padding, ``(n_samples,)``."""
        return self.kept.sum(1)

    def groups(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield which samples ``(n, 1)`` have which steps ``(n_kept,)``, for all that have the same.

        Examples
        --------
        >>> mask = torch.tensor([[True, True], [True, False]])
        >>> found = SiteSequences.of("h", torch.ones(2, 2, 3), ("sample", "position", "unit"), mask)
        >>> [(samples.flatten().tolist(), steps.tolist()) for samples, steps in found.groups()]
        [([1], [0]), ([0], [0, 1])]
        """
        masks, which = torch.unique(self.kept, dim=0, return_inverse=True)
        for index, mask in enumerate(masks):
            if mask.any():
                yield torch.nonzero(which == index), torch.nonzero(mask)[:, 0]

    def in_place(self, values: torch.Tensor) -> torch.Tensor:
        """Return values ``(n_samples, n_steps, n_units)`` with the axes that the tensor of the site had.

        Examples
        --------
        >>> x = torch.arange(6.0).reshape(3, 2)
        >>> found = SiteSequences.of("h", x, ("unit", "time"))
        >>> torch.equal(found.in_place(found.values), x.double())
        True
        """
        front = _front(self.dims, self.axis)
        others = [axis for axis in range(len(self.dims)) if axis not in front]
        return values.reshape([self.shape[axis] for axis in (*front, *others)]).movedim(list(range(len(front))), front)


def _front(dims: Sequence[str], axis: str) -> list[int]:
    """Return the axes of samples (where there is one) and time."""
    return [list(dims).index(name) for name in ("sample", axis) if name in dims]
