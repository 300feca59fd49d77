"""Which part of the responses each of several models explains alone, and which parts they explain alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.figures.plotting import axis_label, interval_bars
from neuros_mechint.core.joining import by_text
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.bootstrap import interval_warning, times_drawn
from neuros_mechint.neuro.alignment.linear.banded_ridge import BandedRidge
from neuros_mechint.neuro.alignment.linear.encoding import EncodingModel, judged
from neuros_mechint.neuro.alignment.linear.estimator import check_method, with_fixed_seed
from neuros_mechint.neuro.alignment.linear.held_out import Splits, folds, rows_of
from neuros_mechint.neuro.alignment.linear.ridge import RidgeEncoding
from neuros_mechint.neuro.alignment.samples import joined

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CITATIONS = ("borcard1992", "deheer2017")
_MOST_MODELS = 4
_N_RESAMPLES = 2000
_LEVEL = 0.95
_TOLERATED_LOSS = 0.01
Subset = tuple[str, ...]


class VariancePartition(Result):
    """The variance of responses that models explain, alone and together, on held-out stimuli.

    ``data`` holds ``variance`` over ``(part,)``, the mean over targets of each part of the explained variance, with
    the bootstrap interval over stimuli ``low`` and ``high``; ``per_target`` over ``(part, target)``; and ``r2`` over
    ``(subset,)``, the held-out R2 of the models together. A part is called by the models that explain it: ``a`` alone,
    ``a & b`` both and no other.
    """

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return 6.6, 1.2 + 0.34 * self.data.sizes["part"]

    def _summary_lines(self) -> Iterator[str]:
        yield f"explained by all together: {float(self.data['r2'][-1]):.3f} of the variance"
        for part in self.data["part"].values:
            one = self.data.sel(part=part)
            yield f"{part}: {float(one['variance']):+.3f} [{float(one['low']):+.3f}, {float(one['high']):+.3f}]"

    def _draw(self, ax: Axes) -> None:
        values = self.data["variance"]
        alone = ["&" not in part for part in values["part"].values]
        names = [f"{part} only" if one else part for part, one in zip(values["part"].values, alone, strict=True)]
        interval_bars(names, {"value": values, "low": self.data["low"], "high": self.data["high"]}, alone, ax)
        ax.set_xlabel(axis_label(values))


def variance_partitioning(
    features: Mapping[str, Any],
    Y: Any,
    method: EncodingModel | None = None,
    cv: Any = 5,
    groups: Sequence[Any] | None = None,
    seed: SeedLike = 0,
) -> VariancePartition:
    r"""Part the variance that several models explain into what each explains alone and what they explain alike.

    Every union of models predicts held-out responses. With :math:`R^2(A)` of the models :math:`A`, the part that
    exactly the models :math:`S` explain is :math:`\sum_{T \subseteq S} (-1)^{|S| - |T|} [R^2(all) - R^2(all
    \setminus T)]`.

    Parameters
    ----------
    features : mapping of str to data
        Two to four models, ``(n_stimuli, n_features)`` each, joined by label to the first.
    Y : array_like, torch.Tensor, xarray.DataArray or Recording
        Responses ``(n_stimuli, n_targets)``.
    method : EncodingModel, optional
        `RidgeEncoding` by default. ``BandedRidge({})`` gives each model a penalty of its own, which helps where one has
        many features that explain nothing: its bands are the models. Its ``metric`` must be ``"r2"``.
    cv, groups, seed
        See `neuros_mechint.neuro.alignment.linear.held_out.folds`.

    Returns
    -------
    VariancePartition
        Parts add up to the R2 of all models. They may be negative: on held-out data where features add noise, in
        common parts also where models suppress each other's errors.

    Raises
    ------
    InputError
        Fewer than two or more than four models, other stimuli, responses that do not vary, or folds that cannot be.

    References
    ----------
    Borcard, Legendre and Drapeau 1992, Partialling out the spatial component of ecological variation,
    doi:10.2307/1940179; de Heer et al. 2017, The hierarchical cortical organization of human speech processing,
    doi:10.1523/JNEUROSCI.3267-16.2017

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> edges, objects = random.normal(size=(2, 300, 5))
    >>> responses = edges @ random.normal(size=(5, 8)) + random.normal(size=(300, 8))
    >>> parts = variance_partitioning({"edges": edges, "objects": objects}, responses).data["variance"]
    >>> bool(parts.sel(part="edges") > 0.5), bool(abs(parts.sel(part="objects")) < 0.05)
    (True, True)
    """
    method = _checked_method(RidgeEncoding() if method is None else method)
    models, y = _joined(features, Y)
    splits = folds(len(y), cv, groups, seed)
    subsets = list(_subsets(tuple(models)))
    errors = np.stack(
        [
            _squared_errors(method, [models[name] for name in subset], y, splits, groups)
            for subset in progress_bar(subsets, description="unions of models")
        ]
    )
    deviations = _deviations(y, splits)
    varied = judged(deviations.sum(0), y)
    errors, deviations = errors[:, :, varied], deviations[:, varied]
    mixing = _mixing(subsets)
    r2 = 1 - errors.sum(1) / deviations.sum(0)
    per_target = mixing @ r2
    low, high = _interval(errors, deviations, mixing, seed)
    arguments = {"models": list(models), "method": repr(method), "cv": repr(cv), "y": y}
    return VariancePartition(
        _dataset(subsets, per_target, low, high, r2.mean(1), _targets(Y, varied)),
        f"Variance explained by {', '.join(models)}",
        attributes={"method": repr(method), "n_stimuli": len(y), "n_targets": int(varied.sum())},
        provenance=Provenance.record(seed=seed, arguments=arguments),
        citations=CITATIONS,
        warnings=_warnings(len(y), int((~varied).sum()), dict(zip(subsets, r2.mean(1).tolist(), strict=True))),
    )


def _warnings(n_stimuli: int, n_constant: int, r2: Mapping[Subset, float]) -> tuple[str, ...]:
    constant = f"{n_constant} targets are constant and were left out" if n_constant else None
    best, everything = max(r2, key=lambda subset: r2[subset]), max(r2, key=len)
    overfitted = None
    if r2[everything] < r2[best] - _TOLERATED_LOSS:
        overfitted = (
            f"all models together explain less of new responses ({r2[everything]:.3f}) than {' and '.join(best)} alone "
            f"({r2[best]:.3f}): their features are too many for {n_stimuli} stimuli, and parts mean nothing. Use fewer "
            "features, more stimuli, or method=BandedRidge({})"
        )
    return tuple(text for text in (constant, overfitted, interval_warning(n_stimuli, "percentile")) if text)


def _targets(responses: Any, varied: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return the labels of targets that lie along ``unit``, and which of them are kept."""
    array = responses.data if isinstance(responses, Recording) else responses
    if not isinstance(array, xr.DataArray) or "unit" not in array.dims or array.sizes["unit"] != varied.size:
        return {"target": np.flatnonzero(varied)}
    labels = {str(name): one.values[varied] for name, one in array.coords.items() if one.dims == ("unit",)}
    return {
        "target": labels.pop("unit", np.flatnonzero(varied)),
        **{key: ("target", one) for key, one in labels.items()},
    }


