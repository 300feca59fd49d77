"""Runs repeated from their manifests: the same, nearly the same, different; and what a manifest must not do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, StorageError
from neuros_mechint.core.result import Result
from neuros_mechint.workflows.runs import manifest as manifests
from neuros_mechint.workflows.runs import reproduce as reproduction
from neuros_mechint.workflows.runs.manifest import MANIFEST, read_manifest
from neuros_mechint.workflows.runs.reproduce import Known, reproduce
from neuros_mechint.workflows.runs.run import WorkflowOutcome, WorkflowRun
from neuros_mechint.workflows.runs.sources import open_array
from tests.unit.test_workflow_run import forged

SHIFT = {"by": 0.0}  # what another machine, or another version, would compute otherwise


def scores(numbers: Any, power: float = 1.0, seed: int = 0, folder: Any = None, progress: bool = True) -> Any:
    """A workflow that needs no model."""
    given = open_array(numbers)
    run = WorkflowRun("scores", {"power": power}, {"numbers": given.source}, seed, folder, progress)
    if power < 0:
        raise CapabilityError("negative powers are beyond this workflow")
    noise = np.random.default_rng(run.seed("noisy")).normal(size=3)
    values = np.asarray(given.value) ** power + noise + SHIFT["by"]
    data = xr.Dataset({"score": ("trial", values)}, {"trial": ["x", "y", "z"]})
    run.step("noisy", lambda: Result(data, "Noisy", attributes={"mean": float(values.mean()), "kind": "plain"}))
    if SHIFT["by"] < 5:
        run.step("phase", lambda: Result(xr.Dataset({"phase": np.exp(1j * values[0])}), "Phase"))
    return run.finish("Scores", shown=())  # no time goes into figures


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    openers = {"numbers": "neuros_mechint.workflows.runs.sources:open_array"}
    monkeypatch.setattr(reproduction, "WORKFLOWS", {"scores": Known(__name__, "scores", openers)})
    monkeypatch.setitem(SHIFT, "by", 0.0)
    np.save(tmp_path / "numbers.npy", [1.0, 2.0, 3.0])
    scores(tmp_path / "numbers.npy", power=2.0, seed=3, folder=tmp_path / "run")
    return tmp_path / "run"


def verdicts(found: Any) -> dict[str, str]:
    return dict(zip(found.data["variable"].values.tolist(), found.data["verdict"].values.tolist(), strict=True))


def test_a_run_is_repeated_to_the_last_bit(folder, tmp_path):
    found = reproduce(folder)
    assert found.reproduced
    assert set(verdicts(found)) == {"noisy.score", "noisy.trial", "noisy.attribute mean", "phase.phase"}
    assert set(verdicts(found).values()) == {"equal"}
    assert not found.warnings
    assert "run" in found.summary()
    kept = reproduce(folder / MANIFEST, folder=tmp_path / "again")
    assert kept.reproduced
    assert read_manifest(tmp_path / "again").seed == 3
    assert found.plot().get_xlabel() == "variables"


@pytest.mark.parametrize(
    ("by", "tolerance", "verdict"), [(1e-9, 1e-6, "close"), (1e-3, 1e-6, "different"), (1e-3, 1e-2, "close")]
)
@pytest.mark.parametrize("alone", [False, True])
def test_what_differs_is_told_by_name_and_size(folder, by, tolerance, verdict, alone):
    if alone:  # somebody sent the manifest without the results
        shutil.rmtree(folder / "steps")
    SHIFT["by"] = by
    found = reproduce(folder, tolerance=tolerance)
    assert verdicts(found)["noisy.score"] == verdicts(found)["noisy.attribute mean"] == verdict
    assert verdicts(found)["noisy.trial"] == "equal"
    assert found.reproduced == (verdict == "close" and not alone)  # a complex number has no key numbers
    told = found.data.set_index(variable="variable") if "variable" not in found.data.coords else found.data
    largest = abs(np.array([1.0, 4.0, 9.0]) + np.random.default_rng(0).normal(size=3)).max()
    assert 0.3 < float(told["difference"].sel(variable="noisy.score")) / (by / largest) < 3
    if verdict == "different":
        assert "noisy.score is different by" in found.summary()
    assert ("3 variables that are not equal are compared by summaries only" in found.summary()) == alone
    assert (f"because {folder / 'steps'} is missing" in found.summary()) == alone


def test_what_only_the_manifest_tells_is_not_doubted_where_it_is_equal(folder):
    shutil.rmtree(folder / "steps")
    assert reproduce(folder).reproduced
    assert not reproduce(folder).warnings  # digests are of all numbers


def test_steps_and_variables_that_are_gone_are_missing(folder):
    SHIFT["by"] = 6.0
    found = reproduce(folder)
    assert verdicts(found)["phase.phase"] == "missing"
    assert not found.reproduced


def test_results_beside_the_manifest_that_are_not_its_own_are_not_believed(folder):
    SHIFT["by"] = 1e-3
    scores(folder.parent / "numbers.npy", power=2.0, seed=3, folder=folder.parent / "other")
    shutil.copy(folder.parent / "other" / "steps" / "noisy.nc", folder / "steps" / "noisy.nc")
    found = reproduce(folder)
    assert verdicts(found)["noisy.score"] == "different"
    assert f"because {folder / 'steps'} does not hold the results of the run" in found.summary()


def test_inputs_are_compared_before_anything_is_computed(folder, tmp_path, monkeypatch):
    np.save(tmp_path / "numbers.npy", [1.0, 2.0, 4.0])
    monkeypatch.setitem(globals(), "scores", lambda **arguments: pytest.fail("computed"))
    with pytest.raises(InputError, match="is another one than in the run"):
        reproduce(folder)


def test_inputs_that_were_moved_are_found_beside_the_manifest(folder, tmp_path):
    (tmp_path / "numbers.npy").rename(folder / "numbers.npy")
    assert reproduce(folder).reproduced
    (folder / "numbers.npy").rename(tmp_path / "elsewhere.npy")
    with pytest.raises(StorageError, match=r"nor numbers\.npy beside"):
        reproduce(folder)
    assert reproduce(folder, numbers=tmp_path / "elsewhere.npy").reproduced


def test_objects_must_be_given_again(folder, tmp_path):
    scores(np.array([1.0, 2.0, 3.0]), folder=tmp_path / "objects")
    with pytest.raises(InputError, match="passed as an object") as refused:
        reproduce(tmp_path / "objects")
    assert "numbers=..." in str(refused.value)
    assert reproduce(tmp_path / "objects", numbers=np.array([1.0, 2.0, 3.0])).reproduced
    with pytest.raises(InputError, match="another one"):
        reproduce(tmp_path / "objects", numbers=np.array([1.0, 2.0, 3.5]))
    with pytest.raises(InputError, match="no input 'model'"):
        reproduce(folder, model="flip_flop_rnn")


OPENERS = sorted({opener for known in reproduction.WORKFLOWS.values() for opener in known.openers.values()})


@pytest.mark.parametrize("opener", OPENERS)
def test_a_manifest_runs_no_code(folder, monkeypatch, opener):
    code = folder / "evil.py"
    code.write_text(f"import pathlib\npathlib.Path({str(folder / 'ran')!r}).touch()\ndef build(): return [1.0]\n")
    (folder / "evil.py:build").touch()  # a file of this name makes the path of the code look like that of data
    monkeypatch.chdir(folder)
    monkeypatch.setattr(reproduction, "WORKFLOWS", {"scores": Known(__name__, "scores", {"numbers": opener})})
    manifest = (folder / MANIFEST).read_bytes()
    for kind in ("code", "file", "folder", "object", "embedded", "anything"):
        for name in (f"{code}:build", "evil.py:build"):
            source = {"kind": kind, "name": name, "fingerprint": "0"}
            (folder / MANIFEST).write_bytes(forged(manifest, _with_numbers(source)))
            with pytest.raises((InputError, StorageError)):
                reproduce(folder)
    assert not (folder / "ran").exists()


def _with_numbers(source: dict[str, str]) -> Any:
    return lambda one: one["inputs"].update(numbers=source)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda one: one.update(workflow="os.system"), "no workflow"),
        (lambda one: one.update(arguments={"folder": "/tmp/elsewhere"}), "does not fit"),
        (lambda one: one.update(arguments={"numbers": [1]}), "does not fit"),
        (lambda one: one.update(arguments={"unknown": 1}), "does not fit"),
        (lambda one: one["inputs"].update(folder={"kind": "file", "name": "x", "fingerprint": ""}), "does not fit"),
        (lambda one: one.update(seed="a generator"), "seed was a generator"),
        (lambda one: one.update(finished=""), "not finished"),
        (lambda one: one.update(arguments={"power": -1}), "beyond this workflow"),
    ],
)
def test_manifests_that_do_not_fit_are_refused(folder, change, problem):
    (folder / MANIFEST).write_bytes(forged((folder / MANIFEST).read_bytes(), change))
    with pytest.raises((InputError, StorageError, CapabilityError), match=problem):
        reproduce(folder)


def test_words_that_were_changed_in_the_manifest_are_told(folder):
    def change(one: Any) -> None:
        one["steps"][0]["findings"][-1] = "the mean is 1000"

    assert not reproduce(folder).warnings
    (folder / MANIFEST).write_bytes(forged((folder / MANIFEST).read_bytes(), change))
    found = reproduce(folder)
    assert found.reproduced  # which is of numbers
    (told,) = found.warnings
    assert "the words of noisy are others than in the manifest" in told
    assert "'the mean is 1000' there, 'kind: plain' now" in told
    assert told in found.summary()


def test_a_step_counts_once(folder):
    def change(one: Any) -> None:
        one["steps"].append(one["steps"][0])

    (folder / MANIFEST).write_bytes(forged((folder / MANIFEST).read_bytes(), change))
    with pytest.raises(StorageError, match=r"damaged[\s\S]*the step 'noisy' twice"):
        reproduce(folder)


def test_the_run_itself_is_not_overwritten(folder):
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(InputError, match="overwrite"):
        reproduce(folder / MANIFEST, folder=folder)
    with pytest.raises(OptionError):
        reproduce(folder, tolerance=-1.0)
    with pytest.raises(StorageError, match="no manifest"):
        reproduce(folder.parent / "nowhere")
    assert (folder / MANIFEST).read_bytes() == before


def test_other_versions_are_told(folder):
    def change(one: Any) -> None:
        one["versions"]["numpy"] = "1.0"

    (folder / MANIFEST).write_bytes(forged((folder / MANIFEST).read_bytes(), change))
    found = reproduce(folder)
    assert found.reproduced
    assert any("another version of numpy: 1.0 then" in text for text in found.warnings)


def test_the_manifest_is_short_and_readable(folder):
    content = json.loads((folder / MANIFEST).read_text())
    assert content["workflow"] == "scores"
    assert content["arguments"] == {"power": 2.0}
    assert content["inputs"]["numbers"]["name"] == str(folder.parent / "numbers.npy")
    assert len((folder / MANIFEST).read_bytes()) < 5000
    assert manifests.MANIFEST == "manifest.json"
    assert isinstance(scores([1.0, 2.0, 3.0]), WorkflowOutcome)
