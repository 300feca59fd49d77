"""RDMs and their comparison against rsatoolbox's, on the same data: the same answer first, then runs taking turns.

``--memory`` compares 10 models with 8 subjects of 1,800 conditions, each measure in a process of its own, and prints by
how much the memory of the process grew above what it held with the RDMs in it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
import rsatoolbox

import neuros_mechint as nm

warnings.filterwarnings("ignore")
TOLERANCE = 1e-12
N_CONDITIONS, N_FOLDS, N_CHANNELS, N_MODELS, N_SUBJECTS = 92, 4, 5000, 10, 8


@dataclass(frozen=True)
class Contest:
    """One computation, ours and theirs; both return arrays."""

    work: str
    size: str
    ours: Callable[[], np.ndarray]
    theirs: Callable[[], np.ndarray]
    repeats: int

    def check(self) -> float:
        ours, theirs = self.ours(), self.theirs()
        difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        assert difference < TOLERANCE, (self.work, difference)
        return difference

    def ratio(self) -> tuple[float, float]:
        """Return how many times longer theirs takes, and our median in milliseconds."""
        pairs = [(seconds(self.ours), seconds(self.theirs)) for _ in range(self.repeats)]
        ours, theirs = (median(times) for times in zip(*pairs, strict=True))
        return theirs / ours, 1000 * ours


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def computing() -> Iterator[Contest]:
    """Yield RDMs of patterns."""
    random = np.random.default_rng(0)
    conditions, folds = np.tile(np.arange(N_CONDITIONS), N_FOLDS), np.repeat(np.arange(N_FOLDS), N_CONDITIONS)
    for n_channels, repeats in ((500, 15), (N_CHANNELS, 7)):
        x = random.normal(size=(N_CONDITIONS * N_FOLDS, n_channels))
        yield crossnobis(x, conditions, folds, None, repeats)
    x = random.normal(size=(N_CONDITIONS * N_FOLDS, 1000))
    yield crossnobis(x, conditions, folds, np.linalg.inv(np.cov(random.normal(size=(3000, 1000)).T)), 7)
    patterns = random.normal(size=(N_CONDITIONS, N_CHANNELS))
    data = rsatoolbox.data.Dataset(patterns)
    for method in ("correlation", "euclidean"):
        yield Contest(
            f"{method} RDM",
            f"{N_CONDITIONS} x {N_CHANNELS:,} channels",
            lambda method=method: nm.compute_rdm(patterns, method),
            lambda method=method: rsatoolbox.rdm.calc_rdm(data, method).get_matrices()[0],
            15,
        )


def crossnobis(
    x: np.ndarray, conditions: np.ndarray, folds: np.ndarray, noise: np.ndarray | None, repeats: int
) -> Contest:
    data = rsatoolbox.data.Dataset(x, obs_descriptors={"condition": conditions, "fold": folds})

    def theirs() -> np.ndarray:
        rdm = rsatoolbox.rdm.calc_rdm(data, "crossnobis", "condition", noise=noise, cv_descriptor="fold")
        return rdm.get_matrices()[0]

    return Contest(
        "crossnobis" + (", no noise given" if noise is None else ", noise precision given"),
        f"{N_CONDITIONS} x {N_FOLDS} runs x {x.shape[1]:,} channels",
        lambda: nm.compute_rdm(x, "crossnobis", conditions=conditions, folds=folds, noise=noise).values,
        theirs,
        repeats,
    )


def comparing() -> Iterator[Contest]:
    """Yield comparisons of models with subjects."""
    models, data = example(N_MODELS, N_CONDITIONS, 0), example(N_SUBJECTS, N_CONDITIONS, 1)
    theirs = [rsatoolbox.rdm.RDMs(rdms.copy()) for rdms in (models, data)]
    for method in ("cosine", "corr", "spearman", "tau-a", "rho-a", "corr_cov"):
        yield Contest(
            f"compare, {method}",
            f"{N_MODELS} x {N_SUBJECTS} RDMs of {N_CONDITIONS} conditions",
            lambda method=method: nm.compare_rdms(models, data, method),
            lambda method=method: rsatoolbox.rdm.compare(*theirs, method),
            15,
        )


def example(n_rdms: int, n_conditions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((n_rdms, n_conditions * (n_conditions - 1) // 2))


def memory(method: str, n_conditions: int) -> None:
    """Print the growth of this process while models and subjects are compared, and the size of the RDMs."""
    measure, _, whitened = method.partition(" ")
    nm.compare_rdms(example(1, 5, 0), example(1, 5, 1), measure)
    models, data = example(N_MODELS, n_conditions, 0), example(N_SUBJECTS, n_conditions, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sigma_k = np.eye(n_conditions) if whitened else None
    taken = seconds(lambda: nm.compare_rdms(models, data, measure, sigma_k=sigma_k))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    size = (models.nbytes + data.nbytes) / 1e9
    whole = (n_conditions * (n_conditions - 1) / 2) ** 2 * 8 / 1e12
    print(
        f"| compare, {method} | {N_MODELS} x {N_SUBJECTS} RDMs of {n_conditions:,} conditions, {size:.2f} GB "
        f"| +{grown:.2f} GB, {taken:.1f} s | a matrix of pairs: {whole:.0f} TB |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        memory(arguments.one, 1800)
        return
    if arguments.memory:
        for method in ("cosine", "corr", "spearman", "rho-a", "corr_cov", "cosine_cov with sigma_k"):
            subprocess.run([sys.executable, __file__, "--one", method], check=True)
        return
    print("| work | size | ratio | same answer within | ours |", flush=True)
    for contest in (*computing(), *comparing()):
        difference = contest.check()
        faster, ours = contest.ratio()
        print(f"| {contest.work} | {contest.size} | {faster:.1f} | {difference:.0e} | {ours:.2f} ms |", flush=True)


if __name__ == "__main__":
    main()
