"""The training loop over SAELens's SAETrainer: held-out loss, early stopping, resume after an interruption."""

from __future__ import annotations

import copy
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from neuros_mechint.core.errors import StorageError
from neuros_mechint.core.progress import progress_bar

_N_EVALUATIONS = 20
_EVALUATED = 0.15  # rows of all evaluations, as a share of those trained on: some 5% of the time
_WIDEST = 10  # training starts with so many times k active features
_FALLING = 0.5  # share of the steps over which their number falls to k


def make_trainer(sae: Any, batches: Iterator[torch.Tensor], n_steps: int, batch_size: int, learning_rate: float) -> Any:
    """Return SAELens's trainer; the learning rate falls linearly to a tenth over the last fifth."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = SAETrainerConfig(
        total_training_samples=n_steps * batch_size,
        train_batch_size_samples=batch_size,
        lr=learning_rate,
        lr_end=learning_rate / 10,
        lr_decay_steps=n_steps // 5,
        dead_feature_window=max(1, min(1000, n_steps // 10)),
        feature_sampling_window=n_steps + 1,
        device=str(sae.W_dec.device),
    )
    return SAETrainer(config, sae, batches)


def train(
    trainer: Any,
    held_out: torch.Tensor,
    *,
    patience: int | None,
    checkpoint: Path | None,
    settings: dict[str, Any],
    progress: bool,
) -> list[tuple[int, float, float]]:
    """Train in place and return ``(step, training loss, held-out loss)`` at each evaluation.

    With ``patience`` the weights of the lowest held-out loss are kept, else the last.
    """
    history, best = ([], None) if checkpoint is None else restore(trainer, checkpoint, settings)
    n_steps, done = trainer.cfg.total_training_steps, trainer.n_training_steps
    every = max(1, n_steps // _N_EVALUATIONS)
    rows_trained_on = n_steps * trainer.cfg.train_batch_size_samples
    held_out = held_out[: max(512, int(_EVALUATED * rows_trained_on / _N_EVALUATIONS))]
    if _stopped(history, patience):
        done = n_steps
    batches = itertools.islice(trainer.data_provider, done, None)
    nested = hasattr(trainer.sae.cfg, "matryoshka_widths")
    for step in progress_bar(range(done + 1, n_steps + 1), description="training the autoencoder", enabled=progress):
        if nested:
            trainer.sae.activation_fn.k = active_features(step, n_steps, trainer.sae.cfg.k, trainer.sae.cfg.d_sae)
        output = trainer.step(next(batches))
        trainer.n_training_steps += 1
        if step % every == 0 or step == n_steps:
            history.append((step, float(output.loss.detach()), held_out_loss(trainer, held_out)))
            if patience is not None and history[-1][2] == min(loss for _, _, loss in history):
                best = copy.deepcopy(trainer.sae.state_dict())
            if checkpoint is not None:
                save(trainer, checkpoint, settings, history, best)
            if _stopped(history, patience):
                break
    if best is not None:
        trainer.sae.load_state_dict(best)
    return history


def differing(settings: dict[str, Any], others: dict[str, Any]) -> str:
    """Return the settings that others do not share, as text.

    Examples
    --------
    >>> differing({"k": 3, "n_steps": 10}, {"k": 4, "n_steps": 10})
    'k=3'
    """
    return ", ".join(f"{name}={value}" for name, value in settings.items() if others.get(name) != value)


def active_features(step: int, n_steps: int, k: float, n_features: int) -> float:
    """Return how many features a nested autoencoder may have active at a step: many at first, then fewer, down to k.

    A prefix with room for the parents of a planted hierarchy alone found all of them in 30 of 30 runs, and in 10 with
    the same k throughout: there, a feature that settles on a child first never meets the parent it is needed for.
    Autoencoders that do not nest gain nothing from it (a planted dictionary is found at .90 instead of .94).

    Examples
    --------
    >>> [active_features(step, 100, 4, 64) for step in (0, 25, 50, 100)]
    [40.0, 22.0, 4.0, 4.0]
    """
    left = max(0.0, 1 - step / (_FALLING * n_steps))
    return k + (min(n_features, _WIDEST * k) - k) * left


def settle_threshold(sae: Any, rows: torch.Tensor) -> None:
    """Set the threshold that replaces the competition within a batch to where k features are active on average.

    SAELens's is a running mean of the smallest active values: it lags behind, hundreds of steps after they have
    settled, and starts at zero.
    """
    sae.activation_fn.k = sae.cfg.k
    with torch.no_grad():
        codes = sae.encode(rows)
    active = codes[codes > 0]
    if active.numel():
        sae.topk_threshold.fill_(float(active.min()))


def held_out_loss(trainer: Any, held_out: torch.Tensor) -> float:
    """Return the training objective on rows held out, with k as it will be, on a copy: a pass moves thresholds."""
    from sae_lens.saes.sae import TrainStepInput

    judged = copy.deepcopy(trainer.sae)
    if hasattr(judged.cfg, "k"):
        judged.activation_fn.k = judged.cfg.k
    with torch.no_grad():
        output = judged.training_forward_pass(
            TrainStepInput(
                sae_in=trainer.activation_scaler(held_out),
                dead_neuron_mask=None,
                coefficients=trainer.get_coefficients(),
                n_training_steps=trainer.n_training_steps,
                is_logging_step=False,
            )
        )
    return float(output.loss)


def _stopped(history: list[tuple[int, float, float]], patience: int | None) -> bool:
    losses = [loss for _, _, loss in history]
    return patience is not None and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def save(
    trainer: Any,
    folder: Path,
    settings: dict[str, Any],
    history: list[tuple[int, float, float]],
    best: dict[str, torch.Tensor] | None,
) -> None:
    """Write a checkpoint beside the last one, then rename it into place and remove the last one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"step_{trainer.n_training_steps}"
        new = folder / f"{name}.part"
        shutil.rmtree(new, ignore_errors=True)
        trainer.save_trainer_state(new)
        # Not save_checkpoint: SAELens folds decoder norms into the weights it saves: not the state of training.
        torch.save({"now": trainer.sae.state_dict(), "best": best}, new / "weights.pt")
        (new / "settings.json").write_text(json.dumps({"settings": settings, "history": history}), encoding="utf-8")
        shutil.rmtree(folder / name, ignore_errors=True)
        os.replace(new, folder / name)
        for old in _checkpoints(folder):
            if old.name != name:
                shutil.rmtree(old)
    except OSError as error:
        raise StorageError(f"could not write a checkpoint to {folder}: {error}", fix="give another folder") from error


