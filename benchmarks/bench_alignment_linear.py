"""Permutation tests of canonical correlations against refitting scikit-learn, and ridge regression against himalaya.

Each row first checks that both sides give the same answer, then times them in turns, on one thread. The canonical
correlations of scikit-learn are refitted on a few shuffles and counted up. ``--quick`` takes smaller encoding models.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import torch

import neuros_mechint as nm
from neuros_mechint.neuro.alignment.linear import ridge_solvers
from neuros_mechint.neuro.alignment.linear.held_out import folds
from neuros_mechint.neuro.alignment.linear.ridge import checked_alphas

torch.set_num_threads(1)
warnings.filterwarnings("ignore")
N_PERMUTATIONS = 1000
SIZES = ((1000, 100, 80, 10, 0), (1000, 100, 80, 10, 3), (1000, 100, 80, 1, 0), (500, 20, 20, 5, 0))
TOLERANCE = 1e-8


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def in_turns(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median times of two functions that take turns."""
    pairs = [(seconds(first), seconds(second)) for _ in range(repeats)]
    return median(one for one, _ in pairs), median(two for _, two in pairs)


def sides(n: int, p: int, q: int, shared: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((n, p)), random.standard_normal((n, q))
    y[:, :shared] += x[:, :shared]
    return x @ random.standard_normal((p, p)), y @ random.standard_normal((q, q))


def row(what: str, size: str, peer: str, times: tuple[float, float], difference: float) -> str:
    return f"| {what} | {size} | {peer} | {times[0] / times[1]:.2f} | {difference:.0e} |"


def permutation_rows() -> Iterator[str]:
    """Yield rows on the permutation test: our whole test against refitting all components on every shuffle."""
    from sklearn.cross_decomposition import CCA as SklearnCCA  # noqa: N811

    for n, p, q, k, shared in SIZES:
        x, y = sides(n, p, q, shared)
        orders = [np.random.default_rng(seed).permutation(n) for seed in range(3)]

        def theirs(x=x, y=y, k=k, orders=orders) -> list[float]:
            largest = []
            for order in orders:
                one, other = SklearnCCA(k, max_iter=2000).fit(x, y[order]).transform(x, y[order])
                largest.append(float(np.corrcoef(one[:, 0], other[:, 0])[0, 1]))
            return largest

        ours = lambda x=x, y=y, k=k: nm.CCA(k).permutation_test(x, y, N_PERMUTATIONS)  # noqa: E731
        exact = [nm.CCA(1).fit(x, y[order]).correlations_[0] for order in orders]
        difference = np.abs(np.array(theirs()) - exact).max()
        null = ours().data["null"].values
        assert abs(np.mean(exact) - null.mean()) < 4 * null.std() / np.sqrt(len(exact))
        slow, fast = in_turns(theirs, ours, 5)
        size = f"n {n}, p {p}, q {q}, {k} components, {shared} shared; {N_PERMUTATIONS} shuffles"
        peer = "sklearn's CCA refitted, timed on 3 shuffles"
        yield row("permutation test of CCA", size, peer, (slow / len(orders) * N_PERMUTATIONS, fast), difference)


def ridge_rows(quick: bool) -> Iterator[str]:
    """Yield rows on ridge regression through himalaya, and by the lines that stand in for it."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV

    n, p, n_targets, repeats = (400, 800, 1000, 5) if quick else (1000, 2000, 5000, 3)
    random = np.random.default_rng(0)
    x = random.standard_normal((n, p))
    y = x @ random.standard_normal((p, n_targets)) / np.sqrt(p) + random.standard_normal((n, n_targets))
    alphas, splits = checked_alphas(None, x), folds(n, 5)

    def ours() -> Any:
        return nm.RidgeEncoding().fit(x, y)

    def theirs() -> Any:
        return KernelRidgeCV(alphas=alphas, fit_intercept=True, cv=splits, warn=False).fit(x, y)

    def here() -> Any:
        return ridge_solvers.solve_here(x, y, [np.arange(p)], np.ones((1, 1)), alphas, splits)

    size = f"{n} x {p} -> {n_targets}, {len(alphas)} penalties, 5 folds, float64"
    for backend in ("numpy", "torch"):
        set_backend(backend)
        peer = f"himalaya's KernelRidgeCV, {backend}"
        for what, call in (("ridge through himalaya", ours), ("ridge without himalaya", here)):
            difference = np.abs(call().predict(x[:50]) - np.asarray(theirs().predict(x[:50]))).max()
            assert difference < TOLERANCE
            yield row(what, size, peer, in_turns(theirs, call, repeats), difference)
    set_backend("numpy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller encoding models")
    arguments = parser.parse_args()
    print("| work | size | peer | ratio | same answer within |", flush=True)
    for row in permutation_rows():
        print(row, flush=True)
    for row in ridge_rows(arguments.quick):
        print(row, flush=True)


if __name__ == "__main__":
    main()
