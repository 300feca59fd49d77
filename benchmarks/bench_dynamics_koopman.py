"""Dynamic mode decomposition of 64 data sets at once, and by PyDMD in a loop: the same answer first, then in turns."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from pydmd import DMD

from neuros_mechint.neuro.dynamics.koopman import regression
from neuros_mechint.neuro.dynamics.koopman.decomposition import Decomposition, dynamic_modes

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
N_SETS, N_UNITS, RANK, ROUNDS = 64, 64, 6, 15
ANGLES, SIZES = (0.2, 0.7, 1.9), (0.995, 0.98, 0.95)


def data(n_times: int, noise: float) -> np.ndarray:
    """Three oscillations each, in all units, ``(set, time, unit)``."""
    random = np.random.default_rng(0)
    powers = np.arange(n_times)
    waves = [size**powers * np.exp(1j * angle * powers) for size, angle in zip(SIZES, ANGLES, strict=True)]
    basis = np.stack([part for wave in waves for part in (wave.real, wave.imag)], 1)
    clean = basis @ random.normal(size=(N_SETS, 2 * len(SIZES), N_UNITS))
    return clean + noise * clean.std() * random.normal(size=clean.shape)


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def theirs(sets: np.ndarray, total: bool) -> list[DMD]:
    return [DMD(svd_rank=RANK, tlsq_rank=RANK if total else 0).fit(states.T) for states in sets]


def difference(ours: Decomposition, peers: list[DMD]) -> float:
    """Return the largest difference of eigenvalues, and of what modes add to the first state."""
    found = 0.0
    for index, peer in enumerate(peers):
        values = ours.eigenvalues[index].numpy()
        order = [int(np.abs(values - value).argmin()) for value in peer.eigs]
        found = max(found, float(np.abs(values[order] - peer.eigs).max()))
        for mode, place in zip(peer.modes.T, order, strict=True):
            same = ours.modes[index, :, place].numpy()
            likeness = abs(mode.conj() @ same) / np.linalg.norm(mode) / np.linalg.norm(same)
            found = max(found, abs(1 - float(likeness)))
    return found


def row(name: str, n_times: int, noise: float, kind: str = "least_squares", by_svd: bool = False) -> str:
    sets = data(n_times, noise)
    before, after = (torch.from_numpy(np.ascontiguousarray(part)) for part in (sets[:, :-1], sets[:, 1:]))
    resolved = regression._resolved
    if by_svd:
        regression._resolved = lambda *about: False
    total = kind == "total_least_squares"
    error = difference(dynamic_modes(before, after, RANK, kind), theirs(sets, total))
    assert error < 1e-10, (name, error)
    pairs = []
    for _ in range(ROUNDS):
        mine = seconds(lambda: dynamic_modes(before, after, RANK, kind))
        pairs.append((mine, seconds(lambda: theirs(sets, total))))
    regression._resolved = resolved
    ours, other = (median(times) for times in zip(*pairs, strict=True))
    ratios = [b / a for a, b in pairs]
    return (
        f"| {name} | {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {error:.0e} "
        f"| {1000 * ours:.1f} ms | {1000 * other:.1f} ms |"
    )


def main() -> None:
    print(f"{N_SETS} sets of {N_UNITS} units, rank {RANK}, float64, one thread")
    print("| work | ratio (range) | same answer within | ours | theirs |", flush=True)
    for n_times in (200, 1000):
        print(row(f"DMD, {n_times} times", n_times, 0.01), flush=True)
    print(row("DMD, 200 times, no noise", 200, 0.0), flush=True)
    print(row("DMD, 200 times, total least squares", 200, 0.01, "total_least_squares"), flush=True)
    print(row("DMD, 200 times, by singular value decomposition", 200, 0.01, by_svd=True), flush=True)


if __name__ == "__main__":
    main()
