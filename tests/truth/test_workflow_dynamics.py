"""The whole analysis of a recurrent network: three bits of memory are 27 fixed points, and no memory is one."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neuros_mechint.core.errors import CapabilityError, InputError, StorageError
from neuros_mechint.datasets.embedded import load_model
from neuros_mechint.datasets.networks import RecurrentNetwork
from neuros_mechint.datasets.systems import double_well, duffing
from neuros_mechint.datasets.tasks import flip_flop
from neuros_mechint.datasets.thermal import langevin
from neuros_mechint.neuro.circuits.latent.perturbation import PerturbationTest
from neuros_mechint.neuro.circuits.latent.result import LatentCircuit
from neuros_mechint.neuro.circuits.latent.validation import PCAComparison
from neuros_mechint.neuro.dynamics.integration import rk4
from neuros_mechint.neuro.dynamics.simulation import simulate
from neuros_mechint.workflows.dynamics import analyze as workflow
from neuros_mechint.workflows.dynamics.analyze import analyze_dynamics
from neuros_mechint.workflows.dynamics.driven import drive, open_system
from neuros_mechint.workflows.dynamics.network_circuit import NetworkCircuit, channels_of, network_circuit
from neuros_mechint.workflows.dynamics.words import stable_in_minima
from neuros_mechint.workflows.runs.reproduce import reproduce
from neuros_mechint.workflows.runs.run import WorkflowRun

STEPS = ["fixed_points", "phase_portrait", "lyapunov_and_cycles", "latent_circuit", "energy_landscape", "in_short"]


def untrained(seed: int, cell: Any = "rnn") -> RecurrentNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RecurrentNetwork(3, 16, 3, cell).eval()


def too_slow(system: Any, run: Any) -> Any:
    raise CapabilityError("a circuit of 12 nodes takes ten seconds")


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workflow, "_circuit", too_slow)
        return analyze_dynamics("flip_flop_rnn", folder=tmp_path_factory.mktemp("dynamics") / "run", progress=False)


def test_three_bits_are_27_fixed_points(memory):
    assert list(memory.results) == [step for step in STEPS if step != "latent_circuit"]
    points = memory.results["fixed_points"]
    assert np.bincount(points.n_unstable).tolist() == [8, 12, 6, 1]
    assert points.index_sum == 1
    readout = load_model("flip_flop_rnn").readout(torch.from_numpy(points.states).float()).detach().numpy()
    stable = readout[points.n_unstable == 0]
    assert len({tuple(row) for row in np.sign(stable)}) == 8  # each memory once


def test_the_network_forgets_no_memory_and_has_no_chaos(memory):
    settled = memory.results["lyapunov_and_cycles"]
    assert settled.parts["lyapunov_spectrum"].verdict == "stable"
    assert settled.parts["limit_cycle"].kind == "fixed point"
    assert settled.parts["limit_cycle"].title == "No periodic orbit"


def check_circuit(circuit: NetworkCircuit, n_nodes: int) -> None:
    """What a circuit says must be better than what circuits in other directions say."""
    assert list(circuit.parts) == ["circuit", "perturbation", "pca"]
    fitted, changes, scores = (circuit.parts[name] for name in circuit.parts)
    assert isinstance(fitted, LatentCircuit)
    assert isinstance(changes, PerturbationTest)
    assert isinstance(scores, PCAComparison)
    assert fitted.connectivity.shape == (n_nodes, n_nodes)
    assert fitted.attributes["r2_outputs"] > 0.75
    assert scores.scores["circuit"] > scores.scores["random"] + 0.5
    assert changes.overall > max(float(np.abs(one).max()) for one in changes.controls.values())
    assert circuit.summary().splitlines()[1].startswith(f"circuit: {n_nodes} nodes in 64 units")


def test_the_circuit_of_a_network_that_decides():
    system = drive(open_system("decision_rnn"), None, None, 0)
    seen = [values[:30] for values in (system.inputs, system.activity, system.outputs) if values is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        circuit = network_circuit(system.module, *seen, alpha=system.alpha, seed=0, progress=False)
    check_circuit(circuit, 8)
    assert circuit.plot().get_xlabel() == "sending node"


@pytest.mark.slow
def test_the_circuit_of_three_bits_is_doubted():
    found = analyze_dynamics("flip_flop_rnn", progress=False)
    assert list(found.results) == STEPS
    circuit = found.results["latent_circuit"]
    check_circuit(circuit, 12)
    assert any("do not pin the connectivity down" in text for text in circuit.parts["circuit"].warnings)
    # a doubt is told once, where it belongs; linear dynamics, with more parameters, predict more of the states here
    (doubt,) = circuit.warnings
    scores = circuit.parts["pca"]
    assert doubt.startswith("linear dynamics of as many principal components predict the activity")
    assert (scores.data["activity"].sel(model="linear") > scores.data["activity"].sel(model="circuit")).all()
    assert not (scores.data["outputs"].sel(model="linear") > scores.data["outputs"].sel(model="circuit")).all()


def test_driven_states_are_no_equilibrium_and_the_landscape_says_so(memory):
    landscape = memory.results["energy_landscape"]
    assert landscape.attributes["balance_broken"]
    assert landscape.title == "Quasi-potential landscape"
    assert len(landscape.data["position"]) >= 8  # a valley for each memory, and states between


def test_what_is_found_is_told_in_short_and_first_with_its_doubts(memory):
    short = memory.results["in_short"]
    assert memory.shown[0] == "in_short"
    assert short.findings[0] == memory.results["fixed_points"].findings[0]
    assert short.data["measure"].values.tolist() == ["saddle", "stable"]
    assert short.data["number"].values.tolist() == [19, 8]
    assert any(text.startswith("detailed balance: p = ") for text in short.findings)
    assert any(text.startswith("No latent circuit: a circuit of 12 nodes takes ten seconds") for text in short.findings)
    doubted = [text for text in short.findings if text.startswith("Doubt (")]
    assert doubted == list(short.findings[-len(doubted) :])  # what was found comes before what is doubted
    for name, result in memory.results.items():
        parts = getattr(result, "parts", {}).values()
        texts = [text.split("; ")[0] for one in (result, *parts) for text in one.warnings]
        told = sum(text in sentence for text in texts for sentence in short.findings)
        assert told >= min(2, len(texts)), name


def test_stable_points_are_looked_for_in_the_valleys_of_the_landscape(memory):
    points, landscape = memory.results["fixed_points"], memory.results["energy_landscape"]
    inside = stable_in_minima(points, landscape)
    assert inside.sum() == 8  # each memory is where trajectories go
    n_minima = int((inside > 0).sum())
    assert 0 < n_minima < landscape.n_minima
    short = memory.results["in_short"].findings
    told = f"{landscape.n_minima} minima, {n_minima} with 8 of the 8 stable fixed points; in others states dwell"
    assert any(told in text for text in short)
    first = int(landscape.occupancy.argmax())
    assert any(
        f"minimum {first} {landscape.occupancy[first]:.0%} ({inside[first] or 'none'})" in text for text in short
    )


def test_figures_of_one_plane_have_the_same_axes(memory):
    portrait, landscape = memory.results["phase_portrait"], memory.results["energy_landscape"]
    ours, theirs = (one.data["direction"].values for one in (portrait, landscape))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


class SignMemory(nn.Module):
    """One bit that is held, at rates that differ by its sign: two attractors of known exponents."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 1, batch_first=True)
        with torch.no_grad():
            for name, value in {"weight_ih_l0": 3.0, "weight_hh_l0": 2.0, "bias_ih_l0": 0.1, "bias_hh_l0": 0.0}.items():
                getattr(self.rnn, name).fill_(value)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.rnn(inputs)[0]


