"""Runs of workflows: cut off and resumed, damaged, changed; and manifests that are not to be trusted."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from neuros_mechint.core.errors import CapabilityError, InputError, StorageError
from neuros_mechint.core.result import Result
from neuros_mechint.report.report import Report
from neuros_mechint.workflows.runs.manifest import MANIFEST, read_manifest
from neuros_mechint.workflows.runs.run import WorkflowRun
from neuros_mechint.workflows.runs.sources import Source

STEPS = ("first", "second", "third")
KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})  # not as part of "tests", as which other packages install theirs
from test_workflow_run import run_example

def cut_off(name):
    if name == "third":
        os.kill(os.getpid(), signal.SIGKILL)

run_example({folder!r}, cut_off)
"""


def draw(seed: int) -> Result:
    values = np.random.default_rng(seed).normal(size=5)
    return Result(xr.Dataset({"value": ("draw", values)}), "Draws", attributes={"n": 5})


def run_example(folder: Any, before: Any = lambda name: None, seed: int = 0, **arguments: Any) -> Any:
    """A workflow of three steps, the second of which keeps an array that the third needs."""
    run = WorkflowRun("example", {"scale": 2.0} | arguments, {"data": Source("object", "array", "abc")}, seed, folder)

    def first() -> Result:
        before("first")
        return draw(run.seed("first"))

    def second() -> tuple[Result, np.ndarray]:
        before("second")
        found = draw(run.seed("second"))
        return found, found.main.values * 2

    def third() -> Result:
        before("third")
        return Result(xr.Dataset({"sum": kept.sum() + draw(run.seed("third")).main.values.sum()}), "Sum")

    run.step("first", first)
    _, kept = run.keeping_step(
        "second", second, lambda array, at: np.save(at / "kept.npy", array), lambda at: np.load(at / "kept.npy")
    )
    run.step("third", third)
    return run.finish("Example", shown=("third",))  # a single number: no time goes into figures


def values(outcome: Any) -> list[np.ndarray]:
    return [result.main.values for result in outcome.results.values()]


