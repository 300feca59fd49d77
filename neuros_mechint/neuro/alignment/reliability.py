"""How reliable responses are over repetitions, and what correlation a perfect model could reach with them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label, histogram, line
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.correlations import column_correlations, constant_columns
from neuros_mechint.core.statistics.means import mean_of_defined
from neuros_mechint.neuro.alignment.samples import same_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STIMULUS_AXES = ("stimulus", "condition", "sample")
_FEWEST_STIMULI = 3
_ROUNDING = 1e-12


class SplitHalf(Result):
    """Reliability of every unit.

    ``data`` holds, over the axes of units (and time): ``reliability``, of the mean of all repetitions;
    ``ceiling``, its square root: the highest correlation of a perfect model with that mean, missing where the
    reliability is negative; ``half_correlation``, the mean correlation of two halves, before it is corrected.
    """

    @property
    def values(self) -> np.ndarray:
        """Reliability of each unit."""
        return self.main.values

    def _draw(self, ax: Axes) -> None:
        if "time" in self.main.dims:
            others = [axis for axis in self.main.dims if axis != "time"]
            mean = self.main.mean(others, keep_attrs=True)
            line(mean.assign_attrs(long_name="mean reliability"), ax)
            return
        found = self.main.values.ravel()
        found = found[np.isfinite(found)]
        histogram(found, ax)
        median = float(np.median(found)) if found.size else np.nan
        ax.axvline(median, color=PALETTE[1], linestyle="--", label=f"median {median:.2f}")
        ax.axvline(0, color=MUTED_INK, linewidth=0.8)
        ax.set_xlabel(axis_label(self.main))
        ax.set_ylabel("units")
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.2))

    def _summary_lines(self) -> list[str]:
        """Return the reliability over units in words."""
        found = self.main.values[np.isfinite(self.main.values)]
        quartiles = np.percentile(found, [25, 50, 75]) if found.size else np.full(3, np.nan)
        about = self.attributes
        return [
            f"{about['n_repetitions']} repetitions of {about['n_stimuli']} stimuli, splits: {about['n_splits']}",
            f"reliability: median {quartiles[1]:.3f}, quartiles {quartiles[0]:.3f} and {quartiles[2]:.3f}",
        ]


def spearman_brown(correlation: Any, factor: float = 2.0) -> Any:
    r"""Return the reliability of a mean of ``factor`` times as many repetitions.

    With :math:`r` the correlation of two means of :math:`n` repetitions each, two means of :math:`k n` repetitions
    correlate with :math:`k r / (1 + (k - 1) r)`.

    Parameters
    ----------
    correlation : float, array_like or torch.Tensor
        Negative ones, which are chance where there is no signal, are carried on, so that they average out.
    factor : float
        How many times as many; 2 from a half to all.

    Returns
    -------
    float, numpy.ndarray or torch.Tensor
        NaN for a correlation of ``-1 / (factor - 1)`` or below, where the formula has no meaning.

    Raises
    ------
    InputError
        Correlations beyond -1 and 1, or a factor that is not positive.

    References
    ----------
    Spearman 1910, Correlation calculated from faulty data, doi:10.1111/j.2044-8295.1910.tb00206.x;
    Brown 1910, Some experimental results in the correlation of mental abilities,
    doi:10.1111/j.2044-8295.1910.tb00207.x

    Examples
    --------
    >>> spearman_brown(0.5)
    0.6666666666666666
    """
    factor = number("factor", factor, 0, np.inf)
    values = np.asarray(correlation, dtype=np.float64)
    if (np.abs(values) > 1 + _ROUNDING).any():
        raise InputError(
            "these are no correlations", expected="numbers from -1 to 1", got=f"{np.nanmax(np.abs(values))}"
        )
    denominator = 1 + (factor - 1) * values
    found = np.divide(factor * values, denominator, out=np.full(values.shape, np.nan), where=denominator > _ROUNDING)
    return (
        float(found)
        if np.ndim(correlation) == 0 and not hasattr(correlation, "dtype")
        else same_kind(found, correlation)
    )


def split_half(responses: Any, n_splits: int = 100, seed: SeedLike = 0) -> SplitHalf:
    r"""Return how reliable each unit's mean response to the stimuli is.

    The repetitions are split at random into two halves of :math:`h = \lfloor R / 2 \rfloor` (of an odd number, one is
    left out, another each time). The correlation over stimuli between the means of the halves is averaged over splits
    and extrapolated to the mean of all :math:`R` repetitions by the formula of Spearman and Brown with
    :math:`k = R / h`. Where there are no more than ``n_splits`` ways to split, each is taken once.

    Parameters
    ----------
    responses : Recording, xarray.DataArray, array_like or torch.Tensor
        Labelled: with axes ``repetition`` and ``stimulus`` (or ``condition``, ``sample``), or of trials with the
        coordinate ``stimulus``; all other axes are kept (``unit``; ``time``, for a reliability at each time).
        Otherwise ``(n_repetitions, n_stimuli)`` or ``(n_repetitions, n_stimuli, n_units)``. Values need not be
        missing: stimuli with fewer repetitions have another reliability.
    n_splits : int
        Most splits to average over.
    seed : int or numpy.random.Generator

    Returns
    -------
    SplitHalf
        ``.values`` is the reliability of each unit; ``.data["ceiling"]`` its square root. Units without any variance
        are NaN and counted in a warning; negative reliabilities, which are chance around zero, stay as they are.

    Raises
    ------
    InputError
        One repetition, fewer than three stimuli, values that are missing, or axes that are none of these.

    References
    ----------
    Schoppe et al. 2016, Measuring the Performance of Neural Models, doi:10.3389/fncom.2016.00010

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> signal, noise = random.normal(size=(200, 1)), random.normal(size=(4, 200, 1))
    >>> found = split_half(signal + noise)  # 4 repetitions, noise as strong as the signal: 1 / (1 + 1 / 4)
    >>> print(found.values.round(1), found.data["ceiling"].values.round(1))
    [0.8] [0.9]
    """
    array = _with_repetitions(responses)
    n_splits = whole("n_splits", n_splits)
    n_repetitions, n_stimuli = array.shape[:2]
    values = array.values.reshape(n_repetitions, n_stimuli, -1).astype(np.float64)
    constant = constant_columns(values.reshape(-1, values.shape[2]))
    half = n_repetitions // 2
    splits = list(halves(n_repetitions, half, n_splits, seed))
    correlations = np.array(
        [column_correlations(values[first].mean(0), values[second].mean(0)) for first, second in splits]
    )
    mean = mean_of_defined(correlations, 0)
    reliability = spearman_brown(mean, n_repetitions / half)
    warnings = _warnings(constant, np.isnan(correlations), reliability)
    return _result(array, {"reliability": reliability, "half_correlation": mean}, len(splits), seed, warnings)


def _with_repetitions(responses: Any) -> xr.DataArray:
    """Return responses ``(repetition, stimulus, ...)``, or say what is wrong with them."""
    if isinstance(responses, Recording) and "repetition" not in responses.dims and "trial" in responses.dims:
        responses = responses.repetitions()
    array = responses.data if isinstance(responses, Recording) else responses
    if isinstance(array, xr.DataArray):
        stimulus = next((axis for axis in _STIMULUS_AXES if axis in array.dims), None)
        if "repetition" not in array.dims or stimulus is None:
            raise InputError(
                "the responses have no axes of repetitions and stimuli",
                expected=f"axes 'repetition' and one of {', '.join(_STIMULUS_AXES)}",
                got=f"axes {tuple(map(str, array.dims))}",
                fix="lay trials out with recording.repetitions(by='stimulus')",
            )
        array = array.transpose("repetition", stimulus, ...)
    else:
        values = as_array(array, "the responses")
        if values.ndim not in (2, 3) or values.dtype.kind not in "biuf":
            raise InputError(
                "the responses have other axes than expected, or are no real numbers",
                expected="(n_repetitions, n_stimuli) or (n_repetitions, n_stimuli, n_units)",
                got=f"shape {values.shape}, dtype {values.dtype}",
            )
        array = xr.DataArray(values, dims=("repetition", "stimulus", "unit")[: values.ndim])
    _check_sizes(array)
    return array


def _check_sizes(array: xr.DataArray) -> None:
    if array.shape[0] < 2:
        raise InputError(
            "one repetition says nothing about reliability", expected="at least 2 repetitions", got=array.shape[0]
        )
    if array.shape[1] < _FEWEST_STIMULI or not array.size:
        raise InputError(
            "too few stimuli to correlate over", expected=f"at least {_FEWEST_STIMULI}", got=f"shape {array.shape}"
        )
    bad = ~np.isfinite(array.values.astype(np.float64))
    if bad.any():
        stimuli = bad.any(axis=tuple(axis for axis in range(array.ndim) if axis != 1))
        raise InputError(
            "responses are missing or not finite",
            expected="every repetition of every stimulus: the reliability of a mean depends on their number",
            got=f"{int(bad.sum())} NaN or infinite values, at {int(stimuli.sum())} of {stimuli.size} stimuli",
            fix="leave out these stimuli or repetitions",
        )


def halves(
    n_repetitions: int, half: int, n_splits: int, seed: SeedLike
) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Yield the repetitions in either half: all ways to split, or ``n_splits`` drawn ones.

    Examples
    --------
    >>> [(first.tolist(), second.tolist()) for first, second in halves(3, 1, 10, seed=0)]
    [([0], [1]), ([0], [2]), ([1], [2])]
    """
    n_ways = comb(n_repetitions, half) * comb(n_repetitions - half, half) // 2
    if n_ways <= n_splits:
        for kept in combinations(range(n_repetitions), 2 * half):
            for rest in combinations(kept[1:], half - 1):  # the first is in the first half, or each would come twice
                first = (kept[0], *rest)
                yield np.array(first), np.array([one for one in kept if one not in first])
        return
    random = generator(seed)
    for _ in range(n_splits):
        order = random.permutation(n_repetitions)
        yield order[:half], order[half : 2 * half]


