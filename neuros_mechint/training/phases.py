"""Phases of a training: where a curve takes a new turn, and whether noise around one smooth bend could look so."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.optional import soft_import
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, p_of_draws
from neuros_mechint.training.trend import OneBend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST_ON_A_SIDE = 5
_FEWEST = 3 * FEWEST_ON_A_SIDE
_MOST_POINTS = 200
_CANDIDATES = 16
_SMALLEST = 1e-2  # of the whole curve: what no division is looked for
_LEAST = 0.05  # of the whole curve: by so much two bends must differ from one somewhere
_TRIES = 3
_MOST_AT_ONCE = 3  # so that one turn is seen beside another
_MOST_CORRELATED = 0.95
_AROUND = 2  # looks on each side, of whose median a look that stands alone is far
_FAR = 6.0  # standard deviations of looks from such medians
_FEW_ALONE = 0.1  # of all looks: more are noise with heavy tails
_SLOW = 0.1  # of the run
_MOST_STEPS = 2**53  # beyond, floats hold no whole numbers


class TrainingPhases(Result):
    """Where a curve takes a new turn.

    ``data`` holds the curve as ``value``, its smooth pieces as ``trend`` and which looks stand ``alone`` over ``step``,
    and over ``change`` the step ``at`` which each new phase begins to show, its ``p``, ``size`` and ``width``.
    """

    @property
    def changes(self) -> list[int]:
        """Steps of the changes, in order."""
        return self.data["at"].values.tolist()

    @property
    def p(self) -> list[float]:
        """Of each change."""
        return self.data["p"].values.tolist()

    def _draw(self, ax: Axes) -> None:
        data, steps = self.data, self.data["step"].values
        alone = data["alone"].values
        ax.plot(steps[~alone], data["value"].values[~alone], ".", color=MUTED_INK, label="measured")
        if alone.any():
            ax.plot(steps[alone], data["value"].values[alone], "x", color=MUTED_INK, label="left out")
        edges = [0, *np.searchsorted(steps, self.data["at"].values).tolist(), len(steps)]
        for place, (start, stop) in enumerate(itertools.pairwise(edges)):
            label = "one bend each" if place == 0 else None
            ax.plot(steps[start:stop], data["trend"].values[start:stop], color=PALETTE[0], label=label)
        for place, at in enumerate(self.changes):
            ax.axvline(at, color=PALETTE[1], ls="--", lw=1.2, label="change" if place == 0 else None)
        ax.set_xlabel("step of training")
        ax.set_ylabel(axis_label(data["value"]))
        ax.legend()

    def _summary_lines(self) -> Iterator[str]:
        about = self.attributes
        if not self.changes:
            yield f"no change: one smooth bend and noise look like this (p = {about['p_of_whole']:.2g})"
        for place, at in enumerate(self.changes):
            one, run = self.data.isel(change=place), np.ptp(self.data["step"].values.astype(float))
            share = float(one["width"]) / run
            yield (
                f"a new phase around step {at:,} (p = {float(one['p']):.2g}): a change of {float(one['size']):+.3g}, "
                f"half of it within {float(one['width']):,.3g} steps"
                + (f", {100 * share:.0f}% of the run: slow, and no jump" if share > _SLOW else "")
            )
        alone = self.data["step"].values[self.data["alone"].values].tolist()
        if alone:
            yield "left out, as they stand alone: " + ", ".join(f"step {step:,}" for step in alone[:5])
        yield f"{self.data.sizes['step']} points, {about['n_surrogates']} surrogates"


class _Divided(NamedTuple):
    """Where a curve is best divided, and of up to three divisions: the gain, the variance left, its correlation."""

    split: int
    gain: float
    variance: float
    correlation: float


def detect_phases(
    curve: Any, steps: Any = None, n_surrogates: int = 199, seed: SeedLike = 0, progress: bool = True
) -> TrainingPhases:
    r"""Find where a curve of training takes a new turn that smooth learning and noise do not explain.

    While nothing new begins, a learning curve bends in one way only: it slows down. Each piece of the curve is compared
    with curves of that kind, by how much better up to four of them fit than one (divided by binary segmentation), and
    so are surrogates: the best single bend plus autocorrelated noise as it is found around the four. Where the curve
    exceeds 95% of them, and two bends differ from one by 5% of the reach of the whole curve somewhere, it is divided,
    and both sides are looked at in turn.

    A turn within a few looks is one change. One that takes many has two: where it begins to speed up, and where it
    begins to slow down; also a slow sigmoid is such a turn, see ``width``. One or two looks that stand alone are none:
    they are left out where they are 6 standard deviations from the median of the looks around them.

    Parameters
    ----------
    curve : xarray.DataArray over ``step``, or array_like of shape (n_looks,)
        A metric, such as ``record["loss"]``; at least 15 looks.
    steps : array_like of shape (n_looks,), optional
        Of an array without labels; by default 0, 1, 2...
    n_surrogates : int
        At least 19, which can show p = .05.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    TrainingPhases

    Raises
    ------
    InputError
        Too few looks, values that are not finite, steps that do not increase, or layers that are to be chosen from.
    MissingDependencyError
        ruptures is not installed (extra ``phases``).

    References
    ----------
    Truong et al. 2020, Selective review of offline change point detection methods, doi:10.1016/j.sigpro.2019.107299

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> steps = np.arange(0, 1000, 20)
    >>> smooth = np.exp(-steps / 200) + random.normal(0, 0.02, 50)
    >>> detect_phases(smooth, steps, n_surrogates=19).changes
    []
    >>> sudden = smooth - np.tanh((steps - 600) / 20)
    >>> [abs(at - 600) <= 20 for at in detect_phases(sudden, steps, n_surrogates=19).changes]
    [True]
    """
    n_surrogates = whole("n_surrogates", n_surrogates, 19)
    x, y, about = _curve(curve, steps)
    provenance = Provenance.record(seed, arguments={"curve": curve, "steps": steps, "n_surrogates": n_surrogates})
    reach = float(np.abs(y).max()) or 1.0
    alone = _alone(y / reach)  # of any unit
    points, values, stops = _thinned(x, np.where(alone, _medians(y), y) / reach)
    found, p_of_whole = _divided(points, values, n_surrogates, generator(seed), progress)
    splits = sorted(found)
    rows = [0, *(int(stops[split - 1]) for split in splits), len(x)]  # a piece begins where its first point does
    pieces = list(itertools.pairwise([0, *splits, len(points)]))
    trend = np.concatenate(
        [
            np.interp(x[slice(*own)], points[slice(*piece)], OneBend(points).fit(values, *piece))
            for own, piece in zip(itertools.pairwise(rows), pieces, strict=True)
        ]
    )
    trend *= reach
    extents = [_extent(x, trend, start, stop) for start, stop in zip(rows[:-2], rows[2:], strict=True)]
    steps = x.astype(np.int64) if (x == x.round()).all() and np.abs(x).max() < _MOST_STEPS else x
    units = {"units": about["units"]}
    data = xr.Dataset(
        {
            "value": ("step", y, about),
            "trend": ("step", trend, {"long_name": "one bend each", **units}),
            "alone": ("step", alone, {"long_name": "stands alone"}),
            "at": ("change", steps[rows[1:-1]], {"long_name": "step of the change"}),
            "p": ("change", np.array([found[split] for split in splits]), {"long_name": "p of the change"}),
            "size": ("change", np.array([size for size, _ in extents]), {"long_name": "size of the change", **units}),
            "width": ("change", np.array([width for _, width in extents]), {"long_name": "steps of half of it"}),
        },
        {"step": steps},
    )
    return TrainingPhases(
        data,
        f"Phases of {about['long_name']}",
        attributes={"n_surrogates": n_surrogates, "p_of_whole": p_of_whole},
        provenance=provenance,
        citations=("truong2020",),
    )


def _curve(curve: Any, steps: Any) -> tuple[Floats, Floats, dict[str, str]]:
    about = {"long_name": "the curve", "units": ""}
    if isinstance(curve, xr.DataArray):
        if curve.dims != ("step",):
            raise InputError(
                "one curve at a time",
                expected="a metric over step alone",
                got=f"axes {curve.dims}",
                fix='choose a layer or site: record["cka_initial"].sel(site=...)',
            )
        steps = curve["step"].values if steps is None else steps
        name = curve.attrs.get("long_name", curve.name or "the curve")
        about = {"long_name": str(name), "units": str(curve.attrs.get("units", ""))}
    if isinstance(curve, Result):
        raise InputError("this is a whole result", expected="one curve", fix='one of its metrics: record["loss"]')
    y = real_array(curve, "the curve")
    x = real_array(np.arange(y.size) if steps is None else steps, "steps")
    if y.ndim != 1 or x.shape != y.shape or len(y) < _FEWEST:
        raise InputError(
            "this is no curve over steps",
            expected=f"one value and one step for each look, at least {_FEWEST}",
            got=f"values of shape {y.shape}, steps of shape {x.shape}",
            fix="look more often (schedule)" if y.ndim == 1 and x.shape == y.shape else None,
        )
    if (np.diff(x) <= 0).any():
        raise InputError("steps do not increase", got=f"at {x[1:][np.diff(x) <= 0].tolist()[:5]}")
    return x, y, about


def _alone(y: Floats) -> npt.NDArray[np.bool_]:
    """Return which looks are far from those on both sides: what does not last is no phase."""
    away = np.abs(y - _medians(y))
    spread = float(np.quantile(away, 0.683))  # of normal noise; not half of them, as many are medians themselves
    alone = away > max(_FAR * spread, _LEAST * np.ptp(y))
    return alone if alone.mean() <= _FEW_ALONE else np.zeros(len(y), dtype=bool)


def _medians(y: Floats) -> Floats:
    """Return the median of each look with as many before as after it, so that it stays on a steep curve."""
    reach = np.minimum(np.minimum(np.arange(len(y)), np.arange(len(y))[::-1]), _AROUND)
    return np.array([np.median(y[at - n : at + n + 1]) for at, n in enumerate(reach)], dtype=np.float64)


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Return at most so many points, means of neighbours, and where each of them stops."""
    stops = np.unique(np.linspace(0, len(x), min(len(x), _MOST_POINTS) + 1).round().astype(np.int64))[1:]
    starts = np.concatenate([[0], stops[:-1]])
    sizes = stops - starts
    return np.add.reduceat(x, starts) / sizes, np.add.reduceat(y, starts) / sizes, stops


