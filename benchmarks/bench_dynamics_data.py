"""The largest Lyapunov exponent from data against nolds: the same number first, then runs in turns."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
import warnings
from collections.abc import Callable
from statistics import median

import nolds
import numpy as np
import torch

import neuros_mechint as nm

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
DT, DELAY, DIMENSION, THEILER, LENGTH, FIRST = 0.02, 9, 3, 50, 150, 30
ROUNDS = {1000: 7, 2000: 5, 5000: 3}


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def ours(x: np.ndarray, **options: int) -> float:
    return nm.largest_lyapunov_exponent(
        x,
        delay=DELAY,
        dimension=DIMENSION,
        theiler=THEILER,
        horizon=LENGTH - 1,
        region=(FIRST, LENGTH - 1),
        progress=False,
        **options,
    ).exponent


def theirs(x: np.ndarray) -> float:
    return nolds.lyap_r(
        x,
        emb_dim=DIMENSION,
        lag=DELAY,
        min_tsep=THEILER,
        trajectory_len=LENGTH,
        fit="poly",
        fit_offset=FIRST,
    )


def row(x: np.ndarray, n_surrogates: int) -> str:
    difference = abs(ours(x, n_surrogates=n_surrogates) / theirs(x) - 1)
    assert difference < 1e-9, difference
    pairs = [
        (seconds(lambda: ours(x, n_surrogates=n_surrogates)), seconds(lambda: theirs(x))) for _ in range(ROUNDS[len(x)])
    ]
    mine, other = (median(times) for times in zip(*pairs, strict=True))
    ratios = [b / a for a, b in pairs]
    compared = f", compared with {n_surrogates} surrogates" if n_surrogates else ""
    return (
        f"| Rosenstein, Lorenz, {len(x):,} samples{compared} | {other / mine:.1f} ({min(ratios):.1f} to "
        f"{max(ratios):.1f}) | {difference:.0e} | {1000 * mine:.0f} ms | {1000 * other:.0f} ms |"
    )


def main() -> None:
    start = torch.tensor([1.0, 1.0, 25.0], dtype=torch.float64)
    series = nm.simulate(nm.rk4(nm.lorenz, DT), start, max(ROUNDS), discard=500)[0, :, 0].numpy()
    print("one thread; an interval from 500 resamples is part of ours")
    print("| work | ratio (range) | same answer within | ours | theirs |", flush=True)
    for n_samples in ROUNDS:
        for n_surrogates in (0, 19):
            print(row(series[:n_samples], n_surrogates), flush=True)


if __name__ == "__main__":
    main()
