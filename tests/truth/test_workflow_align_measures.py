"""Which measure names which layer: a known layer of a transformer, of which each unit's mean was taken out or not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.errors import OptionError
from neuros_mechint.workflows.alignment.agreement import Measure, _scores_of_halves
from neuros_mechint.workflows.alignment.align import align
from neuros_mechint.workflows.alignment.brain_data import brain_data
from neuros_mechint.workflows.runs.reproduce import reproduce
from tests.slow import slow_case

WIDTH, TRUTH = 32, "blocks.3.resid_post"
LAYERS = [f"blocks.{one}.resid_post" for one in range(5)]


@cache
def transformer(seed: int, gain: float = 0.7) -> Any:
    """Two units are large from the second layer on, whatever the stimulus, as in trained transformers."""
    import transformers

    config = transformers.GPT2Config(
        n_layer=5, n_head=4, n_embd=WIDTH, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    with torch.random.fork_rng():
        model: Any = transformers.GPT2LMHeadModel(config).eval()
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                size = 1.0 if "wte" in name else 0.3 if "wpe" in name else gain / np.sqrt(len(weight))
                weight.copy_(torch.from_numpy(size * random.normal(size=weight.shape)))
        for block in list(model.transformer.h)[1:]:
            block.mlp.c_proj.bias[:2] = torch.tensor([10.0, -7.0])
    return model


def tokens_of(seed: int, n: int = 60) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 50, (n, 10)))


def units(seed: int, layer: str = TRUTH, gain: float = 0.7, n: int = 60) -> np.ndarray:
    site = f"{layer}[position=-1]"
    return nm.adapt(transformer(seed, gain)).capture(tokens_of(seed, n), site).matrix(site).double().numpy()


def as_they_are(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return values


def centred(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return values - values.mean(0)


def z_scored(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Of 200 neurons that each sum up the units at random."""
    neurons = values @ random.normal(size=(WIDTH, 200))
    return (neurons - neurons.mean(0)) / neurons.std(0)


def recording(seed: int, made: Callable[..., np.ndarray]) -> np.ndarray:
    random = np.random.default_rng(seed)
    signal = made(units(seed), random)
    return signal + 0.1 * signal.std(0).mean() * random.normal(size=signal.shape)


def run(seed: int, recorded: Any, **options: Any) -> Any:
    return align(transformer(seed), recorded, tokens_of(seed), sites=LAYERS, n_resamples=99, progress=False, **options)


def by_hand(seed: int, recorded: np.ndarray, method: str, take: Callable[..., np.ndarray] = as_they_are) -> list[float]:
    """RSA of all layers, by the public functions alone."""
    theirs = nm.compute_rdm(take(recorded, None), method)
    return [
        nm.compare_rdms(nm.compute_rdm(take(units(seed, one), None), method), theirs, "spearman").item()
        for one in LAYERS
    ]


# -- correlation distance and the means of units -----------------------------------------------------------------------


@pytest.mark.parametrize("made", [centred, z_scored])
@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 6))])
def test_a_recording_without_means_is_compared_with_layers_without_means(
    made: Callable[..., np.ndarray], seed: int
) -> None:
    recorded = recording(seed, made)
    found = run(seed, recorded)
    assert found.results["choice"].best == TRUTH
    assert found.results["layers"].distance == "correlation distance of centred units"
    expected = by_hand(seed, recorded, "correlation", centred)
    np.testing.assert_allclose(found.results["chance"].data["score"], expected, atol=1e-6)
    told = found.results["in_short"].findings
    by = "RSA (correlation distance of centred units)"
    assert told[0].startswith(f"Layer {TRUTH} is most like the recording by {by}")
    assert any("have no mean over stimuli" in text for text in told)
    assert all("correlation distance of centred units" in found.captions[one] for one in ("layers", "choice", "rsa"))


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 6))])
def test_without_the_same_done_to_the_layers_another_one_would_be_named(seed: int) -> None:
    """What the test above is about: the first layer has no large units, and wins for this."""
    recorded = recording(seed, centred)
    assert LAYERS[int(np.argmax(by_hand(seed, recorded, "correlation")))] != TRUTH
    assert LAYERS[int(np.argmax(by_hand(seed, recorded, "euclidean")))] == TRUTH


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 6))])
def test_a_recording_with_its_means_is_compared_as_it_is(seed: int) -> None:
    recorded = recording(seed, as_they_are)
    found = run(seed, recorded)
    assert found.results["choice"].best == TRUTH
    assert found.results["layers"].distance == "correlation distance"
    np.testing.assert_allclose(found.results["chance"].data["score"], by_hand(seed, recorded, "correlation"), atol=1e-6)
    assert not any("have no mean over stimuli" in text for text in found.results["in_short"].findings)


