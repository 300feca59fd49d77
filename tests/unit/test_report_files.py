"""A report as Markdown and as JSON, and results read from such a file again."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError, StorageError
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.report import Report
from neuros_mechint.report.saved import read_run, result_from_json, result_to_json
from neuros_mechint.report.tables import table_to_markdown
from neuros_mechint.report.text import plain_to_markdown, text_to_markdown


class Kept(Result):
    """A class of its own, which comes back."""


EVERYTHING = Kept(
    xr.Dataset(
        {
            "score": (("layer", "head"), np.array([[0.1, np.nan], [np.inf, -np.inf]]), {"units": "nats"}),
            "single": (("layer", "head"), np.arange(4, dtype=np.float32).reshape(2, 2) / 3),
            "wave": ("layer", np.array([1 + 2j, complex(np.nan, -np.inf)])),
            "large": ("layer", np.array([2**63 - 1, -(2**63)])),
            "chosen": ("layer", np.array([True, False])),
            "word": ("layer", np.array(["<b>", "العربية"])),
            "when": ("layer", np.array(["2026-01-01", "NaT"], dtype="datetime64[ns]")),
            "lasting": ("layer", np.array([1, 2], dtype="timedelta64[s]").astype("timedelta64[ns]")),
            "alone": 0.1 + 0.2,
        },
        {"layer": ["first", "second"]},
        {"note": "of the data"},
    ),
    "Everything",
    attributes={"method": "exact", "p": 0.05, "list": [1, 2.5, None]},
    provenance=Provenance.record(seed=3, arguments={"x": np.zeros(3)}),
    citations=("mante2013", "meng2022rome"),
    warnings=("few | pairs", "<script>"),
)


@pytest.fixture(scope="module")
def report() -> Report:
    report = Report("All | of it", "With *care* & `x < y`").add(EVERYTHING, caption="What *is* there.")
    report.add_text("Words.\n\n- one [link](javascript:alert(1))\n- two", "1. Words")
    report.add_table(pd.DataFrame({"head": ["0|1", None], "effect": [-0.123456, np.nan]}), "Heads")
    cloud = Figure()
    cloud.subplots().plot(*np.random.default_rng(0).normal(size=(2, 10_000)), ".")
    return report.add_figure(cloud, "Cloud", "Many points")


def test_results_come_back_as_they_were():
    again = result_from_json(json.loads(json.dumps(result_to_json(EVERYTHING), allow_nan=False)))
    assert type(again) is Kept
    assert again == EVERYTHING
    assert {name: again.data[name].dtype for name in again.data} == {n: EVERYTHING.data[n].dtype for n in again.data}


def test_json_holds_everything_and_is_read_again(report, tmp_path):
    path = report.save(tmp_path / "all.json")
    told = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    assert (told["format"], told["title"]) == ("neuros-mechint report", "All | of it")
    assert [warning["text"] for warning in told["warnings"]] == ["few | pairs", "<script>"]
    assert [reference["key"] for reference in told["references"]] == ["mante2013", "meng2022rome"]
    assert told["references"][0]["bibtex"].startswith("@article{mante2013")
    assert told["references"][0]["reference"].startswith("Mante et al. (2013).")
    first, words, table, cloud = told["sections"]
    assert first["results"][0]["provenance"]["seed"] == 3
    assert ["method", "exact"] in first["results"][0]["findings"]
    assert words["body"]["text"].startswith("Words.")
    assert table["body"] == {"columns": ["head", "effect"], "rows": [["0|1", -0.123456], [None, None]]}
    assert cloud["caption"] == "Many points"
    assert read_run(path) == {"Everything": EVERYTHING}


def test_damaged_and_foreign_files_are_refused(report, tmp_path):
    told = json.loads(report.to_json())
    place = tmp_path / "x.json"

    def refused(content: object) -> str:
        place.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        with pytest.raises(StorageError) as refusal:
            read_run(place)
        return str(refusal.value)

    def of_type(dtype: str, values: object) -> dict:
        variable = {"dims": ["a"], "dtype": dtype, "values": values, "attributes": {}}
        return {"data": {"variables": {"x": variable}, "coordinates": [], "attributes": {}}}

    assert "cannot read" in refused("{")
    assert "cannot read" in refused("[" * 100_000)
    assert "is not a report" in refused([])
    assert "newer version" in refused({**told, "version": 99})
    for change in (
        {"data": {}},
        {"provenance": {"seed": 1}},
        {"class": "Popen", "module": "subprocess"},
        of_type("O", [{}]),
        of_type("<i8", [2**70]),
        of_type("<f8", [[1.0], [1.0, 2.0]]),
        of_type("<f8", ["__import__('os')"]),
        of_type("<U9999999999", ["x"]),
        of_type("no type", [1]),
        {"data": {"variables": {"x": 3}, "coordinates": [], "attributes": {}}},
        {"citations": ["nobody1900"]},
    ):
        damaged = json.loads(json.dumps(told))
        damaged["sections"][0]["results"][0].update(change)
        assert re.search("damaged|not known|provenance", refused(damaged)), change
    for sections in (3, [3], [{"results": 3}]):
        assert "damaged" in refused({**told, "sections": sections})


def test_a_run_is_read_from_wherever_it_was_saved(tmp_path):
    scores = [Result(xr.Dataset({"score": value}), f"Score {value}") for value in (0.5, 0.25)]
    one = scores[0].save(tmp_path / "run" / "one.nc")
    scores[1].save(tmp_path / "run" / "steps" / "two.nc")
    assert read_run(one) == {"one": scores[0]}
    assert read_run(tmp_path / "run") == {"one": scores[0], "two": scores[1]}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no results"):
        read_run(tmp_path / "empty")
    with pytest.raises(StorageError, match="no such file"):
        read_run(tmp_path / "nowhere.json")


def test_results_of_a_workflow_come_in_the_order_of_its_steps(tmp_path):
    for name in ("circuit", "behaviour", "added"):
        Result(xr.Dataset({"score": 1.0}), name).save(tmp_path / "steps" / f"{name}.nc")
    steps = [{"name": name} for name in ("behaviour", "left_out", "circuit")]
    (tmp_path / "manifest.json").write_text(json.dumps({"steps": steps}))
    assert list(read_run(tmp_path)) == ["behaviour", "circuit", "added"]
    (tmp_path / "manifest.json").write_text("[]")
    assert list(read_run(tmp_path)) == ["added", "behaviour", "circuit"]


@pytest.mark.parametrize("suffix", [".html", ".md", ".json"])
def test_what_utf_8_cannot_hold_and_indices_named_as_columns_are_saved(suffix, tmp_path):
    table = pd.DataFrame({"layer": [1, 2]}, index=pd.Index([3, 4], name="layer"))
    report = Report("of \udcff.nc").add_table(table, "Layers \udcff").add_text("\ud800")
    text = report.save(tmp_path / f"page{suffix}").read_text(encoding="utf-8")
    assert text.count("layer") >= 2


def test_markdown_has_its_figures_beside_it(report, tmp_path):
    path = report.save(tmp_path / "my page.md")
    text = path.read_text(encoding="utf-8")
    links = re.findall(r"!\[[^\n]*\]\(([^)]+)\)", text)
    assert links == ["my%20page_files/section-1.svg", "my%20page_files/section-4.png"]
    folder = tmp_path / "my page_files"
    assert {file.name for file in folder.iterdir()} == {"section-1.svg", "section-4.png"}
    assert (folder / "section-4.png").read_bytes().startswith(b"\x89PNG")
    root = ET.parse(folder / "section-1.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root[0].attrib["fill"] == "#ffffff"
    assert "var(--" not in (folder / "section-1.svg").read_text(encoding="utf-8")


def test_markdown_says_what_the_page_says(report):
    text = report.to_markdown()
    assert "![" not in text
    for line in (
        "# All \\| of it",
        "With *care* &amp; `x < y`",
        "- **Everything:** few \\| pairs",
        "**Warning.** &lt;script&gt;",
        "**Figure 1.** What *is* there.",
        "- method: exact",
        "- seed: 3",
        "Method: \\[1\\], \\[2\\]",
        "## 1\\. Words",
        "- one \\[link\\](javascript:alert(1))",
        "| 0\\|1 | −0.1235 |",
        "| – | – |",
        "**Figure 2.** Many points",
        "*Figure: Many points*",
    ):
        assert f"\n{line}\n" in f"\n{text}", line
    assert "<https://doi.org/10.1038/nature12742>" in text
    assert "```bibtex\n@article{mante2013," in text


def test_plain_text_stays_plain_in_markdown():
    assert plain_to_markdown("# a\nb") == "\\# a b"
    assert plain_to_markdown("- 1. x") == "\\- 1. x"
    assert plain_to_markdown("12) x") == "12\\) x"
    assert plain_to_markdown("blocks.0.resid_pre -0.5 _x_") == "blocks.0.resid_pre -0.5 \\_x\\_"
    assert plain_to_markdown("<a> & `b` *c* $d$ ~e~ \\") == "&lt;a&gt; &amp; \\`b\\` \\*c\\* \\$d\\$ \\~e\\~ \\\\"
    assert text_to_markdown("a\nb\n\n- `<x>`\n- **y**") == "a b\n\n- `<x>`\n- **y**"
    long = table_to_markdown(pd.DataFrame({"x": range(1234)}))
    assert long.count("\n") == 203
    assert long.endswith("The first 200 of 1,234 rows.")


def test_parts_and_blocks_of_results_are_told_in_markdown(tmp_path):
    class Parts(Result):
        def report_sections(self):
            yield Result(self.data, "Part"), "The part", "Its caption."

    class Blocks(Result):
        def report_blocks(self):
            yield "first", [pd.DataFrame({"a": [1]}), lambda ax: ax.plot([0, 1])]

    data = xr.Dataset({"pattern": (("head", "query", "key"), np.eye(3)[None].repeat(2, 0))})
    report = Report("Parts").add(Parts(data, "Whole"), caption="Two.").add(Blocks(data, "Blocks"))
    text = report.save(tmp_path / "parts.md").read_text(encoding="utf-8")
    assert "Drawn: head 0 of 2." in text
    assert re.findall(r"\(parts_files/(\S+)\)", text) == ["section-2.svg", "section-3-0-1.svg"]
    assert "**first**\n\n| a |\n| ---: |\n| 1 |" in text
