"""DynamicsAnalyzer: systems whose dynamics are known, through every part at once; noise, in which nothing is."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.composite import pack, unpack
from neuros_mechint.core.errors import InputError, OptionError, StorageError
from neuros_mechint.core.result import load_result
from neuros_mechint.core.statistics.surrogates import phase_randomised
from neuros_mechint.datasets.tasks import flip_flop
from neuros_mechint.neuro.dynamics.analysis.plan import PLANS
from neuros_mechint.neuro.dynamics.analysis.result import CAPTIONS, PORTRAIT
from tests.slow import slow_case

SEEDS = [0, 1, slow_case(2)]


def quietly(analyzer, *arguments, **options):
    """Analyse without a word about parts that cannot be done, which the tests ask for by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return analyzer.analyze(*arguments, **options)


@pytest.fixture(scope="module")
def memory():
    """Three bits of memory, its states while it does its task, and the analysis of these."""
    model, task = nm.adapt(nm.load_model("flip_flop_rnn")), flip_flop(20, 100, seed=0)
    states = model.capture(task.inputs, "hidden").xarray("hidden").values
    analyzer = nm.DynamicsAnalyzer(model, n_steps=500, progress=False)
    return model, states, quietly(analyzer, states, inputs=np.zeros(3))


@pytest.fixture(scope="module")
def cycle():
    """Van der Pol's oscillator, eight starts."""
    step = nm.rk4(nm.van_der_pol, dt=0.05)
    seen = nm.simulate(step, np.random.default_rng(0).normal(size=(8, 2)), n_steps=400)
    return quietly(nm.DynamicsAnalyzer(step, progress=False), seen)


@pytest.fixture(scope="module")
def lorenz():
    """Lorenz's equations, eight starts."""
    step = nm.rk4(nm.lorenz, dt=0.02)
    starts = np.random.default_rng(0).normal(size=(8, 3))
    seen = nm.simulate(step, starts, n_steps=800, discard=1000)
    return seen, quietly(nm.DynamicsAnalyzer(step, n_steps=3000, progress=False), seen)


@pytest.fixture(scope="module")
def noise():
    """White noise, nine trials of five units."""
    return quietly(nm.DynamicsAnalyzer(progress=False), np.random.default_rng(0).normal(size=(9, 300, 5)))


# -- what is known is found --------------------------------------------------------------------------------------


def test_the_memory_of_a_network_is_27_fixed_points_and_no_chaos(memory):
    model, states, found = memory
    points = found.parts["fixed_points"]
    assert np.bincount(points.n_unstable).tolist() == [8, 12, 6, 1]
    assert points.index_sum == 1
    assert found.parts["lyapunov_spectrum"].verdict == "stable"
    assert found.parts["limit_cycle"].kind == "fixed point"
    assert found.parts["controllability"].gramian.shape == (27, 64, 64)
    portrait = found.parts[PORTRAIT]
    assert np.bincount(portrait.data["unstable"].values).tolist() == [8, 12, 6, 1]
    # without inputs, every state of the task falls to one of the eight stable points
    settled = nm.simulate(model, torch.from_numpy(states[:, ::10].reshape(-1, 64)), 60, inputs=np.zeros(3))[:, -1]
    stable = points.states[points.n_unstable == 0]
    assert np.linalg.norm(settled.numpy()[:, None] - stable, axis=2).min(1).max() < 1e-5
    assert not found.failures


def test_trajectories_that_other_inputs_drove_are_told_from_the_model(memory):
    model, states, found = memory
    assert "not those of the model with the inputs held" in found.warnings[0]
    own = nm.simulate(model, torch.from_numpy(states[:, -1]), 30, inputs=np.zeros(3))
    alone = nm.DynamicsAnalyzer(model, parts=["fixed_points"], progress=False).analyze(own, inputs=np.zeros(3))
    assert not alone.warnings


