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
from neuros_mechint.workflows.alignment.align import align
from neuros_mechint.workflows.alignment.brain_data import brain_data
from neuros_mechint.workflows.runs.reproduce import reproduce
from tests.slow import slow_case

WIDTH, TRUTH = 32, "blocks.3.resid_post"
LAYERS = [f"blocks.{one}.resid_post" for one in range(5)]


@cache
def transformer(seed: int) -> Any:
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
                size = 1.0 if "wte" in name else 0.3 if "wpe" in name else 0.7 / np.sqrt(len(weight))
                weight.copy_(torch.from_numpy(size * random.normal(size=weight.shape)))
        for block in list(model.transformer.h)[1:]:
            block.mlp.c_proj.bias[:2] = torch.tensor([10.0, -7.0])
    return model


def tokens_of(seed: int, n: int = 60) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 50, (n, 10)))


def units(seed: int, layer: str = TRUTH) -> np.ndarray:
    site = f"{layer}[position=-1]"
    return nm.adapt(transformer(seed)).capture(tokens_of(seed), site).matrix(site).double().numpy()


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
