"""Mutual information by nearest neighbours, conditional information and transfer entropy with surrogates, beside peers.

Mutual information is timed against infomeasure and scikit-learn, with and without our interval. Surrogates are timed
against a loop over infomeasure's own call, timed on a few calls and scaled: it sorts everything anew each time, ours
sorts once what does not change. Times are those of the processor, with one thread; medians of runs taking turns.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import infomeasure
import numpy as np
from sklearn.feature_selection import mutual_info_regression

from neuros_mechint.neuro.information.dependence.conditional import conditional_mutual_information
from neuros_mechint.neuro.information.dependence.mutual_information import mutual_information
from neuros_mechint.neuro.information.estimators.nearest import kraskov
from neuros_mechint.neuro.information.transfer.transfer_entropy import transfer_entropy
from neuros_mechint.neuro.information.variables import continuous

warnings.filterwarnings("ignore")
N_SURROGATES, N_PEER, ROUNDS, NEIGHBORS = 200, 5, 5, 4
EQUAL, ADDED_NOISE, OWN_SCALES = 1e-9, 1e-4, 5e-3  # how far answers may lie apart, and why
LOOP = "a loop over infomeasure's call"
OPTIONS = {"approach": "ksg", "k": NEIGHBORS, "noise_level": 0}


def seconds(function: Callable[[], object]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


@dataclass(frozen=True)
class Contest:
    """One computation, ours and theirs; their time is multiplied."""

    work: str
    size: str
    peer: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    times: float = 1

    def row(self, difference: float, tolerance: float) -> str:
        """Return a row of the table, after both gave the same answer."""
        assert difference < tolerance, (self.work, difference)
        self.ours()
        pairs = [(seconds(self.ours), self.times * seconds(self.theirs)) for _ in range(ROUNDS)]
        mine, other = (median(one) for one in zip(*pairs, strict=True))
        ratios = sorted(b / a for a, b in pairs)
        return (
            f"| {self.work} | {self.size} | {self.peer}: {other:.3g} s against {mine:.3g} | {median(ratios):.1f} "
            f"({ratios[0]:.1f} to {ratios[-1]:.1f}) | {difference:.0e} |"
        )


def of_two_variables(n_samples: int) -> Iterator[str]:
    random = np.random.default_rng(0)
    x, noise = random.normal(size=(2, n_samples))
    y = 0.6 * x + 0.8 * noise
    x, y = (values[:, 0] for values in continuous([("x", x), ("y", y)]))
    size = f"N = {n_samples:,}, k = {NEIGHBORS}"

    def alone() -> float:
        return kraskov(x[:, None], y[:, None], NEIGHBORS)

    def with_interval() -> float:
        return mutual_information(x, y, n_neighbors=NEIGHBORS).value

    def scikit() -> float:
        return mutual_info_regression(x[:, None], y, n_neighbors=NEIGHBORS, random_state=0)[0]

    def measure() -> float:
        return float(infomeasure.mutual_information(x, y, **OPTIONS))

    peers = ((measure, "infomeasure", EQUAL), (scikit, "scikit-learn, which adds noise", ADDED_NOISE))
    for peer, name, tolerance in peers:
        for work, ours in (("estimate alone", alone), ("with interval and provenance", with_interval)):
            contest = Contest(f"KSG mutual information, {work}", size, name, ours, peer)
            yield contest.row(abs(ours() - peer()), tolerance)


def of_three_variables(n_samples: int) -> Iterator[str]:
    random = np.random.default_rng(1)
    x, first, second = random.normal(size=(3, n_samples))
    z = x + first
    y = z + 0.5 * x + second
    x, y, z = (values[:, 0] for values in continuous([("x", x), ("y", y), ("z", z)]))
    size = f"N = {n_samples:,}, k = {NEIGHBORS}, {N_SURROGATES} rearrangements"

    def ours(n_permutations: int = N_SURROGATES) -> float:
        options = {"n_neighbors": NEIGHBORS, "n_permutations": n_permutations, "progress": False}
        return conditional_mutual_information(x, y, z, **options).value

    def theirs() -> float:
        return float(infomeasure.conditional_mutual_information(x, y, cond=z, **OPTIONS))

    contest = Contest("conditional mutual information", size, LOOP, ours, few(theirs), N_SURROGATES / N_PEER)
    yield contest.row(abs(ours(0) - theirs()), EQUAL)


def of_series(n_times: int, kind: str) -> Iterator[str]:
    random = np.random.default_rng(2)
    source, target = random.normal(size=(2, n_times + 1))
    target[1:] += 0.5 * source[:-1]
    about: dict[str, Any]
    ours_options: dict[str, Any]
    if kind == "discrete":
        source, target = (source > 0).astype(int), (target > 0).astype(int)
        about, ours_options = {"approach": "miller_madow"}, {"method": "binned"}
    else:
        source, target = (values[:, 0] for values in continuous([("source", source), ("target", target)]))
        about, ours_options = OPTIONS, {"n_neighbors": NEIGHBORS}
    size = f"N = {n_times:,}, " + (f"k = {NEIGHBORS}, " if kind == "ksg" else "") + f"{N_SURROGATES} surrogates"

    def ours(n_surrogates: int = N_SURROGATES) -> float:
        return transfer_entropy(source, target, **ours_options, n_permutations=n_surrogates, progress=False).value

    def theirs() -> float:
        return float(infomeasure.transfer_entropy(source, target, **about))

    contest = Contest(f"transfer entropy, {kind}", size, LOOP, ours, few(theirs), N_SURROGATES / N_PEER)
    # ours gives the next values and the past, which differ by one sample, the same variance
    yield contest.row(abs(ours(0) - theirs()), EQUAL if kind == "discrete" else OWN_SCALES)


def few(function: Callable[[], object]) -> Callable[[], object]:
    return lambda: [function() for _ in range(N_PEER)]


def main() -> None:
    print("| work | size | peer | ratio (range) | same answer within |", flush=True)
    for n_samples in (3000, 30_000):
        for line in of_two_variables(n_samples):
            print(line, flush=True)
    for n_samples in (1000, 3000):
        for line in (*of_three_variables(n_samples), *of_series(n_samples, "ksg"), *of_series(n_samples, "discrete")):
            print(line, flush=True)


if __name__ == "__main__":
    main()
