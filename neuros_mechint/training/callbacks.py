"""A tracker in the training loops of other libraries."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.optional import soft_import

if TYPE_CHECKING:
    from neuros_mechint.training.tracker import MetaDynamicsTracker

STATE_FILE = "meta_dynamics.nc"
"""In each checkpoint of a HuggingFace trainer."""


def huggingface_callback(tracker: MetaDynamicsTracker) -> Any:
    """Return a ``transformers.TrainerCallback`` that tells a tracker of every step.

    The tracker looks before the first step and after the last, and in between as its schedule says. Its state is kept
    in each checkpoint, as ``meta_dynamics.nc``: a training that goes on from a checkpoint goes on with its record.
    Where the output folder holds no such file the record begins anew, with a warning.

    Parameters
    ----------
    tracker : MetaDynamicsTracker

    Returns
    -------
    transformers.TrainerCallback
        It raises `InputError` where training begins on another model than the tracker's.

    Raises
    ------
    MissingDependencyError
        transformers is not installed.
    """
    transformers = soft_import("transformers", "a callback of its Trainer")

    class TrackerCallback(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            _check_model(tracker, others.get("model"))
            saved = Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE_FILE
            if state.global_step > 0 and saved.is_file():
                tracker.load(saved)
            elif state.global_step > 0:
                text = f"training goes on from a checkpoint, without a record of the steps before: there is no {saved}"
                warnings.warn(text, UserWarning, stacklevel=2)
            tracker.update(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            tracker.update(state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.is_world_process_zero:
                tracker.save(Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE_FILE)

        def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            tracker.update(state.global_step, always=True)

    return TrackerCallback()


def lightning_callback(tracker: MetaDynamicsTracker) -> Any:
    """Return a callback with the hooks of Lightning's: ``on_train_start``, ``on_train_batch_end``, ``on_train_end``.

    Its class is a ``Callback`` of Lightning where that is imported; other loops call the hooks themselves, with a
    trainer that counts in ``global_step``.

    Parameters
    ----------
    tracker : MetaDynamicsTracker

    Returns
    -------
    object
        It raises `InputError` where training begins on another model than the tracker's.
    """

    class TrackerCallback(_lightning_base()):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            _check_model(tracker, module)
            tracker.update(trainer.global_step)

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            tracker.update(trainer.global_step)

        def on_train_end(self, trainer: Any, module: Any) -> None:
            tracker.update(trainer.global_step, always=True)

    return TrackerCallback()


def _lightning_base() -> type:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        if name in sys.modules:
            return sys.modules[name].Callback
    return object


def _check_model(tracker: MetaDynamicsTracker, model: Any) -> None:
    """Raise where the model in training shares no weight with the tracker's, whose record would never change."""
    if not isinstance(model, nn.Module):
        return
    trained = {id(weight) for weight in model.parameters()}
    if trained.isdisjoint(id(weight) for weight in tracker.adapter.module.parameters()):
        raise InputError(
            "the model in training is not the one that the tracker looks at",
            expected="weights in common",
            got=f"a {type(model).__name__} with others",
            fix="make the tracker with the model that is trained; a Trainer that makes its own (model_init) has no "
            "model to track before it trains: pass it model=",
        )
