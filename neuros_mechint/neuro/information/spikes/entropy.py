"""Entropy of spike trains' words from few samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.errors import InputError, OptionError, check_option, number
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.standard_errors import t_reach
from neuros_mechint.neuro.information.spikes.estimators import (
    Entropy,
    nemenman_shafee_bialek,
    panzeri_treves,
    plug_in,
    relevant_words,
)
from neuros_mechint.neuro.information.spikes.results import SpikeEntropy
from neuros_mechint.neuro.information.spikes.words import MOST_DIGITS, Words, words_of
from neuros_mechint.neuro.information.variables import Whole

ESTIMATORS: dict[str, Callable[[Whole, Any], Entropy]] = {
    "plug_in": plug_in,
    "panzeri_treves": panzeri_treves,
    "nsb": nemenman_shafee_bialek,
}
CITATIONS = {"plug_in": ("strong1998",), "panzeri_treves": ("panzeri1996",), "nsb": ("nemenman2002",)}
FEWEST_SAMPLES = 10
_FEWEST_COINCIDENCES = 10


def spike_entropy(
    words: Any, method: str = "nsb", n_possible: float | None = None, level: float = 0.95
) -> SpikeEntropy:
    """Return the entropy of words, such as spike patterns, of which few samples are known.

    Parameters
    ----------
    words : array_like, torch.Tensor or xarray.DataArray
        ``(n_samples,)`` of text or whole numbers, one per word, or ``(n_samples, n_letters)`` of counts, as
        `spike_words` cuts them. Independent samples.
    method : {"nsb", "panzeri_treves", "plug_in"}
        ``nsb``: a Bayesian estimate that works where words begin to repeat (Nemenman et al. 2002). ``panzeri_treves``:
        the plug-in plus its bias of first order, with a count of the words in use; it needs about as many samples as
        words. ``plug_in``: of the shares themselves; always too low on average, for reference.
    n_possible : float, optional
        How many words there could be, for ``nsb`` and as a bound for ``panzeri_treves``. By default all patterns of as
        many letters, with counts up to the largest that occurs; words that are given by number have no default.
    level : float
        Coverage of the interval.

    Returns
    -------
    SpikeEntropy
        With ``.value`` in nats, ``.bits``, ``.error``, ``.interval``, ``.plug_in``, and ``.warnings``.

    Raises
    ------
    InputError
        Words that are not whole or missing, fewer than 10 samples, or, for ``nsb``, no word that occurs twice.
    OptionError
        Unknown method, no number of possible words where it is needed, or fewer than occur.

    References
    ----------
    Nemenman, Shafee and Bialek 2002, Entropy and inference, revisited, doi:10.48550/arXiv.physics/0108025; Panzeri and
    Treves 1996, doi:10.1080/0954898X.1996.11978656; Strong et al. 1998, Entropy and information in neural spike trains,
    doi:10.1103/PhysRevLett.80.197

    Examples
    --------
    Eight bins in which a neuron spikes with probability one half: eight bits, though 90 words show at most 6.5.

    >>> import numpy as np
    >>> spikes = np.random.default_rng(0).random((90, 8)) < 0.5
    >>> found = spike_entropy(spikes)
    >>> low, high = found.interval
    >>> bool(low < 8 * np.log(2) < high), bool(found.plug_in / np.log(2) < 6.5)
    (True, True)
    """
    check_option("method", method, tuple(ESTIMATORS))
    level = coverage(level)
    arguments = {"words": words, "method": method, "n_possible": n_possible, "level": level}
    provenance = Provenance.record(None, arguments=arguments)
    found = words_of(words, "words")
    possible = number_possible(found, method, n_possible)
    refuse_few(found.counts, method)
    estimate = ESTIMATORS[method](found.counts, possible)
    cautions = _cautions(found.counts, method)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    return SpikeEntropy(
        estimate_data("entropy", estimate, plug_in(found.counts).value, level),
        "Entropy of words",
        attributes={
            "quantity": "entropy",
            "method": method,
            "level": level,
            "n_samples": len(found.codes),
            "n_words": len(found.counts),
            "n_possible": possible,
        },
        provenance=provenance,
        citations=CITATIONS[method],
        warnings=cautions,
    )


def number_possible(words: Words, method: str, given: float | None) -> float | None:
    """Return how many words there could be, or None where that is neither known nor needed.

    Examples
    --------
    >>> number_possible(words_of([[0, 1], [1, 1]], "words"), "nsb", None)
    4.0
    """
    n_seen = len(words.counts)
    if given is not None:
        limited = min(given, 10**MOST_DIGITS) if isinstance(given, int) else given
        return float(number("n_possible", limited, max(n_seen, 2), np.inf, closed="left"))
    if method == "nsb" and words.n_possible is None:
        raise OptionError(
            "the number of possible words is not known",
            expected="n_possible with words that are given by number",
            got=None,
            fix=f"pass the patterns (n_samples, n_letters), or n_possible, at least the {n_seen} that occur",
        )
    return words.n_possible


def refuse_few(counts: Whole, method: str) -> None:
    """Raise `InputError` where so few samples, or samples of which none repeats, tell nothing.

    Examples
    --------
    >>> refuse_few(np.array([5, 7]), "nsb")
    """
    if len(counts) < 2:
        raise InputError("all words are the same", expected="at least two different words", got="one")
    if counts.sum() < FEWEST_SAMPLES:
        raise InputError("too few samples", expected=f"at least {FEWEST_SAMPLES}", got=int(counts.sum()))
    if method == "nsb" and counts.max() == 1:
        raise InputError(
            "no word occurs twice: the entropy would be that of the prior",
            expected="words that repeat",
            got=f"{len(counts)} different words in as many samples",
            fix="take shorter words, or more samples",
        )


def estimate_data(name: str, estimate: Entropy, plain: float, level: float) -> xr.Dataset:
    """Return an estimate with its interval as labelled numbers.

    Examples
    --------
    >>> float(estimate_data("entropy", Entropy(1.0, 0.1, 0.0), 0.9, 0.95)["high"].round(3))
    1.196
    """
    reach = t_reach(estimate.error, np.inf, level)
    nats = {"units": "nats"}
    return xr.Dataset(
        {
            name: ((), estimate.value, nats | {"long_name": name}),
            "error": ((), estimate.error, nats | {"long_name": "standard error"}),
            "low": ((), estimate.value - reach, nats | {"long_name": "lower end of the interval"}),
            "high": ((), estimate.value + reach, nats | {"long_name": "upper end of the interval"}),
            "plug_in": ((), plain, nats | {"long_name": "plug-in estimate"}),
        }
    )


def _cautions(counts: Whole, method: str) -> tuple[str, ...]:
    n_samples, n_seen = int(counts.sum()), len(counts)
    coincidences = n_samples - n_seen
    if method == "nsb" and coincidences < _FEWEST_COINCIDENCES:
        return (
            f"only {coincidences} of {n_samples} samples repeat a word: the estimate rests on the prior; take shorter "
            "words, or more samples",
        )
    in_use = relevant_words(counts)
    if method != "nsb" and n_samples < in_use:
        return (
            f"{n_samples} samples are fewer than the {in_use} words in use: the estimate is too low; "
            'method="nsb" needs fewer',
        )
    return ()
