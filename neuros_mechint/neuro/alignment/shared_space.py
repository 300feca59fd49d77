"""One space for several recordings of the same stimuli: subjects, sessions or kinds of measurement."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option
from neuros_mechint.core.joining import by_text
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike
from neuros_mechint.neuro.alignment.linear.cca import whiten
from neuros_mechint.neuro.alignment.linear.estimator import (
    Estimator,
    centred,
    check_components,
    features,
    principal_axes,
)
from neuros_mechint.neuro.alignment.linear.held_out import check_test_rows, correlations, folds, mean_over_folds
from neuros_mechint.neuro.alignment.samples import joined, same_kind
from neuros_mechint.neuro.alignment.shared_results import SharedSpaceScores

METHODS = ("gcca", "hyperalignment")
CITATIONS = ("kettenring1971", "haxby2011")
_FEWEST_SAMPLES = 3
_TOLERANCE, _MOST_ROUNDS = 1e-10, 200


class SharedSpace(Estimator):
    r"""A space of few dimensions in which all recordings of the same stimuli say the same, as far as they do.

    ``gcca`` finds the signals :math:`G` that linear functions of all recordings follow best (MAX-VAR generalised
    canonical correlation); it weights directions by how much they share, whatever their variance. ``hyperalignment``
    rotates the principal components of all recordings onto their mean, and so keeps the distances within each.

    Parameters
    ----------
    n_components : int
        Dimensions of the space.
    method : {"gcca", "hyperalignment"}
    reg : float
        For ``gcca``: this many times the mean variance of the features of a recording is added to the diagonal of its
        covariance, as in `CCA`. Needed where recordings have as many features as stimuli, or nearly.

    Attributes
    ----------
    shared_ : numpy.ndarray of shape (n_stimuli, n_components)
        The signals shared by the recordings that it was fitted to, of unit variance on the whole.
    weights_ : dict of str to numpy.ndarray of shape (n_features, n_components)
        Centred recordings times these come close to ``shared_``.
    patterns_ : dict of str to numpy.ndarray of shape (n_components, n_features)
        How each shared signal shows in each recording.

    References
    ----------
    Kettenring 1971, Canonical analysis of several sets of variables, doi:10.1093/biomet/58.3.433; Haxby et al. 2011,
    A common, high-dimensional model of the representational space in human ventral temporal cortex,
    doi:10.1016/j.neuron.2011.08.026

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> shared = random.normal(size=(200, 2))
    >>> spikes, voxels = (shared @ random.normal(size=(2, n)) + random.normal(size=(200, n)) for n in (30, 50))
    >>> space = SharedSpace(n_components=2).fit({"spikes": spikes, "voxels": voxels})
    >>> space.predict("spikes", "voxels", spikes).shape
    (200, 50)
    """

    def __init__(self, n_components: int, method: str = "gcca", reg: float = 0.0) -> None:
        self.n_components = n_components
        self.method = method
        self.reg = reg

    def fit(self, recordings: Any) -> SharedSpace:
        """Find the space.

        Parameters
        ----------
        recordings : mapping of str to data, or sequence of data
            At least two, ``(n_stimuli, n_features)`` each, see `neuros_mechint.neuro.alignment.samples.samples`;
            numbers of features may differ. Labelled ones are joined by label to the first. Of a sequence they are
            called by their numbers, ``"0"``, ``"1"``, ...

        Returns
        -------
        SharedSpace

        Raises
        ------
        InputError
            One recording, other stimuli, fewer than 3, more components than the ranks allow, or data that do not vary.
        OptionError
            Unknown method.

        Warns
        -----
        UserWarning
            By ``gcca`` without regularisation, if the ranks of two recordings add up to as many as there are stimuli:
            they then share signals whatever they hold.
        """
        views = _views(recordings)
        self._fit(views)
        for text in self._saturated(views, len(self.shared_)):
            warnings.warn(text, UserWarning, stacklevel=2)
        return self

    def transform(self, name: str, X: Any) -> Any:
        """Return new responses of one recording in the shared space.

        Parameters
        ----------
        name : str
            Which recording.
        X : (n_stimuli, n_features)

        Returns
        -------
        (n_stimuli, n_components) of the kind of ``X``
        """
        self._require_fit("means_")
        mean, weights = self._of(name, self.means_), self._of(name, self.weights_)
        return same_kind((features(X, len(mean)) - mean) @ weights, X)

    def predict(self, source: str, target: str, X: Any) -> Any:
        """Return the responses that one recording lets expect in another.

        Parameters
        ----------
        source, target : str
            Which recordings.
        X : (n_stimuli, n_source_features)
            Responses of the source.

        Returns
        -------
        (n_stimuli, n_target_features) of the kind of ``X``
        """
        self._require_fit("means_")
        mean, weights = self._of(source, self.means_), self._of(source, self.weights_)
        patterns, target_mean = self._of(target, self.patterns_), self._of(target, self.means_)
        return same_kind((features(X, len(mean)) - mean) @ weights @ patterns + target_mean, X)

    def score(self, recordings: Any, cv: Any = 5, groups: Sequence[Any] | None = None, seed: SeedLike = 0) -> float:
        """Return the held-out correlation of the recordings in the shared space, averaged over pairs and components.

        Parameters
        ----------
        recordings
            As for `fit`.
        cv, groups, seed
            See `neuros_mechint.neuro.alignment.linear.held_out.folds`.

        Returns
        -------
        float
            Around 0 where they share nothing.
        """
        return float(self.evaluate(recordings, cv, groups, seed).data["correlation"].mean())

    def evaluate(
        self, recordings: Any, cv: Any = 5, groups: Sequence[Any] | None = None, seed: SeedLike = 0
    ) -> SharedSpaceScores:
        """Return how well the space holds for new stimuli, and lets one recording predict another.

        Parameters
        ----------
        recordings
            As for `fit`.
        cv, groups, seed
            See `neuros_mechint.neuro.alignment.linear.held_out.folds`.

        Returns
        -------
        SharedSpaceScores

        Raises
        ------
        InputError
            As for `fit`, or folds of fewer than 3 stimuli.
        """
        views = _views(recordings)
        splits = folds(len(next(iter(views.values()))), cv, groups, seed)
        check_test_rows(splits, _FEWEST_SAMPLES, "a correlation")
        shared: list[Floats] = []
        across: list[Floats] = []
        for train, test in splits:
            space = self._copy()._fit({name: values[train] for name, values in views.items()})
            held_out = {name: values[test] for name, values in views.items()}
            shared.append(space._agreement(held_out))
            across.append(space._predictions(held_out))
        n_train = min(len(train) for train, _ in splits)
        notes = self._saturated(views, n_train)
        return self._scores(list(views), mean_over_folds(shared), mean_over_folds(across), seed, notes)

    def _saturated(self, views: Mapping[str, Floats], n_samples: int) -> tuple[str, ...]:
        """Return a warning where recordings have so many features that they share signals whatever they hold."""
        ranks = sorted(min(values.shape[1], n_samples - 1) for values in views.values())
        if self.method != "gcca" or self.reg > 0 or sum(ranks[-2:]) < n_samples:
            return ()
        return (
            f"{n_samples} stimuli, and recordings of {ranks[-1]} and {ranks[-2]} dimensions: they share signals "
            "whatever they hold. Use fewer features, or reg above 0, and trust held-out scores only",
        )

    def _fit(self, views: Mapping[str, Floats]) -> SharedSpace:
        check_option("method", self.method, METHODS)
        if len(next(iter(views.values()))) < _FEWEST_SAMPLES:
            raise InputError("too few stimuli", expected=f"at least {_FEWEST_SAMPLES}")
        self.means_ = {name: centred(values)[1] for name, values in views.items()}
        found: Callable[[Mapping[str, Floats]], tuple[Floats, dict[str, Floats]]]
        found = self._gcca if self.method == "gcca" else self._hyperalign
        self.shared_, self.weights_ = found(views)
        solve = np.linalg.pinv(self.shared_)
        self.patterns_ = {name: solve @ centred(values)[0] for name, values in views.items()}
        return self

    def _gcca(self, views: Mapping[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
        white = {name: whiten(values, self.reg, name) for name, values in views.items()}
        n_samples = len(next(iter(views.values())))
        ranks = {name: one.rank for name, one in white.items()}
        count = check_components(self.n_components, min(ranks.values()), f"ranks are {ranks}")
        signals = np.linalg.svd(np.hstack([one.scores for one in white.values()]), full_matrices=False)[0]
        shared = signals[:, :count] * np.sqrt(n_samples - 1)
        weights = {name: one.map @ (one.scores.T @ shared) / (n_samples - 1) for name, one in white.items()}
        return shared, weights

    def _hyperalign(self, views: Mapping[str, Floats]) -> tuple[Floats, dict[str, Floats]]:
        """Iterate: rotate each recording's principal components onto the mean of the others, once rotated."""
        scores, axes = {}, {}
        for name, values in views.items():
            left, sizes, right = principal_axes(centred(values)[0], name)
            count = check_components(self.n_components, sizes.size, f"{name} has rank {sizes.size} once centred")
            size = np.sqrt((sizes[:count] ** 2).sum() / (len(values) - 1) / count)  # none weighs more for its units
            scores[name], axes[name] = left[:, :count] * (sizes[:count] / size), right[:count].T / size
        rotations = {name: np.eye(self.n_components) for name in views}
        mean = next(iter(scores.values()))
        before = np.inf
        for _ in range(_MOST_ROUNDS):
            for name, one in scores.items():
                left, _, right = np.linalg.svd(one.T @ mean)
                rotations[name] = left @ right
            mean = np.mean([one @ rotations[name] for name, one in scores.items()], axis=0)
            error = sum(float(((one @ rotations[name] - mean) ** 2).sum()) for name, one in scores.items())
            if before - error <= _TOLERANCE * error:
                break
            before = error
        # the axes of most agreement first
        order = np.linalg.svd(mean, full_matrices=False)[2].T
        return mean @ order, {name: axes[name] @ rotations[name] @ order for name in views}

    def _agreement(self, held_out: Mapping[str, Floats]) -> Floats:
        """Return the correlation of each pair of recordings in each component, ``(n_pairs, n_components)``."""
        moved = {name: (values - self.means_[name]) @ self.weights_[name] for name, values in held_out.items()}
        return np.stack([correlations(moved[one], moved[other]) for one, other in combinations(moved, 2)])

    def _predictions(self, held_out: Mapping[str, Floats]) -> Floats:
        """Return the mean correlation of predicted and real responses, ``(n_sources, n_targets)``; NaN for its own."""
        names = list(held_out)
        found = np.full((len(names), len(names)), np.nan)
        for source, target in permutations(range(len(names)), 2):
            predicted = self.predict(names[source], names[target], held_out[names[source]])
            per_feature = correlations(predicted, held_out[names[target]])
            if not np.isnan(per_feature).all():
                found[source, target] = np.nanmean(per_feature)
        return found

    def _of(self, name: str, values: Mapping[str, Floats]) -> Floats:
        check_option("recording", name, list(values))
        return values[name]

    def _scores(
        self, names: list[str], shared: Floats, across: Floats, seed: SeedLike, notes: tuple[str, ...]
    ) -> SharedSpaceScores:
        pairs = [" - ".join(pair) for pair in combinations(names, 2)]
        units = {"units": ""}
        data = xr.Dataset(
            {
                "correlation": (("pair", "component"), shared, {**units, "long_name": "held-out correlation"}),
                "prediction": (("source", "target"), across, {**units, "long_name": "held-out prediction"}),
            },
            coords={"pair": pairs, "component": np.arange(1, shared.shape[1] + 1), "source": names, "target": names},
        )
        arguments = {**self.get_params(), "recordings": names}
        return SharedSpaceScores(
            data,
            f"Shared space of {len(names)} recordings ({self.method})",
            attributes={"method": self.method, "n_components": self.n_components},
            provenance=Provenance.record(seed=seed, arguments=arguments),
            citations=CITATIONS[:1] if self.method == "gcca" else CITATIONS[1:],
            warnings=notes,
        )


def _views(recordings: Any) -> dict[str, Floats]:
    """Return recordings by name with one row per stimulus, in the order of the first."""
    named = by_text(recordings, "recordings")
    if len(named) < 2:
        raise InputError("one recording shares nothing", expected="at least two of the same stimuli", got=len(named))
    return dict(zip(named, joined(list(named.items())), strict=True))
