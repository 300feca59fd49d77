"""Models and tasks of a user's own file, which imports what lies beside it; and what is said where an import fails."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint import cli
from neuros_mechint.core.errors import InputError, MissingDependencyError
from neuros_mechint.workflows.biological.training import biological_training, open_task
from neuros_mechint.workflows.runs.sources import open_model
from neuros_mechint.workflows.runs.user_code import UserCode
from neuros_mechint.workflows.understanding.prompts import open_prompts

MODEL = """
from layers import Block

def build():
    return Block()
"""

LAYERS = """
import torch
from torch import nn
from sizes import WIDTH

SCALE = {scale}

def halved(x):
    return x / {by}

class Base(nn.Module):
    def forward(self, x):
        return halved(self.part(x)) * SCALE

class Block(Base):
    def __init__(self):
        super().__init__()
        self.part = nn.Linear(WIDTH, WIDTH)
        nn.init.constant_(self.part.weight, 0.5)
        nn.init.zeros_(self.part.bias)
"""


def written(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def project(folder: Path, scale: float = 1.0, by: float = 2.0, width: int = 3) -> str:
    layers = LAYERS.format(scale=scale, by=by)
    return f"{written(folder, mine=MODEL, layers=layers, sizes=f'WIDTH = {width}') / 'mine.py'}:build"


def traces() -> tuple[list[str], dict[str, ModuleType]]:
    return [*sys.path], {name: sys.modules[name] for name in ("layers", "sizes", "mine") if name in sys.modules}


def forget(*names: str) -> None:
    """Take out what a test has imported by itself."""
    for name in names:
        del sys.modules[name]


def test_a_file_imports_what_lies_beside_it_and_leaves_no_trace(tmp_path: Path) -> None:
    before = traces()
    model = open_model(project(tmp_path / "one"))
    assert model.source.kind == "code"
    assert torch.equal(model.value.module(torch.ones(1, 3)), torch.full((1, 3), 0.75))
    assert traces() == before


def test_models_whose_neighbours_have_the_same_names_keep_their_own(tmp_path: Path) -> None:
    names = [project(tmp_path / name, width=width) for name, width in (("one", 3), ("two", 5), ("three", 7))]
    opened = [open_model(name) for name in names]
    assert [one.value.module.part.out_features for one in opened] == [3, 5, 7]
    assert len({one.source.fingerprint for one in opened}) == 3
    # also where both are at work in turn: what each imports when it is called
    lazy = "def draw(random):\n    from sizes import WIDTH\n    return WIDTH\n"
    tasks = [open_task(f"{written(tmp_path / name, lazy=lazy) / 'lazy.py'}:draw").value for name in ("one", "two")]
    assert [task(np.random.default_rng(0)) for task in (*tasks, *tasks)] == [3, 5, 3, 5]
    assert tasks[0](np.random.default_rng(0)) == 3
    assert "sizes" not in sys.modules


def test_modules_of_the_caller_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    callers, part = ModuleType("layers"), ModuleType("layers.part")
    callers.__file__ = str(tmp_path / "elsewhere" / "layers.py")
    monkeypatch.setitem(sys.modules, "layers", callers)
    monkeypatch.setitem(sys.modules, "layers.part", part)
    code = project(tmp_path / "one")
    assert type(open_model(code).value.module).__qualname__ == "Block"
    assert sys.modules["layers"] is callers
    assert sys.modules["layers.part"] is part
    # what the caller imported from the same folder is shared
    monkeypatch.delitem(sys.modules, "layers")
    monkeypatch.delitem(sys.modules, "layers.part")
    monkeypatch.syspath_prepend(tmp_path / "one")
    import layers  # pyright: ignore[reportMissingImports]

    assert type(open_model(code).value.module) is layers.Block
    assert sys.modules["layers"] is layers
    forget("layers", "sizes")


def test_a_package_and_a_plain_folder_can_be_imported(tmp_path: Path) -> None:
    for name, width in (("one", 2), ("two", 4)):
        written(tmp_path / name / "parts", __init__="from .inner import WIDTH", inner=f"WIDTH = {width}")
        written(tmp_path / name / "plain", sizes=f"HEIGHT = {width + 1}")
        text = "import torch\nfrom parts import WIDTH\ndef build():\n    from plain.sizes import HEIGHT\n"
        written(tmp_path / name, mine=text + "    return torch.nn.Linear(WIDTH, HEIGHT)")
    shapes = [
        tuple(open_model(f"{tmp_path / name / 'mine.py'}:build").value.module.weight.shape) for name in ("one", "two")
    ]
    assert shapes == [(3, 2), (5, 4)]
    assert not {"parts", "parts.inner", "plain", "plain.sizes"} & set(sys.modules)


def test_a_library_that_the_file_imports_first_stays_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(written(tmp_path / "libraries", this_library="x = 1"))
    text = "import this_library, torch\ndef build(): return torch.nn.Identity()"
    name = f"{written(tmp_path / 'one', mine=text) / 'mine.py'}:build"
    open_model(name)
    assert "this_library" in sys.modules
    forget("this_library")


@pytest.mark.parametrize("stem", ["random", "seaborn", "neuros_mechint"])
def test_a_file_that_is_called_as_a_library_does_not_stand_in_for_it(tmp_path: Path, stem: str) -> None:
    known = sys.modules.get(stem)
    text = "import torch, random\nfrom neuros_mechint.core.errors import InputError\n"
    folder = written(tmp_path, **{stem: text + "def build():\n    import random\n    return random.random"})
    with UserCode(f"{folder / stem}.py:build") as code:
        code()
    assert sys.modules.get(stem) is known


# -- imports that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        (
            "import no_such_library",
            MissingDependencyError,
            ["mine.py, line 1, imports 'no_such_library', which is not there", "python -m pip install no_such_library"],
        ),
        ("import uses", MissingDependencyError, ["uses.py, line 2, imports 'nowhere'", "nowhere.py in"]),
        ("import herr", MissingDependencyError, ["did you mean here? Or python -m pip install herr"]),
        ("import here.nothing", MissingDependencyError, ["imports 'here.nothing'", "correct the name"]),
        ("import torch.nothing", MissingDependencyError, ["a module torch.nothing", "the version of torch"]),
        (
            "from here import nothing",
            InputError,
            ["line 1, cannot import", "'nothing' from 'here'", "correct the name"],
        ),
        ("from .here import x", InputError, ["relative import", "leave out the dot"]),
        ("from random import mine", InputError, ["rename random.py"]),
        ("def build():\n    import no_such_library", MissingDependencyError, ["line 2", "pip install no_such_library"]),
    ],
)
def test_an_import_that_fails_says_what_where_and_what_to_do(
    tmp_path: Path, text: str, kind: type[Exception], told: list[str]
) -> None:
    if "def build" not in text:
        text += "\ndef build(): pass"
    folder = written(tmp_path, mine=text, here="x = 1", uses="# of mine\nimport nowhere", random="mine = 2")
    before = traces()
    with pytest.raises(kind) as refused:
        open_model(f"{folder / 'mine.py'}:build")
    for part in told:
        assert part in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert traces() == before


def test_an_import_that_the_file_itself_does_without_is_no_failure(tmp_path: Path) -> None:
    text = "import torch\ntry:\n    import no_such_library\nexcept ImportError:\n    WIDTH = 4\n"
    folder = written(tmp_path, mine=text + "def build(): return torch.nn.Linear(WIDTH, 1)")
    assert open_model(f"{folder / 'mine.py'}:build").value.module.in_features == 4


def test_a_library_that_lacks_another_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(written(tmp_path / "libraries", that_library="import what_it_needs"))
    folder = written(tmp_path / "one", mine="import that_library\ndef build(): pass")
    with pytest.raises(MissingDependencyError, match=r"line 1, imports something that needs 'what_it_needs'"):
        open_model(f"{folder / 'mine.py'}:build")


def test_the_command_line_tells_it_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path, mine="import no_such_library\ndef build(): pass")
    monkeypatch.setattr("sys.argv", ["neuros-mechint", "sites", f"{folder / 'mine.py'}:build"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert "pip install no_such_library" in shown
    assert "Traceback" not in shown


# -- what tells a model from another -----------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [{"scale": 3.0}, {"by": 4.0}, {"width": 4}])
def test_the_neighbours_code_counts(tmp_path: Path, changed: dict[str, Any]) -> None:
    before = open_model(project(tmp_path / "one")).source.fingerprint
    assert open_model(project(tmp_path / "again")).source.fingerprint == before
    assert open_model(project(tmp_path / "other", **changed)).source.fingerprint != before


@pytest.mark.parametrize("how", ["from helper import by", "import helper", "import between"])
def test_the_code_that_a_task_or_a_metric_uses_counts(tmp_path: Path, how: str) -> None:
    value = {"from helper import by": "by", "import helper": "helper.by", "import between": "between.helper.by"}[how]
    draw = f"{how}\nimport torch\ndef draw(random):\n    return {value}\n"
    draw += "def prompts():\n    tokens = torch.arange(24).view(6, 4)\n    return tokens, tokens, lambda out: out * "
    found = []
    for name, by in (("one", 1), ("again", 1), ("two", 22)):
        files = {"mine": draw + value, "helper": f"by = {by}", "between": "import helper"}
        folder = written(tmp_path / name, **files)
        found.append(
            (open_task(f"{folder / 'mine.py'}:draw").source, open_prompts(f"{folder / 'mine.py'}:prompts").source)
        )
    one, again, two = ([source.fingerprint for source in sources] for sources in found)
    assert one == again
    assert not set(one) & set(two)


def test_what_is_imported_and_what_is_named_on_the_command_line_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = project(tmp_path / "one")
    script = """
