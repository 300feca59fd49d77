"""Partial information decomposition of samples: which part of what two sources tell of a target each of them tells."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, check_option, whole
from neuros_mechint.core.numbers import as_array
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.alignment.samples import joined
from neuros_mechint.neuro.information.partial.minimum import least_information
from neuros_mechint.neuro.information.partial.results import PartialInformation
from neuros_mechint.neuro.information.partial.tables import METHODS, MOST_CELLS, PARTS, parts_of, table_information
from neuros_mechint.neuro.information.variables import Whole, categories, refuse_few_samples

_SAMPLES_PER_CELL = 5
_PRECISION_OF_ALL = 1e-5
_PRECISION_OF_DRAWS = 1e-6
_CITATIONS = {"broja": ("bertschinger2014", "makkeh2018"), "i_min": ("williams2010",)}


def partial_information_decomposition(
    source_1: Any,
    source_2: Any,
    target: Any,
    method: str = "broja",
    level: float = 0.95,
    n_resamples: int = 200,
    seed: SeedLike = 0,
    progress: bool = True,
) -> PartialInformation:
    """Split what two sources tell of a target into redundant, unique and synergistic information.

    Two sources only: of more the parts are many, and no definition of them is agreed upon. Cells of a population become
    one source if their joint words are numbered.

    Parameters
    ----------
    source_1, source_2, target : array_like, torch.Tensor or xarray.DataArray of shape (n_samples,)
        Text, booleans or whole numbers, with few values each; labelled ones are paired by label.
    method : {"broja", "i_min"}
        What counts as redundant, see `decompose_probabilities`.
    level : float
        Coverage of the intervals, which hold sampling error.
    n_resamples : int
        Sets of samples that are drawn anew for the errors, with the target rearranged for ``p_total``, and from a
        distribution with the same pairs and no synergy for ``p_synergy``.
    seed : int or numpy.random.Generator
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    PartialInformation
        ``.redundancy``, ``.unique_1``, ``.unique_2``, ``.synergy`` and their sum ``.total`` in nats, without the bias
        that a jackknife finds; ``.p_total``, ``.p_synergy``; ``.warnings`` where samples are few for the table.

    Raises
    ------
    InputError
        A constant variable, one of too many values, fewer than 50 samples, values that are missing or no categories,
        variables that cannot be paired, or a table of more than 512 cells.
    OptionError
        Unknown method, or an option out of range.

    References
    ----------
    Bertschinger et al. 2014, Quantifying Unique Information, doi:10.3390/e16042161; Williams and Beer 2010,
    Nonnegative Decomposition of Multivariate Information, doi:10.48550/arXiv.1004.2515

    Examples
    --------
    A neuron that fires when exactly one of two others does: neither tells anything of it, both together tell a bit.

    >>> import numpy as np
    >>> first, second = np.random.default_rng(0).integers(2, size=(2, 500))
    >>> found = partial_information_decomposition(first, second, first ^ second)
    >>> print({part: abs(round(bits, 1)) for part, bits in found.bits.items()})
    {'redundancy': 0.0, 'unique_1': 0.0, 'unique_2': 0.0, 'synergy': 1.0, 'total': 1.0}
    >>> low, high = found.interval("synergy")
    >>> bool(low < np.log(2) < high), found.p_synergy < 0.01
    (True, True)
    """
    check_option("method", method, METHODS)
    level, random = coverage(level), generator(seed)
    n_resamples = whole("n_resamples", n_resamples, 19)
    arguments = {"source_1": source_1, "source_2": source_2, "target": target, "method": method, "level": level}
    provenance = Provenance.record(seed, arguments=arguments | {"n_resamples": n_resamples})
    counts = _count([("source_1", source_1), ("source_2", source_2), ("target", target)])
    together, bias = parts_of(_shares(counts), method), _bias(counts, method, progress)
    corrected = np.array(together[: len(PARTS)]) - bias
    drawn = _drawn_anew(counts, method, n_resamples, random, progress)
    error = drawn.std(0, ddof=1)
    p_total = _p_of_total(counts, n_resamples, random)
    synergy = PARTS.index("synergy")
    centred = drawn[:, synergy] - drawn[:, synergy].mean()
    # each of the two is too small in cases in which the other is right
    p_synergy = max(
        _p_without_synergy(counts, n_resamples, random, progress), float(p_of_draws(corrected[synergy], centred))
    )
    cautions = _few_samples(counts, bias)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    reach = t_reach(error, np.inf, level)
    nats = {"units": "nats"}
    data = {
        "information": ("part", corrected, nats | {"long_name": "information"}),
        "bias": ("part", bias, nats | {"long_name": "bias that was taken off"}),
        "error": ("part", error, nats | {"long_name": "standard error"}),
        "low": ("part", corrected - reach, nats | {"long_name": "lower end of the interval"}),
        "high": ("part", corrected + reach, nats | {"long_name": "upper end of the interval"}),
    }
    return PartialInformation(
        xr.Dataset(data, coords={"part": list(PARTS)}),
        "Partial information decomposition",
        attributes={
            "method": method,
            "level": level,
            "n_samples": int(counts.sum()),
            "sizes": list(counts.shape),
            "p_total": p_total,
            "p_synergy": p_synergy,
            "n_resamples": n_resamples,
            "gap": together.gap,
        },
        provenance=provenance,
        citations=_CITATIONS[method],
        warnings=cautions,
    )


def _count(named: list[tuple[str, Any]]) -> Whole:
    """Return how often each value of the first source, the second and the target occur together."""
    found = [_values(data, name) for name, data in named]
    labelled = [
        (name, data.copy(data=kinds.codes) if isinstance(data, xr.DataArray) else kinds.codes)
        for (name, data), kinds in zip(named, found, strict=True)
    ]
    codes = [column[:, 0].astype(np.intp) for column in joined(labelled)]
    refuse_few_samples(len(codes[0]))
    sizes = [len(kinds.values) for kinds in found]
    if np.prod(sizes) > MOST_CELLS:
        raise InputError(
            "the variables have too many values together",
            expected=f"a table of at most {MOST_CELLS} cells",
            got=" x ".join(map(str, sizes)),
            fix="join values, such as all counts above 3",
        )
    counts = np.zeros(sizes, dtype=np.intp)
    np.add.at(counts, tuple(codes), 1)
    return counts


def _values(data: Any, name: str) -> Any:
    shape = as_array(data, name).shape
    if len(shape) > 1:
        raise InputError(
            f"{name} is more than one variable",
            expected="two sources and a target, (n_samples,) each: for more sources there is no agreed decomposition",
            got=f"shape {shape}",
            fix="number the joint words: np.unique(x, axis=0, return_inverse=True)[1]",
        )
    return categories(data, name)


def _bias(counts: Whole, method: str, progress: bool) -> Floats:
    """Return the bias of each part that a jackknife finds: without one sample, once for all that share its cell."""
    n_samples = int(counts.sum())
    precision = min(_PRECISION_OF_ALL / n_samples, 1e-9)  # differences are multiplied by the number of samples
    cells = np.argwhere(counts > 0)
    changes = np.zeros(len(PARTS))
    together = _parts(counts, method, precision)
    for cell in progress_bar(cells, len(cells), "leave out samples of each cell", progress):
        fewer = counts.copy()
        fewer[tuple(cell)] -= 1
        changes += counts[tuple(cell)] * (_parts(fewer, method, precision) - together)
    return (n_samples - 1) * changes / n_samples


def _drawn_anew(counts: Whole, method: str, n_resamples: int, random: np.random.Generator, progress: bool) -> Floats:
    """Return the parts of tables drawn anew, ``(n_resamples, n_parts)``: they vary as the parts of samples do.

    So they do at the kinks of a minimum, where the spread that a jackknife finds is too small.
    """
    draws = random.multinomial(int(counts.sum()), _shares(counts).ravel(), n_resamples).reshape(-1, *counts.shape)
    bar = progress_bar(draws, n_resamples, "draw samples anew", progress)
    return np.array([_parts(table, method, _PRECISION_OF_DRAWS) for table in bar])


def _parts(counts: Whole, method: str, precision: float) -> Floats:
    return np.array(parts_of(_shares(counts), method, precision)[: len(PARTS)])


def _p_of_total(counts: Whole, n_resamples: int, random: np.random.Generator) -> float:
    """Return p of the hypothesis that the target is independent of both sources."""
    table = counts.reshape(-1, counts.shape[2])
    cells = np.repeat(np.arange(table.size), table.ravel())
    sources, target = np.divmod(cells, table.shape[1])
    drawn = []
    for _ in range(n_resamples):
        shuffled = sources * table.shape[1] + random.permutation(target)
        drawn.append(table_information(_shares(np.bincount(shuffled, minlength=table.size).reshape(table.shape))))
    return float(p_of_draws(table_information(_shares(table)), np.array(drawn)))


def _p_without_synergy(counts: Whole, n_resamples: int, random: np.random.Generator, progress: bool) -> float:
    """Return p of the hypothesis that both sources together tell no more than their pairs with the target imply.

    Samples are drawn from a table with the same pairs and as little synergy as chance makes. The one with the least
    has zeros that are chance's own: samples from it would have too few cells, and too little synergy.
    """
    observed = parts_of(_shares(counts), "broja", _PRECISION_OF_DRAWS).synergy
    by_chance = counts.size / (2 * int(counts.sum()))
    without = least_information(_shares(counts), by_chance).table.ravel()
    draws = random.multinomial(int(counts.sum()), without / without.sum(), n_resamples).reshape(-1, *counts.shape)
    drawn = [
        parts_of(_shares(table), "broja", _PRECISION_OF_DRAWS).synergy
        for table in progress_bar(draws, n_resamples, "draw samples without synergy", progress)
    ]
    return float(p_of_draws(observed, np.array(drawn)))


def _shares(counts: Whole) -> Floats:
    return counts / counts.sum()


def _few_samples(counts: Whole, bias: Floats) -> tuple[str, ...]:
    n_samples = int(counts.sum())
    if n_samples >= _SAMPLES_PER_CELL * counts.size:
        return ()
    taken = bias[PARTS.index("synergy")]
    return (
        f"{n_samples} samples are fewer than {_SAMPLES_PER_CELL} for each of the {counts.size} cells of the table: "
        f"chance looks like synergy ({taken:.3g} nats were taken off it, which may be too little); join values, and go "
        "by p_synergy",
    )