def _warnings(
    constant: npt.NDArray[np.bool_], undefined: npt.NDArray[np.bool_], reliability: Floats
) -> tuple[str, ...]:
    n_units = constant.size
    silent = undefined.any(0) & ~constant
    negative = int((reliability < 0).sum())
    texts = {
        "have no variance: their reliability is NaN": int(constant.sum()),
        "are constant in one half of some splits, which are left out": int(silent.sum()),
        "have a negative reliability, which is chance around zero: they have no ceiling": negative,
    }
    return tuple(f"{count} of {n_units} units {text}" for text, count in texts.items() if count)


def _result(
    array: xr.DataArray, found: dict[str, Floats], n_splits: int, seed: SeedLike, warnings: tuple[str, ...]
) -> SplitHalf:
    kept = array.isel({axis: 0 for axis in array.dims[:2]}, drop=True)
    reliability, half = (
        cast("Floats", found[name]).reshape(kept.shape) for name in ("reliability", "half_correlation")
    )
    variables = {
        "reliability": (reliability, "reliability"),
        "ceiling": (np.sqrt(np.where(reliability >= 0, reliability, np.nan)), "ceiling of a correlation"),
        "half_correlation": (half, "correlation of halves"),
    }
    data = xr.Dataset(
        {name: (kept.dims, values, {"long_name": text}) for name, (values, text) in variables.items()}, kept.coords
    )
    return SplitHalf(
        data,
        "Split-half reliability",
        attributes={"n_repetitions": array.shape[0], "n_stimuli": array.shape[1], "n_splits": n_splits},
        provenance=Provenance.record(seed, arguments={"responses": array.values, "n_splits": n_splits}),
        citations=("schoppe2016", "spearman1910", "brown1910"),
        warnings=warnings,
    )
