"""What a decoder reads of stimuli from held-out responses: a lower bound of their information, from few trials."""

from __future__ import annotations

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.neuro.information.spikes.estimators import Entropy
from neuros_mechint.neuro.information.variables import Whole

_FOLDS = 5
_STEPS = 1000


def decoded_information(letters: Floats, stimuli: Whole, random: np.random.Generator) -> Entropy:
    r"""Return the entropy of the stimuli less what is left of it for a decoder of held-out responses.

    :math:`H(S) + \langle \log q(s | r) \rangle \leq I(S; R)`, whatever the decoder :math:`q`; with the true
    probabilities they are equal. Here it is a multinomial logistic regression on standardised counts, with a penalty
    of one half of the squared weights: what it leaves out are stimuli that only the pattern of two letters tells.
    Each fifth of the samples (of every stimulus, as far as they go) is decoded after training on the others, so that
    there is no bias upwards to take off; few samples make the decoder worse, and the bound lower.

    Parameters
    ----------
    letters : numpy.ndarray of shape (n_samples, n_letters)
        Counts.
    stimuli : numpy.ndarray of shape (n_samples,)
        Whole numbers from 0, each at least three times.
    random : numpy.random.Generator
        Deals samples into fifths.

    Returns
    -------
    Entropy
        Its ``error`` is that of the mean over held-out samples.

    References
    ----------
    Barber and Agakov 2003, Information Maximization in Noisy Channels: A Variational Approach,
    https://proceedings.neurips.cc/paper/2003/hash/a6ea8471c120fe8cc35a2954c9b9c595-Abstract.html; Quian Quiroga and
    Panzeri 2009, Extracting information from neuronal populations, doi:10.1038/nrn2578

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> stimuli = np.arange(200) % 2
    >>> counts = random.poisson(1 + 20 * stimuli)[:, None].astype(float)  # hardly ever alike: log 2
    >>> bool(0.6 < decoded_information(counts, stimuli, random).value < np.log(2))
    True
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    spread = letters.std(0)
    standardised = (letters - letters.mean(0)) / np.where(spread > 0, spread, 1.0)
    frequency = np.bincount(stimuli)
    folds = StratifiedKFold(min(_FOLDS, int(frequency.min())), shuffle=True, random_state=int(random.integers(2**31)))
    told = -np.log(frequency / len(stimuli))[stimuli]
    for known, held_out in folds.split(standardised, stimuli):
        decoder = LogisticRegression(max_iter=_STEPS).fit(standardised[known], stimuli[known])
        told[held_out] += decoder.predict_log_proba(standardised[held_out])[np.arange(len(held_out)), stimuli[held_out]]
    return Entropy(float(told.mean()), float(told.std(ddof=1) / np.sqrt(len(told))), 0.0)
