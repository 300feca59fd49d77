"""How each neuron's response splits over kernels, and what the amplitudes of its events depend on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, adjust_p
from neuros_mechint.core.statistics.permutation import permutation_test
from neuros_mechint.neuro.alignment.linear.encoding import pooled_r2
from neuros_mechint.neuro.alignment.linear.held_out import folds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRIALS_PER_VARIABLE = 5
_LARGEST_CONDITION = 1e8
_LARGEST_CODE = 1e300
_DARK = 0.3  # from the middle of the colours on
NONE, PURE, MIXED = "none", "pure", "mixed"


class MixedSelectivity(Result):
    """What the amplitudes of kernels depend on, neuron by neuron.

    ``data`` holds over ``neuron`` and ``kernel``: ``share`` of the summed absolute amplitudes, and ``r2``, held out, of
    the regression on all variables; over ``variable`` too: ``coefficient`` (per standard deviation of the variable),
    ``partial_correlation`` (with the other variables taken out) and its ``p`` (Holm over all); and over ``neuron``:
    ``selectivity``, "none", "pure" (one variable) or "mixed" (several).
    """

    @property
    def selectivity(self) -> list[str]:
        """Of each neuron: none, pure or mixed."""
        return self.data["selectivity"].values.tolist()

    @property
    def p(self) -> Floats:
        """``(n_neurons, n_kernels, n_variables)``, corrected for their number."""
        return self.data["p"].values

    def _summary_lines(self) -> list[str]:
        kinds, sizes = self.selectivity, self.data.sizes
        names = ", ".join(self.data["variable"].values.tolist())
        lines = [
            f"{sizes['neuron']} neurons, {sizes['kernel']} kernels, variables {names}",
            f"{kinds.count(PURE)} depend on one variable, {kinds.count(MIXED)} on several, {kinds.count(NONE)} on none",
        ]
        for kernel in range(sizes["kernel"]):
            own = self.data.isel(kernel=kernel)
            found = (own["p"] <= SIGNIFICANT).sum("neuron").values
            told = ", ".join(f"{name} in {count}" for name, count in zip(own["variable"].values, found, strict=True))
            lines.append(
                f"kernel {kernel}: {100 * float(own['share'].mean()):.0f}% of the response; held-out R2 "
                f"{float(own['r2'].mean()):.2f} on average; {told}"
            )
        return lines

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches that fit the drawing."""
        return 6.6, float(np.clip(1.6 + 0.27 * self.data.sizes["neuron"], 2.4, 7.5))

    def _draw(self, ax: Axes) -> None:
        from neuros_mechint.core.figures.plotting import heat_map

        flat, p = (
            self.data[name].stack(column=("kernel", "variable")).transpose("neuron", "column")
            for name in ("partial_correlation", "p")
        )
        names = [f"{variable}, kernel {kernel}" for kernel, variable in flat["column"].values]
        plain = xr.DataArray(
            flat.values,
            dims=("neuron", "column"),
            coords={"neuron": self.data["neuron"].values, "column": names},
            attrs={"long_name": "partial correlation of the amplitude"},
        )
        image = heat_map(plain, ax, center=0.0)
        dark = np.abs(np.asarray(image.norm(flat.values)) - 0.5) > _DARK
        for row, column in np.argwhere(p.values <= SIGNIFICANT):
            colour = "white" if dark[row, column] else "black"
            ax.text(column, row, "*", ha="center", va="center_baseline", color=colour)
        ax.set_xlabel(f"* p <= {SIGNIFICANT}, Holm over all")
        ax.set_ylabel("neuron")