def test_exponents_of_two_memories_are_told_for_each_in_short():
    inputs = flip_flop(20, 60, n_bits=1, seed=0).inputs
    found = analyze_dynamics(SignMemory(), inputs=inputs, progress=False)
    points = found.results["fixed_points"]
    truth = {f"{np.log(abs(2 * (1 - x**2))):.4g}" for x in points.states[points.n_unstable == 0].ravel()}
    assert len(truth) == 2
    (told,) = [text for text in found.results["in_short"].findings if text.startswith("Lyapunov exponents")]
    assert set(re.findall(r"(-[\d.]+) \(\d+\)", told)) == truth
    assert "input held: 0" in points.summary()
    assert "inputs held at [0.0]" in found.results["lyapunov_and_cycles"].summary()
    assert "without the first 20 of 60 times" in drive(open_system(SignMemory()), inputs, None, 0).driven_by


def test_the_report_shows_every_step_with_a_caption(memory):
    page = memory.path.read_text(encoding="utf-8")
    for title in ("Fixed points", "Phase portrait", "Lyapunov", "Quasi-potential landscape", "To repeat this"):
        assert title in page
    assert len(re.findall(r"<figcaption", page)) >= 4
    assert "What was left out, and why" in page
    assert "64 trajectories of 64 units, from trials of its task, without the first 20 of 120 times" in page


