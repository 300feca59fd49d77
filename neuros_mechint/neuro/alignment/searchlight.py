"""Where in a brain the geometry of a model is found: RSA in a sphere around every voxel."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import CapabilityError, InputError, number, whole
from neuros_mechint.core.figures.plotting import INK, heat_map
from neuros_mechint.core.labels import as_numpy
from neuros_mechint.core.parallel import parallel_map
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT, adjust_p
from neuros_mechint.neuro.alignment.rsa.compare import check_varied, without_variance
from neuros_mechint.neuro.alignment.rsa.inference.entrants import Entrant, entrants
from neuros_mechint.neuro.alignment.rsa.inference.permutation import null_scores, permutation_p
from neuros_mechint.neuro.alignment.rsa.rdm import compute_rdm
from neuros_mechint.neuro.alignment.rsa.rsa import RSA
from neuros_mechint.neuro.alignment.rsa.stack import RDMStack, rdm_stack
from neuros_mechint.neuro.alignment.samples import SAMPLE_AXES, Labels, Samples, samples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NUMBERS_AT_ONCE = 2**22
_FEWEST_VOXELS = 2
_FEWEST_CONDITIONS = 3


class SearchlightMap(Result):
    """Scores of models around each voxel.

    ``data`` holds over ``(model, center)`` the ``score``, its ``p`` and ``p_adjusted`` for the false discovery rate
    over the centres of that model; NaN where a sphere has no RDM. ``center`` is the number of the voxel in the flat
    volume, with the coordinates ``x``, ``y``, ``z`` (its place) and ``n_voxels`` (size of the sphere).
    """

    def volume(self, model: str | None = None, variable: str = "score") -> np.ndarray:
        """Return a map in the shape of the mask, NaN where there is no centre.

        Parameters
        ----------
        model : str, optional
            Default: the first.
        variable : {"score", "p", "p_adjusted"}
        """
        values = self.data[variable]
        chosen = values.isel(model=0) if model is None else values.sel(model=model)
        volume = np.full(tuple(self.attributes["shape"]), np.nan)
        volume[tuple(self.data[axis].values for axis in "xyz")] = chosen.values
        return volume

    def significant(self, model: str | None = None) -> np.ndarray:
        """Return which voxels have a score above chance at a false discovery rate of 5%, in the shape of the mask."""
        chance = float(self.data["chance"].isel(model=0) if model is None else self.data["chance"].sel(model=model))
        return (self.volume(model, "p_adjusted") <= SIGNIFICANT) & (self.volume(model) > chance)

    def _summary_lines(self) -> list[str]:
        """Return the peak of each model and how much of the map is above chance."""
        lines = [f"{self.data.sizes['center']} centres, {self.attributes['n_permutations']} permutations"]
        for model in self.data["model"].values.tolist():
            volume = self.volume(model)
            peak = np.unravel_index(int(np.nanargmax(volume)), volume.shape)
            place = ", ".join(map(str, (int(axis) for axis in peak)))
            found = int(self.significant(model).sum())
            lines.append(f"{model}: peak {volume[peak]:.3f} at ({place}), {found} centres above chance (FDR 5%)")
        return lines

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        x, y, _ = self.attributes["shape"]
        return 7.0, float(np.clip(1.2 + 5.0 * y / x, 3.4, 8.0))

    def _draw(self, ax: Axes) -> None:
        """Draw the highest score along z at each place, and where any of these is above chance."""
        model = str(self.data["model"].values[0])
        volume = self.volume(model)
        highest = np.where(np.isnan(volume), -np.inf, volume).max(2)
        seen = xr.DataArray(np.where(np.isfinite(highest), highest, np.nan).T, dims=("y", "x"))
        seen = seen.assign_coords(x=np.arange(volume.shape[0]), y=np.arange(volume.shape[1]))
        seen.attrs["long_name"] = "score, highest along z"
        heat_map(seen, ax)
        x, y = np.nonzero(self.significant(model).any(2))
        ax.plot(x, y, linestyle="none", marker=".", markersize=5, color=INK, label="above chance (FDR 5%)")
        ax.set_title(f"{self.title}: {model}")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))


@dataclass(frozen=True)
class _Search:
    """What all spheres have in common."""

    values: Floats
    labels: Labels | None
    conditions: tuple[Any, ...] | None
    folds: tuple[Any, ...] | None
    method: RSA

    def rdm(self, voxels: npt.NDArray[np.intp]) -> RDMStack | None:
        """Return the RDM of a sphere; None where its voxels have none."""
        patterns = self.values[:, voxels]
        if len(voxels) < _FEWEST_VOXELS:
            return None
        try:
            found = compute_rdm(patterns, self.method.rdm, conditions=self.conditions, folds=self.folds)
        except InputError:
            if self.method.rdm != "correlation":
                raise
            return None  # a pattern that does not vary correlates with nothing
        stack = rdm_stack(found, "the RDM of a sphere")
        if self.conditions is None:  # arrays with labels would take longer than the RDM
            stack = RDMStack(stack.pairs, stack.n_conditions, self.labels)
        return None if without_variance(stack.pairs, self.method.compare)[0] else stack


def searchlight_rsa(
    models: Any,
    data: Any,
    mask: npt.ArrayLike,
    *,
    radius: float = 3.0,
    threshold: float = 0.5,
    method: RSA | None = None,
    conditions: Sequence[Any] | None = None,
    folds: Sequence[Any] | None = None,
    n_permutations: int = 1000,
    n_jobs: int | None = None,
    seed: SeedLike = 0,
) -> SearchlightMap:
    """Compare models with the RDM of the voxels around each voxel, and test each place against permuted conditions.

    Spheres are those of rsatoolbox, without what lies outside the mask. RDMs are made, compared and forgotten a few
    hundred at a time, so that memory does not grow with the volume; conditions are permuted in the same way everywhere.

    Parameters
    ----------
    models : mapping, array_like, torch.Tensor, xarray.DataArray or rsatoolbox RDMs
        Names with one RDM each, or RDMs. Labelled ones are joined to the data by label.
    data : array_like, torch.Tensor, xarray.DataArray or Recording
        One row per stimulus: ``(n_stimuli, n_voxels)``, the voxels of the mask in C order as ``volume[mask]`` gives
        them, or volumes ``(n_stimuli, x, y, z)``, which may be NaN outside the mask.
    mask : array_like of bool, (x, y, z)
    radius : float
        In voxels; voxels nearer than that belong to the sphere.
    threshold : float
        Share of the sphere, as far as it lies in the volume, that must be in the mask for a voxel to be a centre.
    method : RSA, optional
        How RDMs are made and compared. Default: `RSA()`.
    conditions, folds : sequence of length n_rows, optional
        As in `compute_rdm`: what was shown in each row where conditions come several times, and, for crossnobis, the
        run it comes from.
    n_permutations : int
        The smallest p is one over one more than that. With many centres, of which few are above chance, more are
        needed for any to pass the correction.
    n_jobs : int or None
        See `parallel_map`.
    seed : int or numpy.random.Generator

    Returns
    -------
    SearchlightMap
        ``.volume("model")``, ``.significant("model")``. Two-sided p values, as in `RSA.evaluate`; spheres that have no
        RDM (one voxel, voxels that do not vary) are NaN, which a warning counts.

    Raises
    ------
    InputError
        A mask that is not three-dimensional or empty, other numbers of voxels, values that are not finite, conditions
        that are not those of the models, fewer than three conditions, or no sphere with an RDM.
    CapabilityError
        A model that is fitted.

    References
    ----------
    Kriegeskorte, Goebel and Bandettini 2006, Information-based functional brain mapping, doi:10.1073/pnas.0600244103;
    Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> random = np.random.default_rng(0)
    >>> volumes, mask = random.normal(size=(12, 6, 6, 6)), np.ones((6, 6, 6), bool)
    >>> volumes[:, :3, :3, :3] += 2 * random.normal(size=(12, 3))[:, :, None, None]
    >>> model = nm.compute_rdm(volumes[:, :3, :3, :3].reshape(12, -1))
    >>> result = nm.searchlight_rsa({"planted": model}, volumes, mask, radius=2, n_permutations=200)
    >>> bool(result.significant("planted")[1, 1, 1]), bool(result.significant("planted")[5, 5, 5])
    (True, False)
    """
    inside = _checked_mask(mask)
    number("radius", radius, 1, np.inf)
    number("threshold", threshold, 0, 1)
    method, n_permutations = RSA() if method is None else method, whole("n_permutations", n_permutations)
    rows = _in_mask(data, inside)
    shown, runs = (None if given is None else tuple(given) for given in (conditions, folds))
    if folds is not None and shown is None:
        shown = rows.labels
    search = _Search(rows.values, rows.labels, shown, runs, method)
    centers, spheres = _spheres(inside, float(radius), float(threshold))
    candidates, n_pairs = _candidates(models, search, spheres)
    reference = np.concatenate([candidate.stack.pairs for candidate in candidates])
    check_varied(reference, method.compare, "the models")
    at_once = max(1, _NUMBERS_AT_ONCE // max(n_pairs, n_permutations + 1))
    blocks = [spheres[start : start + at_once] for start in range(0, len(spheres), at_once)]
    draws = int(generator(seed).integers(2**62))  # one seed: the same permutations everywhere
    score = partial(_scored, search, reference, n_permutations, draws)
    parts = parallel_map(score, blocks, n_jobs, progress=True, description="searchlight")
    scores, p, chance = (np.concatenate([part[kind] for part in parts], axis=1) for kind in range(3))
    arguments = {
        "method": repr(method),
        "radius": float(radius),
        "threshold": float(threshold),
        "n_permutations": n_permutations,
    }
    record = Provenance.record(seed, arguments=arguments)
    names = [candidate.name for candidate in candidates]
    return _result(scores, p, chance, names, centers, spheres, inside.shape, arguments, record)


def _checked_mask(mask: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    values = np.asarray(as_numpy(mask) if isinstance(mask, torch.Tensor) else mask)
    inside = values.astype(bool) if values.dtype.kind in "biu" else None
    if inside is None or inside.ndim != 3 or not inside.any():
        raise InputError(
            "this is no mask of voxels",
            expected="(x, y, z) of bool, true somewhere",
            got=f"shape {values.shape}, dtype {values.dtype}, {np.count_nonzero(values)} voxels",
        )
    return inside


def _in_mask(data: Any, inside: npt.NDArray[np.bool_]) -> Samples:
    """Return the voxels in the mask, one row per stimulus."""
    volumes = getattr(data, "ndim", 2) == 4 or np.ndim(data) == 4
    if volumes and isinstance(data, xr.DataArray):
        axis = next((name for name in SAMPLE_AXES if name in data.dims), data.dims[0])
        data = data.transpose(axis, ...)
        labels = {axis: data[axis].values} if axis in data.coords else None
        if data.shape[1:] == inside.shape:
            data = xr.DataArray(data.values[:, inside], labels, (axis, "unit"))
    elif volumes:
        array = as_numpy(data) if isinstance(data, torch.Tensor) else np.asarray(data)
        data = array[:, inside] if array.shape[1:] == inside.shape else array
    rows = samples(data, "data")
    if rows.values.shape[1] != inside.sum():
        raise InputError(
            "the data do not fit the mask",
            expected=f"{int(inside.sum())} voxels, those of the mask, or volumes {inside.shape}",
            got=f"{rows.values.shape[1]} values in each row",
        )
    return rows


def _spheres(
    inside: npt.NDArray[np.bool_], radius: float, threshold: float
) -> tuple[npt.NDArray[np.intp], list[npt.NDArray[np.intp]]]:
    """Return centres as numbers in the flat volume, and which voxels of the mask belong to the sphere of each."""
    from rsatoolbox.util.searchlight import get_volume_searchlight

    # rsatoolbox judges the threshold after it cut the sphere to the mask, so that it says nothing: both are done here
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        centers, neighbors = get_volume_searchlight(inside, radius, threshold=0)  # pyright: ignore[reportArgumentType]
    flat, place = inside.ravel(), np.cumsum(inside.ravel()) - 1
    kept = [number for number, voxels in enumerate(neighbors) if flat[voxels].mean() >= threshold]
    if not kept:
        raise InputError(
            "no sphere lies in the mask as far as asked",
            expected=f"a voxel with at least {threshold:.0%} of its sphere in the mask",
            fix="use a lower threshold or a smaller radius",
        )
    return np.asarray(centers)[kept], [place[neighbors[number][flat[neighbors[number]]]] for number in kept]


def _candidates(models: Any, search: _Search, spheres: list[npt.NDArray[np.intp]]) -> tuple[list[Entrant], int]:
    """Return the models in the order of the conditions of the data, and how many pairs there are."""
    first = next((rdm for rdm in map(search.rdm, spheres) if rdm is not None), None)
    if first is None:
        raise InputError(
            "no sphere has an RDM",
            expected="spheres of at least 2 voxels that vary over conditions",
            got=f"{len(spheres)} spheres without",
            fix="use a larger radius",
        )
    if first.n_conditions < _FEWEST_CONDITIONS:
        raise InputError("too few conditions to compare", expected="at least 3", got=first.n_conditions)
    candidates = entrants(models, first)
    fitted = [candidate.name for candidate in candidates if candidate.kind != "fixed"]
    if fitted:
        raise CapabilityError(f"{', '.join(fitted)} would be fitted in every sphere", fix="give fixed RDMs")
    return candidates, first.pairs.shape[1]


def _scored(
    search: _Search, reference: Floats, n_permutations: int, draws: int, spheres: list[npt.NDArray[np.intp]]
) -> tuple[Floats, Floats, Floats]:
    """Return scores, p values and chance of each model in some spheres, ``(n_models, n_spheres)`` each."""
    rdms = [search.rdm(voxels) for voxels in spheres]
    known = np.array([rdm is not None for rdm in rdms])
    scores, p, chance = np.full((3, len(reference), len(spheres)), np.nan)
    if known.any():
        pairs = np.concatenate([rdm.pairs for rdm in rdms if rdm is not None])
        for row, model in enumerate(reference):
            null = null_scores(pairs, model[None], search.method.compare, n_permutations, generator(draws))
            scores[row, known], p[row, known], chance[row, known] = null[0], permutation_p(null), null.mean(0)
    return scores, p, chance


def _result(
    scores: Floats,
    p: Floats,
    chance: Floats,
    names: list[str],
    centers: npt.NDArray[np.intp],
    spheres: list[npt.NDArray[np.intp]],
    shape: tuple[int, ...],
    arguments: dict[str, Any],
    record: Provenance,
) -> SearchlightMap:
    places = np.unravel_index(centers, shape)
    both = ("model", "center")
    data = xr.Dataset(
        {
            "score": (both, scores, {"long_name": "score, RSA"}),
            "p": (both, p, {"long_name": "p"}),
            "p_adjusted": (both, np.stack([adjust_p(row, "fdr") for row in p]), {"long_name": "p, FDR over centres"}),
            "chance": ("model", np.nanmean(chance, axis=1), {"long_name": "mean score of permuted conditions"}),
        },
        {
            "model": names,
            "center": centers,
            **{axis: ("center", place) for axis, place in zip("xyz", places, strict=True)},
            "n_voxels": ("center", [len(voxels) for voxels in spheres]),
        },
    )
    n_missing = int(np.isnan(scores[0]).sum())
    texts = [f"{n_missing} of {len(spheres)} spheres have no RDM: one voxel, or voxels that do not vary"]
    for text in texts if n_missing else ():
        warnings.warn(text, UserWarning, stacklevel=3)
    return SearchlightMap(
        data,
        "Searchlight",
        attributes={**arguments, "shape": list(shape)},
        provenance=record,
        citations=("kriegeskorte2006", "benjamini1995"),
        warnings=tuple(texts) if n_missing else (),
    )
