"""Information of every site of a model about its inputs and about labels, across layers, time and training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, number, whole
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.neuro.information.estimate import n_draws
from neuros_mechint.neuro.information.flow.cautions import of_constants, of_inputs, of_sites
from neuros_mechint.neuro.information.flow.estimates import (
    ESTIMATORS,
    NEIGHBORS,
    Side,
    all_apart,
    information,
    reduced,
)
from neuros_mechint.neuro.information.flow.results import InformationFlow, InformationPlane, at_last_time
from neuros_mechint.neuro.information.flow.samples import Sites, asked_about, halves, sites_of
from neuros_mechint.neuro.information.split_error import HALF_PER_NEIGHBOR, split_error
from neuros_mechint.neuro.information.variables import Whole

_MOST_FEATURES = 3
_SHARE = {"long_name": "share of a site's variance that its components hold"}
_CITATIONS = ("saxe2018", "kolchinsky2017", "kraskov2004", "ross2014")


class InformationFlowAnalyzer(Parameterised):
    r"""How many nats every site of a model tells of its inputs and of labels, by four estimators side by side.

    ``neighbours`` (Kraskov's, of categories Ross's) and ``binned`` see the first principal components, which are fitted
    on half of the samples; the other half is what all estimates come from. ``gaussian`` sees all components, and of
    inputs only their correlations. ``noise`` adds noise to the whole site and bounds from above what is left
    (Kolchinsky and Tracey 2017). They are shown side by side, for none is right everywhere: what a deterministic
    network tells of continuous inputs is infinite, and every estimate of it says how finely it looks (Saxe et al.
    2018).

    Parameters
    ----------
    n_components : int
        Principal components of sites and inputs, at most 3.
    noise : float
        Standard deviation of the noise, in the root mean square of a site.
    n_permutations : int
        How often samples are shuffled, for ``null`` and ``p``; 0 makes no test. The default of 19 is quick, and the
        smallest p it can show is .05: 199 show .005.
    seed : int or numpy.random.Generator
        Splits and shuffles.

    References
    ----------
    Saxe et al. 2018, On the Information Bottleneck Theory of Deep Learning, https://openreview.net/forum?id=ry_WPG-A-;
    Kolchinsky and Tracey 2017, Estimating Mixture Entropy with Pairwise Distances, doi:10.3390/e19070361

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> labels = random.integers(2, size=600)
    >>> layers = {"first": labels[:, None] + random.normal(size=(600, 2)), "other": random.normal(size=(600, 2))}
    >>> found = InformationFlowAnalyzer(n_permutations=0).analyze(layers, labels=labels)
    >>> told = found.data["information"].sel(about="label", estimator="neighbours").values[:, 0]
    >>> bool(told[0] > 0.15), bool(abs(told[1]) < 0.05)
    (True, True)
    """

    def __init__(self, n_components: int = 2, noise: float = 0.1, n_permutations: int = 19, seed: SeedLike = 0) -> None:
        self.n_components = n_components
        self.noise = noise
        self.n_permutations = n_permutations
        self.seed = seed

    def analyze(
        self,
        source: Any,
        inputs: Any = None,
        labels: Any = None,
        sites: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> InformationFlow:
        """Return the information of each site, at each of its times.

        Parameters
        ----------
        source : Adapter, Activations, ActivationStore, or mapping of str to arrays
            A model from ``nm.adapt`` is run on ``inputs``; arrays are ``(n_samples, n_features)``.
        inputs : array_like or torch.Tensor, optional
            What the model is run on, or was: numbers ``(n_samples, ...)``, or tokens, of which only ``noise`` tells.
        labels : array_like, optional
            ``(n_samples,)`` categories, as text or whole numbers; or other numbers, such as behaviour.
        sites : str or sequence of str, optional
            Names or patterns. Default: all.
        batch_size : int, optional
        progress : bool
            Show a bar where it takes longer than two seconds.

        Returns
        -------
        InformationFlow
            NaN where an estimator has no answer: of a site whose states are all alike, of neighbours where states
            repeat or a label occurs once, of correlations with categories. The summary says which.

        Raises
        ------
        InputError
            Neither inputs nor labels, different numbers of samples, fewer than 200 of them, or values that are missing.
        SiteError, OptionError
        """
        n_components, noise, n_permutations = self._checked()
        if inputs is None and labels is None:
            raise InputError("nothing to be informed about", expected="inputs=..., labels=..., or both", got="neither")
        random = generator(self.seed)
        named = [(name, data) for name, data in (("input", inputs), ("label", labels)) if data is not None]
        found = sites_of(source, inputs, sites, batch_size, named)
        names = list(found.by_name)
        fitted_on, kept = halves(found.n_samples, random)
        about = asked_about(named, found.n_samples, fitted_on, kept, n_components)
        constant: dict[str, int] = {}
        shape = (len(about), len(ESTIMATORS), len(names), found.n_times)
        tables = {name: np.full(shape, np.nan) for name in ("information", "error", "null", "p")}
        tells_labels = "label" in about and about["label"].codes is not None
        shares, apart = np.full(shape[2:], np.nan), np.zeros(shape[2:], bool)
        for place, site in enumerate(progress_bar(names, description="sites", enabled=progress)):
            for time, values in enumerate(found.by_name[site]):
                layer = reduced(values, fitted_on, kept, n_components, noise)
                if layer is None:
                    constant[site] = constant.get(site, 0) + 1
                    continue
                shares[place, time] = layer.share
                apart[place, time] = tells_labels and all_apart(layer)
                for which, other in enumerate(about.values()):
                    for row, estimator in enumerate(ESTIMATORS):
                        cell = _estimated(layer, other, estimator, n_permutations, random)
                        for name, value in zip(tables, cell, strict=True):
                            tables[name][which, row, place, time] = value
        cautions = [
            *of_constants(constant, {site: len(times) for site, times in found.by_name.items()}),
            *of_inputs(tables["information"], names, about, len(kept)),
            *of_sites(names, shares, apart, about, n_components),
        ]
        for text in cautions:
            warnings.warn(text, UserWarning, stacklevel=2)
        return InformationFlow(
            _labelled(tables, about, found, n_permutations).assign(share=(("site", "time"), shares, _SHARE)),
            "Information of every site",
            attributes=self._settings()
            | {
                "n_samples": len(kept),
                "n_fitted": len(fitted_on),
                "kinds": {name: _kind(side) for name, side in about.items()},
            },
            provenance=Provenance.record(self.seed, arguments=self._settings() | {"inputs": inputs, "labels": labels}),
            citations=_CITATIONS,
            warnings=tuple(cautions),
        )

    def plane(
        self,
        checkpoints: Mapping[int, Any] | Iterable[tuple[int, Any]],
        inputs: Any,
        labels: Any,
        sites: str | Sequence[str] | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> InformationPlane:
        """Return the information of each site over training, at its last time: a description.

        Parameters
        ----------
        checkpoints : mapping of int to source, or iterable of (int, source)
            Step of training, and the model or its activations then; one at a time, so that an iterator may load them.
        inputs, labels, sites, batch_size, progress
            See `analyze`; both inputs and labels.

        Returns
        -------
        InformationPlane
            In the order of the steps.

        Raises
        ------
        InputError
            As `analyze`; fewer than two checkpoints, a step that occurs twice, or sites that differ between them.
        """
        if inputs is None or labels is None:
            raise InputError("the plane has two axes", expected="inputs and labels", got="one of them")
        pairs = _pairs(checkpoints)
        analyzer = InformationFlowAnalyzer(self.n_components, self.noise, 0, self.seed)
        steps, found = [], []
        for step, source in progress_bar(pairs, description="checkpoints", enabled=progress):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found.append(analyzer.analyze(source, inputs, labels, sites, batch_size, progress=False))
            steps.append(whole("step", step, 0))
        if len(found) < 2:
            raise InputError("no training to follow", expected="at least 2 checkpoints", got=len(found))
        _check_steps(steps, found)
        data = xr.concat(
            [at_last_time(one.data).drop_vars("time") for one in found], xr.Variable("step", steps)
        ).sortby("step")
        texts = tuple(dict.fromkeys(text for one in found for text in one.warnings))
        return InformationPlane(
            data,
            "Information plane",
            attributes=dict(found[-1].attributes),
            provenance=Provenance.record(self.seed, arguments=self._settings() | {"inputs": inputs, "labels": labels}),
            citations=_CITATIONS,
            warnings=texts,
        )

    def _checked(self) -> tuple[int, float, int]:
        n_components = int(number("n_components", whole("n_components", self.n_components), 1, _MOST_FEATURES, "both"))
        noise = number("noise", self.noise, 0, float("inf"), closed="neither")
        return n_components, noise, n_draws("n_permutations", self.n_permutations)

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("n_components", "noise", "n_permutations")}


def _pairs(checkpoints: Any) -> Iterable[tuple[int, Any]]:
    """Return steps with their sources, of a mapping at once and of an iterator one after the other."""

    def refuse(got: Any) -> InputError:
        return InputError(
            "these are no checkpoints",
            expected="a mapping of step to source, or pairs (step, source)",
            got=type(got).__name__,
        )

    def checked() -> Iterator[tuple[int, Any]]:
        for pair in checkpoints:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise refuse(pair)
            yield pair[0], pair[1]

    if isinstance(checkpoints, Mapping):
        return checkpoints.items()
    if not isinstance(checkpoints, Iterable):
        raise refuse(checkpoints)
    return checked()


def _check_steps(steps: list[int], found: list[InformationFlow]) -> None:
    if len(set(steps)) < len(steps):
        raise InputError("a step occurs twice", expected="one source for each step", got=steps)
    sites = [one.data["site"].values.tolist() for one in found]
    other = next((names for names in sites if names != sites[0]), None)
    if other is not None:
        raise InputError("checkpoints have different sites", expected=sites[0], got=other, fix="choose by sites=...")


def _estimated(
    layer: Side, about: Side, estimator: str, n_permutations: int, random: np.random.Generator
) -> tuple[float, float, float, float]:
    """Return an estimate, its error, and the mean and p of shuffled samples."""
    rows = np.arange(len(layer.few)) if layer.few is not None else np.arange(0)

    def among(some: Whole) -> float:
        return information(layer.of(some), about.of(some), estimator)

    value = information(layer, about, estimator)
    if not np.isfinite(value):
        return value, np.nan, np.nan, np.nan
    half = HALF_PER_NEIGHBOR * NEIGHBORS if estimator == "neighbours" else 0.0
    error = split_error(among, (rows,), random, half=half)[0]
    if not n_permutations or (estimator == "noise" and about.codes is None):
        return value, error, np.nan, np.nan  # whichever input comes to which sample, they are as many
    shuffled = [information(layer, about.of(random.permutation(rows)), estimator) for _ in range(n_permutations)]
    return value, error, float(np.mean(shuffled)), float(p_of_draws(value, shuffled))


def _kind(side: Side) -> str:
    """Return what was asked about: categories, numbers or tokens."""
    return "categories" if side.codes is not None else "numbers" if side.few is not None else "tokens"


def _labelled(tables: dict[str, Floats], about: dict[str, Side], found: Sites, n_permutations: int) -> xr.Dataset:
    dims = ("about", "estimator", "site", "time")
    names = {"information": "information", "error": "standard error", "null": "of shuffled samples", "p": "p"}
    kept = names if n_permutations else {key: names[key] for key in ("information", "error")}
    times = ("time", np.arange(found.n_times), {"long_name": found.axis})
    return xr.Dataset(
        {
            key: (dims, tables[key], {"long_name": text} | ({} if key == "p" else {"units": "nats"}))
            for key, text in kept.items()
        },
        coords={"about": list(about), "estimator": list(ESTIMATORS), "site": list(found.by_name), "time": times},
    )
