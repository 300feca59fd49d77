"""What all metrics of signals share: a tensor when called, a result with uncertainty from ``estimate``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch

from neuros_mechint.core.errors import whole
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.random import SeedLike
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.neuro.fractals.results import MetricEstimate, metric_estimate
from neuros_mechint.neuro.fractals.scaling import LineFit
from neuros_mechint.neuro.fractals.signals import Signals, signals
from neuros_mechint.neuro.fractals.uncertainty import Uncertainty, bootstrapped, calibrated


class Fit(NamedTuple):
    """A metric of some signals, and the log-log plot that it was read from, if any.

    Parameters
    ----------
    value : torch.Tensor of shape (n_signals,)
    scales : torch.Tensor of shape (n_scales,), optional
        Ascending, in the unit that the class names.
    statistic : torch.Tensor of shape (n_signals, n_scales), optional
        What is a power of the scale; not its logarithm.
    fitted : torch.Tensor of bool, shape (n_scales,), optional
        The scales in the range of the fit.
    line : LineFit, optional
        Of the natural logarithms.
    """

    value: torch.Tensor
    scales: torch.Tensor | None = None
    statistic: torch.Tensor | None = None
    fitted: torch.Tensor | None = None
    line: LineFit | None = None


class SignalMetric(Parameterised, ABC):
    """A number for each signal. Equal parameters make equal metrics."""

    quantity: ClassVar[str]
    """What is measured, as one word: the main variable of results."""
    long_name: ClassVar[str]
    scale_name: ClassVar[str] = "scale"
    """What the scales of the fit are, as one word."""
    scale_units: ClassVar[str] = "samples"
    statistic_name: ClassVar[str] = "statistic"
    """What is a power of the scale, for figures."""
    citations: ClassVar[tuple[str, ...]] = ()
    rows_at_once: ClassVar[int | None] = None
    """How many signals of any length to work on at a time; without it as many as fit the cache."""
    truths: ClassVar[tuple[float, ...]] = ()
    """True values of which `_simulate` makes exact signals, ascending."""
    simulated: ClassVar[str] = ""
    """What these signals are, for reports: 'fractional Gaussian noise'."""

    def __call__(self, x: Any) -> torch.Tensor:
        """Return the metric of each signal.

        Parameters
        ----------
        x : torch.Tensor, array_like, xarray.DataArray or Recording
            Signals ``(..., n_samples)``; labelled data may have time anywhere. Computed in the precision of a
            tensor, otherwise in float64.

        Returns
        -------
        torch.Tensor of shape (...)
            Differentiable where the class says so.

        Raises
        ------
        InputError
            Data that are no real numbers, not finite, constant, or too short for the metric.
        """
        found = self._signals(x)
        values = [fit.value for fit in self._on(found)._fits(found.rows)]
        return _joined(values).reshape(found.values.shape[:-1])

    def estimate(self, x: Any, level: float = 0.95, n_simulated: int = 100, seed: SeedLike = 0) -> MetricEstimate:
        """Return the metric of each signal with its uncertainty, and the fit that gave it.

        Parameters
        ----------
        x : torch.Tensor, array_like, xarray.DataArray or Recording
            As for a call; computed in float64.
        level : float
            Coverage of the intervals.
        n_simulated : int
            How many signals are made for each true value, or how often each signal is drawn anew, to learn how far
            estimates scatter.
        seed : int or numpy.random.Generator

        Returns
        -------
        MetricEstimate
            ``low`` and ``high`` hold the true values of which such an estimate is not unusual, **for signals of the
            kind that was simulated** and of this length.

        Raises
        ------
        InputError
            As for a call.
        """
        level, n_simulated = coverage(level), whole("n_simulated", n_simulated, 10)
        found = self._signals(x)
        found = Signals(found.values.detach().double().cpu(), found.dims, found.coords, found.sampling_rate)
        metric = self._on(found)
        with torch.no_grad():
            fit = _joined_fits(metric._fits(found.rows))
            uncertainty = metric._uncertainty(found.rows, fit, level, n_simulated, seed)
        return metric_estimate(self, metric, found, fit, uncertainty, level, n_simulated, seed)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SignalMetric) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return type(self), repr(self.get_params())

    def _signals(self, x: Any) -> Signals:
        return signals(x, self._least(), why=f"for {self!r}")

    def _on(self, found: Signals) -> SignalMetric:
        """Return the metric for signals of this sampling rate: itself, unless its parameters depend on it."""
        return self

    @abstractmethod
    def _least(self) -> int:
        """Return the fewest samples that the parameters allow."""

    @abstractmethod
    def _fit(self, rows: torch.Tensor) -> Fit:
        """Return the metric of signals ``(n_signals, n_samples)`` that are checked and fit the cache."""

    def _simulate(self, truth: float, n_signals: int, n_samples: int, seed: SeedLike) -> torch.Tensor:
        """Return signals ``(n_signals, n_samples)`` whose true value is one of ``truths``."""
        raise NotImplementedError

    def _resampled(self, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return signals put together anew from the samples at ``places``, which come in blocks."""
        return rows[:, places]

    def _cautions(self, fit: Fit) -> tuple[str, ...]:
        """Return what else the reader must know about this fit."""
        return ()

    def _uncertainty(self, rows: torch.Tensor, fit: Fit, level: float, n_simulated: int, seed: SeedLike) -> Uncertainty:
        if self.truths:
            return calibrated(self, fit.value, rows.shape[1], level, n_simulated, seed)
        return bootstrapped(self, rows, fit.value, level, n_simulated, seed)

    def _fits(self, rows: torch.Tensor) -> list[Fit]:
        return [self._fit(some) for some in self._pieces(rows)]

    def _pieces(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return as many rows at a time as stay in the cache."""
        return rows.split(self.rows_at_once or max(1, _NUMBERS_IN_CACHE // rows.shape[1]))


# Half a mebibyte of float64: with what is made of them, about the second level of cache of one core.
_NUMBERS_IN_CACHE = 2**16


def _joined(pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))


def _joined_fits(fits: Sequence[Fit]) -> Fit:
    first = fits[0]
    statistic = None if first.statistic is None else _joined([f.statistic for f in fits if f.statistic is not None])
    lines = [fit.line for fit in fits if fit.line is not None]
    line = LineFit(*(_joined(values) for values in zip(*lines, strict=True))) if lines else None
    return Fit(_joined([fit.value for fit in fits]), first.scales, statistic, first.fitted, line)