def test_trajectories_that_stand_still_are_told_in_words():
    seen = np.ones((5, 30, 3))
    analyzer = nm.DynamicsAnalyzer(lambda x: 0.5 * x, parts=["fixed_points", "phase_portrait"], progress=False)
    found = quietly(analyzer, seen)
    assert found.warnings[0].startswith("the trajectories stand still, and the model with the inputs held does not")
    assert "moves their states by 0.87;" in found.warnings[0]
    assert "span no plane" in found.failures["phase_portrait"]
    assert not any(word in found.summary() for word in ("inf", "nan", "divide"))
    at_rest = quietly(analyzer, 0 * seen)
    assert [text for text in at_rest.warnings if "stand still" in text] == []


def test_a_limit_cycle_is_seen_by_every_part(cycle):
    orbit = cycle.parts["limit_cycle"]
    assert orbit.stable
    assert orbit.angular_frequency == pytest.approx(0.94296, abs=1e-5)
    spectrum = cycle.parts["lyapunov_spectrum"]
    assert spectrum.verdict == "neutral"
    assert spectrum.exponents[1] == pytest.approx(-1.0594, abs=0.02)
    assert cycle.parts["fixed_points"].stability == ["unstable"]
    np.testing.assert_allclose(cycle.parts["fixed_points"].states, 0, atol=1e-8)
    koopman = cycle.parts["koopman"]
    frequencies = np.abs(np.angle(koopman.eigenvalues[koopman.confirmed])) / 0.05
    assert np.abs(frequencies - 0.94296).min() < 0.02
    portrait = cycle.parts[PORTRAIT]
    np.testing.assert_allclose(portrait.data["orbit"].values, orbit.orbit)
    assert np.abs(portrait.data["orbit"].values[:, 0]).max() == pytest.approx(2.009, abs=0.005)


def test_chaos_is_seen_by_every_part(lorenz):
    _, found = lorenz
    spectrum = found.parts["lyapunov_spectrum"]
    assert spectrum.chaotic
    assert spectrum.exponents[0] == pytest.approx(0.9056, abs=0.05)
    assert sorted(found.parts["fixed_points"].n_unstable) == [1, 2, 2]
    assert found.parts["limit_cycle"].kind == "none"
    assert found.parts["intrinsic_dimension"].dimension == pytest.approx(2.06, abs=0.3)
    assert not len(found.parts[PORTRAIT].data["orbit"])


def test_what_noise_lacks_is_there_in_chaos(lorenz):
    """So that the negative controls below can fail."""
    seen, _ = lorenz
    found = quietly(nm.DynamicsAnalyzer(progress=False), seen)
    assert found.parts["largest_exponent"].exponent > 0
    assert found.parts["koopman"].confirmed.any()
    assert 3 * found.parts["slow_features"].data["p"].values.min() < 0.05
    recurring = found.parts["recurrence"]
    assert recurring.determinism > recurring.data["chance_determinism"].item() + 0.5
    assert len(found.parts[PORTRAIT].data["flow"]) > 20


def test_chaos_is_seen_in_a_recording_and_not_in_its_phase_randomised_double(lorenz):
    seen, _ = lorenz
    analyzer = nm.DynamicsAnalyzer(parts=["largest_exponent"], progress=False)
    recorded = seen.numpy()
    assert quietly(analyzer, recorded).parts["largest_exponent"].chaotic
    for seed in range(3):
        windows = recorded.transpose(0, 2, 1)
        doubles = phase_randomised(windows, np.random.default_rng(seed), together=True).transpose(0, 2, 1)
        assert not quietly(analyzer, doubles).parts["largest_exponent"].chaotic


def test_a_recording_of_one_unit_is_analysed_from_its_past(lorenz):
    seen, _ = lorenz
    found = quietly(nm.DynamicsAnalyzer(progress=False), list(seen[:2, :, :1].numpy()))
    assert not found.failures
    assert found.parts["delay_embedding"].dimension >= 2
    assert found.parts[PORTRAIT].attributes["flow"] == "none"
    assert "delayed copies" in found.parts[PORTRAIT].caption
    # delayed copies turn and overlap by themselves, so that nothing is said of rotations
    assert not {"rotations", "slow_features", "tangling"} & set(found.parts)