def _checked_method(method: Any) -> EncodingModel:
    check_method(method)
    if not isinstance(method, EncodingModel):
        raise InputError(
            "method predicts nothing", expected="RidgeEncoding, BandedRidge or PLS", got=type(method).__name__
        )
    if method.metric != "r2":
        raise OptionError("variance is parted by R2", expected="metric='r2'", got=f"metric={method.metric!r}")
    return with_fixed_seed(method)


def _joined(features: Mapping[str, Any], responses: Any) -> tuple[dict[str, Floats], Floats]:
    if not isinstance(features, Mapping) or not 2 <= len(features) <= _MOST_MODELS:
        raise InputError(
            "these are not models to part variance between",
            expected=f"a mapping of 2 to {_MOST_MODELS} names to features",
            got=f"{len(features)} models" if isinstance(features, Mapping) else type(features).__name__,
        )
    named = by_text(features, "models")
    *values, y = joined([*named.items(), ("Y", responses)])
    models = dict(zip(named, values, strict=True))
    if (y == y[0]).all():
        raise InputError("no target of Y varies", expected="responses that differ between stimuli")
    # in one unit, or those of large units would have smaller penalties
    return {name: values / _size(values, name) for name, values in models.items()}, y


def _size(values: Floats, name: str) -> float:
    size = float(np.sqrt(((values - values.mean(0)) ** 2).mean()))
    if not size:
        raise InputError(f"no feature of {name} varies", expected="features that differ between stimuli")
    return size


