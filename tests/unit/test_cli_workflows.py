"""The workflows on the command line, run as a user runs them, on models and data of their own."""

from __future__ import annotations

import inspect
import json
import re

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from neuros_mechint import cli
from neuros_mechint.core.errors import InputError
from neuros_mechint.core.result import load_result
from neuros_mechint.workflows.alignment.align import align
from neuros_mechint.workflows.biological.training import biological_training
from neuros_mechint.workflows.dynamics.analyze import analyze_dynamics
from neuros_mechint.workflows.runs.manifest import read_manifest
from neuros_mechint.workflows.understanding.understand import understand

CODE = """
import numpy as np, torch
from neuros_mechint.datasets.tasks import flip_flop
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentNetwork

def build():
    layer = torch.nn.GRU(2, 4, batch_first=True)
    for index, weight in enumerate(layer.parameters()):
        weight.data = torch.linspace(-0.4, 0.4, weight.numel()).reshape(weight.shape) * (-1) ** index
    return layer

def network():
    return EIRecurrentNetwork(1, 10, 1, alpha=0.5, seed=0)

def draw(random):
    return flip_flop(2, 64, 1, 0.4, seed=random)

def draw_alike(random):
    trials = flip_flop(2, 64, 1, 0.4, seed=random)
    trials.targets[:] = 1
    return trials

something = 3
"""


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("NEUROS_MECHINT_NO_BROWSER", "1")

    def invoke(*arguments):
        return CliRunner().invoke(cli.app, [str(one) for one in arguments], catch_exceptions=True)

    return invoke


@pytest.fixture
def code(tmp_path):
    (tmp_path / "mine.py").write_text(CODE)
    return f"{tmp_path / 'mine.py'}"


def test_dynamics_of_a_network_of_ones_own_and_its_repetition(run, code, tmp_path):
    np.save(tmp_path / "inputs.npy", np.random.default_rng(0).normal(size=(4, 40, 2)))
    arguments = ("--inputs", tmp_path / "inputs.npy", "--output", tmp_path / "out")
    told = run("dynamics", f"{code}:build", *arguments)
    assert told.exit_code == 0, told.output
    assert "dynamics: step 1, fixed points ...\ndynamics: step 2, phase portrait ...\n" in told.stderr  # no terminal
    assert "1 fixed point of 4 units: 1 stable" in told.output
    assert "index sum 1" in told.output
    assert "left out: latent circuit: the network has no outputs" in told.output
    assert "left out: energy landscape" in told.output
    assert str(tmp_path / "out" / "report.html") in told.output.replace("\n", "")
    assert read_manifest(tmp_path / "out").inputs["model"].kind == "code"
    points = load_result(tmp_path / "out" / "steps" / "fixed_points.nc")
    assert points.attributes["n_starts"] == 1024

    refused = run("reproduce", tmp_path / "out")
    assert refused.exit_code == 1
    assert "a manifest never runs" in str(refused.exception)
    again = run("reproduce", tmp_path / "out", "--input", f"model={code}:build")
    assert again.exit_code == 0, again.output
    assert "reproduced" in again.output
    other = run("dynamics", f"{code}:build", *arguments, "--seed", "1")
    assert "seed 0" in str(other.exception)


