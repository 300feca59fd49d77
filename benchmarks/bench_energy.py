"""Energy landscapes: Ising fits against scipy's minimiser, kernel densities against scipy's: the same answer first."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
from scipy.optimize import minimize
from scipy.stats import gaussian_kde

from neuros_mechint.datasets.thermal import ising_states
from neuros_mechint.neuro.information.energy.binary.ising import exact_fit
from neuros_mechint.neuro.information.energy.binary.walsh import states_of
from neuros_mechint.neuro.information.energy.density.densities import kernel_density
from neuros_mechint.neuro.information.energy.density.grids import counts_of_blocks, grid_around
from neuros_mechint.neuro.information.energy.landscape import EnergyLandscape

warnings.filterwarnings("ignore")
ROUNDS, N_STATES, N_SAMPLES, N_PLACES = 7, 50_000, 1_000_000, 200


def seconds(function: Callable[[], object]) -> float:
    """Processor time: other work on the machine must not count."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def row(
    work: str, error: float | None, ours: Callable[[], object], theirs: Callable[[], object], times: float, rounds: int
) -> str:
    pairs = [(seconds(ours), times * seconds(theirs)) for _ in range(rounds)]
    mine, other = (median(values) for values in zip(*pairs, strict=True))
    ratios = [b / a for a, b in pairs]
    same = "the peer has no such answer" if error is None else f"{error:.0e}"
    return (
        f"| {work} | {median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) | {same} "
        f"| {1000 * mine:.1f} ms | {1000 * other:.1f} ms |"
    )


def by_scipy(states: np.ndarray, method: str) -> np.ndarray:
    """Maximum likelihood with all states written out, and its gradient."""
    n_units = states.shape[1]
    first, second = np.triu_indices(n_units, 1)

    def features(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, rows[:, first] * rows[:, second]], axis=1)

    every, wanted = features(states_of(np.arange(2**n_units), n_units)), features(states).mean(0)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weight = every @ parameters
        highest = weight.max()
        chance = np.exp(weight - highest)
        total = chance.sum()
        return highest + np.log(total) - parameters @ wanted, every.T @ (chance / total) - wanted

    options = {"gtol": 1e-8, "ftol": 1e-15, "maxiter": 5000} if method == "L-BFGS-B" else {"gtol": 1e-8}
    return minimize(loss, np.zeros(len(wanted)), jac=True, method=method, options=options).x


def ising(n_units: int, method: str) -> str:
    random = np.random.default_rng(0)
    upper = np.triu(random.normal(size=(n_units, n_units)) * 0.8 * np.sqrt(2 / n_units), 1)
    states = ising_states(0.1 * random.normal(size=n_units), upper + upper.T, N_STATES, 0)
    fit = exact_fit(states)
    ours = np.concatenate([fit.fields, fit.couplings[np.triu_indices(n_units, 1)]])
    error = float(np.abs(ours - by_scipy(states, method)).max())
    assert error < 1e-4, error
    name = f"Ising fit, {n_units} units, {N_STATES:,} states, scipy's {method}"
    return row(name, error, lambda: exact_fit(states), lambda: by_scipy(states, method), 1, ROUNDS)


def density(n_dimensions: int) -> str:
    random = np.random.default_rng(0)
    samples = random.normal(size=(N_SAMPLES, n_dimensions)) * 0.4 + random.choice([-1, 1], size=(N_SAMPLES, 1))
    grid = grid_around(samples, {1: 512, 2: 128}[n_dimensions], 0.1)
    peer = gaussian_kde(samples.T, 0.05)
    width = 0.05 * samples.std(0, ddof=1)
    if n_dimensions > 1:  # scipy's kernel is slanted where dimensions are correlated; these are made alike
        samples = samples - samples.mean(0)
        samples = samples @ np.linalg.inv(np.linalg.cholesky(np.cov(samples.T))).T
        grid, peer, width = grid_around(samples, 128, 0.1), gaussian_kde(samples.T, 0.05), np.full(2, 0.05)
    whole = np.zeros(N_SAMPLES, dtype=np.intp)
    places = random.choice(len(grid.centres), N_PLACES, replace=False)

    def ours() -> np.ndarray:
        return kernel_density(counts_of_blocks(samples, whole, 1, grid, shared=True)[0], grid, width)

    found, direct = ours().ravel()[places], peer(grid.centres[places].T)
    error = float(np.abs(found - direct).max() / direct.max())
    assert error < 0.02, error
    times = len(grid.centres) / N_PLACES
    name = f"kernel density, {N_SAMPLES:,} samples, {len(grid.centres):,} cells (scipy timed on {N_PLACES})"
    return row(name, error, ours, lambda: peer(grid.centres[places].T), times, 3)


def whole_landscape() -> str:
    random = np.random.default_rng(0)
    samples = random.normal(size=N_SAMPLES) * 0.4 + random.choice([-1, 1], size=N_SAMPLES)
    grid = grid_around(samples[:, None], 512, 0.1)
    peer = gaussian_kde(samples, 0.05)
    times = len(grid.centres) / N_PLACES
    places = grid.centres[::2].T[:, :N_PLACES]
    name = "minima, errors and tests of 1,000,000 samples, against the density alone"
    return row(name, None, lambda: EnergyLandscape().fit(samples), lambda: peer(places), times, 3)


def main() -> None:
    print("| work | ratio | same answer within | ours | theirs |")
    for n_units, method in ((12, "BFGS"), (12, "L-BFGS-B"), (15, "L-BFGS-B")):
        print(ising(n_units, method), flush=True)
    for n_dimensions in (1, 2):
        print(density(n_dimensions), flush=True)
    print(whole_landscape(), flush=True)


if __name__ == "__main__":
    main()
