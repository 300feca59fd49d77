"""Bootstraps of representational similarity analysis against rsatoolbox's, on the same resamples.

rsatoolbox is timed on a few resamples and its time scaled to all of them; ours runs all. Both sides compute the scores
of every model and both noise ceilings in every resample. Times are those of the processor, with one thread, so that
what else the machine does counts little.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from unittest import mock

import numpy as np
import rsatoolbox
import rsatoolbox.inference.evaluate as toolbox
from rsatoolbox.model import ModelFixed

from neuros_mechint.neuro.alignment.rsa.inference.bootstrap import Evaluations, bootstrap
from neuros_mechint.neuro.alignment.rsa.inference.draws import Draws, draw

warnings.filterwarnings("ignore")
TOLERANCE = 1e-12
N_CONDITIONS, N_MODELS, N_SUBJECTS, N_RESAMPLES, N_PEER = 92, 10, 8, 1000, 16
REPEATS = 3


class Contest:
    """One kind of bootstrap with one measure, ours and theirs."""

    def __init__(self, compare: str, dual: bool) -> None:
        random = np.random.default_rng(0)
        n_pairs = N_CONDITIONS * (N_CONDITIONS - 1) // 2
        signal = random.random(n_pairs)
        self.data = signal + random.random((N_SUBJECTS, n_pairs))
        self.models = 0.5 * signal + random.random((N_MODELS, n_pairs))
        self.subjects = random.integers(N_SUBJECTS, size=(N_RESAMPLES, N_SUBJECTS))
        self.conditions = random.integers(N_CONDITIONS, size=(N_RESAMPLES, N_CONDITIONS))
        self.compare, self.dual = compare, dual

    def ours(self, n_resamples: int = N_RESAMPLES) -> Evaluations:
        indices = ((self.conditions, N_CONDITIONS), (self.subjects, N_SUBJECTS))
        counts = [np.stack([np.bincount(row, minlength=n) for row in drawn[:n_resamples]]) for drawn, n in indices]
        return bootstrap(self.models, self.data, Draws(*counts), self.compare, self.dual)

    def theirs(self) -> tuple[np.ndarray, np.ndarray]:
        rows = iter(range(N_PEER))

        def sample(data: rsatoolbox.rdm.RDMs, **_: object) -> tuple[object, np.ndarray, np.ndarray]:
            row = next(rows)
            both = data.subsample("index", self.subjects[row]).subsample_pattern("index", self.conditions[row])
            return both, self.subjects[row], self.conditions[row]

        models = [ModelFixed(str(number), rdm) for number, rdm in enumerate(self.models)]
        evaluate = toolbox.eval_dual_bootstrap if self.dual else toolbox.eval_bootstrap
        with mock.patch.object(toolbox, "bootstrap_sample", sample), mock.patch.object(toolbox.tqdm, "trange", range):
            result = evaluate(models, rsatoolbox.rdm.RDMs(self.data), method=self.compare, N=N_PEER)
        if self.dual:
            return result.evaluations[:, :, 0, 0].transpose(2, 0, 1), result.noise_ceiling[:, :, 0].transpose(2, 1, 0)
        return result.evaluations[None], result.noise_ceiling.T[None]

    def check(self) -> float:
        scores, ceilings = self.theirs()
        ours = self.ours(N_PEER)
        difference = max(np.abs(ours.scores[:, 0] - scores).max(), np.abs(ours.ceilings[:, 0] - ceilings).max())
        assert difference < TOLERANCE, difference
        return float(difference)


def seconds(function: Callable[[], object]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


def rows() -> Iterator[str]:
    """Yield the rows of the table."""
    size = f"{N_CONDITIONS} conditions, {N_MODELS} models, {N_SUBJECTS} subjects, {N_RESAMPLES} resamples"
    for dual in (False, True):
        for compare in ("corr", "cosine", "spearman"):
            contest = Contest(compare, dual)
            difference = contest.check()
            pairs = [(seconds(contest.theirs) * N_RESAMPLES / N_PEER, seconds(contest.ours)) for _ in range(REPEATS)]
            theirs, ours = (median(one) for one in zip(*pairs, strict=True))
            ratios = sorted(one / other for one, other in pairs)
            peer = f"rsatoolbox's `{'eval_dual_bootstrap' if dual else 'eval_bootstrap'}`, timed on {N_PEER} resamples"
            took = f"{theirs:.1f} s against {ours:.2f}"
            yield (
                f"| {'dual ' if dual else ''}bootstrap, {compare} | {size} | {peer}: {took} | "
                f"{median(ratios):.0f} ({ratios[0]:.0f}-{ratios[-1]:.0f}) | {difference:.0e} |"
            )


def memory() -> str:
    """Return a row: how much a large analysis holds besides its RDMs, and how much all weights of pairs would be."""
    n_conditions, n_pairs = 1800, 1800 * 1799 // 2
    random = np.random.default_rng(0)
    models, data = random.random((N_MODELS, n_pairs)), random.random((N_SUBJECTS, n_pairs))
    drawn = draw("both", N_RESAMPLES, n_conditions, N_SUBJECTS, random)
    tracemalloc.start()
    begin = time.process_time()
    bootstrap(models, data, drawn, "corr")
    took = time.process_time() - begin
    peak = tracemalloc.get_traced_memory()[1] / 1e9
    tracemalloc.stop()
    size = f"{n_conditions:,} conditions ({n_pairs:,} pairs), {N_MODELS} models, {N_SUBJECTS} subjects, "
    size += f"{N_RESAMPLES} resamples"
    given, weights = (models.nbytes + data.nbytes) / 1e9, 8 * n_pairs * N_RESAMPLES / 1e9
    return (
        f"| memory of a bootstrap, corr | {size} | the weights of all pairs, {weights:.1f} GB; ours {peak:.2f} GB "
        f"besides {given:.2f} GB of RDMs, in {took:.0f} s | {weights / peak:.0f} | - |"
    )


def main() -> None:
    print("| work | size | peer | ratio (range) | same answer within |", flush=True)
    for row in rows():
        print(row, flush=True)
    print(memory())


if __name__ == "__main__":
    main()