# -- what is not there is not found ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_has_no_structure(seed, noise):
    random = np.random.default_rng(seed + 10)
    found = noise if seed == 0 else quietly(nm.DynamicsAnalyzer(progress=False), random.normal(size=(9, 300, 5)))
    assert not found.parts["largest_exponent"].chaotic
    assert np.isnan(found.parts["largest_exponent"].exponent)
    assert not found.parts["koopman"].confirmed.any()
    assert found.parts["intrinsic_dimension"].dimension > 4.5
    assert found.parts["rotation_test"].data["r2_skew"] < 0.05
    # five features, each with a p of its own
    assert 5 * found.parts["slow_features"].data["p"].values.min() > 0.05
    chance = found.parts["recurrence"].data["chance_determinism"].item()
    assert found.parts["recurrence"].determinism == pytest.approx(chance, abs=0.03)
    portrait = found.parts[PORTRAIT]
    assert not len(portrait.data["flow"])
    assert "beyond chance" in portrait.caption


def test_a_drift_back_to_the_mean_has_arrows_and_the_caption_says_what_they_are():
    random, states = np.random.default_rng(0), np.zeros((400, 40, 3))
    for time in range(1, 400):
        states[time] = 0.8 * states[time - 1] + random.normal(size=(40, 3))
    found = quietly(nm.DynamicsAnalyzer(parts=[PORTRAIT], progress=False), states.transpose(1, 0, 2))
    portrait = found.parts[PORTRAIT]
    start, flow = portrait.data["flow_position"].values, portrait.data["flow"].values
    assert len(flow) > 20
    # the mean change is -0.2 of the state
    slope = (start * flow).sum() / (start**2).sum()
    assert slope == pytest.approx(-0.2, abs=0.05)
    assert "goes back to it" in portrait.caption


def test_arrows_of_a_model_are_its_steps():
    turn = torch.tensor([[0.9, -0.2], [0.2, 0.9]], dtype=torch.float64)
    step = lambda state: state @ turn.T  # noqa: E731
    seen = nm.simulate(step, np.random.default_rng(0).normal(size=(3, 2)), 40)
    portrait = quietly(nm.DynamicsAnalyzer(step, parts=[PORTRAIT], progress=False), seen).parts[PORTRAIT]
    start = portrait.data["flow_position"].values
    np.testing.assert_allclose(portrait.data["flow"].values, start @ turn.numpy().T - start, atol=1e-12)


# -- the parts are the parts -------------------------------------------------------------------------------------


def test_parts_are_what_the_functions_themselves_return(lorenz):
    seen, found = lorenz
    koopman = nm.KoopmanOperator("hankel", rank="optimal", delays=10, dt=0.02).estimate(seen, progress=False)
    np.testing.assert_array_equal(found.parts["koopman"].eigenvalues, koopman.eigenvalues)
    tangling = nm.trajectory_tangling(seen, progress=False)
    np.testing.assert_array_equal(found.parts["tangling"].values, tangling.values)
    points = found.parts["fixed_points"].states
    step = nm.rk4(nm.lorenz, dt=0.02)
    own = nm.controllability(step, states=points, horizon=20)
    np.testing.assert_array_equal(found.parts["controllability"].gramian, own.gramian)
    np.testing.assert_array_equal(found.parts["jacobian_spectra"].main, np.abs(found.parts["fixed_points"].eigenvalues))
    assert type(found.parts["limit_cycle"]).__name__ == "LimitCycle"


def test_the_summary_says_what_the_parts_say(lorenz):
    _, found = lorenz
    told = found.summary()
    for name, part in found.parts.items():
        first = part.summary().splitlines()[1]
        assert first.removeprefix(f"{name}: ") in told, name
        assert CAPTIONS.get(name) or name == PORTRAIT