def _subsets(names: Subset) -> Iterator[Subset]:
    """Yield every set of models but the empty one, the smallest first."""
    return chain.from_iterable(combinations(names, size) for size in range(1, len(names) + 1))


def _squared_errors(
    method: EncodingModel, models: Sequence[Floats], y: Floats, splits: Splits, groups: Sequence[Any] | None
) -> Floats:
    """Return the squared error of every held-out response, ``(n_stimuli, n_targets)``; 0 for what no fold holds."""
    found, x, parameters, kind = np.zeros_like(y), np.hstack(models), method.get_params(), type(method)
    if isinstance(method, BandedRidge) and len(models) == 1:
        kind, parameters = RidgeEncoding, {key: parameters[key] for key in ("alphas", "inner_cv", "metric", "seed")}
    elif isinstance(method, BandedRidge):
        ends = np.cumsum([values.shape[1] for values in models])
        parameters["bands"] = {
            str(band): slice(end - values.shape[1], end)
            for band, (values, end) in enumerate(zip(models, ends, strict=True))
        }
    for train, test in splits:
        fitted = kind(**parameters).fit(x[train], y[train], rows_of(groups, train))
        found[test] += (np.asarray(fitted.predict(x[test])) - y[test]) ** 2
    return found


def _deviations(y: Floats, splits: Splits) -> Floats:
    found = np.zeros_like(y)
    for train, test in splits:
        found[test] += (y[test] - y[train].mean(0)) ** 2
    return found


def _mixing(subsets: Sequence[Subset]) -> Floats:
    """Return the matrix that turns the R2 of unions of models into parts of variance."""
    rows = {subset: row for row, subset in enumerate(subsets)}
    everything = subsets[-1]
    matrix = np.zeros((len(subsets), len(subsets)))
    for row, part in enumerate(subsets):
        for taken in _subsets(part):
            sign = (-1) ** (len(part) - len(taken))
            matrix[row, -1] += sign
            left = tuple(name for name in everything if name not in taken)
            if left:
                matrix[row, rows[left]] -= sign
    return matrix


def _interval(errors: Floats, deviations: Floats, mixing: Floats, seed: SeedLike) -> tuple[Floats, Floats]:
    """Return the percentile interval of each part over stimuli, ``(n_parts,)``; models are not fitted anew."""
    n_samples = len(deviations)
    counts = times_drawn(n_samples, _N_RESAMPLES, generator(seed))
    total = counts @ deviations
    explained = [1 - (counts @ one / np.where(total > 0, total, np.nan)) for one in errors]
    parts = mixing @ np.stack([np.nanmean(one, axis=1) for one in explained])
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(parts, [tail, 1 - tail], axis=1)
    return low, high


def _dataset(
    subsets: Sequence[Subset],
    per_target: Floats,
    low: npt.NDArray[Any],
    high: npt.NDArray[Any],
    r2: Floats,
    targets: dict[str, Any],
) -> xr.Dataset:
    units = {"units": "share of variance"}
    return xr.Dataset(
        {
            "variance": ("part", per_target.mean(1), {**units, "long_name": "explained on held-out stimuli"}),
            "low": ("part", low, units),
            "high": ("part", high, units),
            "per_target": (("part", "target"), per_target, units),
            "r2": ("subset", r2, {**units, "long_name": "held-out R2"}),
        },
        coords={
            "part": [" & ".join(subset) for subset in subsets],
            "subset": [" + ".join(subset) for subset in subsets],
            **targets,
        },
    )