from neuros_mechint.workflows.runs.sources import open_model
from layers import Block
class Own(Block): pass
def build(): return Own()
if __name__ == "__main__":
    print(open_model(build()).source.fingerprint)
"""
    written(tmp_path / "one", script=script)
    told = subprocess.run([sys.executable, tmp_path / "one" / "script.py"], capture_output=True, text=True, check=True)
    expected = open_model(f"{tmp_path / 'one' / 'script.py'}:build").source.fingerprint
    assert told.stdout.strip() == expected
    monkeypatch.syspath_prepend(tmp_path / "one")
    import mine  # pyright: ignore[reportMissingImports]

    assert open_model(mine.build()).source.fingerprint == open_model(name).source.fingerprint
    forget("mine", "layers", "sizes")


# -- whole runs --------------------------------------------------------------------------------------------------------


def test_a_network_and_a_task_with_neighbours_of_the_same_name_are_trained(tmp_path: Path) -> None:
    trials = "from neuros_mechint.datasets.tasks import flip_flop\n"
    trials += "def some(random): return flip_flop(2, 64, 1, 0.4, seed=random)"
    task = "def draw(random):\n    from trials import some\n    return some(random)"
    network = "import neuros_mechint as nm\nfrom trials import N\n"
    network += "def network(): return nm.EIRecurrentNetwork(1, N, 1, alpha=0.5, seed=0)"
    written(tmp_path / "task", mine=task, trials=trials)
    written(tmp_path / "network", mine=network, trials="N = 10")
    given = {name: f"{tmp_path / name / 'mine.py'}" for name in ("task", "network")}
    found = biological_training(
        f"{given['network']}:network", f"{given['task']}:draw", n_steps=1, n_checks=1, progress=False
    )
    assert isinstance(found.model, nm.EIRecurrentNetwork)
    assert found.model.cell.weight_ih.shape == (10, 1)


# -- code that cannot be used ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import sys\nsys.exit(0)", ["ended the program: sys.exit(0) in", "line 2", "__name__ == '__main__'"]),
        ("def build():\n    raise SystemExit", ["ended the program: raise SystemExit", "line 2"]),
        ("import beside", ["ended the program: raise SystemExit(3) in", "beside.py, line 1"]),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--x'])", ["ended the program", "line 2"]),
        ("def build(:\n    pass", ["mine.py, line 1, is not Python", "invalid syntax"]),
        ("def build():\n\tif 1:\n        pass", ["mine.py, line 3, is not Python"]),
        ("import broken", ["broken.py, line 2, is not Python"]),
        ("NAME = 'caf\udce9'", ["mine.py, line", "is not Python", "save the file as UTF-8"]),
        (
            "def build(width, depth=2): pass",
            ["build in", "'width'", "a function that takes no arguments", "build(width, depth=2)"],
        ),
        ("import torch\nbuild = torch.nn.Linear(2, 1)", ["'build' of", "is a model, not a function", "mine.py:build"]),
        ("import torch\nbuild = torch.nn.Linear", ["Linear in", "takes no arguments"]),
        ("build = 3", ["has no function 'build'"]),
    ],
)
def test_code_that_cannot_be_used_is_refused_in_words(tmp_path: Path, text: str, told: list[str]) -> None:
    folder = written(tmp_path, beside="raise SystemExit(3)", broken="x = 1\nx = (")
    (folder / "mine.py").write_text(text, encoding="utf-8", errors="surrogateescape")
    before = traces()
    with pytest.raises(InputError) as refused:
        open_model(f"{folder / 'mine.py'}:build")
    for part in told:
        assert part in str(refused.value)
    assert traces() == before


def test_a_task_that_cannot_be_drawn_is_refused_in_words(tmp_path: Path) -> None:
    folder = written(
        tmp_path, mine="def bare(): pass\ndef ends(random): raise SystemExit\ndef fails(random): return eval('1 +')"
    )
    bare, ends, fails = (open_task(f"{folder / 'mine.py'}:{name}").value for name in ("bare", "ends", "fails"))
    with pytest.raises(InputError, match=r"bare in .* is called with 1 argument: too many(.|\n)*takes 1 argument"):
        bare(np.random.default_rng(0))
    with pytest.raises(InputError, match=r"ended the program: .*raise SystemExit in .*line 2"):
        ends(np.random.default_rng(0))
    with pytest.raises(SyntaxError):  # of text that it reads itself
        fails(np.random.default_rng(0))


@pytest.mark.parametrize("name", ["numpy", "torch", "zarr"])
def test_a_neighbour_with_the_name_of_a_library_is_refused(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path, mine="import torch\ndef build(): return torch.nn.Identity()", **{name: "x = 1"})
    with pytest.raises(InputError, match=rf"{name}\.py has the name of the library {name}(.|\n)*rename {name}\.py"):
        open_model(f"{folder / 'mine.py'}:build")
    (folder / f"{name}.py").unlink()
    written(folder / name, __init__="")
    with pytest.raises(InputError, match=rf"to fix: +rename {name}$"):
        open_model(f"{folder / 'mine.py'}:build")
    (folder / name / "__init__.py").unlink()  # a plain folder, which comes last
    open_model(f"{folder / 'mine.py'}:build")


# -- what is the caller's ----------------------------------------------------------------------------------------------

CHANGES = """
import os, pathlib, random, numpy, torch
os.chdir(os.path.dirname(__file__))
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
torch.manual_seed(1); numpy.random.seed(1); random.seed(1)

