"""Several runs side by side: numbers, differences, scales, and what only some of them have."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

from neuros_mechint.core.errors import InputError
from neuros_mechint.core.figures.plotting import heat_map
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.result import Result
from neuros_mechint.report import Report
from neuros_mechint.report.comparison import key_numbers, number_table, origin_table, runs_of, share_scales
from neuros_mechint.report.results import argument_text, origin_of
from neuros_mechint.workflows.runs.manifest import Manifest, Page
from neuros_mechint.workflows.runs.sources import Source

EFFECT = xr.DataArray(np.arange(20.0).reshape(4, 5), dims=("site", "position"), name="effect", attrs={"units": "nats"})


def run(seed: int, factor: float) -> dict[str, Result]:
    provenance = Provenance.record(seed=seed, arguments={"n_steps": 10 * seed, "lr": 0.1})
    about = {"provenance": provenance, "citations": ("mante2013",), "warnings": (f"warning of seed {seed}",)}
    return {
        "effects": Result((factor * EFFECT).assign_attrs(EFFECT.attrs).to_dataset(), "Effects", **about),
        "accuracy": Result(xr.Dataset({"accuracy": ("lag", [0.5, factor])}), "Accuracy", {"n_pairs": 8}, **about),
    }


@pytest.fixture(scope="module")
def report() -> Report:
    only = {"extra": Result(xr.Dataset({"x": 1.0}), "Only here")}
    second = SimpleNamespace(results=run(2, 3.0), left_out={"extra": "the model has no <heads>"})
    return Report.compare({"first": {**run(1, 2.0), **only}, "second": second})


def rows(table: pd.DataFrame) -> dict[str, list]:
    return {row[0]: ["–" if cell != cell else cell for cell in row[1:]] for row in table.values.tolist()}  # NaN


def table(report: Report, caption: str) -> pd.DataFrame:
    return next(s.body.table for s in report.sections if s.caption.startswith(caption))  # type: ignore[attr-defined]


def test_numbers_and_differences_stand_beside_each_other(report):
    told = table(report, "Effects: key numbers of each run; 3 of 4 differ.")
    assert told.columns.tolist() == ["quantity", "first", "second", "second − first"]
    assert rows(told) == {
        "effect, mean (nats)": [19.0, 28.5, 9.5],
        "effect, smallest (nats)": [0.0, 0.0, 0.0],
        "effect, largest (nats)": [38.0, 57.0, 19.0],
        "effect, largest difference of a value (nats)": ["–", "–", 19.0],
    }
    assert rows(table(report, "Accuracy: key numbers of each run; 1 of 3 differ.")) == {
        "accuracy [lag 0]": [0.5, 0.5, 0.0],
        "accuracy [lag 1]": [2.0, 3.0, 1.0],
        "n pairs": [8.0, 8.0, 0.0],
    }


def test_what_differs_in_how_runs_were_made_is_told(report):
    told = table(report, "Effects: what differs in how the runs were made.")
    assert rows(told) == {"seed": ["1", "2"], "argument n_steps": ["10", "20"]}
    assert origin_table({"a": run(1, 1.0)["effects"], "b": run(1, 2.0)["effects"]}) is None


def test_results_that_only_one_run_has_are_said_with_the_reason(report):
    overview = table(report, "Which run has which results.")
    assert rows(overview) == {
        "effects": ["yes", "yes"],
        "accuracy": ["yes", "yes"],
        "extra": ["yes", "left out: the model has no <heads>"],
    }
    assert "Only here" not in [section.title for section in report.sections]
    silent = runs_of({"a": run(1, 1.0), "b": {"effects": run(1, 1.0)["effects"]}}).overview()
    assert rows(silent)["accuracy"] == ["yes", "no"]


def test_every_file_tells_both_runs(report, tmp_path):
    html, text = report.to_html(), report.save(tmp_path / "both.md").read_text(encoding="utf-8")
    assert html.count("<h3") == 4
    assert html.count("warning of seed 1") == html.count("warning of seed 2") == 4  # two results, at the top and there
    assert "&lt;heads&gt;" in text
    assert "both_files/section-2-1.svg" in text
    assert "both_files/section-2-2.svg" in text
    again = Report.compare({"json": report.save(tmp_path / "both.json"), "python": report.sections[1].results})
    assert rows(again.sections[0].body.table) == {  # type: ignore[attr-defined]
        "first · Effects": ["yes", "no"], "second · Effects": ["yes", "no"], "first · Accuracy": ["yes", "no"],
        "second · Accuracy": ["yes", "no"], "first": ["no", "yes"], "second": ["no", "yes"],
    }  # fmt: skip


def test_figures_of_both_runs_have_the_same_scales():
    def drawn(numbers: np.ndarray) -> Figure:
        figure = Figure()
        heat_map(xr.DataArray(numbers, dims=("a", "b")), figure.subplots())
        return figure

    pair = [drawn(EFFECT.values), drawn(2 * EFFECT.values)]
    assert share_scales(pair)
    assert {(figure.axes[0].images[0].norm.vmin, figure.axes[0].images[0].norm.vmax) for figure in pair} == {(0, 38)}
    signed = [drawn(EFFECT.values - 1), drawn(EFFECT.values)]
    assert not share_scales(signed)  # white means zero in one of them only
    lines = [Figure(), Figure()]
    for height, figure in enumerate(lines, start=1):
        figure.subplots().plot([0, height])
    assert share_scales(lines)
    assert lines[0].axes[0].get_ylim() == lines[1].axes[0].get_ylim()
    mixed = Report.compare({"a": [Result((EFFECT - 1).to_dataset(), "E")], "b": [Result(EFFECT.to_dataset(), "E")]})
    assert "Colours mean other values in each run" in mixed.to_html()


def test_values_are_compared_only_where_their_labels_are_the_same():
    moved = EFFECT.assign_coords(position=np.arange(5) + 1)
    results = {"a": Result(EFFECT.to_dataset(), "E"), "b": Result(moved.to_dataset(), "E")}
    assert "largest difference" not in "".join(rows(number_table(results)))
    missing = EFFECT.where(EFFECT < 10)
    results = {"a": Result(EFFECT.to_dataset(), "E"), "b": Result((missing + 1).to_dataset(), "E")}
    assert rows(number_table(results))["effect, largest difference of a value (nats)"][-1] == 1.0
    empty = Result(EFFECT.where(EFFECT < 0).to_dataset(), "E")
    assert np.isnan(key_numbers(empty)["effect, mean"][0])


def test_three_runs_are_compared_with_the_first():
    results = {
        name: Result(xr.Dataset({"score": value}), "S") for name, value in zip("abc", (1.0, 2.0, 4.0), strict=True)
    }
    told = number_table(results)
    assert told.columns.tolist() == ["quantity", "a", "b", "c", "b − a", "c − a"]
    assert told.values.tolist() == [["score", 1.0, 2.0, 4.0, 1.0, 3.0]]


def test_parts_of_results_are_compared_one_by_one_and_faults_are_told():
    class Whole(Result):
        def report_sections(self):
            yield Result(self.data, "Part"), "The part", "caption"

    class Faulty(Result):
        def _draw(self, ax):
            raise KeyError("colour")

    data = xr.Dataset({"x": 1.0})
    one = {"whole": Whole(data, "Whole"), "faulty": Faulty(data, "Faulty")}
    report = Report.compare({"a": one, "b": one})
    titles = [section.title for section in report.sections if section.title]
    assert titles == ["What is compared", "Whole", "Part", "Faulty"]
    assert [section.number for section in report.sections if section.results] == [None, 1, None]
    assert "a: the figure could not be made: KeyError: &#39;colour&#39;" in report.to_html()


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ({"a": run(1, 1.0)}, "needs several runs"),
        ([run(1, 1.0), run(1, 2.0)], "needs several runs"),
        ({"a": run(1, 1.0), "b": {}}, "'b' is not made of results"),
        ({"a": run(1, 1.0), "b": 3}, "'b' is not made of results"),
        ({"a": run(1, 1.0), "b": {"x": EFFECT}}, "DataArray"),
        ({"a": run(1, 1.0), "b": [EFFECT]}, "DataArray"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs, told):
    with pytest.raises(InputError, match=told):
        Report.compare(runs)


def test_titles_that_meet_are_told_apart():
    score = Result(xr.Dataset({"score": 1.0}), "Score")
    assert list(runs_of({"a": [score, score], "b": score}).results["a"]) == ["Score", "Score 2"]
    assert dict(origin_of(score))["model fingerprint"] == "none"


def test_a_warning_of_both_runs_is_said_once_at_the_top():
    one = Result(xr.Dataset({"x": 1.0}), "X", warnings=("too few", "only here"))
    other = Result(xr.Dataset({"x": 2.0}), "X", warnings=("too few",))
    text = Report.compare({"a": [one], "b": [other]}).to_markdown()
    assert "- **X (a, b):** too few\n- **X (a):** only here\n" in text


def made_of(title: str, caption: str, score: float = 0.5, **inputs: tuple[str, str]) -> SimpleNamespace:
    """What a workflow returns."""
    sources = {name: Source("file", *source) for name, source in inputs.items()}
    manifest = Manifest.begin("align", {"rdm": "correlation"}, sources, 0)
    result = Result(xr.Dataset({"score": ("layer", [score, 1.0])}), title)
    page = Page(captions={"rsa": caption})
    return SimpleNamespace(results={"rsa": result}, manifest=replace(manifest, page=page))


def test_runs_on_other_data_are_told_apart_at_the_top_and_their_quantities_are_not_taken_for_the_same():
    centred = made_of("Similarity, by distance of centred units", "Centred ones.", recording=("/a/rec.npy", "1"))
    raw = made_of("Similarity, by distance", "As they are.", recording=("/a/rec_raw.npy", "2"))
    report = Report.compare({"al": centred, "al_raw": raw})
    assert rows(report.sections[0].body.table) == {"recording": ["rec.npy", "rec_raw.npy"]}  # type: ignore[attr-defined]
    assert [one.title for one in report.sections if one.title] == ["What is compared", "Similarity, by distance …"]
    text = report.to_markdown()
    assert "Similarity, by distance of centred units. Centred ones." in text
    assert "Similarity, by distance. As they are." in text
    assert "these may not be the same quantity" in text
    assert "Made with the same" not in text
    assert "between the runs these differ: recording" in text
    assert "Similarity, by distance of centred units. Centred ones." in report.to_html()


def test_runs_that_were_made_alike_are_said_to_be_and_files_of_one_name_are_told_apart():
    one, copied = (made_of("Similarity", "Same.", recording=(path, "1")) for path in ("/a/rec.npy", "/b/copy.npy"))
    text = Report.compare({"one": one, "again": copied}).to_markdown()
    assert "Made with the same inputs, seed, arguments and versions." in text
    assert "may not be the same" not in text
    assert "what differs" not in text
    other = made_of("Similarity", "Same.", recording=("/b/rec.npy", "2"))
    told = Report.compare({"one": one, "other": other}).sections[0].body.table  # type: ignore[attr-defined]
    assert rows(told) == {"recording": ["rec.npy, hash 1", "rec.npy, hash 2"]}
    assert "the inputs of the runs are not known" in Report.compare({"a": one.results, "b": one.results}).to_markdown()


def test_what_a_folder_says_of_its_run_is_read_and_a_damaged_manifest_says_nothing(tmp_path):
    for name, digest in (("a", "1"), ("b", "2"), ("c", "3")):
        run = made_of("Similarity", "Same.", recording=(f"/x/{name}.npy", digest))
        run.results["rsa"].save(tmp_path / name / "steps" / "rsa.nc")
        run.manifest.write(tmp_path / name)
    both = Report.compare({name: tmp_path / name for name in "ab"})
    assert rows(both.sections[0].body.table) == {"recording": ["a.npy", "b.npy"]}  # type: ignore[attr-defined]
    (tmp_path / "b" / "manifest.json").write_text('{"inputs": 3, "steps": []}', encoding="utf-8")
    rest = Report.compare({name: tmp_path / name for name in "abc"})
    assert rows(rest.sections[0].body.table) == {"recording": ["a.npy", "not known", "c.npy"]}  # type: ignore[attr-defined]


def test_many_arrays_are_told_in_short_and_a_warning_once():
    def about(last: str) -> str:
        return argument_text([{"shape": [2], "dtype": "float64", "hash": one} for one in ("a", "b", "c", last)])

    assert about("d").startswith("4 arrays, hash of all ")
    assert about("d") != about("e")
    assert argument_text({"one": {"shape": [2], "dtype": "float64", "hash": "a"}}) == "one: float64 array, 2, hash a"
    twice = Result(xr.Dataset({"x": 1.0}), "Twice", warnings=("too few trials", "too few trials"))
    assert Report("Page").add(twice).to_html().count("too few trials") == 2  # at the top and there