def test_means_count_as_taken_out_of_stimuli_that_were_selected_afterwards() -> None:
    random = np.random.default_rng(0)
    rates = random.gamma(2.0, size=(4, 300, 20))
    scored = (rates - rates.mean((0, 1))) / rates.std((0, 1))
    dims = ("repetition", "stimulus", "unit")
    for values, is_centred in ((scored, True), (scored[:, :40], True), (rates, False), (rates[:, :40], False)):
        data = brain_data(nm.Recording(values, dims), None, "correlation")
        assert data.centred == is_centred
        less = values.mean((0, 1)) if is_centred else 0
        np.testing.assert_allclose(data.rdms[1], nm.compute_rdm(values[1] - less), atol=1e-12)
        assert not brain_data(nm.Recording(values, dims), None, "euclidean").centred  # where it makes no difference


@pytest.mark.parametrize("dims", [("condition", "unit"), ("unit", "stimulus"), ("unit", "sample")])
def test_axes_may_have_other_names_and_another_order(dims: tuple[str, str]) -> None:
    recorded = recording(0, centred)
    given = nm.Recording(recorded if dims[1] == "unit" else recorded.T, dims)
    found, expected = run(0, given), run(0, recorded)
    for name in ("chance", "correlations", "measures"):
        np.testing.assert_allclose(found.results[name].main, expected.results[name].main, atol=1e-9)


# -- measures that disagree --------------------------------------------------------------------------------------------


def with_a_baseline(seed: int) -> np.ndarray:
    """Of layers that hardly change: centred responses, shifted a little, by another number for each unit."""
    random = np.random.default_rng(seed)
    values = centred(units(seed, gain=0.5, n=120), random)
    spread = values.std()
    noise = 0.05 * spread * random.normal(size=values.shape)
    return values + noise + 0.2 * spread * random.normal(size=WIDTH)


def compared(seed: int, recorded: np.ndarray, model: Any, tokens: torch.Tensor) -> Any:
    found = align(model, recorded, tokens, sites=LAYERS, n_resamples=99, seed=seed, progress=False)
    return found, found.results["measures"], found.results["in_short"].findings


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 6))])
def test_measures_that_disagree_are_named_with_the_reason(seed: int) -> None:
    found, measures, told = compared(seed, with_a_baseline(seed), transformer(seed, 0.5), tokens_of(seed, 120))
    correlation, *others = measures.data["best"].values
    assert correlation == LAYERS[0]
    assert LAYERS[0] not in others
    assert told[0].startswith(f"Layer {LAYERS[0]} is most like the recording by RSA (correlation distance):")
    if seed == 2:  # where RSA is of two minds, that is said, and nothing is warned of
        assert not measures.warnings
        assert told[1].startswith(f"RSA (correlation distance) does not surely tell its layer {LAYERS[0]} from")
        assert "rdm='euclidean'" in told[2]
        return
    (warning,) = measures.warnings
    assert warning == " ".join(told[1:4])
    assert told[1].startswith("Measures disagree about the layer, by more than other stimuli would change: ")
    assert f"{LAYERS[0]} by RSA (correlation distance); " in told[1]
    assert f"{others[0]} by RSA (euclidean distance)" in told[1]
    assert "depends on the baseline of each unit" in told[2]
    assert "Try rdm='euclidean'" in told[3]
    assert told[1] in found.subtitle


@pytest.mark.parametrize("seed", [0, *map(slow_case, range(1, 6))])
def test_of_measures_that_agree_nothing_is_warned(seed: int) -> None:
    random = np.random.default_rng(seed)
    recorded = units(seed, gain=1.5)
    recorded = recorded + 0.1 * recorded.std(0).mean() * random.normal(size=recorded.shape)
    _, measures, told = compared(seed, recorded, transformer(seed, 1.5), tokens_of(seed))
    assert set(measures.data["best"].values) == {TRUTH}
    assert not measures.warnings
    by = "RSA (correlation distance), RSA (euclidean distance) and canonical correlation"
    assert f"All measures find layer {TRUTH}: {by}." in told


@pytest.mark.slow
def test_measures_hardly_disagree_where_there_is_nothing_or_one_layer_behind_noise() -> None:
    """Of 12 recordings each of noise alone, and of one layer with as much noise as signal."""
    warned = undecided = different = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        signal = units(seed % 3, n=60)
        for recorded in (
            random.normal(size=(60, 30)),
            signal + signal.std(0).mean() * random.normal(size=signal.shape),
        ):
            _, measures, told = compared(seed, recorded, transformer(seed % 3), tokens_of(seed % 3))
            warned += bool(measures.warnings)
            undecided += bool(measures.undecided)
            different += len(set(measures.data["best"].values)) > 1
            assert bool(measures.warnings) == any("Measures disagree" in text for text in told)
    assert different > 12  # the best layers differ mostly, by chance
    assert warned <= 1
    assert undecided <= 4


def test_half_samples_give_the_standard_error_of_a_mean() -> None:
    """The known answer of the jackknife: the spread of means of halves is the standard error of the mean of all."""
    values = np.random.default_rng(0).normal(size=(60, 2))
    measure = Measure(values.mean(0), lambda site, rows: float(values[rows, site].mean()))
    (scores,) = _scores_of_halves({"mean": measure}, [0, 1], 60, 0, progress=False)
    for site in (0, 1):
        assert scores[site].std(ddof=1) == pytest.approx(values[:, site].std(ddof=1) / np.sqrt(60), rel=0.2)