def test_the_summary_tells_each_warning_of_the_parts_once():
    """Trials of noise and a slow wave: several parts have doubts of their own."""
    random = np.random.default_rng(0)
    seen = np.sin(0.1 * np.arange(60))[:, None] + random.normal(size=(9, 60, 3))
    found = quietly(nm.DynamicsAnalyzer(progress=False), seen)
    told = found.summary()
    assert "in this part)" not in told
    doubts = {text.split("; ")[0] for part in found.parts.values() for text in part.warnings}
    assert len(doubts) >= 2
    for text in doubts:
        assert told.count(text) == 1, text
    lines = [line for line in told.splitlines() if line.startswith("warning of ")]
    assert lines
    assert any(line.startswith("warning of slow features: noise that is new in every sample") for line in lines)


def test_the_same_seed_gives_the_same_analysis():
    seen = np.random.default_rng(1).normal(size=(9, 60, 3))
    first, second = (quietly(nm.DynamicsAnalyzer(progress=False, seed=4), seen) for _ in range(2))
    assert first.data.identical(second.data)


@pytest.mark.parametrize("fixture", ["memory", "noise", slow_case("cycle"), slow_case("lorenz")])
def test_an_analysis_and_its_parts_survive_the_disk(fixture, request, tmp_path):
    given = request.getfixturevalue(fixture)
    found = given[-1] if isinstance(given, tuple) else given
    again = load_result(found.save(tmp_path / "analysis.nc"))
    assert again == found
    assert list(again.parts) == list(found.parts)
    for name, part in found.parts.items():
        assert again.parts[name] == part
        assert type(again.parts[name]) is type(part)


def test_every_plan_has_captions():
    assert {name for plan in PLANS.values() for name in plan} == {*CAPTIONS, PORTRAIT}


# -- what cannot be done -----------------------------------------------------------------------------------------


def test_a_part_that_fails_says_why_and_leaves_the_others():
    """A step in NumPy cannot be differentiated, and one trial is too few for some; the others are done."""

    def step(state):
        return torch.from_numpy(0.5 * state.detach().numpy() + 0.1)

    seen = nm.simulate(step, np.random.default_rng(0).normal(size=(1, 3)), 40)
    seen = seen.numpy() + 1e-6 * np.random.default_rng(1).normal(size=(1, 40, 3))
    with pytest.warns(UserWarning, match="not done, see the reasons: fixed points"):
        found = nm.DynamicsAnalyzer(step, progress=False).analyze(seen)
    failed = found.failures
    assert "differentiated" in failed["fixed_points"]
    assert "no fixed points were found" in failed["controllability"]
    assert "differentiated" in failed["lyapunov_spectrum"]
    assert "too few trials" in failed["rotation_test"]
    assert {"koopman", "tangling", PORTRAIT} <= set(found.parts)
    assert f"fixed points: not done: {failed['fixed_points']}" in found.summary()
    assert "\n" not in failed["fixed_points"]
    assert len(found.parts[PORTRAIT].data["flow"])  # the flow needs no derivative


def test_an_error_that_nobody_expected_is_told_with_its_kind(monkeypatch):
    def broken(given):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setitem(PLANS["recording"], "tangling", broken)
    seen = np.random.default_rng(0).normal(size=(3, 60, 3))
    found = quietly(nm.DynamicsAnalyzer(parts=["tangling", PORTRAIT], progress=False), seen)
    assert found.failures == {"tangling": "ZeroDivisionError: division by zero"}


def test_where_nothing_can_be_done_there_is_no_result():
    with pytest.raises(InputError, match="no part"):
        nm.DynamicsAnalyzer(parts=["rotation_test"], progress=False).analyze(
            np.random.default_rng(0).normal(size=(30, 3))
        )


