"""Train the embedded induction transformer: ``python scripts/train_induction.py``, a minute on one core.

Seeds 0 to 4 were tried. Kept is the one with the highest previous-token score (0.49 in head 0 of the
first layer) among those right at least 0.999 of the time at every lag of 3, 4, 5, 8, 16, 24, 32, 40 and
48; seed 1 is not, with 0.98 at lag 32. After 600 steps every seed stood at 0.90 to 0.95 there. In the
one looked at (seed 4) the errors were answers to be copied from positions 31 and 32, which few training
lags ask for.
"""

from __future__ import annotations

import numpy as np
import torch
from _training import make_deterministic, save_weights, train
from torch import nn

from neuros_mechint.datasets.measures import accuracy_by_lag
from neuros_mechint.datasets.networks import InductionTransformer
from neuros_mechint.datasets.tasks import Trials, repeated_tokens

ARGUMENTS = {"n_layers": 2, "n_heads": 4, "d_model": 64, "d_vocab": 64, "n_ctx": 64}
HELD_OUT_LAGS = (3, 4, 5, 8, 16, 24, 32, 40, 48)


def cross_entropy(model: nn.Module, trials: Trials) -> torch.Tensor:
    """Cross-entropy of the next token where the past predicts it."""
    return nn.functional.cross_entropy(model(trials.inputs)[trials.mask], trials.targets[trials.mask])


def train_induction(seed: int, n_steps: int = 1000, progress: bool = True) -> InductionTransformer:
    """Return a transformer trained on fresh repeated tokens at every step."""
    make_deterministic(seed)
    model = InductionTransformer(**ARGUMENTS)
    random = np.random.default_rng(seed)
    train(
        model,
        draw=lambda step: repeated_tokens(64, seed=random),
        loss=cross_entropy,
        n_steps=n_steps,
        weight_decay=0.01,
        progress=progress,
    )
    return model.eval()


if __name__ == "__main__":
    trained = train_induction(seed=0)
    print("accuracy by lag:", accuracy_by_lag(trained, HELD_OUT_LAGS, seed=1))
    save_weights(trained, ARGUMENTS, "induction")
