"""What words of spikes tell of a stimulus, without the bias of few trials."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.statistics.bootstrap import coverage
from neuros_mechint.core.statistics.p_values import p_of_draws
from neuros_mechint.neuro.information.estimate import n_draws
from neuros_mechint.neuro.information.spikes.decoding import decoded_information
from neuros_mechint.neuro.information.spikes.entropy import (
    CITATIONS,
    ESTIMATORS,
    estimate_data,
    number_possible,
    refuse_few,
)
from neuros_mechint.neuro.information.spikes.estimators import Entropy, relevant_words
from neuros_mechint.neuro.information.spikes.results import SpikeInformation
from neuros_mechint.neuro.information.spikes.words import Words, paired_words
from neuros_mechint.neuro.information.variables import Whole

_FEWEST_PER_STIMULUS = 3
_DECODER_CITATIONS = ("barber2003", "quianquiroga2009")


def spike_information(
    responses: Any,
    stimuli: Any,
    method: str = "panzeri_treves",
    n_possible: float | None = None,
    level: float = 0.95,
    n_permutations: int = 200,
    seed: SeedLike = 0,
    progress: bool = True,
) -> SpikeInformation:
    """Return how many nats the words of a response tell of which stimulus was shown: ``H(R) - H(R | S)``.

    Parameters
    ----------
    responses : array_like, torch.Tensor or xarray.DataArray
        ``(n_samples,)`` of text or whole numbers, such as spike counts, or ``(n_samples, n_letters)`` of counts, as
        `spike_words` cuts them; labelled ones are paired with the stimuli by label.
    stimuli : array_like or xarray.DataArray of shape (n_samples,)
        Text, booleans or whole numbers.
    method : {"panzeri_treves", "nsb", "plug_in", "decoder"}
        Of the entropies, see `spike_entropy`. The plug-in is too high, most where trials are few. ``decoder``, for
        words of many letters such as those of several cells: how much a logistic regression on counts tells of the
        stimuli of held-out samples, a lower bound that needs far fewer of them; see `decoded_information`.
    n_possible : float, optional
        How many words there could be; see `spike_entropy`. For ``panzeri_treves`` by default those that occur; not
        of ``decoder``.
    level : float
        Coverage of the interval.
    n_permutations : int
        How often to estimate with the stimuli of the samples rearranged: what is left of the bias, and p. 0 makes no
        test.
    seed : int or numpy.random.Generator
        Of the rearrangements, and of the parts that ``decoder`` holds out.
    progress : bool
        Show a bar where it takes longer than two seconds.

    Returns
    -------
    SpikeInformation
        With ``.value`` in nats, ``.bits``, ``.error``, ``.interval``, ``.plug_in``, ``.p``, and ``.warnings``.

    Raises
    ------
    InputError
        Words that are not whole or missing, one word or stimulus only, fewer than 3 samples of a stimulus, data that
        cannot be paired, or text (``decoder``).
    OptionError
        As for `spike_entropy`.

    References
    ----------
    Panzeri and Treves 1996, doi:10.1080/0954898X.1996.11978656; Panzeri et al. 2007, Correcting for the sampling bias
    problem in spike train information measures, doi:10.1152/jn.00559.2007; Quian Quiroga and Panzeri 2009, Extracting
    information from neuronal populations: information theory and decoding approaches, doi:10.1038/nrn2578

    Examples
    --------
    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> stimuli = np.repeat(["left", "right"], 100)
    >>> found = spike_information(random.poisson(np.where(stimuli == "left", 2.0, 8.0)), stimuli)
    >>> bool(found.value < found.plug_in < np.log(2)), found.p < 0.01
    (True, True)
    """
    check_option("method", method, (*ESTIMATORS, "decoder"))
    level, random = coverage(level), generator(seed)
    n_permutations = n_draws("n_permutations", n_permutations)
    arguments = {"responses": responses, "stimuli": stimuli, "method": method, "n_possible": n_possible}
    provenance = Provenance.record(seed, arguments=arguments | {"level": level, "n_permutations": n_permutations})
    words, shown = paired_words(responses, stimuli)
    possible = number_possible(words, method, n_possible)
    refuse_few(words.counts, method)
    counts = _table(words.codes, shown)
    _refuse_few_trials(counts)
    estimated = _estimator(words, method, n_possible, random)
    estimate = estimated(shown)
    rearranged = np.array(
        [
            estimated(random.permutation(shown)).value
            for _ in progress_bar(range(n_permutations), n_permutations, "rearrange stimuli", progress)
        ]
    )
    cautions = _cautions(counts, method)
    for text in cautions:
        warnings.warn(text, UserWarning, stacklevel=2)
    data = estimate_data("information", estimate, _information(counts, "plug_in", None).value, level)
    if n_permutations:
        data["shuffled"] = ("draw", rearranged, {"units": "nats", "long_name": "information with stimuli rearranged"})
    return SpikeInformation(
        data,
        "Information of words about stimuli",
        attributes={
            "quantity": "information",
            "method": method,
            "level": level,
            "n_samples": len(shown),
            "n_words": len(words.counts),
            "n_possible": possible,
            "n_stimuli": len(counts),
            "p": float(p_of_draws(estimate.value, rearranged)) if n_permutations else None,
        },
        provenance=provenance,
        citations=_DECODER_CITATIONS if method == "decoder" else (*CITATIONS[method], "panzeri2007"),
        warnings=cautions,
    )


def _estimator(
    words: Words, method: str, n_possible: float | None, random: np.random.Generator
) -> Callable[[Whole], Entropy]:
    """Return what takes the stimulus of each sample and returns nats."""
    if method == "decoder":
        if n_possible is not None:
            raise OptionError(
                "'decoder' has no n_possible", expected=f"method {' or '.join(ESTIMATORS)}", got=n_possible
            )
        if words.letters is None:
            raise InputError(
                "words that are text cannot be decoded",
                expected="counts (n_samples,) or (n_samples, n_letters)",
                got="text",
                fix='pass the counts, or method="panzeri_treves"',
            )
        letters: Floats = words.letters.astype(float)
        return lambda shown: decoded_information(letters, shown, random)
    seen = float(len(words.counts))
    bound = seen if method == "panzeri_treves" and n_possible is None else number_possible(words, method, n_possible)
    return lambda shown: _information(_table(words.codes, shown), method, bound)


def _table(words: Whole, stimuli: Whole) -> Whole:
    """Return how often each word answers each stimulus, ``(n_stimuli, n_words)``."""
    n_words = int(words.max()) + 1
    return np.bincount(stimuli * n_words + words, minlength=(int(stimuli.max()) + 1) * n_words).reshape(-1, n_words)


def _information(counts: Whole, method: str, n_possible: float | None) -> Entropy:
    """Return the entropy of all responses less the mean entropy of those to one stimulus."""
    estimator = ESTIMATORS[method]
    shares = counts.sum(1) / counts.sum()
    together = estimator(counts.sum(0), n_possible)
    apart = [estimator(row, n_possible) for row in counts]
    value = together.value - float(shares @ [one.value for one in apart])
    bias = together.bias - float(shares @ [one.bias for one in apart])
    if method == "nsb":
        error = float(np.hypot(together.error, np.linalg.norm(shares * [one.error for one in apart])))
    else:
        error = _pointwise_error(counts)
    return Entropy(value, error, bias)


def _pointwise_error(counts: Whole) -> float:
    """Return the standard error of a plug-in information; what chance alone adds is that of a chi-square."""
    n_samples = int(counts.sum())
    table: Floats = counts / n_samples
    expected = table.sum(1, keepdims=True) * table.sum(0)
    pointwise = np.log(np.divide(table, expected, out=np.ones_like(table), where=table > 0))
    spread = float((table * pointwise**2).sum() - (table * pointwise).sum() ** 2)
    freedom = (len(counts) - 1) * (counts.shape[1] - 1)
    return float(np.sqrt(spread / n_samples + freedom / (2 * n_samples**2)))


def _refuse_few_trials(counts: Whole) -> None:
    fewest = int(counts.sum(1).min())
    if fewest < _FEWEST_PER_STIMULUS:
        raise InputError(
            "a stimulus has too few samples",
            expected=f"at least {_FEWEST_PER_STIMULUS} of each",
            got=fewest,
            fix="leave it out, or join it with another",
        )


def _cautions(counts: Whole, method: str) -> tuple[str, ...]:
    if method == "decoder":
        return ()
    rows = [(int(row.sum()), relevant_words(row, counts.shape[1])) for row in counts]
    few = [f"{n_samples} samples for {in_use}" for n_samples, in_use in rows if n_samples < in_use]
    if not few:
        return ()
    how = "with bias left in it" if method != "nsb" else "with a large error that its interval may not tell"
    return (
        f"{len(few)} of {len(rows)} stimuli have fewer samples than words in use ({few[0]}): the information is {how}; "
        'take method="decoder" (a lower bound), shorter words or more samples, and compare with the rearranged stimuli',
    )
