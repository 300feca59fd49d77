"""The guided first look: find the circuit of a trained transformer and the memory of a trained RNN, in one report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from neuros_mechint.adapters.registry import adapt
from neuros_mechint.causal.metrics import log_probability
from neuros_mechint.causal.patching.patcher import ActivationPatcher, PatchingEffects
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.datasets.embedded import load_model
from neuros_mechint.datasets.measures import accuracy_by_lag, induction_score, previous_token_score
from neuros_mechint.datasets.tasks import flip_flop, repeated_tokens
from neuros_mechint.report.report import Report
from neuros_mechint.workflows.quickstart_page import write_page
from neuros_mechint.workflows.views import AccuracyByLag, AttentionPatterns, StateTrajectories

LAGS = (3, 4, 5, 8, 16, 24, 32, 40, 48)
PERIOD = 16
_LENGTH = PERIOD + 6
_N_PROMPTS = 48


@dataclass(frozen=True)
class Quickstart:
    """What the quickstart found.

    Parameters
    ----------
    report : Report
        The page, already saved.
    path : pathlib.Path
        Where.
    results : dict of str to Result
        ``accuracy``, ``attention``, ``head_scores``, ``positions``, ``heads``, ``joint`` and ``trajectories``.
    """

    report: Report
    path: Path
    results: Mapping[str, Result]


@dataclass(frozen=True)
class InductionPrompts:
    """Partner prompts: in the corrupted ones the earlier occurrence of the last token is another token.

    Parameters
    ----------
    clean, corrupted : torch.Tensor of shape (n_prompts, n_positions)
        Token ids.
    answer : torch.Tensor of shape (n_prompts,)
        The token that followed the last token's earlier occurrence.
    earlier : int
        Position of that occurrence.
    """

    clean: torch.Tensor
    corrupted: torch.Tensor
    answer: torch.Tensor
    earlier: int


def induction_prompts(n_prompts: int = _N_PROMPTS, seed: SeedLike = 0) -> InductionPrompts:
    """Draw prompts whose last token has occurred once before, and partners in which it has not.

    Examples
    --------
    >>> prompts = induction_prompts(2)
    >>> (prompts.clean != prompts.corrupted).sum(1).tolist()
    [1, 1]
    """
    rng = generator(seed)
    clean = repeated_tokens(n_prompts, n_tokens=_LENGTH, lag=PERIOD, seed=rng).inputs
    earlier = _LENGTH - 1 - PERIOD
    corrupted = clean.clone()
    for row in corrupted:
        unused = np.setdiff1d(np.arange(1, 64), row.numpy())
        row[earlier] = int(rng.choice(unused))
    return InductionPrompts(clean, corrupted, clean[:, earlier + 1], earlier)


def quickstart(
    path: str | Path = "neuros-mechint-quickstart.html", seed: SeedLike = 0, progress: bool = True
) -> Quickstart:
    """Find the induction circuit of the embedded transformer and the memory of the flip-flop RNN; write a report.

    Parameters
    ----------
    path : path
        The HTML file to write.
    seed : int or numpy.random.Generator
        Draws the prompts and trials.
    progress : bool
        Show what is being done.

    Returns
    -------
    Quickstart

    Examples
    --------
    >>> import tempfile
    >>> found = quickstart(Path(tempfile.mkdtemp()) / "page.html", progress=False)
    >>> bool(found.results["joint"].normalized().item() > 0.95)
    True
    """
    rng = generator(seed)
    model = adapt(load_model("induction"))
    prompts = induction_prompts(seed=rng)
    steps = {
        "accuracy": lambda: _accuracy(model, rng),
        "attention": lambda: _attention(model, prompts),
        "head_scores": lambda: _head_scores(model, rng),
        "positions": lambda: _position_effects(model, prompts),
        "heads": lambda: _head_effects(model, prompts),
        "joint": lambda: _joint_effect(model, prompts),
        "trajectories": lambda: _trajectories(rng),
    }
    results: dict[str, Any] = {}
    for name, step in progress_bar(list(steps.items()), description="quickstart", enabled=progress):
        results[name] = step()
    report = write_page(model, results, PERIOD, prompts.earlier)
    return Quickstart(report, report.save(path), results)


def _accuracy(model: Any, seed: SeedLike) -> Result:
    accuracies = accuracy_by_lag(lambda tokens: model.run(tokens).output, LAGS, seed=seed)
    values = xr.DataArray(
        list(accuracies.values()),
        dims="lag",
        coords={"lag": ("lag", list(accuracies), {"long_name": "distance of the repetition", "units": "tokens"})},
        attrs={"long_name": "accuracy", "units": "fraction correct"},
    )
    return AccuracyByLag(
        xr.Dataset({"accuracy": values}),
        "The model continues repeated sequences",
        attributes={"chance": 1 / 63},
        provenance=Provenance.record(model=model.fingerprint()),
        citations=("olsson2022",),
    )


def _attention(model: Any, prompts: InductionPrompts) -> AttentionPatterns:
    captured = model.capture(prompts.clean[:1], "blocks.*.pattern")
    stacked = torch.stack([captured[name][0] for name in captured]).numpy()
    pattern = xr.DataArray(
        stacked, dims=("layer", "head", "query", "key"), attrs={"long_name": "attention", "units": "weight"}
    )
    provenance = Provenance.record(model=model.fingerprint())
    return AttentionPatterns(xr.Dataset({"pattern": pattern}), "Where each head looks", provenance=provenance)


def _head_scores(model: Any, seed: SeedLike) -> Result:
    trials = repeated_tokens(32, seed=seed)
    captured = model.capture(trials.inputs, "blocks.*.pattern")
    scores = {
        "previous_token": [previous_token_score(captured[name]) for name in captured],
        "induction": [induction_score(captured[name], trials.conditions["lag"]) for name in captured],
    }
    values = xr.DataArray(
        np.stack([torch.stack(rows).numpy() for rows in scores.values()]).reshape(2, -1),
        dims=("score", "head"),
        coords={"score": ["previous token", "induction"], "head": _head_names(captured)},
        attrs={"long_name": "mean attention", "units": "weight"},
    )
    return Result(
        xr.Dataset({"attention": values}),
        "What kind of head each is",
        provenance=Provenance.record(model=model.fingerprint()),
        citations=("elhage2021", "olsson2022"),
    )


def _head_names(captured: Any) -> list[str]:
    return [f"{layer}.{head}" for layer, name in enumerate(captured) for head in range(captured[name].shape[1])]


def _position_effects(model: Any, prompts: InductionPrompts) -> PatchingEffects:
    patcher = ActivationPatcher(model, log_probability(prompts.answer))
    sites = ["blocks.0.resid_pre", "blocks.1.resid_pre", "blocks.1.resid_post"]
    return patcher.sweep(prompts.clean, prompts.corrupted, sites, by=("position",))


def _head_effects(model: Any, prompts: InductionPrompts) -> PatchingEffects:
    # Corrupted activations into the clean run: what breaks without the head is what the model needs it for.
    patcher = ActivationPatcher(model, log_probability(prompts.answer))
    return patcher.sweep(prompts.corrupted, prompts.clean, "blocks.*.z", by=("head",))


def _joint_effect(model: Any, prompts: InductionPrompts) -> PatchingEffects:
    patcher = ActivationPatcher(model, log_probability(prompts.answer))
    return patcher.joint(prompts.corrupted, prompts.clean, "blocks.1.z")


def _trajectories(seed: SeedLike) -> StateTrajectories:
    network = adapt(load_model("flip_flop_rnn"))
    trials = flip_flop(n_trials=40, n_steps=60, seed=seed)
    run = network.run(trials.inputs, capture="hidden")
    states = run.activations["hidden"].double().numpy()
    correct = (run.output.sign() == trials.targets.sign())[trials.mask].double().mean()
    centred = states - states.reshape(-1, states.shape[-1]).mean(0)
    directions, upper = np.linalg.qr(network.module.readout.weight.detach().double().numpy().T)
    projected = centred @ (directions * np.sign(np.diag(upper)))  # each axis points the way its bit is +
    bits = (trials.targets > 0).long().numpy()
    settled = trials.mask.all(-1).numpy()
    names = ["".join("+" if (value >> bit) & 1 else "-" for bit in range(bits.shape[-1])) for value in range(8)]
    data = xr.Dataset(
        {
            "state": (("trial", "time", "component"), projected),
            "memory": (("trial", "time"), (bits * (1 << np.arange(bits.shape[-1]))).sum(-1)),
            "settled": (("trial", "time"), settled),
            "memory_name": ("memory_value", names),
            "explained_variance": ("component", projected.var((0, 1)) / centred.var((0, 1)).sum()),
        }
    )
    return StateTrajectories(
        data,
        "How a recurrent network remembers three bits",
        attributes={"accuracy_while_remembering": float(correct)},
        provenance=Provenance.record(model=network.fingerprint()),
        citations=("sussillo2013",),
    )
