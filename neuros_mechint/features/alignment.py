"""Which features of a dictionary carry the prediction of which units of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.dictionary import Dictionary, as_taken_by, check_dictionary, site_of, taken_apart
from neuros_mechint.core.errors import InputError, OptionError, check_option, whole
from neuros_mechint.core.figures.plotting import MUTED_INK, PALETTE, axis_label, heat_map, interval_bars
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.certainty import with_statistics
from neuros_mechint.core.statistics.p_values import CORRECTIONS, SIGNIFICANT, adjust_p
from neuros_mechint.features.effects import checked_features
from neuros_mechint.neuro.alignment.layer_region_data import site_blocks
from neuros_mechint.neuro.alignment.linear.estimator import with_fixed_seed
from neuros_mechint.neuro.alignment.linear.held_out import Splits, folds
from neuros_mechint.neuro.alignment.linear.ridge import RidgeEncoding
from neuros_mechint.neuro.alignment.samples import Samples, label_order, samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CITATIONS = ("bricken2023", "yamins2014", "phipson2010")
_MOST_SHOWN = 12


class FeatureAlignment(Result):
    """What each feature adds to the held-out prediction of each unit.

    ``data`` holds ``contribution`` over ``(feature, unit)``: the held-out R2 lost when the feature is held at its mean
    in the fitted prediction; its bootstrap interval over stimuli ``low`` and ``high``; ``p`` and ``p_adjusted``; over
    ``(unit,)`` the held-out ``r2`` from all features and ``r2_activations`` from the activations themselves; and over
    ``(control, unit)``, for features each of whose rows are shuffled, ``r2_shuffled`` and ``largest_shuffled``, the
    largest contribution of any of them.
    """

    def ranked(self, level: float = SIGNIFICANT) -> pd.DataFrame:
        """Return the pairs of feature and unit with ``p_adjusted`` below ``level``, the largest contribution first."""
        table = self.to_dataframe().sort_values("contribution", ascending=False, ignore_index=True)
        return table.loc[(table["p_adjusted"] < level) & (table["contribution"] > 0)].reset_index(drop=True)

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return (7.0, 4.2) if self._shown.size > 1 else (6.0, 3.0)

    @property
    def _shown(self) -> xr.DataArray:
        """The features of the largest contributions to any unit."""
        largest = self.main.max("unit").values
        return self.main.isel(feature=np.argsort(-largest, kind="stable")[:_MOST_SHOWN])

    def _draw(self, ax: Axes) -> None:
        if self.main.sizes["unit"] > 1:
            heat_map(self._shown, ax, center=0)
            marked = self.data["p_adjusted"].sel(feature=self._shown["feature"]).values <= SIGNIFICANT
            for row, column in np.argwhere(marked & (self._shown.values > 0)):
                ax.plot(column, row, ".", color="white", markeredgecolor=MUTED_INK, markersize=6)
            ax.set_title("dots: p <= 0.05 after correction", loc="right", fontsize=8, color=MUTED_INK)
            return
        one = self.data.sel(feature=self._shown["feature"]).isel(unit=0)
        bars = {"value": one["contribution"], "low": one["low"], "high": one["high"]}
        interval_bars([str(name) for name in one["feature"].values], bars, one["p_adjusted"] <= SIGNIFICANT, ax)
        for value in one["largest_shuffled"].values:
            ax.axvline(value, color=PALETTE[1], linewidth=0.8, alpha=0.5)
        ax.set_xlabel(axis_label(self.main))

    def _summary_lines(self) -> list[str]:
        """Return how well units are predicted, and by which features."""
        means = {name: float(self.data[name].mean()) for name in ("r2", "r2_activations")}
        found = self.ranked()
        lines = [
            f"held-out R2: {means['r2']:.3f} from features, {means['r2_activations']:.3f} from the activations",
            f"{len(found)} of {self.main.size} pairs have p <= 0.05 after correction ({self.attributes['correction']})",
        ]
        for row in found.head(8).to_dict("records"):
            interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
            lines.append(f"  feature {row['feature']} on {row['unit']}: {row['contribution']:+.3f} {interval}")
        return lines


@dataclass(frozen=True)
class _Contributions:
    """``per_stimulus (n_features, n_units, n_stimuli)`` averages to the contribution; ``r2 (n_units,)``."""

    per_stimulus: Floats
    r2: Floats


def feature_alignment(
    sae: Dictionary,
    activations: Any,
    recording: Any,
    *,
    inputs: Any = None,
    site: str | None = None,
    stimuli: Sequence[Any] | None = None,
    features: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    method: RidgeEncoding | None = None,
    cv: Any = 5,
    n_controls: int = 19,
    correction: str = "fdr",
    batch_size: int | None = None,
    seed: SeedLike = 0,
) -> FeatureAlignment:
    """Return which features of a dictionary carry the held-out prediction of which units of a recording.

    Units are predicted from all features together by ridge regression. In the prediction of the stimuli left out, one
    feature at a time is then held at its mean over the training stimuli; what R2 loses is its contribution. A feature
    that has nothing to do with a unit has an expected contribution of at most 0, since its weight is noise.

    Parameters
    ----------
    sae : Dictionary
        A fitted `neuros_mechint.SparseAutoencoder`, a SAELens SAE, or anything that encodes and decodes.
    activations : array_like, xarray.DataArray, Activations, ActivationStore or Adapter
        ``(n_stimuli, n_inputs)`` at the site of the dictionary, or a model to run.
    recording : Recording, xarray.DataArray or array_like of shape (n_stimuli, n_units)
        Joined by label where both sides have labels.
    inputs : inputs of the model, optional
        One for each stimulus, where ``activations`` is a model.
    site : str, optional
        Where to read activations by name: ``"blocks.3.resid_post[position=-1]"``. The dictionary's own by default.
    stimuli : sequence, optional
        Label of each row of the activations, or input.
    features : sequence of int, optional
        Which features take part; all that vary on these stimuli by default.
    names : sequence of str, optional
        A name for each feature of the dictionary.
    method : RidgeEncoding, optional
        ``RidgeEncoding()`` by default.
    cv
        See `neuros_mechint.neuro.alignment.linear.held_out.folds`.
    n_controls : int
        How often the rows of every feature are shuffled, each by itself, and all is computed anew: features as sparse
        and as large as the real ones that know nothing of the stimuli.
    correction : {"fdr", "holm", "none"}
        For the number of features and units.
    batch_size : int, optional
        Samples per call of the model.
    seed : int or numpy.random.Generator
        Deals stimuli to folds, shuffles, and draws bootstrap samples and signs.

    Returns
    -------
    FeatureAlignment

    Raises
    ------
    InputError, OptionError
        Other stimuli, labels on one side only, a dictionary of another width, features that do not exist or do not
        vary, or units that do not vary.

    References
    ----------
    Bricken et al. 2023, Towards monosemanticity, https://transformer-circuits.pub/2023/monosemantic-features; Yamins et
    al. 2014, doi:10.1073/pnas.1403112111; Phipson and Smyth 2010, doi:10.2202/1544-6115.1585

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> class Signs:  # a dictionary of two units: how far each is above zero, and below
    ...     def encode(self, x):
    ...         return torch.relu(torch.cat([x, -x], -1))
    ...     def decode(self, features):
    ...         return features[..., :2] - features[..., 2:]
    >>> random = np.random.default_rng(0)
    >>> x = random.normal(size=(200, 2))
    >>> unit = np.maximum(-x[:, 1:], 0) + 0.1 * random.normal(size=(200, 1))  # driven by feature 3
    >>> nm.feature_alignment(Signs(), x, unit, n_controls=3).ranked()["feature"].tolist()
    ['3']
    """
    n_controls = whole("n_controls", n_controls, least=0)
    check_option("correction", correction, CORRECTIONS)
    method = RidgeEncoding() if method is None else with_fixed_seed(method)
    if not isinstance(method, RidgeEncoding):
        raise InputError("contributions need the weights of a ridge", expected="RidgeEncoding(...)", got=repr(method))
    draw = int(generator(seed).integers(2**31))
    sae = check_dictionary(sae)
    if method.metric != "r2":
        raise OptionError("contributions are parts of R2", expected="metric='r2'", got=f"metric={method.metric!r}")
    units = samples(recording, "recording")
    x = _activations(sae, activations, units, inputs, site, stimuli, batch_size)
    y, unit_names = units.values, _unit_names(recording, units.values.shape[1])
    _check_units(y)
    rows, chosen, n_silent = _features_of(sae, x, features)
    splits = folds(len(x), cv, None, draw)
    found = _contributions(method, rows, y, splits)
    labels = _feature_names(names, chosen)
    data, warnings = _statistics(found, labels, unit_names, correction, draw)
    data["r2_activations"] = ("unit", np.asarray(method.score_targets(x, y, cv=splits)))
    _add_controls(data, method, rows, y, splits, n_controls, draw)
    for name, long_name in (("r2", "held-out R2"), ("r2_activations", "held-out R2 of the activations")):
        data[name].attrs.update({"units": "R2", "long_name": long_name})
    settings = {"site": site, "method": repr(method), "correction": correction, "n_controls": n_controls}
    return FeatureAlignment(
        data,
        "Features that predict units",
        attributes={**settings, "n_stimuli": len(x), "n_silent": n_silent},
        provenance=Provenance.record(seed=seed, arguments=settings),
        citations=_CITATIONS,
        warnings=(*warnings, *_cautions(data)),
    )


def _activations(
    sae: Any, given: Any, units: Samples, inputs: Any, site: str | None, stimuli: Any, batch_size: int | None
) -> Floats:
    """Return activations with their rows in the order of the recording."""
    plain = isinstance(given, (np.ndarray, torch.Tensor, xr.DataArray, list, tuple))
    name = site if site is not None else site_of(sae)
    if plain:
        name, given = name or "activations", {name or "activations": given}
    if name is None:
        raise InputError("where does this dictionary belong?", expected='a site, such as "blocks.3.resid_post"')
    found = next(site_blocks(given, [name], inputs, stimuli, batch_size))[name]
    order = label_order(
        units.labels, found.labels, (len(units.values), len(found.values)), ("the recording", "activations")
    )
    return found.values if order is None else found.values[order]


def _unit_names(recording: Any, n_units: int) -> list[str]:
    array = recording.data if isinstance(recording, Recording) else recording
    if isinstance(array, xr.DataArray) and "unit" in array.coords and array["unit"].size == n_units:
        return [str(name) for name in array["unit"].values.ravel()]
    return [str(number) for number in range(n_units)]


def _check_units(y: Floats) -> None:
    constant = np.flatnonzero((y == y[0]).all(0))
    if constant.size:
        raise InputError("some units do not vary", expected="responses that differ", got=constant[:5].tolist())


def _features_of(sae: Any, x: Floats, features: Sequence[int] | None) -> tuple[Floats, list[int], int]:
    """Return the features that take part ``(n_stimuli, n_features)``, their numbers, and how many do not vary."""
    with torch.no_grad():
        encoded, _ = taken_apart(sae, as_taken_by(sae, torch.tensor(x, dtype=torch.float32)))
    every = encoded.double().cpu().numpy()
    varied = (every != every[0]).any(0)
    chosen = np.flatnonzero(varied).tolist() if features is None else checked_features(features, every.shape[1])
    silent = [one for one in chosen if not varied[one]]
    if silent or not chosen:
        raise InputError(
            "features do not vary on these stimuli",
            expected="features that differ between stimuli",
            got=silent[:5] or "none that does",
        )
    return every[:, chosen], chosen, int((~varied).sum())


def _feature_names(names: Sequence[str] | None, chosen: Sequence[int]) -> list[str]:
    if names is None:
        return [str(number) for number in chosen]
    if len(set(names)) < len(names) or len(names) <= max(chosen):
        raise InputError("names do not fit the features", expected="a different name for each", got=f"{len(names)}")
    return [str(names[number]) for number in chosen]


def _contributions(method: RidgeEncoding, rows: Floats, y: Floats, splits: Splits) -> _Contributions:
    """Return the growth of the squared error when each feature is held at its mean, as a share of the variance.

    With the residual ``e`` and ``g = w (f - mean f)``, what the feature says, the squared error grows by
    ``(e + g)^2 - e^2 = g (2 e + g)``.
    """
    n_stimuli, n_units = y.shape
    growth = np.zeros((rows.shape[1], n_units, n_stimuli))
    judged = np.zeros(n_stimuli, dtype=bool)
    errors, deviations = np.zeros(n_units), np.zeros(n_units)
    for train, test in splits:
        fitted = RidgeEncoding(**method.get_params()).fit(rows[train], y[train])
        residual = y[test] - fitted.predict(rows[test])
        away = rows[test] - rows[train].mean(0)
        says = away.T[:, None, :] * np.asarray(fitted.coef_)[:, :, None]
        growth[:, :, test] += says * (2 * residual.T + says)
        judged[test] = True
        errors += (residual**2).sum(0)
        deviations += ((y[test] - y[train].mean(0)) ** 2).sum(0)
    per_stimulus = growth[:, :, judged] * (judged.sum() / deviations)[:, None]
    return _Contributions(per_stimulus, 1 - errors / deviations)


def _statistics(
    found: _Contributions, features: list[str], units: list[str], correction: str, seed: int
) -> tuple[xr.Dataset, tuple[str, ...]]:
    coords = {"feature": features, "unit": units}
    per_stimulus = xr.DataArray(found.per_stimulus, coords, ("feature", "unit", "sample"))
    arrays, warnings = with_statistics(per_stimulus, np.zeros(1), correction, seed)
    arrays["contribution"] = arrays.pop("effect")
    # a feature cannot carry a prediction that is better without it
    arrays["p"] = arrays["p"].where(arrays["contribution"] > 0, 1.0)
    arrays["p_adjusted"] = arrays["p"].copy(data=adjust_p(arrays["p"].values, correction))
    data = xr.Dataset({name: arrays[name] for name in ("contribution", "low", "high", "p", "p_adjusted")})
    data["r2"] = ("unit", found.r2)
    for name in ("contribution", "low", "high"):
        data[name].attrs.update({"units": "R2", "long_name": "held-out R2 lost without the feature"})
    return data, warnings


def _add_controls(
    data: xr.Dataset, method: RidgeEncoding, rows: Floats, y: Floats, splits: Splits, n_controls: int, seed: int
) -> None:
    """Add what features with shuffled rows reach."""
    random = generator(seed)
    r2, largest = np.full((2, n_controls, y.shape[1]), np.nan)
    for number in progress_bar(range(n_controls), description="shuffled features"):
        shuffled = _contributions(method, random.permuted(rows, axis=0), y, splits)
        r2[number], largest[number] = shuffled.r2, shuffled.per_stimulus.mean(-1).max(0)
    labels = {"units": "R2"}
    data["r2_shuffled"] = (("control", "unit"), r2, {**labels, "long_name": "held-out R2 of shuffled features"})
    data["largest_shuffled"] = (
        ("control", "unit"),
        largest,
        {**labels, "long_name": "largest contribution of a shuffled feature"},
    )


def _cautions(data: xr.Dataset) -> tuple[str, ...]:
    gap = float((data["r2_activations"] - data["r2"]).mean())
    if gap <= 0.1 * abs(float(data["r2_activations"].mean())) or float(data["r2_activations"].mean()) <= 0:
        return ()
    return (
        f"the activations predict better than the features by {gap:.3g} on average: what the dictionary leaves out "
        "carries part of the alignment",
    )
