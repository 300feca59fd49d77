"""Kernels and events from spike counts: pursuit and DUNL against dictionary learning and convolutional sparse coding.

All begin with random kernels and see the same counts, in turns, on one thread. Peers get square roots of the counts,
whose noise is the same everywhere. What they cannot choose themselves is chosen for them, knowing the truth: which
penalty finds kernels best, which atoms are the kernels, and how many events there are.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from neuros_mechint.core.arrays import Floats
from neuros_mechint.datasets.event_trains import EventData, planted_events
from neuros_mechint.neuro.circuits.dunl.convolution import convolve, correlate, gain_bound
from neuros_mechint.neuro.circuits.dunl.encoding import decode_events
from neuros_mechint.neuro.circuits.dunl.estimator import DUNL
from neuros_mechint.neuro.circuits.dunl.pursuit import pursue
from neuros_mechint.neuro.circuits.dunl.repairs import random_kernels
from neuros_mechint.neuro.circuits.dunl.score import match_kernels, score_events

torch.set_num_threads(1)
warnings.filterwarnings("ignore")
LENGTH = 40
PENALTIES = (2.0, 3.0, 4.0, 6.0)
ATOMS_PER_KERNEL = 8
STRIDE = 4


class Found(NamedTuple):
    kernels: Floats
    codes: Floats


def by_pursuit(data: EventData, seed: int) -> Found:
    found = pursue(data.counts, len(data.kernels), LENGTH, seed)
    return Found(found.kernels, found.codes)


def by_dunl(data: EventData, seed: int) -> Found:
    found = DUNL(len(data.kernels), LENGTH, seed=seed, progress=False).fit(data.counts)
    return Found(found.kernels_, found.codes_)


def by_windows(data: EventData, seed: int) -> Found:
    """scikit-learn's dictionary learning on windows; coefficients of all windows tell when."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    windows = sliding_window_view(_stable(data.counts), LENGTH, axis=1)
    model = MiniBatchDictionaryLearning(
        ATOMS_PER_KERNEL * len(data.kernels),
        alpha=1,
        batch_size=256,
        max_iter=20,
        positive_code=True,
        fit_algorithm="cd",
        random_state=seed,
    ).fit(windows[:, ::STRIDE].reshape(-1, LENGTH))
    codes = np.pad(windows @ model.components_.T, ((0, 0), (0, LENGTH - 1), (0, 0))).transpose(0, 2, 1)
    return _strongest(model.components_, codes, data)


def by_sparse_coding(data: EventData, seed: int, penalty: float) -> Found:
    """Convolutional sparse coding of signals with Gaussian noise: FISTA and least squares in turn."""
    signal = torch.from_numpy(_stable(data.counts))[None]
    kernels = random_kernels(len(data.kernels), LENGTH, np.random.default_rng(seed))
    kernels = kernels / kernels.norm(dim=1, keepdim=True)
    codes = signal.new_zeros(*signal.shape[:2], len(kernels), signal.shape[2])
    for _ in range(25):
        codes = _fista(signal, kernels, codes, penalty)
        kernels = _least_squares(signal[0].numpy(), codes[0].numpy(), kernels)
    return _strongest(kernels.numpy(), codes[0].numpy(), data)


def _fista(
    signal: torch.Tensor, kernels: torch.Tensor, codes: torch.Tensor, penalty: float, n_iterations: int = 40
) -> torch.Tensor:
    step, momentum, ahead = 1 / float(gain_bound(kernels)), 1.0, codes
    for _ in range(n_iterations):
        slope = correlate(convolve(ahead, kernels) - signal, kernels)
        new = (ahead - step * (slope + penalty)).clamp_min(0)
        later = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        codes, ahead, momentum = new, new + (momentum - 1) / later * (new - codes), later
    return codes


def _least_squares(signal: Floats, codes: Floats, kernels: torch.Tensor) -> torch.Tensor:
    """Return kernels of norm 1 that fit best, given the codes; a kernel without codes stays."""
    lagged = sliding_window_view(np.pad(codes, ((0, 0), (0, 0), (LENGTH - 1, 0))), LENGTH, axis=2)[..., ::-1]
    design = lagged.transpose(0, 2, 1, 3).reshape(signal.size, -1)
    solved = np.linalg.solve(design.T @ design + 1e-3 * np.eye(design.shape[1]), design.T @ signal.ravel())
    found = torch.from_numpy(solved.reshape(len(kernels), LENGTH))
    size = found.norm(dim=1, keepdim=True)
    return torch.where(size > 1e-6, found / size.clamp_min(1e-6), kernels)