@pytest.mark.parametrize(
    ("model", "options", "seen", "inputs", "message"),
    [
        (None, {}, np.zeros((10, 3)), None, "at least 20"),
        (None, {}, np.full((30, 3), np.nan), None, "NaN|missing|finite"),
        (None, {}, np.ones((30, 3)), [0.0], "there is none"),
        (None, {"parts": ["fixed_points"]}, np.ones((30, 3)), None, "unknown part"),
        (None, {"parts": "koopman"}, np.ones((30, 3)), None, "no list"),
        (None, {"parts": []}, np.ones((30, 3)), None, "no list"),
        (None, {"n_steps": 10}, np.ones((30, 3)), None, "n_steps"),
        ("model", {}, np.ones((30, 3)), None, "no step"),
        (torch.nn.GRU(2, 3), {}, np.ones((30, 3)), None, "adapt"),
        (lambda x: x @ torch.eye(4, dtype=x.dtype), {}, np.ones((30, 3)), None, "step"),
        (lambda x, u: x + u, {}, np.ones((30, 3)), np.zeros((2, 3)), "held"),
    ],
)
def test_what_is_no_system_or_no_trajectory_is_refused(model, options, seen, inputs, message):
    with pytest.raises(InputError, match=message):
        nm.DynamicsAnalyzer(model, progress=False, **options).analyze(seen, inputs)


def test_wrong_options_are_option_errors():
    with pytest.raises(OptionError, match="did you mean 'koopman'"):
        nm.DynamicsAnalyzer(parts=["koopmann"]).analyze(np.ones((30, 3)))


def test_the_callers_trajectories_and_model_are_left_alone(memory):
    model, states, _ = memory
    copy, before = states.copy(), model.fingerprint()
    torch_state = torch.get_rng_state()
    parts = ["fixed_points", "koopman", PORTRAIT]
    quietly(nm.DynamicsAnalyzer(model, parts=parts, progress=False), states, inputs=np.zeros(3))
    np.testing.assert_array_equal(states, copy)
    assert model.fingerprint() == before
    assert torch.equal(torch.get_rng_state(), torch_state)


# -- report ------------------------------------------------------------------------------------------------------


def test_the_report_shows_each_part_with_its_own_figure_caption_and_sources(cycle):
    report = nm.Report("A cycle").add(cycle)
    titles = [section.title for section in report.sections]
    assert titles == [cycle.title, *(part.title for part in cycle.parts.values())]
    assert [section.number for section in report.sections] == [None, *range(1, len(titles))]
    assert all(section.kind == "figure" for section in report.sections[1:])
    page = report.to_html()
    assert "Where the model settles" in page
    assert "Thick line: the closed orbit" in page
    assert "doi.org/10.1038/ncomms9414" in page  # of controllability


def test_the_analysis_draws_its_portrait(memory, noise):
    _, _, found = memory
    axes = found.plot()
    assert axes.get_xlabel().startswith("component 1")
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    starts = ["start of a trajectory", "direction of time"]
    assert labels == [*starts, "stable fixed points (8)", "unstable fixed points (19)"]
    assert sum(note.arrowprops is not None for note in axes.texts) == found.parts[PORTRAIT].attributes["n_shown"]
    assert noise.plot().get_legend() is None
    alone = quietly(
        nm.DynamicsAnalyzer(parts=["tangling"], progress=False), np.random.default_rng(0).normal(size=(3, 40, 2))
    )
    with pytest.raises(InputError, match="no phase portrait"):
        alone.plot()


def test_a_part_of_a_file_imports_no_module_that_the_file_names(lorenz):
    data, about = pack({"tangling": lorenz[1].parts["tangling"]})
    about["tangling"] |= {"module": "this", "class": "Tangling2"}
    sys.modules.pop("this", None)
    with pytest.raises(StorageError, match="not known in this session"):
        unpack(data, about)
    assert "this" not in sys.modules


def test_an_adapted_network_is_called_by_its_own_name():
    network = nm.adapt(nm.load_model("flip_flop_rnn"))
    states = nm.simulate(network, np.random.default_rng(0).normal(size=(2, 64)), n_steps=20)
    found = nm.DynamicsAnalyzer(network, parts=["tangling"]).analyze(states)
    assert found.title == f"Dynamics of {type(network.module).__name__}"
    assert "Adapter" not in found.summary()
    exponents = nm.lyapunov_spectrum(network, states[:, -1], 100, 2, np.zeros(3), warmup=0, progress=False)
    assert exponents.title == "Lyapunov exponents of RecurrentNetwork"
