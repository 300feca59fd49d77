"""Words of spike trains: the patterns of spikes, over time and cells, whose entropy is asked for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from neuros_mechint.core.errors import InputError, OptionError, whole
from neuros_mechint.core.numbers import as_array, plain_numbers
from neuros_mechint.core.recordings.recording import Recording
from neuros_mechint.core.trials import by_trial_and_time
from neuros_mechint.neuro.alignment.samples import joined
from neuros_mechint.neuro.alignment.samples import samples as rows_first
from neuros_mechint.neuro.information.variables import Whole, categories

_MOST_COUNTED = 2.0**53
MOST_DIGITS = 300  # of a number of possible words: there are no larger floats


class Words(NamedTuple):
    """Which word each sample shows.

    Parameters
    ----------
    codes : numpy.ndarray of shape (n_samples,)
        Numbers of the words that occur.
    n_possible : float or None
        How many words there could be, where that is known: all patterns of so many bins with counts up to the largest.
    letters : numpy.ndarray of shape (n_samples, n_letters) or None
        The counts that words are made of; None of text.
    """

    codes: Whole
    n_possible: float | None
    letters: Whole | None

    @property
    def counts(self) -> Whole:
        """How often each word occurs."""
        return np.bincount(self.codes)


def spike_words(spikes: Any, n_bins: int | None = None) -> Whole:
    """Cut binned spike trains into words: the counts of all units in so many successive bins.

    Parameters
    ----------
    spikes : array_like of shape (..., time, unit), torch.Tensor, xarray.DataArray or Recording
        0 or 1, or counts, in every bin, as `Recording.from_spike_times` makes them. Labelled data need an axis of time.
    n_bins : int, optional
        Length of a word; what is left at the end of a trial is dropped. By default a word is a whole trial.

    Returns
    -------
    numpy.ndarray of shape (n_words, n_bins * n_units)
        In the order of trials, then of time.

    Raises
    ------
    InputError
        Numbers that are no counts, or no axis of time.
    OptionError
        Words longer than a trial.

    Examples
    --------
    >>> train = [[0], [1], [1], [0], [1], [1], [0]]
    >>> spike_words(train, n_bins=2).tolist()
    [[0, 1], [1, 0], [1, 1]]
    """
    array = spikes.data if isinstance(spikes, Recording) else spikes
    if isinstance(array, xr.DataArray):
        array = by_trial_and_time(array, "spikes")[0]
    counts = _whole_numbers(plain_numbers(array, "spikes"), "spikes")
    if counts.ndim < 2 or not counts.size or counts.min() < 0:
        raise InputError(
            "these are no spike trains",
            expected="counts of at least 0, of shape (..., time, unit)",
            got=f"shape {counts.shape}" + (f", least {counts.min()}" if counts.size else ""),
            fix="one train alone: spikes[:, None]",
        )
    trials = counts.reshape(-1, *counts.shape[-2:])
    n_bins = trials.shape[1] if n_bins is None else whole("n_bins", n_bins)
    n_words = trials.shape[1] // n_bins
    if not n_words:
        raise OptionError("words are longer than the trials", expected=f"at most {trials.shape[1]} bins", got=n_bins)
    return trials[:, : n_words * n_bins].reshape(len(trials) * n_words, -1)


def words_of(samples: Any, name: str) -> Words:
    """Return which word each sample shows.

    Parameters
    ----------
    samples : array_like, torch.Tensor or xarray.DataArray
        ``(n_samples,)`` of text or whole numbers, one per word, or ``(n_samples, n_letters)`` of counts; of labelled
        data the axis of samples comes first wherever it stands.
    name : str
        What to call them in errors.

    Examples
    --------
    >>> words = words_of([[0, 1], [1, 0], [0, 1]], "words")
    >>> words.codes.tolist(), words.n_possible, words.letters.shape
    ([0, 1, 0], 4.0, (3, 2))
    """
    labelled = isinstance(samples, xr.DataArray | Recording) and len(samples.shape) > 1
    array = rows_first(samples, name).values if labelled else as_array(samples, name)
    if not array.size or not array.ndim:
        raise InputError(f"{name}: there are none", expected="(n_samples,) or (n_samples, n_letters)", got=array.shape)
    if array.dtype.kind not in "USb":
        array = _whole_numbers(plain_numbers(array, name), name)
    n_possible = None
    if array.ndim > 1:
        array = array.reshape(len(array), -1)
        if array.dtype.kind in "US" or array.min() < 0:
            raise InputError(f"{name}: letters are no counts", expected="whole numbers of at least 0", got=array.dtype)
        letters = array.shape[1] * np.log10(array.max() + 1.0)
        n_possible = float(np.round(10.0**letters)) if letters < MOST_DIGITS else 10.0**MOST_DIGITS
    codes = np.unique(array, axis=0, return_inverse=True)[1]
    letters = None if array.dtype.kind in "US" else array.reshape(len(array), -1).astype(np.intp)
    return Words(codes.ravel().astype(np.intp), n_possible, letters)


def paired_words(responses: Any, stimuli: Any) -> tuple[Words, Whole]:
    """Return the word and the number of the stimulus of each sample; labelled ones are paired by label.

    Examples
    --------
    >>> words, stimuli = paired_words([[0, 1], [1, 0], [0, 1], [0, 1]], ["left", "right", "left", "right"])
    >>> words.codes.tolist(), stimuli.tolist()
    ([0, 1, 0, 0], [0, 1, 0, 1])
    """
    kinds = categories(stimuli, "stimuli").codes
    if isinstance(stimuli, xr.DataArray):
        kinds = stimuli.copy(data=kinds)
    is_text = not isinstance(responses, xr.DataArray) and as_array(responses, "responses").dtype.kind in "US"
    if is_text:
        responses = words_of(responses, "responses").codes
    found, codes = joined([("responses", responses), ("stimuli", kinds)])
    words = words_of(found if found.shape[1] > 1 else found[:, 0], "responses")
    return words._replace(letters=None) if is_text else words, codes[:, 0].astype(np.intp)


def _whole_numbers(values: npt.NDArray[Any], name: str) -> Whole:
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.round(values)).all()):
        raise InputError(
            f"{name} are no words",
            expected="whole numbers, such as spikes in bins",
            got="numbers that are not whole, or missing",
            fix="bin spike times first (Recording.from_spike_times); continuous variables go to mutual_information",
        )
    if np.abs(values.astype(float)).max(initial=0.0) >= _MOST_COUNTED:
        raise InputError(
            f"{name} hold numbers too large to be told apart",
            expected=f"whole numbers below {_MOST_COUNTED:.0e}",
            got=f"{np.abs(values.astype(float)).max():.3g}",
            fix="number the words: np.unique(words, axis=0, return_inverse=True)[1]",
        )
    return values.astype(np.intp)