@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_without_memory_has_one_fixed_point(seed):
    system = drive(open_system(untrained(seed)), None, None, 0)
    assert system.driven_by.startswith("random inputs")
    found = analyze_dynamics(untrained(seed), trajectories=system.states.trials[0][None], progress=False)
    points = found.results["fixed_points"]
    assert points.stability == ["stable"]
    assert points.index_sum == 1


def test_an_equilibrium_is_called_one_and_its_wells_are_found():
    states = langevin(double_well, [[-1.0], [1.0]] * 20, n_steps=1000, temperature=0.35)
    step = rk4(lambda x: -4 * x * (x**2 - 1), dt=0.05)
    found = analyze_dynamics(step, trajectories=states, progress=False)
    points = found.results["fixed_points"]
    assert points.states.ravel().round(6).tolist() == [-1, 1, 0]
    assert points.index_sum == 1
    landscape = found.results["energy_landscape"]
    assert not landscape.attributes["balance_broken"]
    assert sorted(landscape.data["position"].values.ravel().round(1).tolist()) == [-1, 1]
    assert "one dimension is no plane" in found.left_out["phase_portrait"]
    assert "which inputs drive what" in found.left_out["latent_circuit"]


def test_a_run_is_repeated_and_another_system_is_refused(tmp_path):
    step = rk4(duffing, dt=0.1)
    seen = simulate(step, np.random.default_rng(0).normal(size=(10, 2)), n_steps=40)
    np.save(tmp_path / "seen.npy", seen)
    found = analyze_dynamics(step, trajectories=tmp_path / "seen.npy", folder=tmp_path / "run", progress=False)
    assert found.results["fixed_points"].index_sum == 1
    with pytest.raises(InputError, match="passed as an object"):
        reproduce(tmp_path / "run", progress=False)
    assert reproduce(tmp_path / "run", model=rk4(duffing, dt=0.1), progress=False).reproduced
    with pytest.raises(InputError, match="another one"):
        reproduce(tmp_path / "run", model=rk4(duffing, dt=0.05), progress=False)
    with pytest.raises(StorageError, match="argument held_inputs"):
        analyze_dynamics(step, None, tmp_path / "seen.npy", [1.0], folder=tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    "layer", [nn.RNN(2, 5), nn.GRU(2, 5, batch_first=True), nn.LSTM(2, 5, num_layers=2), nn.LSTMCell(2, 5)]
)
def test_states_of_a_run_are_those_of_its_steps(layer):
    inputs = np.random.default_rng(0).normal(size=(3, 30, 2))
    system = drive(open_system(layer), inputs, None, 0)
    state = system.step.initial_state(3)
    for time in range(30):
        state = system.step.step(state, torch.from_numpy(inputs[:, time]).to(state))
    last = np.stack([trial[-1] for trial in system.states.trials])
    np.testing.assert_allclose(last, state.detach().numpy(), atol=1e-6)
    assert system.outputs is None
    assert (system.activity is None) == isinstance(layer, (nn.LSTM, nn.LSTMCell))