def mixed_selectivity(
    codes: npt.ArrayLike,
    variables: Mapping[str, npt.ArrayLike],
    cv: int = 5,
    n_resamples: int = 2000,
    seed: SeedLike = 0,
) -> MixedSelectivity:
    """Return how responses split over kernels, and how their amplitudes depend on task variables.

    The amplitude of a kernel in a trial is the sum of its codes there. For each neuron and kernel it is regressed on
    all variables; R2 is of trials that were held out. For each variable, what the others do not explain of it is
    correlated with what they do not explain of the amplitude, and trials are permuted for p.

    Parameters
    ----------
    codes : array_like of shape ([n_neurons,] n_trials, n_kernels, n_times)
        ``codes_`` of `DUNL`, or what ``transform`` returns.
    variables : mapping of str to array_like of shape (n_trials,)
        Numbers, one for each trial: reward size, choice as 0 and 1. Text is refused, with a way to make it numbers.
    cv : int
        Folds.
    n_resamples : int
        Permutations.
    seed : int or numpy.random.Generator

    Returns
    -------
    MixedSelectivity

    Raises
    ------
    InputError
        Codes of another shape, variables that are constant, follow from each other, or are of another number of trials,
        NaN, or fewer than five trials for each variable.

    References
    ----------
    Rigotti et al. 2013, The importance of mixed selectivity in complex cognitive tasks, doi:10.1038/nature12160;
    Kennedy 1995, Randomization tests in econometrics, doi:10.1080/07350015.1995.10524583

    Examples
    --------
    >>> from neuros_mechint.neuro.circuits.dunl.mixed import mixed_selectivity
    >>> random = np.random.default_rng(0)
    >>> reward, side = random.random((2, 60))
    >>> codes = np.zeros((2, 60, 1, 10))
    >>> codes[0, :, 0, 3] = 1 + reward + 0.1 * random.random(60)
    >>> codes[1, :, 0, 3] = 1 + reward + side + 0.1 * random.random(60)
    >>> mixed_selectivity(codes, {"reward": reward, "side": side}).selectivity
    ['pure', 'mixed']
    """
    values = real_array(codes, "codes")
    amplitudes = _amplitudes(values)
    n_neurons, n_trials, n_kernels = amplitudes.shape
    names, design = _design(variables, n_trials)
    random = generator(seed)
    targets, scale = _in_own_units(amplitudes.transpose(1, 0, 2).reshape(n_trials, -1))
    shape = (n_neurons, n_kernels)
    varying = np.ptp(targets, axis=0) > 0
    r2 = np.full(targets.shape[1], np.nan)
    r2[varying] = _held_out_r2(design, targets[:, varying], cv, random)
    coefficients = (np.linalg.lstsq(_with_constant(design), targets, rcond=None)[0][1:] * scale).T
    tests = [_partial(design, targets, index, n_resamples, random) for index in range(len(names))]
    correlation, p = (np.stack(parts, axis=-1).reshape(*shape, -1) for parts in zip(*tests, strict=True))
    p = adjust_p(p)
    n_found = (p <= SIGNIFICANT).any(1).sum(1)
    total = np.abs(amplitudes).sum(1)
    share = total / np.maximum(total.sum(1, keepdims=True), 1e-300)
    over = ("neuron", "kernel")
    data = {
        "r2": (over, r2.reshape(shape), {"long_name": "held-out R2 of amplitudes", "units": "1"}),
        "share": (over, share, {"long_name": "share of summed absolute amplitudes", "units": "1"}),
        "coefficient": ((*over, "variable"), coefficients.reshape(*shape, -1), {"long_name": "amplitude per SD"}),
        "partial_correlation": ((*over, "variable"), correlation, {"long_name": "partial correlation"}),
        "p": ((*over, "variable"), p, {"long_name": "p of the partial correlation, Holm"}),
        "selectivity": ("neuron", np.array([NONE, PURE, MIXED])[np.minimum(n_found, 2)]),
    }
    coords = {"neuron": np.arange(n_neurons), "kernel": np.arange(n_kernels), "variable": names}
    return MixedSelectivity(
        xr.Dataset(data, coords),
        "Mixed selectivity",
        attributes={"n_trials": n_trials, "cv": cv, "n_resamples": n_resamples},
        provenance=Provenance.record(seed, arguments={"codes": values, "variables": design, "cv": cv}),
        citations=("rigotti2013", "tolooshams2025"),
        warnings=_warnings(varying, p),
    )


def _amplitudes(codes: Floats) -> Floats:
    """Return the summed codes of every trial, ``(n_neurons, n_trials, n_kernels)``."""
    if codes.ndim not in (3, 4) or not codes.size or np.abs(codes).max() > _LARGEST_CODE:
        raise InputError(
            "these are no codes",
            expected=f"([n_neurons,] n_trials, n_kernels, n_times), as DUNL's codes_, up to {_LARGEST_CODE:g}",
            got=f"shape {codes.shape}, up to {np.abs(codes).max(initial=0):.4g}",
        )
    return (codes if codes.ndim == 4 else codes[None]).sum(-1)


