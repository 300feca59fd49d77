"""What all priors on signals share: which axis is time, what is averaged first, and that dead units do no harm."""

from __future__ import annotations

import contextlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import nn

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.random import torch_generator
from neuros_mechint.neuro.fractals.metric import SignalMetric
from neuros_mechint.neuro.fractals.signals import signals, varying

TO_THE_CALLER = 4
"""Where warnings of a forward pass point to: two calls of torch.nn.Module stand in between."""


class SignalPrior(nn.Module, ABC):
    """A loss on what a metric finds in signals, safe to train with.

    Constant signals (dead units), and those for which the metric has no value, are left out: they add nothing to the
    loss and their gradient is zero. Where all are, the loss is zero, with a warning.

    Parameters
    ----------
    metric : SignalMetric
        What is measured.
    axis : int
        The axis of time: 1 for activations ``(batch, time, unit)``.
    average : sequence of int
        Axes of ``x`` over which the measure is averaged before it is penalised: ``(0,)`` asks each unit to be right
        on average over the batch. Without it each signal has to be right by itself, and the loss of short signals is
        mostly the scatter of their estimates.
    """

    def __init__(self, metric: SignalMetric, axis: int = -1, average: Sequence[int] = ()) -> None:
        super().__init__()
        self.metric = metric
        self.axis = _axis("axis", axis)
        if isinstance(average, str) or not isinstance(average, Sequence):
            raise OptionError("average is no sequence of axes", expected="such as (0,)", got=repr(average))
        self.average = tuple(_axis("average", each) for each in average)

    @abstractmethod
    def _measure(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what is averaged and penalised, ``(n_signals, n_measures)``, of signals that vary."""

    @abstractmethod
    def _penalty(self, measured: torch.Tensor) -> torch.Tensor:
        """Return the loss of each measure ``(n, n_measures)``, ``(n,)``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean penalty of the signals in ``x``, a scalar.

        Parameters
        ----------
        x : torch.Tensor
            Signals with time along ``axis``.

        Returns
        -------
        torch.Tensor of shape ()

        Raises
        ------
        InputError
            No tensor, values that are not finite, signals too short for the metric, or axes that ``x`` lacks.
        """
        if not isinstance(x, torch.Tensor):
            raise InputError("a loss needs a tensor", expected="torch.Tensor", got=type(x).__name__)
        time, average = self._axes(x.ndim)
        least = self.metric._least()
        values = signals(x.movedim(time, -1), least, why=f"for {self.metric!r}", constant="keep").values
        rows = values.reshape(-1, values.shape[-1])
        used, measured = self._where_defined(rows, varying(rows))
        if measured is None:
            text = f"no signal varies so that {type(self.metric).__name__} has a value: the loss is zero"
            warnings.warn(text, UserWarning, stacklevel=TO_THE_CALLER)
            return (values * 0).sum()
        return self._penalty(_averaged(measured, used, values.shape[:-1], average)).mean()

    def _where_defined(self, rows: torch.Tensor, used: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return for which signals there is a measure, and it, or None where there is none at all."""
        if not used.any():
            return used, None
        with contextlib.suppress(InputError):
            measured = self._measure(rows[used])
            if torch.isfinite(measured.detach()).all():
                return used, measured
        # without the others from the start: a NaN times zero is a NaN in the gradient
        places = used.nonzero()[:, 0]
        with torch.no_grad():
            places = places[self._defined(rows[places])]
        if not len(places):
            # where not even noise has a value, it is the metric that does not fit, and says so
            noise = torch.randn(1, rows.shape[1], dtype=rows.dtype, generator=torch_generator(0))
            self._measure(noise.to(rows.device))
            return torch.zeros_like(used), None
        return torch.zeros_like(used).index_fill(0, places, True), self._measure(rows[places])

    def _defined(self, rows: torch.Tensor) -> torch.Tensor:
        """Return which signals the metric has a finite value for, ``(n_signals,)``."""
        try:
            return torch.isfinite(self._measure(rows)).all(-1)
        except InputError:
            if len(rows) == 1:
                return torch.zeros(1, dtype=torch.bool, device=rows.device)
            return torch.cat([self._defined(half) for half in rows.tensor_split(2)])

    def _axes(self, n_axes: int) -> tuple[int, tuple[int, ...]]:
        """Return the axis of time, and the others to average over as they are numbered without it."""
        found = []
        for name, axis in (("axis", self.axis), *(("average", axis) for axis in self.average)):
            if not -n_axes <= axis < n_axes:
                raise InputError(
                    f"x has no such {name}", expected=f"at least {axis + 1 if axis >= 0 else -axis} axes", got=n_axes
                )
            found.append(axis % n_axes)
        time, average = found[0], found[1:]
        if len(set(average)) < len(average):
            raise OptionError("an axis comes twice", got=f"average={self.average}")
        if time in average:
            raise OptionError("time cannot be averaged", got=f"axis={self.axis}, average={self.average}")
        return time, tuple(axis - (axis > time) for axis in average)

    def extra_repr(self) -> str:
        """Return what the module was made of."""
        return f"metric={self.metric!r}, axis={self.axis}, average={self.average}"


class TargetPrior(SignalPrior):
    """The squared distance of a metric from a target."""

    def __init__(self, metric: SignalMetric, target: float, axis: int, average: Sequence[int]) -> None:
        super().__init__(metric, axis, average)
        self.target = target

    def _measure(self, rows: torch.Tensor) -> torch.Tensor:
        return self.metric(rows)[:, None]

    def _penalty(self, measured: torch.Tensor) -> torch.Tensor:
        return (measured[:, 0] - self.target).square()

    def extra_repr(self) -> str:
        """Return what the module was made of."""
        return f"target={self.target}, {super().extra_repr()}"


def _axis(name: str, value: object) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    raise OptionError(f"{name} is no axis", expected="an integer", got=repr(value))


def _averaged(measured: torch.Tensor, used: torch.Tensor, shape: torch.Size, average: tuple[int, ...]) -> torch.Tensor:
    """Return means over axes of the signals that were used, ``(n_groups, n_measures)``."""
    if not average:
        return measured
    n_measures = measured.shape[-1]
    everywhere = measured.new_zeros(used.shape[0], n_measures).index_put((used.nonzero()[:, 0],), measured)
    sums = everywhere.reshape(*shape, n_measures).sum(average).reshape(-1, n_measures)
    counts = used.reshape(shape).sum(average).reshape(-1)
    return sums[counts > 0] / counts[counts > 0, None]