def test_a_repetition_that_differs_has_exit_status_1(run, code, tmp_path, monkeypatch):
    arguments = (f"{code}:draw", "--network", f"{code}:network", "--steps", "2", "--output", tmp_path / "out")
    told = run("train-bio", *arguments)
    assert told.exit_code == 0, told.output
    assert "law and prior: 100% of weights keep their source's sign" in told.output
    given = ("--input", f"draw={code}:draw", "--input", f"network={code}:network")
    monkeypatch.setattr(
        "neuros_mechint.workflows.biological.training.compliance_of", lambda network: 0.5, raising=False
    )
    monkeypatch.setattr("neuros_mechint.workflows.biological.measures.compliance_of", lambda network: 0.5)
    again = run("reproduce", tmp_path / "out" / "manifest.json", *given)
    assert again.exit_code == 1
    assert "constraints.compliance is different by 0.5" in again.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["dynamics", "flip_flop_rn"], "did you mean 'flip_flop_rnn'?"),
        (["dynamics", "no/such.py:build"], "there is no file no/such.py"),
        (["dynamics", "{code}:nothing"], "has no function 'nothing'"),
        (["dynamics", "{code}:something"], "has no function 'something'"),
        (["dynamics", "flip_flop_rnn", "--inputs", "{code}"], "numpy.save"),
        (["dynamics", "induction"], "step by step"),
        (["train-bio", "unknown"], "there is no task 'unknown'"),
        (["train-bio", "--network", "{code}:build"], "no excitatory and inhibitory units"),
        (["train-bio", "--steps", "0"], "error: --steps is out of range"),
        (["reproduce", "nowhere"], "there is no manifest nowhere"),
        (["reproduce", "nowhere", "--input", "model"], "NAME=VALUE"),
        (["reproduce", "nowhere", "--input", "folder=/"], "NAME=VALUE"),
    ],
)
def test_errors_teach_without_a_traceback(arguments, told, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [one.format(code=code) for one in arguments]
    monkeypatch.setattr("sys.argv", ["neuros-mechint", *given])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["align", "induction", "plain.npy"], "expected: --stimuli, one input"),
        (["align", "induction", "named.nc", "--stimuli", "tokens.npy"], "to fix:   --labels, one for each stimulus"),
        (["align", "induction", "areas.nc", "--stimuli", "tokens.npy"], "expected: --region, one of V1, V4"),
        (["align", "induction", "plain.npy", "--rdm", "crossnobis"], "as the recording, and --rdm 'euclidean' for the"),
        (["sites", "induction", "--pattern", "blocks.9.z"], "expected: a name from `neuros-mechint sites MODEL`"),
        (["reproduce", "{run}"], "to fix:   pass it again: --input network=VALUE"),
        (
            ["dynamics", "{code}:build", "--inputs", "tokens.npy", "--trajectories", "tokens.npy"],
            "expected: --inputs, which the model is run on; or --trajectories,",
        ),
    ],
)
def test_hints_name_the_options_of_the_command(arguments, told, code, tmp_path, monkeypatch, capsys):
    """An argument in Python is never told to somebody who called the command, unless no option reaches it."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    np.save("plain.npy", random.normal(size=(12, 6)))
    np.save("tokens.npy", random.integers(1, 60, size=(12, 24)))
    labels = {"stimulus": [f"s{one}" for one in range(12)]}
    named = xr.DataArray(random.normal(size=(12, 6)), labels, ("stimulus", "unit"))
    named.to_netcdf("named.nc", engine="h5netcdf")
    named.assign_coords(region=("unit", ["V1", "V4"] * 3)).to_netcdf("areas.nc", engine="h5netcdf")
    if "{run}" in arguments:
        settings = {"n_steps": 1, "n_checks": 1, "folder": "run", "progress": False}
        biological_training(f"{code}:network", f"{code}:draw", **settings)
    monkeypatch.setattr("sys.argv", ["neuros-mechint", *(one.format(code=code, run="run") for one in arguments)])
    with pytest.raises(SystemExit):
        cli.main()
    shown = capsys.readouterr().err
    assert told in shown.replace("draw=", "network=")  # either comes first
    for line in shown.splitlines():
        unreached = re.findall(r"\b([a-z_]+)=(?!VALUE)", line)
        assert all(f"{name}= is an argument in Python, and no option" in shown for name in unreached), line


def test_every_option_is_called_as_the_argument_that_it_sets():
    """The mechanism behind the hints: a command's parameters have the names of the function's."""
    functions = {
        "understand": understand,
        "align": align,
        "dynamics": analyze_dynamics,
        "train-bio": biological_training,
    }
    for command, function in functions.items():
        unknown = set(cli._options(command)) - set(inspect.signature(function).parameters)
        assert unknown <= {"show"}, command


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("pass folder=...", "pass --output"),
        ("f(corpus=3) and blocks.0[corpus=1]", "f(corpus=3) and blocks.0[corpus=1]"),
        ("the corpus is short", "the corpus is short"),
        ("give corpus=tokens", "give --corpus tokens"),
        ("one\n  to fix:   n_null=", "one\n  to fix:   n_null=\n  note:     n_null= is an argument in Python, "
         "and no option of this command"),
    ],
)  # fmt: skip
def test_what_is_said_of_arguments_is_said_of_options(text, spoken):
    assert cli._spoken(text, "understand") == spoken


@pytest.mark.parametrize("command", ["dynamics", "train-bio", "reproduce"])
def test_help_says_what_is_done_and_with_what(run, command):
    told = " ".join(run(command, "--help").output.split())
    assert "file.py:function" in told.replace("│ │ ", "")
    assert "--output" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["understand", "induction", "--prompts", "alike.json"], "the same for every clean prompt"),
        (["align", "induction", "recording.npy", "--stimuli", "alike.npy"], "no layer tells these stimuli apart"),
        (["train-bio", "{code}:draw_alike", "--steps", "1"], "answers of these trials are all alike"),
        (["dynamics", "{code}:build", "--trajectories", "short.npy"], "too short"),
    ],
)
def test_a_workflow_that_is_refused_leaves_no_folder(run, code, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    tokens = [[1, 2, one] for one in range(3, 15)]
    (tmp_path / "alike.json").write_text(json.dumps({"clean": tokens, "corrupted": tokens, "correct": [5] * 12}))
    np.save("recording.npy", np.random.default_rng(0).normal(size=(12, 6)))
    np.save("alike.npy", np.ones((12, 8), dtype=int))
    np.save("short.npy", np.zeros((3, 5, 4)))
    refused = run(*(one.format(code=code) for one in arguments), "--output", "new/out")
    assert refused.exit_code == 1
    assert told in str(refused.exception)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float64"])
def test_stimuli_of_single_precision_are_shown_to_models_of_any(run, tmp_path, precision):
    random = np.random.default_rng(0)
    np.save(tmp_path / "stimuli.npy", random.normal(size=(24, 5)).astype(np.float32))
    np.save(tmp_path / "recording.npy", random.normal(size=(24, 6)))
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        f"def build(): return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh()).to(torch.{precision})"
    )
    given = (f"{tmp_path / 'mine.py'}:build", tmp_path / "recording.npy", "--stimuli", tmp_path / "stimuli.npy")
    done = run("align", *given, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.exception
    assert "scores" in done.output


def test_labels_of_stimuli_are_the_lines_of_a_file(run, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr("neuros_mechint.workflows.alignment.align.align", lambda *_, **options: given.update(options))
    monkeypatch.setattr(cli, "_tell_outcome", lambda *_: None)
    options = ("--labels", tmp_path / "labels.txt", "--rdm", "euclidean")
    stimuli = ("align", "induction", "a.nwb", "--stimuli", "b.npy")
    spoiled = "cat \r\n\tAffe \u00e4\r\n\n \n"
    for content in ("cat\nAffe \u00e4\n".encode(), *(spoiled.encode(one) for one in ("utf-8", "utf-8-sig", "utf-16"))):
        (tmp_path / "labels.txt").write_bytes(content)
        done = run(*stimuli, *options)
        assert done.exit_code == 0, done.output
        assert given["labels"] == ["cat", "Affe \u00e4"]
    assert given["rdm"] == "euclidean"
    (tmp_path / "labels.txt").write_text("cat\nAffe \u00e4\n", encoding="latin-1")
    refused = run(*stimuli, *options)
    assert isinstance(refused.exception, InputError)
    assert "labels.txt is no text in UTF-8" in str(refused.exception)
    assert run("align", "induction", "a.nwb", "--labels", tmp_path / "none.txt").exit_code == 2


def test_a_run_that_is_interrupted_says_that_it_can_go_on(monkeypatch, capsys):
    def interrupted():
        raise SystemExit(130)

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit, match="130"):
        cli.main()
    assert "goes on from here" in capsys.readouterr().err
