"""EnergyLandscape: minima, barriers and basins of trajectories or of binary states."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from neuros_mechint.core.arrays import Floats
from neuros_mechint.core.errors import InputError, OptionError, check_option, number, whole
from neuros_mechint.core.numbers import real_array
from neuros_mechint.core.parameters import Parameterised
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.neuro.dynamics.trajectories import Trajectories, trajectories
from neuros_mechint.neuro.information.energy.binary.fitted import (
    binary_data,
    counted_valleys,
    descended_valleys,
    energies_of,
)
from neuros_mechint.neuro.information.energy.binary.ising import exact_fit, pseudo_fit
from neuros_mechint.neuro.information.energy.binary.spins import (
    MOST_COUNTED,
    as_spins,
    check_fit,
    inflation,
    refuse_missing_pairs,
)
from neuros_mechint.neuro.information.energy.cautions import of_fit, of_time, unseen
from neuros_mechint.neuro.information.energy.density.blocks import Blocks, make_blocks
from neuros_mechint.neuro.information.energy.density.continuous import landscape_data, make_surface
from neuros_mechint.neuro.information.energy.density.densities import (
    Quasipotential,
    check_bandwidth,
    check_spread,
    histogram_quasipotential,
    kernel_quasipotential,
    refuse_binary,
    refuse_rounded,
    refuse_still,
)
from neuros_mechint.neuro.information.energy.density.grids import CELLS
from neuros_mechint.neuro.information.energy.density.interpolation import spline_of
from neuros_mechint.neuro.information.energy.density.plane import plane_of
from neuros_mechint.neuro.information.energy.density.score import refuse_other_barriers, score_quasipotential
from neuros_mechint.neuro.information.energy.passages.balance import coarse_states, coarse_words, detailed_balance
from neuros_mechint.neuro.information.energy.passages.passage import diffusion_of, uneven_diffusion
from neuros_mechint.neuro.information.energy.paths.energy import EnergyPath, minimum_energy_path
from neuros_mechint.neuro.information.energy.results import DensityLandscape, IsingLandscape, Landscape
from neuros_mechint.neuro.information.recorded import more_units_than_times, read_as, refuse_few

CONTINUOUS, BINARY = ("density", "histogram", "score"), ("ising", "pseudolikelihood")
_FEWEST, _FEWEST_IN_A_TRIAL = 200, 3
_CITATIONS = ("wang2008", "becker1997", "edelsbrunner2002", "hanggi1990", "kramers1940", "kaplan1958")
_OWN_CITATIONS = {
    "density": ("terrell1980", "wand1994"),
    "histogram": (),
    "score": ("hyvarinen2005",),
    "ising": ("schneidman2006", "ezaki2017", "becker1997"),
    "pseudolikelihood": ("aurell2012", "ezaki2017", "becker1997"),
}


class EnergyLandscape(Parameterised):
    r"""The landscape of states: where they stay, what lies between, and how long it takes to cross.

    From trajectories, the quasi-potential :math:`-kT \log p(x)` in one or two dimensions. From binary states, the
    pairwise maximum entropy model :math:`E(s) = -\sum_i h_i s_i - \sum_{i<j} J_{ij} s_i s_j` of spins -1 and 1, in kT.
    A minimum counts where its barrier exceeds what chance would give. -log p is an energy at equilibrium only: detailed
    balance is tested, and a warning says where it fails.

    Parameters
    ----------
    method : {"density", "histogram", "score", "ising", "pseudolikelihood"}
        Of trajectories: ``density``, Gaussian kernels; ``histogram``; ``score``, a polynomial fitted to the slope of
        the log density. Of binary states: ``ising``, maximum likelihood with all states counted out up to 20 units,
        beyond as ``pseudolikelihood``, a logistic regression of each unit on all others.
    temperature : float
        kT in the units of energy that are wanted, for trajectories; by default energies are in kT.
    bandwidth : float or sequence of float, optional
        Of ``density``, in units of the state; by default such that held-out stretches are most likely.
    n_bins : int, optional
        Of ``histogram``, along each dimension; by default likewise.
    projection : array_like of shape (n_units, 1) or (n_units, 2), optional
        For trajectories of more than two units; by default their first two principal components, or one where that is
        all that varies.
    penalty : float
        For binary states: weight of half the squared parameters, per sample. Needed where some pattern of two units
        never occurs.
    dt : float, optional
        Time between two states. Without it, of labelled data by their sampling rate, in seconds; otherwise 1.
    seed : int or numpy.random.Generator
        Draws signs of the test of detailed balance and the null of minima.

    Attributes
    ----------
    landscape_ : DensityLandscape or IsingLandscape
        All that was found, with errors, figures and warnings.
    n_minima_ : int
    minima_ : numpy.ndarray of shape (n_minima, n_dimensions) or (n_minima, n_units)
        Positions or states, the lowest first.
    barriers_ : numpy.ndarray of shape (n_minima, n_minima)
        From each (row) over the lowest way to each other one.
    occupancy_ : numpy.ndarray of shape (n_minima,)
    passage_times_ : numpy.ndarray of shape (n_minima, n_minima)
        Of trajectories: mean first-passage times predicted from the landscape.
    observed_times_ : numpy.ndarray of shape (n_minima, n_minima)
        Of trajectories: mean first-passage times that were seen.
    balance_p_ : float
        P of the hypothesis that states are in detailed balance.
    balance_broken_ : bool
        Whether that is rejected, so that -log p is no energy.
    fields_, couplings_, couplings_se_ : numpy.ndarray
        Of binary states, in kT.

    References
    ----------
    Wang, Xu and Wang 2008, Potential landscape and flux framework of nonequilibrium networks,
    doi:10.1073/pnas.0800579105; Schneidman et al. 2006, Weak pairwise correlations imply strongly correlated network
    states in a neural population, doi:10.1038/nature04701; Becker and Karplus 1997, The topology of multidimensional
    potential energy surfaces, doi:10.1063/1.473299

    Examples
    --------
    >>> from neuros_mechint.datasets.systems import double_well
    >>> from neuros_mechint.datasets.thermal import langevin
    >>> x = langevin(double_well, [[-1.0], [1.0]] * 50, n_steps=2000, temperature=0.35)
    >>> fitted = EnergyLandscape(temperature=0.35, dt=0.01).fit(x)
    >>> sorted(fitted.minima_[:, 0].round(1).tolist()), bool(abs(fitted.barriers_[0, 1] - 1) < 0.15)
    ([-1.0, 1.0], True)
    """

    def __init__(
        self,
        method: str = "density",
        temperature: float = 1.0,
        bandwidth: Any = None,
        n_bins: int | None = None,
        projection: Any = None,
        penalty: float = 0.0,
        dt: float | None = None,
        seed: SeedLike = 0,
    ) -> None:
        self.method = method
        self.temperature = temperature
        self.bandwidth = bandwidth
        self.n_bins = n_bins
        self.projection = projection
        self.penalty = penalty
        self.dt = dt
        self.seed = seed

    def fit(self, x: Any) -> EnergyLandscape:
        """Find the landscape.

        Parameters
        ----------
        x : array_like, torch.Tensor, xarray.DataArray, Recording, or a list of arrays
            ``(time,)``, ``(time, unit)``, ``(trial, time, unit)`` or a list of trials ``(time, unit)``; trials of one
            unit ``(trial, time)`` go in as ``x[:, :, None]``, for an array of two axes is one trial. Binary states
            are 0 and 1, or -1 and 1; they may be in any order, but only in time order do errors allow for their memory.

        Returns
        -------
        EnergyLandscape

        Raises
        ------
        InputError
            No finite real numbers, too few samples, constants, states that are not binary, or patterns that would need
            infinite couplings.
        OptionError
            Unknown options, or such as the method does not have.

        Warns
        -----
        UserWarning
            Where detailed balance fails, states drift, the data are short against their memory, or minima are not
            connected by any sample.
        """
        self._check()
        given = trajectories(x)
        refuse_few(sum(given.lengths), _FEWEST, given.trials, "too few samples for a landscape")
        self._dt = self.dt or given.dt
        found = self._continuous(given) if self.method in CONTINUOUS else self._binary(given)
        self.landscape_: Landscape = found
        self.barriers_, self.occupancy_, self.n_minima_ = found.barriers, found.occupancy, found.n_minima
        self.balance_p_, self.balance_broken_ = found.balance_p, found.balance_broken
        for text in found.warnings:
            warnings.warn(text, UserWarning, stacklevel=2)
        return self

    def energy(self, x: Any) -> Floats:
        """Return the energies of states, above the lowest minimum.

        Parameters
        ----------
        x : array_like of shape (n_samples, n_units)
            As in the fit; one dimension may come as ``(n_samples,)``.

        Returns
        -------
        numpy.ndarray of shape (n_samples,)
            NaN where no sample of the fit was near.
        """
        self._require_fit()
        states = self._as_rows(x)
        if self.method in BINARY:
            coded = self._coded(states)
            lowest = energies_of(self.minima_[:1], self._fitted)
            return energies_of(coded, self._fitted) - lowest
        from scipy.interpolate import RegularGridInterpolator

        grid = self._surface.quasi.grid
        values = self.landscape_.main.values
        return RegularGridInterpolator(grid.axes, values, bounds_error=False)(self._plane.coordinates(states))

    def path(self, start: int, end: int) -> EnergyPath:
        """Return the path of least energy between two minima of trajectories in two dimensions, by the string method.

        Parameters
        ----------
        start, end : int
            Numbers of the minima.

        Returns
        -------
        EnergyPath
            On a cubic spline through the landscape.

        Raises
        ------
        InputError
            A landscape that is not two-dimensional, or a way that no sample is near.
        OptionError
            No such minima.
        """
        self._require_fit()
        data = self.landscape_.data
        if self.method in BINARY or len(data["dimension"]) < 2:
            raise InputError(
                "this landscape has no paths to find",
                expected="trajectories in two dimensions",
                got=self.method,
            )
        for name, one in (("start", start), ("end", end)):
            check_option(name, one, range(len(self.minima_)))
        if start == end:
            raise OptionError("a path leads from one minimum to another", expected="two numbers", got=f"{start} twice")
        through = data["pass_position"].values[start, end]
        if not np.isfinite(through).all() or self._surface.unseen_ways[start, end]:
            raise InputError("no sample lies on a way between these minima", got=f"minima {start} and {end}")
        spline = spline_of(self._surface.quasi.grid, data["energy"].values)
        return minimum_energy_path(spline, self.minima_[start], self.minima_[end], through=through)

    def _as_rows(self, x: Any) -> Floats:
        states = real_array(x, "x")
        states = states[:, None] if states.ndim == 1 else states
        if states.ndim != 2 or states.shape[1] != self._n_units:
            raise InputError(
                "x does not fit the landscape", expected=f"(n_samples, {self._n_units})", got=f"shape {states.shape}"
            )
        return states

    def _coded(self, states: Floats) -> Floats:
        coding = self.landscape_.attributes["coding"]
        low = -1.0 if coding == "-1 and 1" else 0.0
        if not np.isin(states, (low, 1.0)).all():
            raise InputError(
                "these states are not coded as those of the fit",
                expected=coding,
                got=f"values such as {states[~np.isin(states, (low, 1.0))][:3].tolist()}",
            )
        return states if low else 2 * states - 1

    def _require_fit(self) -> None:
        if not hasattr(self, "landscape_"):
            raise InputError("this landscape has no data yet", fix="call fit(x) first")

    def _check(self) -> None:
        check_option("method", self.method, (*CONTINUOUS, *BINARY))
        number("temperature", self.temperature, 0, float("inf"))
        number("penalty", self.penalty, 0, float("inf"), closed="left")
        if self.dt is not None:
            number("dt", self.dt, 0, float("inf"))
        uses = {
            "bandwidth": (self.bandwidth is not None, ("density",)),
            "n_bins": (self.n_bins is not None, ("histogram",)),
            "projection": (self.projection is not None, CONTINUOUS),
            "temperature": (self.temperature != 1, CONTINUOUS),
            "penalty": (self.penalty != 0, BINARY),
        }
        for name, (given, methods) in uses.items():
            if given and self.method not in methods:
                raise OptionError(
                    f"{self.method!r} has no {name}", expected=f"method {' or '.join(methods)}", got=getattr(self, name)
                )

    # -- trajectories ----------------------------------------------------------------------------------------------

    def _continuous(self, given: Trajectories) -> DensityLandscape:
        if max(given.lengths) < _FEWEST_IN_A_TRIAL:
            raise InputError(
                "trials are too short to see how states move",
                expected=f"at least {_FEWEST_IN_A_TRIAL} times in the longest",
                got=read_as(given.trials),
            )
        refuse_binary(given.trials, self.method)
        refuse_still(given.trials)
        self._n_units = given.n_units
        self._plane = plane_of(given.joined(), self.projection, given.units)
        trials = [self._plane.coordinates(trial) for trial in given.trials]
        joined, random = np.concatenate(trials), generator(self.seed)
        check_spread(trials)
        blocks = make_blocks(trials)
        quasi = self._quasipotential(joined, blocks)
        surface = make_surface(quasi, joined, blocks, random)
        if self.method == "score":
            refuse_other_barriers(surface, kernel_quasipotential(joined, blocks, None))
        balance = detailed_balance(coarse_states(joined), given.lengths, blocks, self._dt, random)
        diffusion = diffusion_of(trials, self._dt)
        data = landscape_data(surface, trials, self._dt, diffusion, self.temperature, self._plane)
        basin = surface.basins.of_node[quasi.grid.cells(joined)]
        cautions = [
            f"more units than times ({read_as(given.trials)}): trials (trial, time) of one unit go in as x[:, :, None]"
            if more_units_than_times(given.trials)
            else None,
            balance.caution,
            *of_time(trials, blocks),
            diffusion.caution,
            *((uneven_diffusion(trials, basin), diffusion.oblique) if diffusion.caution is None else ()),
            unseen(surface),
        ]
        self._surface, self.minima_ = surface, data["position"].values
        self.passage_times_, self.observed_times_ = data["passage_time"].values, data["observed_time"].values
        return DensityLandscape(
            data,
            "Energy landscape" if not balance.broken else "Quasi-potential landscape",
            attributes={
                "method": self.method,
                "smoothing": f"{quasi.smoothing_name} {', '.join(f'{one:.3g}' for one in quasi.smoothing)}",
                "temperature": self.temperature,
                "coordinates": self._plane.words,
                "n_samples": len(joined),
                "memory": blocks.memory,
                "n_blocks": blocks.n_blocks,
                "may_be_chance": [one._asdict() for one in surface.may_be_chance],
                "dt": self._dt,
                "balance_p": balance.p,
                "balance_broken": balance.broken,
                "entropy_production": balance.production,
            },
            provenance=Provenance.record(self.seed, arguments=self._arguments(joined)),
            citations=(*_OWN_CITATIONS[self.method], *_CITATIONS),
            warnings=tuple(text for text in cautions if text),
        )

    def _quasipotential(self, samples: Floats, blocks: Blocks) -> Quasipotential:
        if self.method == "score":
            return score_quasipotential(samples, blocks)
        if self.method == "histogram":
            n_bins = self.n_bins
            if n_bins is not None:
                n_bins = int(number("n_bins", whole("n_bins", n_bins, 3), 3, CELLS[samples.shape[1]], closed="both"))
            found = histogram_quasipotential(samples, blocks, n_bins)
        else:
            bandwidth = None if self.bandwidth is None else check_bandwidth(self.bandwidth, samples)
            found = kernel_quasipotential(samples, blocks, bandwidth)
        refuse_rounded(samples, found)
        return found

    # -- binary states ---------------------------------------------------------------------------------------------

    def _binary(self, given: Trajectories) -> IsingLandscape:
        spins, coding = as_spins(given.joined())
        if not self.penalty:
            refuse_missing_pairs(spins)
        n_units, random = given.n_units, generator(self.seed)
        exact = self.method == "ising" and n_units <= MOST_COUNTED
        blocks = make_blocks(np.split(spins, np.cumsum(given.lengths)[:-1]))
        fit = (exact_fit if exact else pseudo_fit)(spins, self.penalty)
        inflated = inflation(spins, blocks)
        check = check_fit(spins, fit, blocks, exact, self.penalty, inflated)
        valleys = counted_valleys(fit, spins, inflated) if exact else descended_valleys(fit, spins)
        balance = detailed_balance(coarse_words(spins), given.lengths, blocks, self._dt, random)
        units = given.units or range(n_units)
        self._fitted, self._n_units = fit, n_units
        self.fields_, self.couplings_ = fit.fields, fit.couplings
        data: xr.Dataset = binary_data(fit, valleys, inflated, units)
        self.couplings_se_, self.minima_ = data["couplings_error"].values, data["state"].values
        cautions = [
            balance.caution,
            *of_time(np.split(spins, np.cumsum(given.lengths)[:-1]), blocks),
            *of_fit(len(spins), n_units, inflated, check),
            None if exact else "minima are those that samples lead to, and barriers upper bounds: neither is tested",
        ]
        return IsingLandscape(
            data,
            "Pairwise maximum entropy model",
            attributes={
                "method": "maximum likelihood" if exact else "pseudo-likelihood",
                "coding": coding,
                "n_units": n_units,
                "n_samples": len(spins),
                "memory": blocks.memory,
                "inflation": inflated,
                "held_out_gain": check.held_out_gain,
                "held_out_gain_error": check.gain_error,
                "triples_off": check.triples_off if n_units > 2 else None,
                "entropy": check.entropy if exact else None,
                "independent_entropy": check.independent_entropy,
                "balance_p": balance.p,
                "balance_broken": balance.broken,
                "entropy_production": balance.production,
            },
            provenance=Provenance.record(self.seed, arguments=self._arguments(spins)),
            citations=_OWN_CITATIONS["ising" if exact else "pseudolikelihood"],
            warnings=tuple(text for text in cautions if text),
        )

    def _arguments(self, x: Any) -> dict[str, Any]:
        return {**{name: value for name, value in self.get_params().items() if name != "seed"}, "x": x}
