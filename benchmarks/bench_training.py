"""What a tracker costs at its defaults: the same training with and without, one thread, by processor time."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from neuros_mechint.datasets.networks import InductionTransformer
from neuros_mechint.datasets.tasks import repeated_tokens
from neuros_mechint.training.tracker import MetaDynamicsTracker

torch.set_num_threads(1)
STEPS = 1000


class Task(NamedTuple):
    name: str
    model: Callable[[], nn.Module]
    draw: Callable[[np.random.Generator], tuple[torch.Tensor, torch.Tensor]]
    loss: Callable[..., torch.Tensor]


def tokens(random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    trials = repeated_tokens(64, seed=random)
    return trials.inputs, torch.where(trials.mask, trials.targets, -100)


def token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def digits(random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    labels = random.integers(10, size=128)
    images = random.normal(size=(128, 784)) + 0.1 * np.eye(784)[labels]
    return torch.from_numpy(images).float(), torch.from_numpy(labels)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


TASKS = (
    Task("induction transformer, 64 x 64 tokens a batch", InductionTransformer, tokens, token_loss),
    Task("perceptron 784-512-512-10, batch 128", perceptron, digits, nn.functional.cross_entropy),
)


def train(task: Task, tracked: bool) -> tuple[nn.Module, float, float, Any]:
    """Return the model, seconds of training, seconds of the tracker, and the tracker."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = task.model()
    begin = time.process_time()
    tracker = MetaDynamicsTracker(model, *task.draw(np.random.default_rng(1)), task.loss) if tracked else None
    looking, training = time.process_time() - begin, 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(STEPS + 1):
        begin = time.process_time()
        if tracker is not None:
            tracker.update(step)
        between = time.process_time()
        inputs, targets = task.draw(random)
        optimizer.zero_grad()
        task.loss(model(inputs), targets).backward()
        optimizer.step()
        looking += between - begin
        training += time.process_time() - between
    return model, training, looking, tracker


def main() -> None:
    print("| training | looks | overhead | of that before the first step | one look, in steps | with / without |")
    print("|---|---|---|---|---|---|")
    for task in TASKS:
        alone, without, _, _ = train(task, tracked=False)
        watched, training, looking, tracker = train(task, tracked=True)
        same = zip(alone.parameters(), watched.parameters(), strict=True)
        assert all(torch.equal(one, two) for one, two in same)  # nothing feels the tracker
        record = tracker.record()
        begin = time.process_time()
        MetaDynamicsTracker(task.model(), *task.draw(np.random.default_rng(1)), task.loss)
        before = time.process_time() - begin
        look = (looking - before) / len(record.steps) / (training / STEPS)
        print(
            f"| {task.name}, {STEPS:,} steps | {len(record.steps)} | {100 * looking / training:.1f}% "
            f"| {100 * before / training:.1f}% | {look:.2f} | {(training + looking) / without:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