def _divided(
    x: Floats, y: Floats, n_surrogates: int, random: np.random.Generator, progress: bool
) -> tuple[dict[int, float], float]:
    """Return p of each division of a curve, by where it is, and p of the first piece, which is all of it."""
    found: dict[int, float] = {}
    waiting, p_of_whole = [(0, len(x))], 1.0
    while waiting:
        start, stop = waiting.pop()
        if stop - start < 2 * FEWEST_ON_A_SIDE or np.ptp(y[start:stop]) == 0:
            continue
        split, p = _division(x[start:stop], y[start:stop], np.ptp(y), n_surrogates, random, progress)
        p_of_whole = p if stop - start == len(x) else p_of_whole
        if split is not None:
            found[start + split] = p
            waiting += [(start, start + split), (start + split, stop)]
    return found, p_of_whole


def _division(
    x: Floats, y: Floats, reach: float, n_surrogates: int, random: np.random.Generator, progress: bool
) -> tuple[int | None, float]:
    """Return where to divide a curve, if at all, and how often noise around one bend gains as much by division."""
    bend, floor = OneBend(x), len(x) * (_SMALLEST * reach) ** 2
    jump = -(-len(x) // _CANDIDATES)
    found = _divide(bend, y, jump, floor)
    trend = bend.fit(y)
    spread = _spread_of_noise(bend, jump, random)
    drawn = []
    # strong correlation more often than weak: a short curve hardly tells them apart, and the strong one misleads
    correlations = _MOST_CORRELATED * random.uniform(size=_TRIES * n_surrogates) ** (1 / 3)
    for correlation in progress_bar(correlations, description="surrogates", enabled=progress):
        noise = _noise(len(x), correlation, random) * np.sqrt(found.variance / spread(correlation))
        drawn.append(_divide(bend, trend + noise, jump, floor))
    # of all that were drawn, those that look as correlated from point to point as the curve does
    likest = np.argsort([abs(one.correlation - found.correlation) for one in drawn], kind="stable")[:n_surrogates]
    p = float(p_of_draws(found.gain, np.array([drawn[one].gain for one in likest])))
    if p > SIGNIFICANT:
        return None, p
    split = _divide(bend, y, 1, floor).split
    apart = np.abs(trend - np.concatenate([bend.fit(y, 0, split), bend.fit(y, split)])).max()
    return (split if apart >= _LEAST * reach else None), p


def _divide(bend: OneBend, y: Floats, jump: int, floor: float) -> _Divided:
    """Return the best division of a curve into two bends, by binary segmentation, and what further ones leave."""
    ruptures = soft_import("ruptures", "finding phases of a training", extra="phases")
    n_divisions = max(1, min(_MOST_AT_ONCE, len(y) // (2 * FEWEST_ON_A_SIDE) - 1))
    search = ruptures.Binseg(custom_cost=_cost(bend, y), min_size=FEWEST_ON_A_SIDE, jump=jump).fit(y)
    edges = [0, *search.predict(n_bkps=n_divisions)]
    left = y - np.concatenate([bend.fit(y, start, stop) for start, stop in itertools.pairwise(edges)])
    rest = float(left @ left)
    correlation = float(left[1:] @ left[:-1]) / rest if rest else 0.0
    gain = (bend.left(y) + floor) / (rest + floor)
    return _Divided(search.predict(n_bkps=1)[0], gain, rest / len(y), correlation)


def _cost(bend: OneBend, y: Floats) -> Any:
    """Return the cost of a stretch for ruptures: what the best single bend leaves."""
    base: Any = soft_import("ruptures.base", "finding phases of a training", extra="phases").BaseCost

    class Cost(base):
        model, min_size = "one bend", FEWEST_ON_A_SIDE

        def fit(self, signal: Any) -> Cost:
            self.signal = signal
            return self

        def error(self, start: int, end: int) -> float:
            return bend.left(y, start, end)

    return Cost()


def _noise(n: int, correlation: float, random: np.random.Generator) -> Floats:
    """Return noise of variance 1 that is correlated from point to point: an autoregression of first order."""
    from scipy.signal import lfilter

    drawn = random.normal(size=n)
    drawn[1:] *= np.sqrt(1 - correlation**2)
    return np.asarray(lfilter([1], [1, -correlation], drawn))


def _spread_of_noise(bend: OneBend, jump: int, random: np.random.Generator) -> Callable[[float], float]:
    """Return what two bends leave of the variance of noise, as a function of its correlation, by trying."""
    grid = np.linspace(0, _MOST_CORRELATED, 6)
    found = [
        np.mean([_divide(bend, _noise(len(bend.x), one, random), jump, 0.0).variance for _ in range(6)]) for one in grid
    ]
    return lambda correlation: float(np.interp(correlation, grid, found))


def _extent(x: Floats, trend: Floats, start: int, stop: int) -> tuple[float, float]:
    """Return the change from one end of a stretch to the other, and the fewest steps in which half of it happens."""
    places = np.unique(np.linspace(start, stop - 1, min(stop - start, _MOST_POINTS)).round().astype(np.int64))
    where, values = x[places], trend[places]
    apart = np.abs(values - values[:, None]) >= np.ptp(values) / 2
    return float(values[-1] - values[0]), float(np.abs(where - where[:, None])[apart].min())