def build():
    layer = torch.nn.Linear(2, 1)
    layer.weight.fill_(float(pathlib.Path("value.txt").read_text()))
    return layer

def draw(given):
    return random.random(), numpy.random.rand(), torch.rand(1).item(), torch.is_grad_enabled(), os.getcwd()
"""


def test_what_the_code_changes_for_the_whole_process_is_put_back(tmp_path: Path) -> None:
    name = f"{written(tmp_path / 'one', mine=CHANGES) / 'mine.py'}"
    (tmp_path / "one" / "value.txt").write_text("0.5")

    def settings() -> list[Any]:
        generators = random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()  # noqa: NPY002
        return [*generators, torch.get_default_dtype(), torch.is_grad_enabled(), Path.cwd()]

    before = settings()
    module = open_model(f"{name}:build").value.module
    assert module.weight.dtype == torch.float64
    assert module.weight.tolist() == [[0.5, 0.5]]
    task = open_task(f"{name}:draw").value
    drawn: list[Any] = [task(np.random.default_rng(0)) for _ in range(3)]
    assert settings() == before
    # and the code goes on where it was
    own = random.Random(1), np.random.RandomState(1), torch.Generator().manual_seed(1)
    for first, second, third, gradients, folder in drawn:
        assert first == own[0].random()
        assert second == own[1].rand()
        assert third == torch.rand(1, generator=own[2], dtype=torch.float64).item()
        assert not gradients
        assert folder == str(tmp_path / "one")
    with pytest.raises(InputError, match="ended the program"):
        open_model(f"{written(tmp_path / 'one', other=CHANGES + 'raise SystemExit') / 'other.py'}:build")
    assert settings() == before
