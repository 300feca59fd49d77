"""The command line, run as a user runs it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

import neuros_mechint as nm
from neuros_mechint import cli
from neuros_mechint.workflows.runs.collected import collected
from neuros_mechint.workflows.runs.run import WorkflowRun


@pytest.fixture
def run():
    def invoke(*arguments):
        return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=True)

    return invoke


def test_quickstart_writes_one_page_and_prints_what_it_found(run, tmp_path):
    page = tmp_path / "page.html"
    result = run("quickstart", "--output", str(page), "--no-show")
    assert result.exit_code == 0, result.output
    assert page.stat().st_size > 50_000
    assert "at once: 1.00" in result.output
    assert str(page) in result.output.replace("\n", "")


def test_info_names_versions_kinds_of_model_and_embedded_models(run):
    output = run("info").output
    assert f"neuros-mechint {nm.__version__}" in output
    assert f"torch {torch.__version__}" in output
    assert "huggingface" in output
    assert "flip_flop_gru" in output


def test_sites_of_an_embedded_model_and_of_a_saved_huggingface_model(run, tmp_path):
    assert "blocks.1.z" in run("sites", "induction", "--pattern", "blocks.1.*").output
    import transformers

    config = transformers.GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "model")
    output = run("sites", str(tmp_path / "model")).output
    assert "blocks.0.resid_mid" in output
    assert "resid_mid == resid_pre + attn_out" in output


def test_check_adapter_passes_on_an_embedded_model(run):
    result = run("check-adapter", "flip_flop_rnn")
    assert result.exit_code == 0, result.output


def test_report_collects_saved_results(run, tmp_path):
    scores = xr.Dataset({"score": ("layer", np.array([0.1, 0.4]))})
    saved = nm.Result(scores, "A saved score").save(tmp_path / "score.nc")
    result = run("report", str(saved), "--output", str(tmp_path / "page.html"), "--title", "Mine")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "A saved score" in page
    assert "Mine" in page


def workflow(folder):
    """A finished run with words around its results, one of which it does not show."""
    started = WorkflowRun("example", {}, {}, 0, folder)
    for name in ("inner", "scores"):
        scores = nm.Result(xr.Dataset({"score": ("layer", np.array([0.1, 0.4]))}), f"Saved {name}")
        started.step(name, lambda scores=scores: scores)
    started.leave_out("circuit", "nothing to find")
    return started.finish("What was asked", "And of whom.", {"scores": "The higher the better."}, shown=("scores",))


def words(page):
    return [(one.title, one.caption, one.kind) for one in page.sections]


def test_report_of_a_run_has_the_words_of_its_own_report(run, tmp_path):
    own = workflow(tmp_path / "run")
    result = run("report", str(tmp_path / "run"), "--output", str(tmp_path / "page.md"))
    assert result.exit_code == 0, result.output
    page, expected = (tmp_path / "page.md").read_text(encoding="utf-8"), own.report.to_markdown()
    for text in ("# What was asked", "And of whom.", "The higher the better.", "**circuit**: nothing to find"):
        assert text in page
        assert text in expected
    assert words(collected([tmp_path / "run"])) == words(own.report)
    assert collected([tmp_path / "run"], "Mine").title == "Mine"
    assert f"reproduce {tmp_path / 'run'}`" in page


def test_report_of_a_report_has_its_words(tmp_path):
    own = workflow(tmp_path / "run").report
    composite = nm.biological_training(n_steps=1, n_checks=1, progress=False).result
    own.add(composite, "Parts", "Made of others.").add_text("And so on.", "Outlook")
    own.save(tmp_path / "report.json")
    again = collected([tmp_path / "report.json"])
    assert (again.title, again.subtitle) == ("What was asked", "And of whom.")
    assert words(again) == words(own)


def test_report_of_several_puts_each_title_before_its_results(tmp_path):
    workflow(tmp_path / "run")
    saved = nm.Result(xr.Dataset({"score": 0.5}), "Score").save(tmp_path / "score.nc")
    page = collected([saved, tmp_path / "run"])
    assert page.title == "Results"
    assert [one.title for one in page.sections][:3] == ["Score", "What was asked", "Saved scores"]
    assert page.sections[2].caption == "The higher the better."


def test_report_of_an_unfinished_run_and_beside_another_programs_manifest(tmp_path):
    nm.Result(xr.Dataset({"score": 0.5}), "Score").save(tmp_path / "score.nc")
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    assert [one.title for one in collected([tmp_path]).sections] == ["Score"]


def test_report_compares_runs(run, tmp_path):
    for name, value in (("first", 0.5), ("second", 0.75)):
        nm.Result(xr.Dataset({"score": value}), "Score").save(tmp_path / name / "score.nc")
    paths = [str(tmp_path / name) for name in ("first", "second")]
    result = run("report", "--compare", *paths, "--output", str(tmp_path / "both.md"))
    assert result.exit_code == 0, result.output
    assert "| score | 0.5 | 0.75 | 0.25 |" in (tmp_path / "both.md").read_text(encoding="utf-8")
    assert run("report", "--compare", paths[0]).exit_code != 0


def test_an_error_is_shown_without_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["neuros-mechint", "sites", "inducton"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert "no model 'inducton'" in shown
    assert "induction" in shown
    assert "Traceback" not in shown
