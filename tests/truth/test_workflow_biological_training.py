"""A network under all constraints keeps them and learns; with one constraint less, that one is not kept."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.core.result import load_result
from neuros_mechint.datasets.tasks import flip_flop
from neuros_mechint.neuro.biophysics.dale.compliance import SignCompliance, sign_compliance
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentNetwork
from neuros_mechint.neuro.fractals.priors.spectral import SpectralPrior
from neuros_mechint.neuro.fractals.spectrum.slope import SpectralSlope
from neuros_mechint.report.report import Report
from neuros_mechint.workflows.biological import training as workflow
from neuros_mechint.workflows.biological.measures import activity_of, at_the_end
from neuros_mechint.workflows.biological.results import FULL, WITHOUT_LAW, WITHOUT_PRIOR, in_short
from neuros_mechint.workflows.biological.training import BiologicalNetwork, biological_training
from neuros_mechint.workflows.biological.trials import Trials, variance_of_answers
from neuros_mechint.workflows.runs.reproduce import reproduce

NETWORKS = (FULL, WITHOUT_PRIOR, WITHOUT_LAW)


def _draw(random: np.random.Generator) -> Any:
    return flip_flop(8, 128, 2, 0.4, seed=random)


def _network(seed: int, **options: Any) -> EIRecurrentNetwork:
    return EIRecurrentNetwork(2, 32, 2, alpha=0.5, seed=seed, **options)


def _trained(seed: int, n_steps: int, **options: Any) -> BiologicalNetwork:
    return biological_training(_network(seed), _draw, n_steps, n_checks=5, seed=seed, progress=False, **options)


@pytest.fixture(scope="module")
def quick() -> BiologicalNetwork:
    return _trained(0, 50)


def test_each_constraint_holds_and_does_not_without_itself(quick: BiologicalNetwork) -> None:
    end = quick.result.data
    assert end["compliance"].sel(network=[FULL, WITHOUT_PRIOR]).values.tolist() == [1.0, 1.0]
    assert float(end["compliance"].sel(network=WITHOUT_LAW)) < 0.8
    assert abs(float(end["final_slope"].sel(network=FULL)) + 1) < 0.2
    assert abs(float(end["final_slope"].sel(network=WITHOUT_PRIOR)) + 1) > 0.3
    assert float(end["final_explained"].min()) > 0.5
    assert sign_compliance(quick.model).compliance == 1


def test_what_is_found_is_told_in_short_and_first(quick: BiologicalNetwork) -> None:
    short = quick.outcome.results["in_short"]
    assert quick.outcome.shown[0] == "in_short"
    assert "100% of the weights keep the sign" in short.findings[0]
    assert short.data["fraction"].sel(measure=f"signs kept, {FULL}") == 1
    assert [text for text in short.findings if text.startswith("But ")] == [
        f"But {one}." for one in quick.result.warnings
    ]


def _told_if(result: Any, **ends: float) -> tuple[str, ...]:
    """What is told in short if values of the network with all constraints were others."""
    data = result.data.copy(deep=True)
    for name, value in ends.items():
        data[name].loc[{"network": FULL}] = value
    return in_short(replace(result, data=data), "none").findings


def test_one_network_each_is_told_and_signs_are_a_check_and_no_finding(quick: BiologicalNetwork) -> None:
    end, told = quick.result.data, quick.outcome.results["in_short"].findings
    assert "no weight change its sign: a check of the training, and no finding" in told[0]
    assert "no finding" not in _told_if(quick.result, compliance=0.9)[0]
    before = float(quick.result.parts["dynamics"].data["slope"].sel(network=FULL, step=0))
    assert told[1].startswith(f"Before training the spectral slope of its rates is {before:.2f}, after training ")
    shares = [f"{float(end['final_explained'].sel(network=name)):.0%}" for name in (FULL, WITHOUT_PRIOR)]
    (alone,) = (one for one in told if one.startswith("Each of the three is one network, trained once"))
    assert "standard errors are over trials alone" in alone
    assert f"such as {shares[0]} and {shares[1]} of the variance" in alone


@pytest.mark.parametrize(
    ("slope", "error", "told"), [(-0.97, 0.01, "by 0.03, 3 standard"), (-1.06, 0.02, "by 0.06, 3 standard"),
                                 (-0.97, 0.02, None), (-1.0, 0.01, None), (-0.9, np.nan, None), (-0.9, 0.0, None)]
)  # fmt: skip
def test_a_slope_off_its_target_by_more_than_two_standard_errors_is_told(
    quick: BiologicalNetwork, slope: float, error: float, told: str | None
) -> None:
    found = [one for one in _told_if(quick.result, final_slope=slope, final_slope_error=error) if "misses" in one]
    assert [f"{told} errors" in one for one in found] == ([] if told is None else [True])


def _with(trials: Any, **changes: Any) -> Any:
    return SimpleNamespace(**({name: getattr(trials, name) for name in ("inputs", "targets", "mask")} | changes))


def _constants(random: np.random.Generator) -> Any:
    """Inputs, and answers that have nothing to do with them: a constant of each output, and noise."""
    targets = np.array([1.0, -1.0]) + 0.1 * random.normal(size=(8, 64, 2))
    return SimpleNamespace(inputs=random.normal(size=(8, 64, 2)), targets=targets, mask=np.ones((8, 64, 2), dtype=bool))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_answers_that_disregard_the_inputs_explain_nothing(seed: int) -> None:
    """Constants of each output, and a course in time that is the same in all trials, are no answers to inputs."""
    random = np.random.default_rng(seed)
    noise, course = 0.1 * random.normal(size=(2, 64, 40, 2)), np.sin(np.arange(40) / 5)[:, None]
    best = np.array([1.0, -1.0]) + course  # what any network could say without a look
    targets = [torch.from_numpy(best + one) for one in noise]
    mask = torch.from_numpy(random.random((64, 40, 2)) < 0.8)
    found = variance_of_answers([Trials(one, one, mask) for one in targets])
    assert found.between_trials
    missed = [float(((one - torch.from_numpy(best)).square() * mask).sum() / mask.sum()) for one in targets]
    assert abs(1 - np.mean(missed) / found.values.mean()) < 0.05
    answered = variance_of_answers([Trials(one, one, mask) for one in (targets[0], targets[0] + 2)])
    np.testing.assert_allclose(answered.values, 1.01, rtol=0.05)  # answers of two kinds, apart by 2


@pytest.mark.slow
def test_a_task_of_constants_is_not_solved() -> None:
    result = biological_training(_network(0), _constants, 60, n_checks=1, progress=False).result
    assert float(result.data["final_explained"].max()) < 0.1
    assert any("not solved" in one for one in result.warnings)


def test_an_output_that_is_not_answered_is_told_though_the_others_are() -> None:
    found = {name: {"explained": 0.9, "least_explained": 0.0, "slope": -1.0, "compliance": 0.5} for name in NETWORKS}
    assert any("not every output is solved" in one for one in workflow._doubts(found, -1.0))
    found = {name: one | {"least_explained": 0.8} for name, one in found.items()}
    assert not any("solved" in one for one in workflow._doubts(found, -1.0))


def test_whole_numbers_and_arrays_are_taken_as_tensors_of_single_precision_are() -> None:
    def told(change: Any) -> np.ndarray:
        def draw(random: np.random.Generator) -> Any:
            trials = _draw(random)
            return SimpleNamespace(**{name: change(getattr(trials, name)) for name in ("inputs", "targets", "mask")})

        return (
            biological_training(_network(0), draw, 2, n_checks=1, progress=False).result.data["final_explained"].values
        )

    as_they_are = told(lambda one: one)
    np.testing.assert_array_equal(told(lambda one: one.numpy()), as_they_are)
    np.testing.assert_array_equal(told(lambda one: one.long()), as_they_are)


def test_dynamics_are_followed_from_one_start(quick: BiologicalNetwork) -> None:
    tracked = quick.result.parts["dynamics"].data
    assert tracked["step"].values.tolist() == [0, 10, 20, 30, 40, 50]
    assert np.ptp(tracked["slope"].values[:, 0]) == np.ptp(tracked["dimension"].values[:, 0]) == 0
    assert np.isfinite(tracked.to_array().values).all()
    assert ((tracked["dimension"].values > 1) & (tracked["dimension"].values < 32)).all()


def test_one_quantity_has_one_number(quick: BiologicalNetwork) -> None:
    """What is told after training is what the curves show of the weights that are kept, on the same trials."""
    end, tracked = quick.result.data, quick.result.parts["dynamics"].data
    history = quick.result.parts["training"].data
    assert int(tracked["kept"].sel(network=FULL)) == int(history["check"][history["validation_loss"].values.argmin()])
    for name in ("slope", "dimension", "rate"):
        at_kept = [float(tracked[name].sel(network=one, step=tracked["kept"].sel(network=one))) for one in NETWORKS]
        assert end[f"final_{name}"].values.tolist() == at_kept
    told = (
        f"{float(end['final_slope'].sel(network=FULL)):.2f} ± {float(end['final_slope_error'].sel(network=FULL)):.2f}"
    )
    assert told in quick.result.summary()
    assert told in quick.outcome.results["in_short"].findings[1]


def test_the_error_of_the_slope_is_that_between_draws() -> None:
    network, draws = _network(0), [_draw(np.random.default_rng(seed)) for seed in range(24)]
    prior = SpectralPrior(-1.0, axis=1, average=(0,))
    each = [activity_of(network, [one], prior)["slope"] for one in draws]
    found = [at_the_end(network, draws[start : start + 8], prior)["slope_error"] for start in (0, 8, 16)]
    assert found[0] == pytest.approx(np.std(each[:8], ddof=1) / np.sqrt(8))
    means = [np.mean(each[start : start + 8]) for start in (0, 8, 16)]
    assert np.ptp(means) < 4 * np.mean(found)


def test_slopes_that_say_little_are_doubted() -> None:
    found = {name: {"explained": 0.9, "least_explained": 0.9, "slope": -1.0, "compliance": 0.5} for name in NETWORKS}
    found[WITHOUT_PRIOR] = found[WITHOUT_PRIOR] | {"slope": -0.5}
    assert workflow._doubts(found, -1.0, n_times=128) == ()
    (short,) = workflow._doubts(found, -1.0, n_times=64)
    assert "trials of 64 time steps" in short
    found[FULL] = found[FULL] | {"explained": 0.5}
    (unsolved,) = workflow._doubts(found, -1.0, n_times=128)
    assert "50% of the variance" in unsolved
    assert "slopes are those of a network in the middle of learning" in unsolved


def test_dynamics_are_those_of_the_rates_on_trials_of_their_own() -> None:
    drawn: list[Any] = []

    def draw(random: np.random.Generator) -> Any:
        drawn.append(_draw(random))
        return drawn[-1]

    network = _network(1)
    result = biological_training(network, draw, 2, n_checks=1, progress=False).result
    at_first = result.parts["dynamics"].data.isel(step=0, network=0)
    dimensions, slopes = [], []
    for trials in drawn[1:9]:  # those that judge, not drawn[0], on which weights are chosen, and drawn[9], the same
        with torch.no_grad():
            rates = network.run(trials.inputs).rates.double()
        variances = torch.linalg.eigvalsh(rates.flatten(0, 1).T.cov())
        dimensions.append(float(variances.sum() ** 2 / variances.square().sum()))
        moving = rates.transpose(1, 2).flatten(0, 1)
        moving = moving[moving.std(-1) > 0]
        slopes.append(float(SpectralSlope("multitaper", bandwidth=2.0)(moving).mean()))
    assert float(at_first["dimension"]) == pytest.approx(np.mean(dimensions), rel=1e-6)
    assert float(at_first["slope"]) == pytest.approx(np.mean(slopes), rel=1e-4)
    inputs = [one.inputs.numpy().tobytes() for one in drawn]
    assert len(inputs) == 1 + 8 + 1 + 3 * 2  # followed, judged, whether it repeats, and two steps of three networks
    assert inputs[10:12] == inputs[12:14] == inputs[14:16]  # all three are trained on the same trials
    assert len(set(inputs)) == 11


def test_result_is_told_drawn_reported_and_saved(quick: BiologicalNetwork, tmp_path: Any) -> None:
    result = quick.result
    assert "100% of weights keep their source's sign" in result.summary()
    assert list(result.parts) == ["dynamics", "training", "signs", "signs without law"]
    signs = result.parts["signs without law"]
    assert isinstance(signs, SignCompliance)
    assert signs.compliance == float(result.data["compliance"].sel(network=WITHOUT_LAW))
    figure, ax = plt.subplots()
    result.plot(ax=ax)
    assert ax.get_xlabel() == "step of training"
    plt.close(figure)
    report = Report("Training")
    report.add(result)
    titles = [one.title for one in report.sections[1:]]
    assert titles == [part.title for part in result.parts.values()]
    assert len(set(titles)) == len(titles)  # a table of contents tells them apart
    result.save(tmp_path / "training")
    assert load_result(tmp_path / "training").summary() == result.summary()


def test_the_network_is_left_alone_and_seeds_repeat() -> None:
    network = _network(3, density=0.5, parametrisation="absolute")
    before = {name: one.clone() for name, one in network.state_dict().items()}
    found = [biological_training(network, _draw, 3, n_checks=1, seed=seed, progress=False).result for seed in (1, 1, 2)]
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())
    first, again, other = (one.data["final_slope"].values for one in found)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_training_that_is_too_short_is_doubted() -> None:
    result = biological_training(_network(0), _draw, 2, n_checks=1, progress=False).result
    assert any("not solved" in one for one in result.warnings)
    assert any("say little of one that has learned" in one for one in result.warnings)
    assert any("does not reach its target" in one for one in result.warnings)


def test_a_run_that_was_cut_off_trains_no_network_again(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(folder: Any) -> BiologicalNetwork:
        return biological_training(_network(0), n_steps=2, n_checks=1, folder=folder, progress=False)

    def no_measures(*given: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "at_the_end", no_measures)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(workflow, "train_biological", lambda *given, **options: pytest.fail("trained again"))
    resumed = run(tmp_path)
    monkeypatch.undo()
    whole = run(None)
    assert resumed.result.data.equals(whole.result.data)
    assert not resumed.model.training
    for one, other in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert list(resumed.outcome.results) == [
        "trained_law_and_prior",
        "trained_without_prior",
        "trained_without_law",
        "constraints",
        "in_short",
    ]
    assert resumed.outcome.path.exists()
    assert reproduce(tmp_path, network=_network(0), progress=False).reproduced
    with pytest.raises(InputError, match="another one"):
        reproduce(tmp_path, network=_network(1), progress=False)


def test_trials_that_are_always_the_same_are_told_and_give_no_error(tmp_path: Any) -> None:
    """Of one set of trials numbers are those of the training, however often it is drawn; of new trials they are not."""
    trials = _draw(np.random.default_rng(0))
    found = biological_training(_network(0), lambda random: trials, 2, n_checks=1, progress=False)
    result, short = found.result, found.outcome.results["in_short"].findings
    assert result.attributes["new_trials"] is False
    assert np.isnan(result.data["final_slope_error"].values).all()
    assert "±" not in result.summary() + " ".join(short)
    assert "the answers on the trials of the training" in short[2]
    assert "on the trials of the training" in result.summary()
    assert any(one.startswith("But draw returns the same trials") for one in short)
    result.save(tmp_path / "training")
    assert load_result(tmp_path / "training").summary() == result.summary()
    found = biological_training(_network(0), _draw, 2, n_checks=1, progress=False)
    result, short = found.result, found.outcome.results["in_short"].findings
    assert result.attributes["new_trials"] is True
    assert (result.data["final_slope_error"].values > 0).all()
    assert "the answers on new trials" in short[2]
    assert not any("same trials" in one for one in (*short, *result.warnings))


def test_a_draw_that_does_not_keep_to_its_generator_is_refused(tmp_path: Any) -> None:
    own = np.random.default_rng(0)
    for draw in (lambda random: _draw(own), lambda random: _with(_draw(random), targets=own.normal(size=(8, 128, 2)))):
        with pytest.raises(InputError, match="other trials for a generator of the same seed"):
            biological_training(_network(0), draw, 2, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def _short(random: np.random.Generator) -> Any:
    return flip_flop(8, 20, 2, 0.4, seed=random)


@pytest.mark.parametrize("part", ["inputs", "targets"])
def test_trials_that_are_too_large_or_too_short_are_said_to_be(part: str) -> None:
    def large(random: np.random.Generator) -> Any:
        trials = _draw(random)
        return _with(trials, **{part: getattr(trials, part) * 1e30})

    for draw, told in ((large, f"{part} of the trials are too large"), (_short, "at least 32 time steps")):
        with pytest.raises(InputError, match=told):
            biological_training(_network(0), draw, 2, progress=False)


def test_weights_that_are_not_finite_are_told_by_name() -> None:
    network = _network(0)
    with torch.no_grad():
        network.readout.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"weights readout\.weight of the model: some values are not finite"):
        biological_training(network, _draw, 2, progress=False)


@pytest.mark.parametrize(
    "change",
    [
        {"network": nn.RNN(2, 4)},
        {"draw": "unknown"},
        {"network": "no_such_file.py:build"},
        {"draw": lambda random: flip_flop(4, 12, 2, 0.4, seed=random)},
        {
            "draw": lambda random: SimpleNamespace(
                inputs=torch.zeros(2, 64, 2), targets=torch.ones(2, 64, 2), mask=torch.ones(2, 64, 2, dtype=torch.bool)
            )
        },
        {"draw": lambda random: None},
        {"draw": lambda random: _with(_draw(random), mask=2 * torch.ones(8, 128, 2))},
        {"draw": lambda random: _with(_draw(random), targets=torch.ones(8, 128, 2, dtype=torch.complex64))},
        {"seed": None},
        {"spectral_weight": 0.0},
        {"n_checks": 0},
        {"n_steps": 0},
        {"target_slope": float("nan")},
    ],
)
def test_bad_input_is_refused(change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"network": _network(0), "draw": _draw, "n_steps": 2, "progress": False} | change
    with pytest.raises((InputError, OptionError)):
        biological_training(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_constraints_are_kept_from_every_start(seed: int) -> None:
    result = _trained(seed, 200).result
    end = result.data
    assert end["compliance"].sel(network=[FULL, WITHOUT_PRIOR]).values.tolist() == [1.0, 1.0]
    assert float(end["compliance"].sel(network=WITHOUT_LAW)) < 0.8
    assert abs(float(end["final_slope"].sel(network=FULL)) + 1) < 0.15
    assert abs(float(end["final_slope"].sel(network=WITHOUT_PRIOR)) + 1) > 0.25
    assert float(end["final_explained"].min()) > 0.75
    assert not result.warnings