def restore(
    trainer: Any, folder: Path, settings: dict[str, Any]
) -> tuple[list[tuple[int, float, float]], dict[str, torch.Tensor] | None]:
    """Load the newest checkpoint, if there is one, into the trainer; return its history and its best weights."""
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder} is no folder", fix="give a folder for checkpoints")
    found = _checkpoints(folder)
    if not found:
        return [], None
    newest = max(found, key=lambda path: int(path.name.removeprefix("step_")))
    best: dict[str, torch.Tensor] | None = None
    try:
        saved = json.loads((newest / "settings.json").read_text(encoding="utf-8"))
        history = [(int(step), float(a), float(b)) for step, a, b in saved["history"]]
        found_settings = saved["settings"]
        if found_settings == settings:
            weights = torch.load(newest / "weights.pt", map_location="cpu", weights_only=True)
            best = weights["best"]
            trainer.sae.load_state_dict(weights["now"])
            trainer.load_trainer_state(newest)
    except Exception as error:  # whatever damaged files make of json, torch and SAELens
        raise StorageError(f"the checkpoint {newest} is damaged", fix="delete it and train again") from error
    if found_settings != settings:
        raise StorageError(
            f"the checkpoint {newest} is of another training",
            expected=differing(settings, found_settings),
            got=differing(found_settings, settings),
            fix="choose another folder, or train with the same settings and data",
        )
    return history, best


def _checkpoints(folder: Path) -> list[Path]:
    """Return our finished checkpoints in a folder that may hold other things too."""
    return [path for path in folder.glob("step_*") if path.name.removeprefix("step_").isdecimal() and path.is_dir()]