def _in_own_units(columns: Floats) -> tuple[Floats, Floats]:
    """Return columns with largest absolute values between .5 and 1, and their units, whose squares may be too large."""
    unit = np.ldexp(1.0, np.frexp(np.abs(columns).max(0))[1])
    return columns / unit, unit


def _design(variables: Mapping[str, npt.ArrayLike], n_trials: int) -> tuple[list[str], Floats]:
    if not isinstance(variables, Mapping) or not variables:
        raise InputError("there are no variables", expected="a mapping from names to one number per trial")
    columns = []
    for name, values in variables.items():
        column = _numbers(name, values)
        if column.shape != (n_trials,):
            raise InputError(f"{name} does not fit the codes", expected=f"{n_trials} trials", got=f"{column.shape}")
        if (column == column[0]).all():
            raise InputError(f"{name} never changes", expected="numbers that vary over trials", got=f"{column[0]:g}")
        columns.append(column)
    design = _in_own_units(np.stack(columns, axis=1))[0]
    design = (design - design.mean(0)) / design.std(0)
    if n_trials < _TRIALS_PER_VARIABLE * (len(columns) + 1):
        raise InputError(
            "too few trials for so many variables",
            expected=f"at least {_TRIALS_PER_VARIABLE * (len(columns) + 1)}",
            got=n_trials,
        )
    if np.linalg.cond(design) > _LARGEST_CONDITION:
        raise InputError(
            "a variable follows from the others", expected="variables that are not collinear", got=list(variables)
        )
    return [str(name) for name in variables], design


def _numbers(name: str, values: npt.ArrayLike) -> Floats:
    """Return values as numbers; of text, say how to make it numbers."""
    labels = _text_labels(values)
    if not labels:
        return real_array(values, f"values of {name}")
    own = ", ".join(f'"{name} {label}": (np.asarray(labels) == {label!r}).astype(float)' for label in labels[1:3])
    raise InputError(
        f"values of {name} are text",
        expected="numbers; of two kinds of trials 0 and 1",
        got=f"{len(labels)} labels: {', '.join(map(repr, labels[:4]))}{' ...' if len(labels) > 4 else ''}",
        fix="pass a variable of 0 and 1 for each label but the first, with labels = these values: "
        f"{own}{' ...' if len(labels) > 3 else ''}",
    )


def _text_labels(values: npt.ArrayLike) -> list[str]:
    """Return the different labels where all values are text, as they come in lists, arrays and tables; else none."""
    if not isinstance(values, list | tuple | np.ndarray) and not hasattr(values, "to_numpy"):
        return []
    given = np.asarray(values, dtype=object).ravel().tolist()
    return sorted(set(given)) if all(isinstance(label, str) for label in given) else []


def _with_constant(design: Floats) -> Floats:
    return np.column_stack([np.ones(len(design)), design])


def _held_out_r2(design: Floats, targets: Floats, cv: int, random: np.random.Generator) -> Floats:
    splits, full = folds(len(design), whole("cv", cv, 2), seed=random), _with_constant(design)
    predicted = [full[test] @ np.linalg.lstsq(full[train], targets[train], rcond=None)[0] for train, test in splits]
    return pooled_r2(predicted, targets, splits)


def _partial(
    design: Floats, targets: Floats, index: int, n_resamples: int, random: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return partial correlations of one variable with all targets, and p."""
    others = _with_constant(np.delete(design, index, axis=1))

    def rest(values: Floats) -> Floats:
        return values - others @ np.linalg.lstsq(others, values, rcond=None)[0]

    left = rest(targets)
    left[:, np.ptp(targets, axis=0) == 0] = 0.0
    alone = np.broadcast_to(rest(design[:, index]), left.T.shape)
    test = permutation_test(left.T, alone, "correlation", n_resamples, random)
    return test.statistic, test.p


def _warnings(varying: npt.NDArray[np.bool_], p: Floats) -> tuple[str, ...]:
    told = []
    if not varying.all():
        told.append(f"{int((~varying).sum())} of {varying.size} amplitudes are the same in all trials")
    if np.isfinite(p).any() and not (p <= SIGNIFICANT).any():
        told.append("no amplitude depends on any variable: what the figure shows may be chance")
    return tuple(told)