def test_encoding_takes_part_and_one_layer_or_dissimilarities_leave_the_step_out() -> None:
    recorded = recording(0, as_they_are)
    found = run(0, recorded, encoding=True)
    names = ["RSA (correlation distance)", "RSA (euclidean distance)", "canonical correlation", "regression"]
    measures = found.results["measures"]
    assert measures.data["measure"].values.tolist() == names
    np.testing.assert_allclose(measures.data["score"][0], found.results["chance"].data["score"], atol=1e-12)
    np.testing.assert_allclose(measures.data["score"][1], by_hand(0, recorded, "euclidean"), atol=1e-6)
    np.testing.assert_array_equal(measures.data["score"][2], found.results["correlations"].data["score"])
    np.testing.assert_array_equal(measures.data["score"][3], found.results["encoding"].data["score"][:, 0])
    one = align(transformer(0), recorded, tokens_of(0), sites=TRUTH, n_resamples=19, progress=False)
    assert "one layer" in one.left_out["measures"]
    alone = align(
        transformer(0), recorded[:12, :1], tokens_of(0, 60)[:12], sites=LAYERS, rdm="euclidean", n_resamples=19,
        progress=False,
    )  # fmt: skip
    assert "one measure only" in alone.left_out["measures"]  # one unit has no correlation distance
    rdms = nm.compute_rdm(recorded)
    only = align(transformer(0), rdms, tokens_of(0), sites=LAYERS, n_resamples=19, progress=False)
    assert "dissimilarities only" in only.left_out["measures"]


def test_one_layer_is_called_neither_best_nor_chosen(tmp_path: Path) -> None:
    """Of one layer nothing is said that compares it with others; of several, each best is by a named measure."""
    recorded = recording(0, as_they_are)
    one = align(transformer(0), recorded, tokens_of(0), sites=TRUTH, n_resamples=99, progress=False)
    told = " ".join([*(one.captions[name] for name in one.shown), one.summary()])
    assert f"Layer {TRUTH}, the one layer compared, is like the recording by RSA (correlation distance)" in told
    assert one.results["rsa"].title == "Similarity of one layer to the recording, by correlation distance"
    assert one.results["choice"].title == "The layer in each part of the stimuli"
    for word in ("most like", "best", "chosen", "Chosen", "highest", "shares most", "model to the data", "layers"):
        kept = told.replace("How like a brain the layers of a model are", "").replace("number of layers", "")
        assert word not in kept.replace("layers: 1", ""), word
    assert list(one.results["in_short"].data["measure"].values) == ["the layer", "shuffled (95%)"]
    several = run(0, recorded)
    assert several.results["rsa"].title == "Similarity of 5 layers to the recording, by correlation distance"
    assert several.results["rsa"].data["model"].attrs["long_name"] == "layer"
    lines = several.results["in_short"].findings
    for word in ("most", "best", "Chosen"):
        assert all("by RSA" in text or "By canonical" in text or "shuffled" in text for text in lines if word in text)


# -- the option --------------------------------------------------------------------------------------------------------


def test_the_dissimilarity_is_chosen_named_and_repeated(tmp_path: Path) -> None:
    recorded = recording(0, centred)
    np.save(tmp_path / "recorded.npy", recorded)
    np.save(tmp_path / "tokens.npy", tokens_of(0).numpy())
    files = tmp_path / "recorded.npy", tmp_path / "tokens.npy"
    found = align(
        transformer(0), *files, sites=LAYERS, rdm="euclidean", n_resamples=19, folder=tmp_path / "run", progress=False
    )
    np.testing.assert_allclose(found.results["chance"].data["score"], by_hand(0, recorded, "euclidean"), atol=1e-6)
    assert found.manifest.arguments["rdm"] == "euclidean"
    told = [found.results["in_short"].findings[0], found.results["rsa"].title]
    told += [found.results[name].summary() for name in ("layers", "choice", "chance")]
    told += [found.captions[name] for name in ("in_short", "layers", "choice", "chance", "rsa")]
    assert all("euclidean distance" in text for text in told), told
    assert reproduce(tmp_path / "run", model=transformer(0), progress=False).reproduced


@pytest.mark.parametrize(
    ("rdm", "told"),
    [
        ("euclid", "did you mean 'euclidean'"),
        ("corr", "did you mean 'correlation'"),
        ("crossnobis", "nm.compute_rdm(responses, 'crossnobis', ...), as the recording"),
        ("poisson", "no poisson dissimilarities"),
        (None, "unknown rdm None"),
    ],
)
def test_unknown_dissimilarities_are_refused_with_what_to_do(rdm: Any, told: str) -> None:
    with pytest.raises(OptionError) as refused:
        run(0, recording(0, centred), rdm=rdm)
    assert told in str(refused.value)
