"""Dashboards as the JSON of SAEDashboard and Neuronpedia: its layout field by field, there and back, or refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import neuros_mechint as nm
from neuros_mechint.core.errors import StorageError
from neuros_mechint.report import Report
from tests.truth.test_feature_dashboard_page import with_words


@pytest.fixture(scope="module")
def worded():
    return with_words()


BY_HAND = {
    "model_id": "gpt2-small", "layer": 5, "sae_set": "res-jb", "sae_id_suffix": None,
    "features": [
        {
            "feature_index": 12, "neuron_alignment_indices": [217, 266], "neuron_alignment_values": [0.112, 0.109],
            "neuron_alignment_l1": [0.005, 0.005], "correlated_neurons_indices": [14],
            "correlated_neurons_l1": [0.01], "correlated_neurons_pearson": [0.009],
            "correlated_features_indices": [7, 2], "correlated_features_l1": [0.4, 0.1],
            "correlated_features_pearson": [0.3, -0.05], "neg_str": ["sequence", "ogen"],
            "neg_values": [-0.707, -0.674], "pos_str": [" Brigade", " brigade"], "pos_values": [3.753, 3.063],
            "frac_nonzero": 0.0002, "freq_hist_data_bar_values": [0.5, 1.5, 2.5],
            "freq_hist_data_bar_heights": [47, 32, 3], "logits_hist_data_bar_heights": [5, 35],
            "logits_hist_data_bar_values": [-0.662, 2.0], "n_prompts_total": 256, "n_tokens_in_prompt": 64,
            "dataset": "a/b", "decoder_weights_dist": [0.25, 0.75],
            "activations": [
                {"bin_min": -1, "bin_max": 2.214, "bin_contains": -1, "tokens": ["his", " brigade", "."],
                 "values": [0.0, 2.214, 0.1], "qualifying_token_index": 1},
                {"bin_min": 0.5, "bin_max": 1.0, "bin_contains": 0.25, "tokens": ["a", " Brig"], "values": [0.9, 0.6],
                 "qualifying_token_index": 1, "dfa_values": [0.1, 0.2], "dfa_maxValue": 0.2, "dfa_targetIndex": 1},
            ],
            "vector": [0.5, -0.5],
        },
        {
            "feature_index": 40, "neg_str": [], "neg_values": [], "pos_str": [], "pos_values": [], "frac_nonzero": 0.0,
            "freq_hist_data_bar_values": [], "freq_hist_data_bar_heights": [], "activations": [],
        },
    ],
}  # fmt: skip


def write(path, record):
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def test_a_file_written_by_hand_from_the_layout_opens(tmp_path):
    found = nm.FeatureDashboard.from_neuronpedia(write(tmp_path / "x.json", BY_HAND))
    assert found.features == [12, 40]
    own = found.data.sel(feature=12)
    assert own["activation"].values.tolist() == [2.214, 0.6]  # at the token the file names, not at the largest
    assert own["token"].sel(offset=0).values.tolist() == [" brigade", " Brig"]
    assert own["token"].sel(offset=1).values.tolist() == [".", ""]
    assert own["raised"].values.tolist() == [" Brigade", " brigade"]
    assert own["lowered_by"].values.tolist() == [-0.707, -0.674]
    assert own["count"].values.tolist() == [47, 32, 3]
    assert own["activation_neighbour"].values.tolist() == [7, 2]
    assert own["interval_share"].values.tolist() == [-1, 0.25]
    assert float(found.data["density"].sel(feature=12)) == 0.0002
    assert "res-jb" in found.title
    assert "12" in found.summary()
    assert found._repr_html_()
    assert Report("Imported").add(found).to_html()


def test_all_of_it_is_written_again(tmp_path):
    found = nm.FeatureDashboard.from_neuronpedia(write(tmp_path / "x.json", BY_HAND))
    again = json.loads(found.to_neuronpedia(tmp_path / "y.json").read_text())
    assert {**again, "features": []} == {**BY_HAND, "features": []}
    assert again["features"][0] == BY_HAND["features"][0]
    assert again["features"][1].items() >= BY_HAND["features"][1].items()


def test_a_dashboard_comes_back_as_far_as_the_layout_reaches(worded, tmp_path):
    path = worded.to_neuronpedia(tmp_path / "folder", model_id="induction", sae_set="planted", dataset="random")
    assert path == tmp_path / "folder" / "batch-0.json"
    written = json.loads(path.read_text())
    assert (written["model_id"], written["layer"], written["sae_set"]) == ("induction", 1, "planted")
    first = written["features"][0]
    assert (first["n_prompts_total"], first["n_tokens_in_prompt"], first["dataset"]) == (30, 12, "random")
    assert list(first) == list(BY_HAND["features"][0])  # their fields, in their order, and no others
    example = first["activations"][0]
    assert example["values"][example["qualifying_token_index"]] == max(example["values"]) == example["bin_max"]
    back = nm.FeatureDashboard.from_neuronpedia(path.parent)
    assert back.features == worded.features
    shared = set(back.data) & set(worded.data)
    assert shared >= {"activation", "density", "count", "raised", "lowered_by", "logit_count", "activation_neighbour"}
    for name in shared - {"token", "token_activation"}:
        np.testing.assert_array_equal(back.data[name], worded.data[name], err_msg=name)
    assert back.to_dataframe()["text"].tolist() == worded.to_dataframe()["text"].tolist()
    assert back.to_neuronpedia(tmp_path / "again.json").read_text() == path.read_text()


def test_batches_in_a_folder_are_one_dashboard_in_the_order_of_their_numbers(tmp_path):
    one, two = ({**BY_HAND, "features": [feature]} for feature in BY_HAND["features"])
    write(tmp_path / "batch-10.json", two)
    write(tmp_path / "batch-2.json", one)
    assert nm.FeatureDashboard.from_neuronpedia(tmp_path).features == [12, 40]
    write(tmp_path / "batch-11.json", one)
    with pytest.raises(StorageError, match="one of them twice"):
        nm.FeatureDashboard.from_neuronpedia(tmp_path)
    write(tmp_path / "batch-11.json", {**one, "sae_set": "another"})
    with pytest.raises(StorageError, match="different autoencoders"):
        nm.FeatureDashboard.from_neuronpedia(tmp_path)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ((), [1], "features"),
        (("features",), None, "features"),
        (("features",), [], "no features"),
        (("features", 0), 3, "a feature"),
        (("features", 0, "feature_index"), "12", "feature_index"),
        (("features", 0, "feature_index"), None, "feature_index"),
        (("features", 0, "frac_nonzero"), None, "frac_nonzero"),
        (("features", 0, "activations"), None, "activations"),
        (("features", 0, "pos_str"), None, "pos_str"),
        (("features", 0, "neg_values"), [1.0], "neg_str as neg_values"),
        (("features", 0, "freq_hist_data_bar_heights"), ["a", 1, 2], "freq_hist_data_bar_heights"),
        (("features", 0, "correlated_features_l1"), [0.1], "correlated_features_l1"),
        (("features", 0, "n_prompts_total"), "many", "n_prompts_total"),
        (("features", 0, "activations", 0), 1, "activation 0"),
        (("features", 0, "activations", 0, "tokens"), [1, 2, 3], "tokens"),
        (("features", 0, "activations", 1, "values"), [0.1], "tokens as values"),
        (("features", 0, "activations", 0, "bin_max"), None, "bin_max"),
    ],
)
def test_files_of_another_layout_are_refused_and_what_is_missing_is_named(tmp_path, where, value, message):
    record = json.loads(json.dumps(BY_HAND))
    holder = record
    for step in where[:-1]:
        holder = holder[step]
    if not where:
        record = value
    elif value is None:
        del holder[where[-1]]
    else:
        holder[where[-1]] = value
    with pytest.raises(StorageError, match=message):
        nm.FeatureDashboard.from_neuronpedia(write(tmp_path / "x.json", record))


def test_damaged_files_and_numbers_that_json_has_not_are_refused(tmp_path, worded):
    with pytest.raises(StorageError, match="nothing to open"):
        nm.FeatureDashboard.from_neuronpedia(tmp_path / "absent.json")
    path = write(tmp_path / "x.json", BY_HAND)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(StorageError, match="damaged"):
        nm.FeatureDashboard.from_neuronpedia(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StorageError, match="damaged"):
        nm.FeatureDashboard.from_neuronpedia(path)
    path.write_text(json.dumps(BY_HAND).replace("0.0002", "NaN"))
    with pytest.raises(StorageError, match="NaN"):
        nm.FeatureDashboard.from_neuronpedia(path)
    before = write(tmp_path / "y.json", BY_HAND).read_text()
    data = worded.data.assign(density=worded.data["density"] * np.nan)
    broken = nm.FeatureDashboard(data, worded.title, worded.attributes)
    with pytest.raises(StorageError, match="NaN"):
        broken.to_neuronpedia(tmp_path / "y.json")
    assert (tmp_path / "y.json").read_text() == before  # what was there is still there
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.json", "y.json"]