def test_a_run_that_was_killed_goes_on_where_it_stopped(tmp_path):
    script = KILLED.format(here=str(Path(__file__).parent), folder=str(tmp_path / "run"))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    cut_off = read_manifest(tmp_path / "run")
    assert [step.name for step in cut_off.steps] == ["first", "second"]
    assert not cut_off.finished
    done: list[str] = []
    resumed = run_example(tmp_path / "run", done.append)
    assert done == ["third"]
    for one, other in zip(values(resumed), values(run_example(None)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert read_manifest(tmp_path / "run").finished
    done.clear()
    run_example(tmp_path / "run", done.append)
    assert done == []
    shown = {path.name for path in (tmp_path / "run").iterdir() if path.name[0] != "."}
    assert shown == {"steps", MANIFEST, "report.html"}


def test_an_error_in_a_step_leaves_the_steps_before_it(tmp_path):
    def fail(name: str) -> None:
        if name == "second":
            raise RuntimeError("full disk")

    with pytest.raises(RuntimeError):
        run_example(tmp_path / "run", fail)
    done: list[str] = []
    run_example(tmp_path / "run", done.append)
    assert done == ["second", "third"]


@pytest.mark.parametrize(
    ("change", "told"),
    [({"seed": 1}, "seed 0"), ({"scale": 3.0}, "argument scale 2.0"), ({"other": 1}, "argument other none")],
)
def test_a_folder_of_another_run_is_refused_and_says_what_differs(tmp_path, change, told):
    run_example(tmp_path / "run")
    before = (tmp_path / "run" / MANIFEST).read_bytes()
    with pytest.raises(StorageError, match="holds another run") as refused:
        run_example(tmp_path / "run", **change)
    assert told in str(refused.value)
    assert (tmp_path / "run" / MANIFEST).read_bytes() == before


def refused(name: str) -> None:
    raise InputError("beyond this workflow", fix="something else")


def test_a_run_that_is_refused_before_it_found_anything_leaves_nothing_behind(tmp_path):
    WorkflowRun("example", {}, {}, 0, tmp_path / "a" / "run")
    assert not list(tmp_path.iterdir())
    for place in (tmp_path / "a" / "run", tmp_path / "empty"):
        if place.name == "empty":
            place.mkdir()
        with pytest.raises(InputError, match="beyond"):
            run_example(place, refused)
        assert place.exists() == (place.name == "empty")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    assert run_example(tmp_path / "a" / "run").folder == tmp_path / "a" / "run"


def test_a_first_step_that_does_not_apply_is_left_out_and_the_run_goes_on(tmp_path):
    run = WorkflowRun("example", {}, {}, 0, tmp_path / "run")
    assert run.attempt("first", lambda: refused("first")) is None
    run.step("second", lambda: draw(0))
    outcome = run.finish("Example", shown=())
    assert outcome.left_out == {"first": "beyond this workflow; to fix: something else"}
    assert read_manifest(tmp_path / "run").finished


def test_a_folder_with_steps_tells_why_the_run_stopped_until_it_goes_on(tmp_path):
    def late(name: str) -> None:
        if name == "third":
            refused(name)

    with pytest.raises(InputError):
        run_example(tmp_path / "run", late)
    told = (tmp_path / "run" / "stopped.txt").read_text(encoding="utf-8")
    assert "in the step 'third':\n\nbeyond this workflow\n  to fix:   something else" in told
    assert "goes on from there" in told
    done: list[str] = []
    run_example(tmp_path / "run", done.append)
    assert done == ["third"]
    assert not (tmp_path / "run" / "stopped.txt").exists()


def test_a_run_that_was_killed_in_its_first_step_bars_no_other(tmp_path):
    script = KILLED.replace('"third"', '"first"').format(here=str(Path(__file__).parent), folder=str(tmp_path / "run"))
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    assert run_example(tmp_path / "run", scale=3.0).folder == tmp_path / "run"


def test_folders_of_other_things_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="holds other files"):
        run_example(tmp_path)
    with pytest.raises(StorageError, match="is a file"):
        run_example(tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="generator"):
        run_example(tmp_path / "run", seed=np.random.default_rng(0))  # type: ignore[arg-type]


def test_the_home_folder_is_found_and_names_that_none_can_have_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run_example("~/run").folder == tmp_path / "run"
    assert Report("A page").save("~/pages/one.html") == tmp_path / "pages" / "one.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages", "run"]
    for name in ("a\0b", "a" * 300, "~nobody-of-this-name/run"):
        with pytest.raises(StorageError, match=r"cannot write (.|\n)*choose another name"):
            run_example(name)
        with pytest.raises(StorageError, match="cannot write"):
            Report("A page").save(f"{name}.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages", "run"]


def test_a_damaged_manifest_and_a_link_in_place_of_the_results_are_refused(tmp_path):
    run_example(tmp_path / "run")
    manifest = tmp_path / "run" / MANIFEST
    content = manifest.read_bytes()
    manifest.write_bytes(content.replace(b'"seed": 0', b'"seed": 1'))
    with pytest.raises(StorageError, match="damaged"):
        run_example(tmp_path / "run", seed=1)
    manifest.write_bytes(content)
    (tmp_path / "run" / "steps").rename(tmp_path / "elsewhere")
    (tmp_path / "run" / "steps").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="is a link"):
        run_example(tmp_path / "run")


def test_two_processes_do_not_share_a_folder(tmp_path):
    """The second is refused while the first is at work, whatever its seed, and not after it was killed."""
    folder = tmp_path / "run"
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_workflow_run import run_example
def work(name):
    print("at work", flush=True)
    sys.stdin.read()

run_example({str(folder)!r}, work, seed=7)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "at work\n"
            with pytest.raises(StorageError, match="another process is at work"):
                run_example(folder)
            assert read_manifest(folder).seed == 7
        finally:
            other.kill()
    run_example(folder)


def test_what_a_killed_run_left_unfinished_is_swept(tmp_path):
    run_example(tmp_path / "run")
    left = tmp_path / "run" / "steps" / ".second.nc.abc123"
    left.write_bytes(b"half a file")
    run_example(tmp_path / "run")
    assert not left.exists()


