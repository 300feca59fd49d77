"""The command that repeats a run: printed in the terminal and on the page, it works as it stands."""

from __future__ import annotations

import html
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

import neuros_mechint as nm
from neuros_mechint import cli
from neuros_mechint.workflows.alignment.align import align
from neuros_mechint.workflows.biological.training import biological_training
from neuros_mechint.workflows.runs.collected import collected
from neuros_mechint.workflows.runs.manifest import read_manifest
from neuros_mechint.workflows.runs.repeating import PLACEHOLDER, how_to_repeat
from neuros_mechint.workflows.understanding.prompts import open_prompts

MINE = """
import numpy as np
import torch
import xarray as xr
import neuros_mechint as nm
from beside import N_UNITS, some

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, N_UNITS)
        torch.nn.init.constant_(self.layer.bias, 0.1)
        self.layer.weight.data = torch.linspace(-1, 1, 5 * N_UNITS).view(N_UNITS, 5) ** 3

    def forward(self, x):
        return self.layer(x).relu()

def build():
    return Net()

def network():
    return nm.EIRecurrentNetwork(1, 10, 1, alpha=0.5, seed=0)

def draw(random):
    return some(random)

def stimuli():
    values = np.random.default_rng(0).normal(size=(24, 5))
    return xr.DataArray(values, {"stimulus": list("abcdefghijklmnopqrstuvwx")}, ("stimulus", "input"))

def recording():
    return nm.Recording(stimuli().rename(input="unit") ** 2)

def prompts():
    tokens = torch.arange(24).view(6, 4)
    return tokens, tokens + 1, nm.logit_difference(torch.arange(6), 0)
"""

BESIDE = """
from neuros_mechint.datasets.tasks import flip_flop

N_UNITS = 6

def some(random):
    return flip_flop(2, 64, 1, 0.4, seed=random)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my project").mkdir()
    (tmp_path / "my project" / "mine.py").write_text(MINE)
    (tmp_path / "my project" / "beside.py").write_text(BESIDE)
    random = np.random.default_rng(0)
    np.save(tmp_path / "recording.npy", random.normal(size=(24, 6)))
    np.save(tmp_path / "stimuli.npy", random.normal(size=(24, 5)))
    np.save(tmp_path / "tokens.npy", random.integers(1, 60, size=(24, 12)))
    monkeypatch.setenv("NEUROS_MECHINT_NO_BROWSER", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str) -> str:
    """Run a line as it stands, and return what it prints."""
    program, *words = shlex.split(command)
    assert program == "neuros-mechint"
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, (command, done.output, done.exception)
    return done.output


def on_page(page: str) -> str:
    """Return the command under *To repeat this*, as it stands on the page."""
    (command,) = re.findall(r"<code>(neuros-mechint reproduce .*?)</code>", page)
    return html.unescape(command)


@pytest.mark.skipif(os.name != "posix", reason="the lines of this test are for a shell of POSIX")
@pytest.mark.parametrize(
    ("given", "again"),
    [
        ("induction recording.npy --stimuli tokens.npy", ""),
        (
            "'my project/mine.py:build' recording.npy --stimuli stimuli.npy",
            " --input 'model=my project/mine.py:build'",
        ),
    ],
)
def test_the_last_line_of_a_command_repeats_it(here: Path, given: str, again: str) -> None:
    last = run(f"neuros-mechint align {given} --output 'an out'").splitlines()[-1]
    expected = f"neuros-mechint reproduce 'an out'{again}"
    assert last == f"to repeat and compare: {expected}"
    assert "reproduced" in run(expected)
    page = (here / "an out" / "report.html").read_text(encoding="utf-8")
    assert on_page(page) == expected
    assert PLACEHOLDER not in page


def forget() -> None:
    """Forget what was imported: the command runs in a process of its own."""
    for module in ("mine", "beside"):
        del sys.modules[module]


def filled(command: str, **functions: str) -> str:
    """Fill in the placeholders, each as its input asks."""
    for name, function in functions.items():
        command = command.replace(f"{name}={PLACEHOLDER}", f"{name}='my project/mine.py:{function}'")
    assert PLACEHOLDER not in command
    return command


def test_objects_have_a_placeholder_each_and_filled_in_the_command_works(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(here / "my project")
    import mine  # pyright: ignore[reportMissingImports]

    found = align(mine.build(), mine.recording(), mine.stimuli(), folder="out", progress=False)
    forget()
    page = found.path.read_text(encoding="utf-8")
    command = on_page(page)
    assert command == "neuros-mechint reproduce out " + " ".join(
        f"--input {name}={PLACEHOLDER}" for name in read_manifest("out").inputs
    )
    assert "returns the same model or recording or stimuli again, one for each --input" in page
    assert "nm.reproduce('out', model=..., recording=..., stimuli=...)" in html.unescape(page)
    told = run(filled(command, model="build", recording="recording", stimuli="stimuli"))
    assert "reproduced" in told
    assert on_page(collected([here / "out"]).to_html()).startswith(f"neuros-mechint reproduce {here / 'out'} ")
    # negative control: another one of the same kind
    (here / "my project" / "beside.py").write_text(BESIDE.replace("N_UNITS = 6", "N_UNITS =   7"))
    words = shlex.split(filled(command, model="build", recording="recording", stimuli="stimuli"))[1:]
    refused = CliRunner().invoke(cli.app, words)
    assert "the model is another one than in the run" in str(refused.exception)


def test_a_task_and_a_network_that_were_objects_are_repeated(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(here / "my project")
    import mine  # pyright: ignore[reportMissingImports]

    settings: dict[str, Any] = {"n_steps": 1, "n_checks": 1, "folder": "out", "progress": False}
    found = biological_training(mine.network(), mine.draw, **settings).outcome
    forget()
    page = found.path.read_text(encoding="utf-8")
    assert "returns the same network again, or is the task itself for draw, one for each --input" in page
    assert "reproduced" in run(filled(on_page(page), network="network", draw="draw"))


def test_prompts_are_the_same_as_objects_and_from_a_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(here / "my project")
    import mine  # pyright: ignore[reportMissingImports]

    by_name = open_prompts("my project/mine.py:prompts").source.fingerprint
    assert open_prompts(mine.prompts()).source.fingerprint == by_name
    tokens = torch.arange(24).view(6, 4)
    other = (tokens, tokens + 2, nm.logit_difference(torch.arange(6), 0))
    assert open_prompts(other).source.fingerprint != by_name
    forget()


def test_a_run_without_a_folder_names_no_command(here: Path) -> None:
    found = align("induction", np.load("recording.npy"), xr.DataArray(np.load("tokens.npy")), progress=False)
    assert "neuros-mechint reproduce" not in found.report.to_html()
    assert f"recording={PLACEHOLDER}" in how_to_repeat(found.manifest, "out").command