def test_channels_are_parted_by_sign_and_silent_ones_left_out():
    signed = np.array([[[0.5, 0.0, 2.0], [-1.0, 0.0, 1.0]]])
    found = channels_of(signed, "output")
    assert found.names == ("output 0 +", "output 0 -", "output 2 +")
    np.testing.assert_array_equal(found.values[0], [[0.5, 0, 2], [0, 1, 1]])
    np.testing.assert_array_equal(found.read(-signed)[0], [[0, 0.5, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("arguments", "problem", "error"),
    [
        ({"model": nn.Linear(3, 3)}, "step by step", CapabilityError),
        ({"model": "flip_flop_rn"}, "no model", InputError),
        ({"model": "induction"}, "step by step", CapabilityError),
        ({"model": lambda states: states / 2}, "trajectories are needed", InputError),
        ({"inputs": np.zeros((4, 30, 2))}, "does not take these inputs", InputError),
        ({"inputs": np.zeros((4, 5, 3))}, "wrong shape", InputError),
        ({"inputs": np.full((4, 30, 3), np.nan)}, "inputs", InputError),
        ({"inputs": "no_such_file.npy"}, "there is no file", StorageError),
        ({"trajectories": np.zeros((4, 30, 5))}, "wrong shape", InputError),
        ({"held_inputs": [0.0, 1.0]}, "wrong shape", InputError),
        ({"held_inputs": [0.0, 1.0, np.inf]}, "held_inputs", InputError),
        ({"seed": -1}, "seed", InputError),
        ({"seed": None}, "not a seed", InputError),
        ({"inputs": np.zeros((4, 30, 3)), "trajectories": np.zeros((4, 30, 64))}, "either from inputs", InputError),
    ],
)
def test_bad_input_is_refused_and_no_folder_is_left_in_the_way(arguments, problem, error, tmp_path):
    given = {"model": "flip_flop_rnn", "folder": tmp_path / "run", "progress": False} | arguments
    with pytest.raises(error, match=problem):
        analyze_dynamics(**given)
    run = WorkflowRun("dynamics", {"held_inputs": None}, {}, 0, tmp_path / "run")
    assert run.finish("Another").path.exists()


def test_models_and_inputs_are_left_alone():
    model, inputs = untrained(0), flip_flop(8, 40, seed=0).inputs
    before, given = {name: one.clone() for name, one in model.state_dict().items()}, inputs.clone()
    drive(open_system(model), inputs, None, 0)
    assert torch.equal(inputs, given)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flip_flop_rnn", "flip_flop_gru"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_27_points_from_every_seed(name, seed, monkeypatch):
    monkeypatch.setattr(workflow, "_circuit", too_slow)
    points = analyze_dynamics(name, seed=seed, progress=False).results["fixed_points"]
    assert np.bincount(points.n_unstable).tolist() == [8, 12, 6, 1]
    assert points.index_sum == 1


@pytest.mark.slow
def test_the_circuit_of_gated_units_is_not_tested_by_changes_and_says_so():
    circuit = analyze_dynamics("flip_flop_gru", progress=False).results["latent_circuit"]
    assert list(circuit.parts) == ["circuit", "pca"]
    assert "not tested by changes of the network's weights" in circuit.warnings[0]
    assert circuit.parts["circuit"].attributes["alpha_estimated"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["decision_rnn", "decision_dale_rnn"])
def test_networks_that_decide_are_analyzed_too(name, tmp_path):
    found = analyze_dynamics(name, held_inputs=[0, 0, 1, 0], folder=tmp_path / "run", progress=False)
    assert found.results["fixed_points"].index_sum == 1
    assert reproduce(tmp_path / "run", progress=False).reproduced