def test_a_full_disk_is_told_and_leaves_the_steps_before_it(tmp_path):
    run = WorkflowRun("example", {}, {}, 0, tmp_path / "run")
    run.step("first", lambda: draw(0))

    def full(thing: Any, folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"No space left") as refused:
        run.keeping_step("second", lambda: (draw(1), 3), full, lambda folder: 3)
    assert "check the folder and the space" in str(refused.value)
    assert [step.name for step in read_manifest(tmp_path / "run").steps] == ["first"]


@pytest.mark.parametrize("name", ["first.nc", "second/kept.npy"])
@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_step_is_done_again(tmp_path, name, damage):
    before = values(run_example(tmp_path / "run"))
    path = tmp_path / "run" / "steps" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    done: list[str] = []
    with pytest.warns(UserWarning, match="damaged and is done again"):
        again = run_example(tmp_path / "run", done.append)
    assert done == [name.split("/")[0].removesuffix(".nc")]
    for one, other in zip(before, values(again), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_apply_is_told_in_the_report_and_a_full_disk_is_not():
    run = WorkflowRun("example", {}, {})

    def beyond() -> Result:
        raise CapabilityError("the model has no steps", got="a transformer")

    def full() -> Result:
        raise StorageError("the disk is full")

    assert run.attempt("dynamics", beyond) is None
    with pytest.raises(StorageError):
        run.attempt("saved", full)
    run.leave_out("circuit", "nothing to find")
    run.step("draws", lambda: draw(0))
    outcome = run.finish("Example")
    page = outcome.report.to_html()
    assert "the model has no steps; got: a transformer" in page
    assert "nothing to find" in page
    assert list(outcome.left_out) == ["dynamics", "circuit"]
    assert "left out: circuit: nothing to find" in outcome.summary()
    with pytest.raises(InputError, match="already"):
        run.step("draws", lambda: draw(0))
    with pytest.raises(InputError, match="no folder"):
        assert outcome.path


def test_warnings_of_a_step_stay_with_its_result():
    run = WorkflowRun("example", {}, {})

    def warned() -> Result:
        warnings.warn("few trials", UserWarning, stacklevel=1)
        warnings.warn("few trials", UserWarning, stacklevel=1)
        return draw(0)

    assert run.step("draws", warned).warnings == ("few trials",)

    def outdated() -> Result:
        warnings.warn("call the other one", FutureWarning, stacklevel=1)
        return draw(0)

    with pytest.raises(FutureWarning):
        run.step("more", outdated)


@pytest.mark.parametrize("name", ["../outside", "a/b", "", "A", ".hidden", "a" * 65, None, "with space"])
def test_names_of_steps_cannot_lead_out_of_the_folder(name, tmp_path):
    run = WorkflowRun("example", {}, {}, 0, tmp_path / "run")
    with pytest.raises(InputError, match="cannot name a step"):
        run.step(name, lambda: draw(0))


# -- manifests ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("manifest") / "run"
    run_example(folder)
    return (folder / MANIFEST).read_bytes()


def test_a_manifest_comes_back_as_it_was_written(manifest, tmp_path):
    (tmp_path / MANIFEST).write_bytes(manifest)
    read = read_manifest(tmp_path)
    read.write(tmp_path)
    assert (tmp_path / MANIFEST).read_bytes() == manifest
    assert read.arguments == {"scale": 2.0}
    assert (read.page.title, read.page.shown) == ("Example", ("third",))
    assert read.inputs["data"] == Source("object", "array", "abc")
    assert [step.name for step in read.steps] == list(STEPS)
    numbers = read.steps[0].numbers["value"]
    assert numbers["least"] <= numbers["mean"] <= numbers["most"]
    assert sorted(read.steps[1].files) == ["steps/second.nc", "steps/second/kept.npy"]


def test_a_manifest_with_a_flipped_bit_is_refused(manifest, tmp_path):
    random = np.random.default_rng(0)
    for place, bit in zip(random.integers(len(manifest) - 1, size=200), random.integers(8, size=200), strict=True):
        damaged = bytearray(manifest)
        damaged[place] ^= 1 << bit
        if damaged[place : place + 1].isspace() and manifest[place : place + 1].isspace():
            continue  # another kind of space between entries changes nothing
        (tmp_path / MANIFEST).write_bytes(damaged)
        with pytest.raises(StorageError, match="damaged"):
            read_manifest(tmp_path)


def forged(manifest: bytes, change: Any) -> bytes:
    """Return a manifest that someone changed on purpose, checksum and all."""
    content = json.loads(manifest)
    content.pop("checksum")
    change(content)
    text = json.dumps(content, sort_keys=True)
    return json.dumps(content | {"checksum": hashlib.sha256(text.encode()).hexdigest()}).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one["steps"][0]["files"].update({"../../outside.nc": "0" * 64}),
        lambda one: one["steps"][0]["files"].update({"/etc/passwd": "0" * 64}),
        lambda one: one["steps"][0]["files"].update({"steps/../../outside": "0" * 64}),
        lambda one: one["steps"][0]["files"].update({"steps\\..\\..\\outside": "0" * 64}),
        lambda one: one["steps"][0]["files"].update({"report.html": "0" * 64}),
        lambda one: one["steps"][0].update(name="../outside"),
        lambda one: one["steps"][0].update(name=["first"]),
        lambda one: one["steps"][0].update(left_out=3),
        lambda one: one["steps"][0].update(more=1),
        lambda one: one["steps"][0].update(numbers={"value": {"digest": 3}}),
        lambda one: one["steps"][0]["numbers"]["value"].update(least="none"),
        lambda one: one["steps"][0]["numbers"]["value"].update(shape=None),
        lambda one: one["steps"][0]["numbers"]["value"].update(mean=10**400),
        lambda one: one.update(steps={}),
        lambda one: one.update(steps=[3]),
        lambda one: one.update(seed=True),
        lambda one: one.update(seed=None),
        lambda one: one.update(workflow=["dynamics"]),
        lambda one: one.update(inputs={"data": {"kind": "file"}}),
        lambda one: one.update(inputs={"data": {"kind": "file", "name": 3, "fingerprint": ""}}),
        lambda one: one.update(inputs={"data": {"kind": "file", "name": "/" + "a" * 5000, "fingerprint": ""}}),
        lambda one: one.update(arguments=[1]),
        lambda one: one.update(versions={"numpy": 2}),
        lambda one: one.update(format="another"),
        lambda one: one.update(version=2),
        lambda one: one.update(version="1"),
        lambda one: one["page"].update(title=3),
        lambda one: one["page"].update(captions=["a"]),
        lambda one: one["page"].update(captions={"third": 3}),
        lambda one: one["page"].update(shown=["fourth"]),
        lambda one: one["page"].update(shown=[["third"]]),
        lambda one: one["page"].update(shown="third"),
        lambda one: one["page"].update(more=1),
        lambda one: one.update(extra=1),
        lambda one: one.pop("python"),
    ],
)
def test_a_malicious_manifest_is_refused(manifest, tmp_path, change):
    (tmp_path / MANIFEST).write_bytes(forged(manifest, lambda one: None))
    read_manifest(tmp_path)  # what is refused below is the change
    (tmp_path / MANIFEST).write_bytes(forged(manifest, change))
    with pytest.raises(StorageError):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"[]", b"{}", b"null", b"3", b"[" * 100_000, b'{"a":' * 50_000, b"x" * (17 * 2**20)],
    ids=["empty", "binary", "list", "nothing", "null", "number", "deep", "deep objects", "large"],
)
def test_what_is_no_manifest_is_refused(content, tmp_path):
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(StorageError, match=r"damaged|too large"):
        read_manifest(tmp_path / MANIFEST)


def test_arguments_that_cannot_be_stored_are_refused():
    with pytest.raises(InputError, match="cannot be stored"):
        WorkflowRun("example", {"step": lambda state: state}, {})
