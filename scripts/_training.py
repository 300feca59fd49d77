"""What the training scripts share: one deterministic training loop and one way to write weights."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from neuros_mechint.core.progress import progress_bar
from neuros_mechint.datasets.tasks import Trials

WEIGHTS = Path(__file__).resolve().parents[1] / "neuros_mechint" / "datasets" / "weights"


def make_deterministic(seed: int) -> None:
    """Seed torch, so that initial weights repeat, and use one thread, so that sums are added in one order."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def train(
    model: nn.Module,
    draw: Callable[[int], Trials],
    loss: Callable[[nn.Module, Trials], torch.Tensor],
    n_steps: int,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.0,
    constrain: Callable[[], None] | None = None,
    progress: bool = True,
) -> None:
    """Train ``model`` in place with AdamW, 50 steps of warm-up and a rate that falls linearly to zero.

    ``draw(step)`` gives the trials of a step; ``constrain`` puts the weights back where they must lie after
    each.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * (1 - step / n_steps)
    )
    for step in progress_bar(range(n_steps), description="training", enabled=progress):
        optimizer.zero_grad()
        loss(model, draw(step)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        schedule.step()
        if constrain is not None:
            constrain()


def masked_squared_error(model: nn.Module, trials: Trials) -> torch.Tensor:
    """Mean squared error of the outputs where the answer counts."""
    return (model(trials.inputs) - trials.targets)[trials.mask].square().mean()


def save_weights(model: nn.Module, arguments: dict[str, Any], name: str) -> Path:
    """Write the weights with the architecture as metadata, and print what `embedded.py` records of them."""
    # One metadata key only: several are written in no fixed order, and the file must come out the same.
    architecture = json.dumps({"network": type(model).__name__, "arguments": arguments}, sort_keys=True)
    tensors = {key: tensor.detach().contiguous() for key, tensor in model.state_dict().items()}
    path = WEIGHTS / f"{name}.safetensors"
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=WEIGHTS)
    os.close(handle)
    save_file(tensors, temporary, metadata={"architecture": architecture})
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)
    content = path.read_bytes()
    print(f"{path.name}: {len(content) / 1024:.0f} KiB, sha256 {hashlib.sha256(content).hexdigest()}")
    return path
