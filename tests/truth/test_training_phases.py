"""Phases of a training: sudden turns are found where they are, smooth learning and noise have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.signal import lfilter
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.datasets.networks import InductionTransformer
from neuros_mechint.datasets.tasks import repeated_tokens
from neuros_mechint.training.schedule import as_schedule
from neuros_mechint.training.tracker import MetaDynamicsTracker
from neuros_mechint.training.trend import OneBend
from tests.slow import slow_case

pytest.importorskip("ruptures", reason="needs the extra phases: pip install 'neuros-mechint[phases]'")
from neuros_mechint.training.phases import _alone, detect_phases

STEPS = np.arange(0, 800, 20)
SMOOTH = {
    "flat": 0.0 * STEPS,
    "line": STEPS / 800,
    "exponential": np.exp(-STEPS / 150),
    "power law": (1 + STEPS / 10) ** -0.5,
    "rise": 1 - np.exp(-STEPS / 300),
    "one turn": ((STEPS - 300) / 400) ** 2,
}


def noise(correlation, size, seed, n=40):
    drawn = np.random.default_rng(seed).normal(size=n)
    drawn[1:] *= np.sqrt(1 - correlation**2)
    return size * lfilter([1], [1, -correlation], drawn)


def found(curve, steps=STEPS, **options):
    return detect_phases(curve, steps, progress=False, **{"n_surrogates": 19} | options)


# -- curves ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, slow_case(0.3), slow_case(0.6)])
def test_smooth_learning_has_no_phases(correlation):
    curves = {kind: curve + noise(correlation, 0.02, seed) for seed, (kind, curve) in enumerate(SMOOTH.items())}
    taken = [kind for kind, curve in curves.items() if found(curve).changes]
    assert len(taken) <= 1, taken  # of 6, at p = .05


@pytest.mark.parametrize(("at", "width"), [(200, 5.0), (400, 20.0), (600, 5.0), slow_case(600, 40.0)])
def test_a_sudden_turn_is_found_where_it_is(at, width):
    phases = found(SMOOTH["exponential"] - np.tanh((STEPS - at) / width) + noise(0.3, 0.02, 1))
    away = np.abs(np.array(phases.changes) - at)
    assert away.min() <= 40
    assert away.max() <= 40 + 2 * width
    assert phases.p[0] == 0.05
    assert float(phases.data["size"][away.argmin()]) == pytest.approx(-2.5, abs=0.6)


def test_two_turns_are_found_each():
    phases = found(np.tanh((STEPS - 200) / 10) + np.tanh((STEPS - 560) / 10) + noise(0.0, 0.02, 2))
    assert np.abs(np.array(phases.changes) - 200).min() <= 40
    assert np.abs(np.array(phases.changes) - 560).min() <= 40


def test_a_slow_turn_is_wider_than_a_sudden_one():
    sudden, slow = (found(np.tanh((STEPS - 400) / width) + noise(0.0, 0.01, 3)) for width in (10.0, 150.0))
    assert float(sudden.data["width"].min()) < 50
    assert float(slow.data["width"].min()) > 70
    assert "slow, and no jump" in slow.summary()
    assert "slow" not in sudden.summary()


@pytest.mark.parametrize("height", [0.3, -10.0])
def test_looks_that_stand_alone_are_no_phases_and_hide_none(height):
    jumps = 0
    for seed in range(2):
        smooth = SMOOTH["exponential"] + noise(0.5, 0.02, seed)
        smooth[20:22] += height
        phases = found(smooth)
        assert phases.changes == []
        assert STEPS[phases.data["alone"].values].tolist() == [400, 420]
        assert "step 400, step 420" in phases.summary()
        sudden = smooth - np.tanh((STEPS - 600) / 10)
        jumps += any(abs(at - 600) <= 40 for at in found(sudden).changes)
    assert jumps == 2


def test_noise_and_turns_do_not_stand_alone():
    for correlation in (0.0, 0.5, 0.9):
        assert np.mean([_alone(noise(correlation, 1.0, seed)).mean() for seed in range(200)]) < 0.01
    for smooth in (np.tanh((STEPS - 400) / 5), np.exp(-STEPS / 30), np.abs(STEPS - 400.0)):
        assert not _alone(smooth).any()


def test_steps_that_are_far_apart_at_the_end_change_nothing():
    steps = np.unique(np.geomspace(1, 100_000, 45).astype(int))
    curve = 1 / (1 + (steps / 1000.0) ** 4) + noise(0.0, 0.01, 4, len(steps))
    phases = found(curve, steps)
    assert all(300 < at < 4000 for at in phases.changes)
    assert phases.changes
    assert found(steps**-0.2 + noise(0.0, 0.01, 5, len(steps)), steps).changes == []


@pytest.mark.slow
def test_long_curves_are_thinned_and_keep_their_steps():
    steps = np.arange(1000)
    phases = found(np.tanh((steps - 700) / 3) + noise(0.2, 0.05, 6, 1000), steps)
    assert np.abs(np.array(phases.changes) - 700).min() <= 10
    assert phases.data.sizes["step"] == 1000


def test_the_division_is_the_best_of_all():
    from neuros_mechint.training.phases import FEWEST_ON_A_SIDE, _divide

    curve = np.tanh((STEPS - 300) / 30) + noise(0.0, 0.1, 7)
    bend = OneBend(STEPS.astype(float))
    splits = range(FEWEST_ON_A_SIDE, len(STEPS) - FEWEST_ON_A_SIDE + 1)
    best = min(splits, key=lambda split: bend.left(curve, 0, split) + bend.left(curve, split))
    assert _divide(bend, curve, 1, 0.0).split == best


@pytest.mark.slow
@pytest.mark.parametrize(("correlation", "most"), [(0.0, 0.05), (0.5, 0.05), (0.9, 0.2)])
def test_noise_is_taken_for_a_phase_as_seldom_as_p_says(correlation, most):
    taken = [bool(found(SMOOTH["flat"] + noise(correlation, 1.0, seed), seed=seed).changes) for seed in range(60)]
    assert np.mean(taken) <= most + 0.05


def test_the_same_seed_gives_the_same_p():
    curve = SMOOTH["exponential"] + noise(0.5, 0.05, 8)
    assert found(curve, seed=1).attributes == found(curve, seed=1).attributes
    assert found(np.ones(40)).changes == []  # nothing happens at all


# -- a transformer that learns induction -------------------------------------------------------------------------------


def cross_entropy(logits, targets):
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def labelled(trials):
    return torch.where(trials.mask, trials.targets, -100)


def trained(seed, n_steps=200, shuffled=False):
    """A small transformer on repeated tokens, or on labels that nothing predicts."""
    random = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = InductionTransformer(d_model=32, d_vocab=16, n_ctx=24)
    probe = repeated_tokens(64, 24, 16, seed=1000 + seed)
    targets = labelled(probe)

    def accuracy(adapter, tokens):
        right = adapter.module(tokens).argmax(-1) == targets
        return right[targets >= 0].double().mean()

    tracker = MetaDynamicsTracker(
        model, probe.inputs, targets, cross_entropy, metrics=["loss", "cka"], extra={"accuracy": accuracy}, schedule=10
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01, betas=(0.9, 0.98))
    for step in range(n_steps + 1):
        tracker.update(step)
        trials = repeated_tokens(32, 24, 16, seed=random)
        labels = labelled(trials)
        if shuffled:
            labels = torch.where(labels >= 0, torch.from_numpy(random.integers(1, 16, labels.shape)), -100)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * min(1.0, (step + 1) / 50) * (1 - step / 500)
        optimizer.zero_grad()
        cross_entropy(model(trials.inputs), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return tracker.record()


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 6))])
def test_the_transition_to_induction_is_found(seed):
    record = trained(seed)
    accuracy = record["accuracy"].values
    jump = record.steps[int(np.diff(accuracy).argmax())]
    assert accuracy[0] < 0.1 < 0.95 < accuracy[-1]
    for name in ("accuracy", "loss"):
        phases = detect_phases(record[name], n_surrogates=19, seed=seed, progress=False)
        assert np.abs(np.array(phases.changes) - jump).min() <= 50, name
    assert "a new phase" in phases.summary()
    assert phases.plot().get_xlabel() == "step of training"


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 6))])
def test_labels_that_nothing_predicts_have_no_phases(seed):
    record = trained(seed, shuffled=True)
    assert float(record["accuracy"].max()) < 0.2
    phases = detect_phases(record["accuracy"], n_surrogates=39, seed=seed, progress=False)
    assert phases.changes == []
    assert "no change" in phases.summary()


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_bad_curves_are_refused():
    with pytest.raises(InputError, match="no curve over steps"):
        found(np.zeros(10), None)
    with pytest.raises(InputError, match="no curve over steps"):
        found(np.zeros(40), np.arange(30))
    with pytest.raises(InputError, match="not finite"):
        found(np.full(40, np.nan))
    with pytest.raises(InputError, match="do not increase"):
        found(np.zeros(40), np.arange(40)[::-1])
    with pytest.raises(InputError, match=r"one curve at a time[\s\S]*choose a layer"):
        found(xr.DataArray(np.zeros((40, 2)), dims=("step", "site")))
    with pytest.raises(OptionError, match="n_surrogates"):
        found(np.zeros(40), n_surrogates=5)


def test_results_are_saved(tmp_path):
    phases = found(np.tanh((STEPS - 400) / 10) + noise(0.0, 0.02, 9))
    assert nm.load_result(phases.save(tmp_path / "phases.nc")) == phases


def test_schedules():
    log, every = as_schedule("log"), as_schedule(7)
    chosen = [step for step in range(100_001) if log(step) == step]
    assert chosen[:6] == [0, 1, 3, 10, 15, 22]
    assert chosen[-1] == 100_000
    assert len(chosen) == 3 + 4 * 6 + 1
    assert [step for step in range(20) if every(step) == step] == [0, 7, 14]
    assert [as_schedule(range(3, 9, 5))(step) for step in (0, 3, 7, 8, 20)] == [-1, 3, 3, 8, 8]
    assert all(log(step) == max(one for one in chosen if one <= step) for step in range(0, 100_001, 997))


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_units_of_the_curve_change_nothing(scale):
    steps = np.arange(0, 400, 10)
    curve = np.exp(-steps / 100) - np.tanh((steps - 200) / 15) + 0.02 * np.random.default_rng(0).normal(size=40)
    plain, other = (detect_phases(one, steps, n_surrogates=19) for one in (curve, scale * curve))
    assert plain.changes == other.changes != []
    assert other.p == plain.p
    assert other.data["size"].values == pytest.approx(scale * plain.data["size"].values)
    late = detect_phases(curve, steps * 1e300, n_surrogates=19)
    assert late.changes == [at * 1e300 for at in plain.changes]
