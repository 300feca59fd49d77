"""The command line, run as a user runs it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

import neuros_mechint as nm
from neuros_mechint import cli


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
