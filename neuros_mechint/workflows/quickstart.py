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
from neuros_mechint.causal.patching import ActivationPatcher, PatchingEffects
from neuros_mechint.core.progress import progress_bar
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.datasets.embedded import load_model
from neuros_mechint.datasets.measures import accuracy_by_lag, induction_score, previous_token_score
from neuros_mechint.datasets.tasks import flip_flop, repeated_tokens
from neuros_mechint.report.report import Report
from neuros_mechint.workflows.views import AccuracyByLag, AttentionPatterns, StateTrajectories

LAGS = (3, 4, 5, 8, 16, 24, 32, 40, 48)
_PERIOD = 16
_LENGTH = _PERIOD + 6
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
    clean = repeated_tokens(n_prompts, n_tokens=_LENGTH, lag=_PERIOD, seed=rng).inputs
    earlier = _LENGTH - 1 - _PERIOD
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
    report = _write(model, results)
    return Quickstart(report, report.save(path), results)


# -- what is measured ------------------------------------------------------------------------------------------------


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


def _alone_and_together(heads: PatchingEffects, joint: PatchingEffects) -> Result:
    alone = heads.normalized().sel(site="blocks.1.z")
    effect = xr.DataArray(
        [*alone.values, joint.normalized().item()],
        dims="part",
        coords={"part": [*(f"head 1.{head}" for head in alone["head"].values), "all together"]},
        attrs=alone.attrs,
    )
    return Result(
        effect.to_dataset(name="effect"), "Alone and together", provenance=joint.provenance, citations=joint.citations
    )


def _trajectories(seed: SeedLike) -> StateTrajectories:
    network = adapt(load_model("flip_flop_rnn"))
    trials = flip_flop(n_trials=40, n_steps=60, seed=seed)
    run = network.run(trials.inputs, capture="hidden")
    states = run.activations["hidden"].double().numpy()
    correct = (run.output.sign() == trials.targets.sign())[trials.mask].double().mean()
    centred = states - states.reshape(-1, states.shape[-1]).mean(0)
    _, singular, axes = np.linalg.svd(centred.reshape(-1, states.shape[-1]), full_matrices=False)
    bits = (trials.targets > 0).long().numpy()
    names = ["".join("+" if (value >> bit) & 1 else "-" for bit in range(bits.shape[-1])) for value in range(8)]
    data = xr.Dataset(
        {
            "state": (("trial", "time", "component"), centred @ axes[:3].T),
            "memory": (("trial", "time"), (bits * (1 << np.arange(bits.shape[-1]))).sum(-1)),
            "memory_name": ("memory_value", names),
            "explained_variance": ("component", (singular**2 / (singular**2).sum())[:3]),
        }
    )
    return StateTrajectories(
        data,
        "How a recurrent network remembers three bits",
        attributes={"accuracy_while_remembering": float(correct)},
        provenance=Provenance.record(model=network.fingerprint()),
        citations=("sussillo2013",),
    )


# -- what is told ----------------------------------------------------------------------------------------------------


def _write(model: Any, results: Mapping[str, Any]) -> Report:
    heads, joint = results["heads"].normalized(), results["joint"].normalized().item()
    first, second = heads.sel(site="blocks.0.z"), heads.sel(site="blocks.1.z")
    leader = int(first.values.argmax())
    earlier = _LENGTH - 1 - _PERIOD
    report = Report(
        "How a small transformer continues a repeated sequence",
        "A look inside two trained networks that ship with neuros-mechint: every number below was computed just now.",
    )
    report.add_text(
        "The transformer has two layers of four attention heads and nothing else. It was trained on random tokens "
        "that repeat after a random distance. To guess the next token it must find where the present token occurred "
        "before, and copy what came after it: *induction*. The following steps find out how it does it, by reading "
        "activations and by exchanging them between runs.",
        title="The question",
    )
    report.add_table(
        model.sites().to_dataframe()[["name", "native", "dims", "check"]],
        title="Where one can look",
        caption="The model's sites. A name is offered only where an identity, checked on this very model, proves it.",
    )
    report.add(
        results["accuracy"],
        caption="Fraction of repeated tokens predicted correctly, at distances inside and outside of the range the "
        f"model was trained on (6 to 32). Guessing would give {1 / 63:.1%}.",
    )
    report.add(
        results["attention"],
        caption=f"Attention of all heads on one sequence that repeats after {_PERIOD} tokens. A line just below the "
        "diagonal looks at the previous token; a line further down looks at what followed the last occurrence.",
    )
    report.add(
        results["head_scores"],
        caption="Mean attention to the previous token, and to the token after an earlier occurrence of the present "
        "one, for each head (layer.head).",
    )
    report.add(
        results["positions"],
        title="Where the answer travels",
        caption="In the corrupted prompts the earlier occurrence of the last token is replaced. One residual-stream "
        f"position of the clean run at a time is put back. The information enters at position {earlier}, has moved "
        f"one position on after the first layer, and ends at the last position: two steps, two layers.",
    )
    report.add(
        results["heads"],
        title="Which heads are needed, one at a time",
        caption="The other way round: one head of the corrupted run is put into the clean run. 1 means that the answer "
        f"is lost. Head 0.{leader}, which looks at the previous token, matters most ({float(first[leader]):.2f}); of "
        f"the second layer no head seems to matter (at most {float(second.max()):.3f}).",
    )
    report.add(
        _alone_and_together(results["heads"], results["joint"]),
        title="... and all heads of the second layer at once",
        caption=f"Exchanged together they lose {joint:.0%} of the answer. They stand in for each other: looking at one "
        "at a time misses them, which is why joint patching exists.",
    )
    report.add(
        results["trajectories"],
        caption="States of an RNN that must remember the signs of three pulses. Each combination of bits has its own "
        "place, a corner of a cube, and pulses move the state along its edges.",
    )
    return report