def _stable(counts: Floats) -> Floats:
    """Return square roots, less their median, with noise of standard deviation 1."""
    stable = 2 * np.sqrt(counts + 3 / 8)
    return stable - float(np.median(stable))


def _strongest(kernels: Floats, codes: Floats, data: EventData) -> Found:
    """Keep as many events of each kernel as there are, the highest local maxima of its code."""
    match = match_kernels(kernels, data.kernels)
    kept = np.zeros((len(codes), len(data.kernels), codes.shape[-1]))
    around = sliding_window_view(np.pad(codes, ((0, 0), (0, 0), (5, 5))), 11, axis=-1).max(-1)
    peaks = np.where((codes == around) & (codes > 0), codes, 0.0)
    for kernel, source in enumerate(match.order):
        n_events = int((data.codes[:, kernel] > 0).sum())
        least = np.sort(peaks[:, source].ravel())[-n_events]
        kept[:, kernel] = np.where(peaks[:, source] >= max(least, 1e-12), peaks[:, source], 0)
    return Found(kernels[match.order], kept)


class Outcome(NamedTuple):
    cosine: float
    recall: float
    precision: float
    amplitude_r: float
    seconds: float


def outcome(find: Callable[[EventData, int], Found], data: EventData, seed: int) -> Outcome:
    begin = time.process_time()
    found = find(data, seed)
    seconds = time.process_time() - begin
    match = match_kernels(found.kernels, data.kernels)
    events = score_events(found.codes, data.codes, match)
    recall, precision, amplitude_r = (float(np.nan_to_num(part).mean()) for part in events)
    return Outcome(float(match.cosines.min()), recall, precision, amplitude_r, seconds)


def best_sparse_coding(data: EventData, seed: int) -> Outcome:
    """The penalty under which kernels are found best; seconds of this one run."""
    runs = [outcome(lambda data, seed, p=p: by_sparse_coding(data, seed, p), data, seed) for p in PENALTIES]
    return max(runs, key=lambda run: run.cosine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed")
    seeds = range(1 if parser.parse_args().quick else 3)
    contestants: dict[str, Callable[[EventData, int], Outcome]] = {
        "DUNL, halves compared": lambda data, seed: outcome(by_dunl, data, seed),
        "pursuit": lambda data, seed: outcome(by_pursuit, data, seed),
        "convolutional sparse coding": best_sparse_coding,
        "dictionary learning on windows": lambda data, seed: outcome(by_windows, data, seed),
    }
    print("base 2, log-gain 1 to 2.5, 1 to 2 events, 100 trials; medians over seeds, worst cosine of all in brackets")
    print("| kernels | method | worst cosine | recall | precision | amplitude r | seconds | of the pursuit's time |")
    for n_kernels in (2, 3):
        runs: dict[str, list[Outcome]] = {name: [] for name in contestants}
        ceiling = []
        for seed in seeds:
            data = planted_events(n_kernels=n_kernels, seed=seed)
            for name, run in contestants.items():
                runs[name].append(run(data, seed))
            oracle = decode_events(data.counts, data.kernels, data.baseline)
            ceiling.append([part.mean() for part in score_events(oracle, data.codes)])
        for name, of_seeds in runs.items():
            middle = Outcome(*(median(values) for values in zip(*of_seeds, strict=True)))
            ratio = median(one.seconds / ours.seconds for one, ours in zip(of_seeds, runs["pursuit"], strict=True))
            worst = min(one.cosine for one in of_seeds)
            print(
                f"| {n_kernels} | {name} | {middle.cosine:.3f} ({worst:.3f}) | {middle.recall:.2f} | "
                f"{middle.precision:.2f} | {middle.amplitude_r:.2f} | {middle.seconds:.1f} | {ratio:.1f} |",
                flush=True,
            )
        recall, precision, amplitude_r = np.median(ceiling, axis=0)
        print(f"| {n_kernels} | true kernels given | 1 | {recall:.2f} | {precision:.2f} | {amplitude_r:.2f} | | |")


if __name__ == "__main__":
    main()
