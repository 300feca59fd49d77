"""Fluctuation analysis and Higuchi's dimension against nolds and antropy: the same answer first, then runs in turns."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import antropy
import nolds
import numpy as np
import torch

import neuros_mechint as nm
from neuros_mechint.neuro.fractals.fluctuations.scales import window_lengths

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
N_CHANNELS, N_SAMPLES, N_NOLDS, N_MANY = 64, 10_000, 2, 4096
ROUNDS = 15
DFA = nm.DetrendedFluctuationAnalysis
HIGUCHI = nm.HiguchiFractalDimension(k_max=10)
WINDOWS = window_lengths("antropy", N_SAMPLES)


@dataclass(frozen=True)
class Contest:
    """One computation, ours and theirs; ``tolerance`` is None where the two do different amounts of work."""

    work: str
    ours: Callable[[], torch.Tensor]
    theirs: Callable[[], Sequence[float]]
    tolerance: float | None
    theirs_times: float = 1
    rounds: int = ROUNDS

    def row(self) -> str:
        ours, theirs = self.ours().numpy(), np.asarray(self.theirs())
        difference = float(np.abs(ours[: len(theirs)] - theirs).max())
        assert self.tolerance is None or difference <= self.tolerance, (self.work, difference)
        same = "other windows" if self.tolerance is None else f"{difference:.0e}"
        pairs = [(seconds(self.ours), self.theirs_times * seconds(self.theirs)) for _ in range(self.rounds)]
        mine, other = (median(times) for times in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        return (
            f"| {self.work} | {other / mine:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {same} "
            f"| {1000 * mine:.1f} ms | {1000 * other:.1f} ms |"
        )


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def contests(signal: torch.Tensor) -> list[Contest]:
    rows = signal.numpy()
    few = rows[:N_NOLDS]
    overlapping = DFA(scales=WINDOWS, overlap=True)
    return [
        Contest(
            f"DFA, nolds's windows (nolds timed on {N_NOLDS} channels)",
            lambda: DFA(scales="nolds")(signal),
            lambda: [nolds.dfa(row, fit_exp="poly") for row in few],
            1e-12,
            N_CHANNELS / N_NOLDS,
            5,
        ),
        Contest(
            "DFA, antropy's windows",
            lambda: DFA(scales="antropy")(signal),
            lambda: [antropy.detrended_fluctuation(row) for row in rows],
            1e-9,
        ),
        Contest(
            "DFA, twice as many windows as antropy, overlapping",
            lambda: overlapping(signal),
            lambda: [antropy.detrended_fluctuation(row) for row in rows],
            None,
        ),
        *(
            Contest(
                f"Higuchi{name}, antropy",
                lambda metric=metric: metric(signal),
                lambda: [antropy.higuchi_fd(row) for row in rows],
                1e-9,
            )
            for name, metric in (("", HIGUCHI), (", fused", nm.HiguchiFractalDimension(k_max=10, fused=True)))
        ),
    ]


def many_channels() -> str:
    """Return how many times as long as reading them once the dyadic DFA of many channels takes, in float32."""
    signal = torch.from_numpy(np.random.default_rng(1).normal(size=(N_MANY, N_SAMPLES)).astype(np.float32))
    metric = DFA()
    metric(signal)
    pairs = [(seconds(signal.sum), seconds(lambda: metric(signal))) for _ in range(7)]
    read, ours = (median(times) for times in zip(*pairs, strict=True))
    return f"| DFA, dyadic, {N_MANY:,} channels, float32 | {ours / read:.1f} reads of {1000 * read:.1f} ms |"


def backward(name: str, metric: Callable[[torch.Tensor], torch.Tensor], signal: torch.Tensor) -> str:
    """Return how many times as long as the metric without a graph its gradient takes."""
    leaf = signal.clone().requires_grad_()
    pairs = []
    for _ in range(ROUNDS):
        forward = seconds(lambda: metric(signal))
        loss = metric(leaf).sum()
        pairs.append((forward, seconds(loss.backward)))
    forward, back = (median(times) for times in zip(*pairs, strict=True))
    return f"| gradient of {name} | {back / forward:.1f} times the metric ({1000 * forward:.1f} ms) |"


def single_precision() -> list[str]:
    """Return the largest error that float32 makes on random walks."""
    walks = torch.from_numpy(np.random.default_rng(2).normal(size=(N_CHANNELS, N_SAMPLES)).cumsum(1)).float()
    found = []
    for name, metric in (
        ("DFA, dyadic", DFA()),
        ("DFA, antropy's windows", DFA(scales="antropy")),
        ("Higuchi", HIGUCHI),
    ):
        error = float((metric(walks) - metric(walks.double())).abs().max())
        assert error <= 1e-6, (name, error)
        found.append(f"| {name}, float32 on random walks | error {error:.1e} |")
    return found


def main() -> None:
    signal = nm.fractional_gaussian_noise(0.7, N_SAMPLES, N_CHANNELS)
    print(f"{N_CHANNELS} x {N_SAMPLES:,}, float64, one thread")
    print("| work | ratio (range) | same answer within | ours | theirs |", flush=True)
    for contest in contests(signal):
        print(contest.row(), flush=True)
    for name, metric in (
        ("DFA, dyadic", DFA()),
        ("DFA, antropy's windows", DFA(scales="antropy")),
        ("DFA, nolds's windows", DFA(scales="nolds")),
        ("Higuchi", HIGUCHI),
    ):
        print(backward(name, metric, signal), flush=True)
    print(many_channels(), flush=True)
    print(*single_precision(), sep="\n")


if __name__ == "__main__":
    main()
