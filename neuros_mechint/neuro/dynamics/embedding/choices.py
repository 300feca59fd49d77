"""How data are embedded: what was given, what was chosen, and why."""

from __future__ import annotations

from typing import NamedTuple

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import whole
from neuros_mechint.neuro.dynamics.embedding.false_neighbours import choose_dimension
from neuros_mechint.neuro.dynamics.embedding.mutual_information import check_varies, choose_delay
from neuros_mechint.neuro.dynamics.embedding.neighbours import theiler_window
from neuros_mechint.neuro.dynamics.trajectories import Trajectories


class EmbeddingChoice(NamedTuple):
    """Delay, dimension and Theiler window, in samples.

    Parameters
    ----------
    delay, dimension, theiler : int
    delay_rule, dimension_rule : str
        Why these.
    information : numpy.ndarray of shape (n_lags,) or None
        Average mutual information at lags of 0, 1, ... samples, where the delay was chosen.
    false_neighbours : numpy.ndarray of shape (n_dimensions,) or None
        Share at dimensions of 1, 2, ..., where the dimension was chosen.
    warnings : tuple of str
    """

    delay: int
    dimension: int
    theiler: int
    delay_rule: str
    dimension_rule: str
    information: Floats | None
    false_neighbours: Floats | None
    warnings: tuple[str, ...]


def choose_embedding(
    given: Trajectories,
    delay: int | None,
    dimension: int | None,
    theiler: int | None = None,
    progress: bool = False,
    several_units: bool = False,
) -> EmbeddingChoice:
    """Return how to embed trajectories: what is not given is chosen.

    Parameters
    ----------
    given : Trajectories
    delay, dimension, theiler : int, optional
    progress : bool
    several_units : bool
        Choose the dimension also of several units, which otherwise are the whole state by themselves.

    Raises
    ------
    InputError
        Data that are constant, or too short.
    OptionError
        A delay or dimension out of range.

    Examples
    --------
    >>> import numpy as np
    >>> wave = np.sin(np.arange(2000) / 6.3)
    >>> found = choose_embedding(Trajectories((wave[:, None],)), None, None)
    >>> found.delay, found.dimension, found.theiler
    (10, 2, 40)
    """
    check_varies(given.trials)
    delay = None if delay is None else whole("delay", delay)
    dimension = None if dimension is None else whole("dimension", dimension)
    theiler = theiler_window(given.trials) if theiler is None else theiler
    if dimension is None and given.n_units > 1 and not several_units and delay is None:
        return EmbeddingChoice(1, 1, theiler, "not needed", "units are the whole state", None, None, ())
    if dimension == 1 and delay is None:
        return EmbeddingChoice(1, 1, theiler, "not needed", "given", None, None, ())
    information, delay_rule = None, "given"
    if delay is None:
        chosen = choose_delay(given.trials)
        delay, delay_rule, information = chosen.delay, chosen.why, chosen.information
    if dimension is not None:
        return EmbeddingChoice(delay, dimension, theiler, delay_rule, "given", information, None, ())
    found = choose_dimension(given.trials, delay, theiler, progress)
    warnings = () if found.unfolded else (_never_unfolds(len(found.false_neighbours), found.dimension),)
    return EmbeddingChoice(
        delay, found.dimension, theiler, delay_rule, found.why, information, found.false_neighbours, warnings
    )


def _never_unfolds(tried: int, dimension: int) -> str:
    return (
        f"no embedding in up to {tried} dimensions has less than 1% false neighbours, as is the case with noise; "
        f"{dimension} has the fewest"
    )
