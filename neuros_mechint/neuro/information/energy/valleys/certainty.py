"""Which minima chance would not give: barriers against their error over blocks of the data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.statistics.standard_errors import jackknife_error
from neuros_mechint.neuro.information.energy.valleys.basins import Basins, Merger

_LEVEL = 0.95
_DRAWS = 4000
_LEAST_VISIT = 0.5


def difference_error(energy: Floats, without: Floats, first: int, second: int) -> float:
    """Return the standard error of the difference of energies between two cells, by leaving out each block.

    The density is left to vary and not its logarithm: a cell that one block alone has visited then has an error of 1
    kT, not an infinite one.

    Parameters
    ----------
    energy : numpy.ndarray of shape (n_cells,)
    without : numpy.ndarray of shape (n_blocks, n_cells)
    first, second : int

    Examples
    --------
    >>> without = np.array([[0.0, 1.0], [0.0, np.inf], [0.0, 1.0], [0.0, 1.0]])
    >>> difference_error(np.array([0.0, 1.0]), without, 0, 1)
    0.75
    """
    one, other = (np.exp(energy[cell] - without[:, cell]) for cell in (first, second))
    return float(jackknife_error(other - one))


def energy_errors(energy: Floats, without: Floats) -> Floats:
    """Return the standard error of the energy of each cell, NaN where it is infinite.

    Examples
    --------
    >>> energy_errors(np.array([0.0, np.inf]), np.array([[0.0, np.inf], [0.0, np.inf]])).tolist()
    [0.0, nan]
    """
    with np.errstate(invalid="ignore"):
        return jackknife_error(np.exp(energy - without))


class HonestReach:
    """How many standard errors the largest of all differences between so many places reaches by chance.

    Tukey's range of independent normal values by an error of some degrees of freedom, its 95% quantile: the two cells
    of a barrier are the most different of many, and two standard errors would make minima of noise.

    Parameters
    ----------
    n_places : float
    random : numpy.random.Generator

    References
    ----------
    Tukey 1949, Comparing individual means in the analysis of variance, doi:10.2307/3001913

    Examples
    --------
    >>> reach = HonestReach(30, np.random.default_rng(0))
    >>> bool(abs(reach(39) - 4.04) < 0.1), bool(abs(reach(7) - 5.46) < 0.2)
    (True, True)
    """

    def __init__(self, n_places: float, random: np.random.Generator) -> None:
        self._ranges = np.ptp(random.normal(size=(_DRAWS, max(2, round(n_places)))), axis=1)

    def __call__(self, degrees: float) -> float:
        """Return it for an error of so many degrees of freedom."""
        from scipy.stats import chi2

        error = np.sqrt(chi2.ppf((np.arange(_DRAWS) + 0.5) / _DRAWS, degrees) / degrees)
        return float(np.quantile(self._ranges / error, _LEVEL) / np.sqrt(2))


class Certainty(NamedTuple):
    """The rule by which a minimum counts: its barrier exceeds its error, and its basin is more than one visit."""

    energy: Floats
    """``(n_cells,)``."""
    without: Floats
    """The same without each block, ``(n_blocks, n_cells)``."""
    counts: Floats
    """Samples in each cell."""
    resolved: float
    """Volume of what can be told apart."""
    reach: HonestReach
    memory: float
    """How many samples count as one."""

    def variances(self, minimum: int, at: int) -> tuple[float, float]:
        """Return those of a barrier, over blocks and of counting samples.

        Two cells which one visit alone has reached differ in no block: the second is what keeps them uncertain.
        """
        # a place with fewer samples than one is as uncertain as one with one
        held = np.maximum(np.exp(-self.energy[[minimum, at]]) * self.counts.sum() * self.resolved, 1)
        return difference_error(self.energy, self.without, minimum, at) ** 2, float((1 / held).sum())

    def __call__(self, basins: Basins, merger: Merger) -> bool:
        """Return whether the minimum that is joined to a deeper one is no chance."""
        minimum = int(basins.minima[merger.dies])
        barrier = float(self.energy[merger.at] - self.energy[minimum])
        if self.counts[basins.of_node == merger.dies].sum() < _LEAST_VISIT * self.memory or barrier <= 0:
            return False
        of_blocks, counting = self.variances(minimum, merger.at)
        # degrees of freedom by Welch and Satterthwaite: counting has as many as one likes
        degrees = (len(self.without) - 1) * ((of_blocks + counting) / max(of_blocks, 1e-9)) ** 2
        return barrier > self.reach(min(degrees, 1e6)) * np.sqrt(of_blocks + counting)
