"""Absorption: how often the feature of a concept is silent where the concept is present, because another took over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.dictionary import Dictionary
from neuros_mechint.core.errors import InputError, number
from neuros_mechint.core.figures.colours import PALE
from neuros_mechint.core.figures.plotting import PALETTE
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.correlations import constant_columns
from neuros_mechint.features.evaluation.measures import decoder_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LINES = 30
# A feature that stands for a direction has a cosine of .9 or more with it where the truth is known (planted
# dictionaries); below a half, less than a quarter of what it adds lies along the concept.
_LOW_COSINE = 0.5
# How much better another feature must follow a concept to be pointed out, in correlation.
_BETTER = 0.1


class Absorption(Result):
    """How often the feature of each concept is absorbed.

    ``data`` holds, over ``(concept,)``: ``absorbed``, the share of the observations with the concept in which its main
    feature is silent and another carries the concept; ``silent``, the share in which the main feature is silent;
    ``main``, that feature, its ``cosine`` with the concept and its ``correlation`` with the concept's strength;
    ``follower``, the feature whose ``follower_correlation`` is the largest (-1 where none is above zero);
    ``absorber``, the feature that takes over most often, -1 for none; ``n_present``, the number of
    observations with the concept.
    """

    @property
    def mean(self) -> float:
        """Absorbed share, averaged over concepts."""
        return float(self.data["absorbed"].mean())

    @property
    def figure_size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return float(np.clip(2 + 0.35 * self.main.size, 6, 9)), 3.6

    def _draw(self, ax: Axes) -> None:
        place = np.arange(self.data.sizes["concept"])
        ax.bar(place, self.data["silent"], 0.6, color=PALE, label="main feature silent")
        ax.bar(place, self.data["absorbed"], 0.6, color=PALETTE[0], label="of which absorbed by another")
        ax.set_xticks(place, [f"{name}\n({main})" for name, main in self._named_mains()])
        ax.set_xlim(-0.6, len(place) - 0.4)
        ax.set_ylim(0, 1.25)
        ax.set_yticks(np.linspace(0, 1, 5))
        ax.set(xlabel="concept (its main feature)", ylabel="share of its observations")
        ax.grid(axis="y")
        ax.legend(loc="upper right", ncols=2)

    def _named_mains(self) -> list[tuple[str, int]]:
        return [
            (str(name), int(main))
            for name, main in zip(self.data["concept"].values, self.data["main"].values, strict=True)
        ]

    def _summary_lines(self) -> list[str]:
        """Return one line per concept, the most absorbed first."""
        lines = [
            f"on average {self.mean:.1%} absorbed, {float(self.data['silent'].mean()):.1%} with a silent main feature",
        ]
        table = self.to_dataframe().sort_values("absorbed", ascending=False, kind="stable")
        for row in table.head(_MOST_LINES).to_dict("records"):
            taker = f" (most often by feature {row['absorber']})" if row["absorber"] >= 0 else ""
            lines.append(
                f"  concept {row['concept']}: main feature {row['main']} (cosine {row['cosine']:.2f}), absorbed "
                f"{row['absorbed']:.1%}{taker}, silent {row['silent']:.1%} of {row['n_present']} observations"
            )
        if len(table) > _MOST_LINES:
            lines.append(f"  and {len(table) - _MOST_LINES} less absorbed concepts")
        return lines


def absorption(
    codes: Any,
    decoder: Any,
    directions: Any,
    strength: Any,
    *,
    main: Sequence[int] | None = None,
    minimum_cosine: float = 0.025,
    minimum_share: float = 0.4,
) -> Absorption:
    """Measure how often the feature of a concept is silent because another feature took the concept over.

    Parameters
    ----------
    codes : array of shape (n_observations, n_features)
        Feature activations.
    decoder : fitted autoencoder, or array of shape (n_features, n_inputs)
        What one unit of each feature adds to the activations, ``sae.decoder``.
    directions : array of shape (n_concepts, n_inputs)
        Where each concept lies: the planted vectors, or the weights of probes. Only the direction counts.
    strength : array of shape (n_observations, n_concepts)
        How far each observation reaches along each direction, in the units of the activations: the planted activation
        times the length of the planted vector, or a probe's projection where the probe finds the concept. Zero or less
        says that the concept is absent.
    main : sequence of int, optional
        The feature of each concept; without it, the one whose decoder has the largest cosine with the direction. A
        feature that does not stand for its concept is silent without being absorbed: warnings say where two concepts
        share one, where its cosine is below 0.5, and where another feature follows the strength better.
    minimum_cosine : float
        Least cosine of an absorbing feature with the direction.
    minimum_share : float
        Least share of ``strength`` that the absorbing feature alone contributes along the direction.

    Returns
    -------
    Absorption

    Raises
    ------
    InputError
        Shapes that do not fit, values that are not finite, a direction of length zero, or a concept that is never
        present.
    OptionError
        A threshold that is not above 0 and at most 1.

    References
    ----------
    Chanin et al. 2024, A is for Absorption, doi:10.48550/arXiv.2409.14507

    Examples
    --------
    Feature 0 stands for the parent; feature 1 for parent and child in one, so that feature 0 rests with the child.

    >>> decoder = [[1.0, 0.0], [1.0, 1.0]]
    >>> codes = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    >>> float(absorption(codes, decoder, [[1.0, 0.0]], [[1.0], [1.0], [1.0], [1.0]]).data["absorbed"][0])
    0.5
    """
    minimum_cosine = number("minimum_cosine", minimum_cosine, 0, 1)
    minimum_share = number("minimum_share", minimum_share, 0, 1)
    active, vectors, concepts, reach = (
        _matrix(name, value)
        for name, value in (
            ("codes", codes),
            ("decoder", _decoder(decoder)),
            ("directions", directions),
            ("strength", strength),
        )
    )
    _check_shapes(active, vectors, concepts, reach)
    unit = concepts / np.linalg.norm(concepts, axis=1, keepdims=True)
    along = vectors @ unit.T  # (feature, concept): what one unit of a feature adds along the concept
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = along / np.where(lengths > 0, lengths, 1)
    chosen = cosine.argmax(0) if main is None else _main_features(main, len(unit), len(vectors))
    rows = [
        _one_concept(active, along[:, i], cosine[:, i], reach[:, i], int(chosen[i]), minimum_cosine, minimum_share)
        for i in range(len(unit))
    ]
    data = _labelled(rows, chosen, cosine[chosen, np.arange(len(unit))], _correlations(active, reach))
    n_concepts = f"{len(unit)} concept{'' if len(unit) == 1 else 's'}"
    return Absorption(
        data,
        f"Absorption of {n_concepts} among {len(vectors)} features",
        attributes={"minimum_cosine": minimum_cosine, "minimum_share": minimum_share, "n_observations": len(active)},
        citations=("chanin2024",),
        warnings=tuple(_doubts(data)),
    )


def _decoder(decoder: Any) -> Any:
    """Return the matrix of a fitted dictionary, or what was given."""
    if isinstance(decoder, Dictionary):
        return decoder_of(decoder)
    if hasattr(decoder, "shape") or isinstance(decoder, Sequence):
        return decoder
    raise InputError(
        "this is no decoder",
        expected="a fitted autoencoder, or its directions, such as sae.decoder, (n_features, n_inputs)",
        got=type(decoder).__name__,
    )


def _correlations(active: Floats, reach: Floats) -> Floats:
    """Return how well each feature follows the strength of each concept, ``(feature, concept)``.

    A constant gives 0: a feature that is always silent follows nothing, and must not come before those that do.
    """
    return _standard(active).T @ _standard(np.maximum(reach, 0))


def _standard(matrix: Floats) -> Floats:
    """Return columns without their mean and of length one; those that are constant are zero."""
    centred = np.where(constant_columns(matrix), 0.0, matrix - matrix.mean(0))
    length = np.linalg.norm(centred, axis=0)
    return centred / np.where(length > 0, length, 1.0)


def _doubts(data: xr.Dataset) -> list[str]:
    """Return where the main feature may not be that of its concept, so that its silence is no absorption."""
    table = data.to_dataframe().reset_index()
    notes: list[str] = []
    for main, rows in table.groupby("main"):
        if len(rows) > 1:
            names = " and ".join(map(str, rows["concept"]))
            notes.append(f"concepts {names} have one main feature, {main}, which can stand for one of them at most")
    low = [row for row in table.to_dict("records") if row["cosine"] < _LOW_COSINE]
    if low:
        each = ", ".join(f"{row['concept']} ({row['cosine']:.2f})" for row in low)
        notes.append(
            f"the main feature hardly points along these concepts (cosine below {_LOW_COSINE:g}): {each}; a feature "
            "that was found has .9 or more, so that these may have no feature that could be absorbed"
        )
    for row in table.to_dict("records"):
        if row["follower"] not in (-1, row["main"]) and row["follower_correlation"] > row["correlation"] + _BETTER:
            notes.append(
                f"concept {row['concept']}: feature {row['follower']} follows it better "
                f"(r = {row['follower_correlation']:.2f}) than its main feature {row['main']} "
                f"(r = {row['correlation']:.2f}); if that is the feature of the concept, name it: main="
            )
    return notes


def _one_concept(
    active: Floats,
    along: Floats,
    cosine: Floats,
    reach: Floats,
    main: int,
    minimum_cosine: float,
    minimum_share: float,
) -> tuple[float, float, int, int]:
    """Return absorbed share, silent share, most frequent absorber and number of observations with the concept."""
    present = reach > 0
    silent = present & (active[:, main] <= 0)
    contribution = np.where(cosine >= minimum_cosine, active[silent] * along, -np.inf)  # the main feature adds nothing
    absorbed = contribution.max(1, initial=-np.inf) >= minimum_share * reach[silent]
    takers = np.bincount(contribution[absorbed].argmax(1), minlength=len(cosine)) if absorbed.any() else None
    total = int(present.sum())
    return absorbed.sum() / total, silent.sum() / total, -1 if takers is None else int(takers.argmax()), total


def _labelled(rows: list[tuple[float, float, int, int]], main: Any, cosine: Floats, correlation: Floats) -> xr.Dataset:
    absorbed, silent, absorber, total = (np.asarray(column) for column in zip(*rows, strict=True))
    best, concepts = correlation.argmax(0), np.arange(len(rows))
    follower = np.where(correlation[best, concepts] > 0, best, -1)
    along = ("concept",)
    return xr.Dataset(
        {
            "absorbed": (along, absorbed, {"long_name": "share of observations with the concept that are absorbed"}),
            "silent": (along, silent, {"long_name": "share of observations with the concept, main feature silent"}),
            "main": (along, main, {"long_name": "feature of the concept"}),
            "cosine": (along, cosine, {"long_name": "cosine of that feature's decoder with the concept"}),
            "correlation": (along, correlation[main, concepts], {"long_name": "its correlation with the strength"}),
            "follower": (along, follower, {"long_name": "feature that follows the strength best, -1 for none"}),
            "follower_correlation": (along, correlation[best, concepts], {"long_name": "correlation of that feature"}),
            "absorber": (along, absorber, {"long_name": "feature that absorbs it most often, -1 for none"}),
            "n_present": (along, total, {"long_name": "observations with the concept"}),
        },
        coords={"concept": concepts},
    )


def _matrix(name: str, value: Any) -> Floats:
    held = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
    matrix = np.asarray(held, dtype=float)
    if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
        shape = f"shape {matrix.shape}"
        got = shape if matrix.ndim != 2 or not matrix.size else f"{shape}, some values not finite"
        raise InputError(f"{name} is no matrix of numbers", expected="two axes and finite values", got=got)
    return matrix


def _check_shapes(active: Floats, vectors: Floats, concepts: Floats, reach: Floats) -> None:
    fits = (
        active.shape[1] == len(vectors)
        and vectors.shape[1] == concepts.shape[1]
        and reach.shape == (len(active), len(concepts))
    )
    if not fits:
        raise InputError(
            "these do not fit together",
            expected="codes (n_observations, n_features), decoder (n_features, n_inputs), directions "
            "(n_concepts, n_inputs), strength (n_observations, n_concepts)",
            got=", ".join(str(matrix.shape) for matrix in (active, vectors, concepts, reach)),
        )
    if not np.linalg.norm(concepts, axis=1).all():
        raise InputError("a direction of length zero points nowhere", fix="leave this concept out")
    absent = np.flatnonzero(~(reach > 0).any(0))
    if absent.size:
        raise InputError(
            "a concept is never present",
            expected="some strength above zero for each concept",
            got=f"none for concepts {absent.tolist()}",
            fix="give more observations, or leave these concepts out",
        )


def _main_features(main: Sequence[int], n_concepts: int, n_features: int) -> npt.NDArray[np.int64]:
    chosen = np.asarray(main)
    if (
        chosen.shape != (n_concepts,)
        or chosen.dtype.kind not in "iu"
        or not ((chosen >= 0) & (chosen < n_features)).all()
    ):
        raise InputError(
            "main does not name the feature of each concept",
            expected=f"{n_concepts} numbers of features, from 0 to {n_features - 1}",
            got=list(main),
        )
    return chosen.astype(np.int64)
