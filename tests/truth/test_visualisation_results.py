"""Stimuli are drawn, kept and told, and what cannot be visualised is refused."""

from __future__ import annotations

import copy

import matplotlib.figure
import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.causal.visualisation.visualizer import FeatureVisualizer
from tests.truth.small_networks import normal
from tests.truth.visualised_networks import Function, LinearRNN, cnn, linear, maximize

# -- results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "site", "like", "options"),
    [
        (linear(), ":out[unit=0]", torch.zeros(1, 30), {"norm": 1.0}),
        (linear(n_inputs=90), ":out[unit=0]", torch.zeros(1, 90), {"norm": 1.0}),
        (LinearRNN(0), ":out[unit=0, position=-1]", torch.zeros(1, 9, 2), {"norm": 1.0}),
        (Function(lambda x: x.mean((1, 2))[:, None]), ":out[unit=0]", torch.zeros(1, 9, 12), {"bounds": (0.0, 1.0)}),
        (Function(lambda x: x.mean((1, 2, 3, 4))[:, None]), ":out[unit=0]", torch.zeros(1, 1, 2, 3, 3), {"norm": 1.0}),
        (cnn(0), "1[channel=0, height=1, width=1]", torch.zeros(1, 1, 16, 16), {"norm": 3.0}),
        (nn.Conv2d(3, 1, 5), ":out[channel=0, height=1, width=1]", torch.zeros(1, 3, 9, 7), {"bounds": (0.0, 1.0)}),
        (nn.Conv2d(2, 1, 5), ":out[channel=0, height=1, width=1]", torch.zeros(1, 2, 9, 7), {"norm": 1.0}),
        (nm.load_model("induction"), "logits[unit=5, position=-1]", torch.arange(6)[None], {}),
    ],
)
def test_every_kind_of_stimulus_is_drawn_and_kept(module, site, like, options, tmp_path):
    found = maximize(module, site, like, {"examples": like}, n_steps=10, n_starts=2, **options)
    ax = found.plot(matplotlib.figure.Figure(figsize=found.figure_size).subplots())
    assert ax.get_title(loc="left").startswith("Optimal stimulus of")
    assert "2 starts reach" in found.summary()
    assert nm.load_result(found.save(tmp_path / "found.nc")) == found
    assert {"start", "stimulus", "activation"} <= set(found.to_dataframe())


def test_images_are_drawn_on_one_scale_with_what_they_reach():
    examples = 10 * normal(5, 1, 16, 16)
    found = maximize(
        cnn(0), "1[channel=0, height=1, width=1]", torch.zeros(1, 1, 16, 16), {"examples": examples},
        norm=3.0, n_starts=3, n_steps=60,
    )  # fmt: skip
    ax = found.plot(matplotlib.figure.Figure(figsize=found.figure_size).subplots())
    labels = [label.get_text() for label in ax.get_xticklabels()]
    reached = float(found.data["example_activation_rescaled"].max())
    assert labels == [
        f"3 of 3 starts\nreach {found.activation:.3g}\nnorm 3",
        f"best example\nreaches {reached:.3g}\nnorm 3",
    ]
    (image,) = ax.images
    assert image.colorbar.ax.get_ylabel() == "value of a pixel"
    assert np.nanmax(np.abs(image.get_array()[:, 17:])) == pytest.approx(abs(found.data["best_example"]).max())
    assert "scaled to the optimum's norm of 3" in found.summary()


# -- what is refused ---------------------------------------------------------------------------------------------

LIKE = torch.zeros(1, 30)


@pytest.mark.parametrize(
    ("options", "call", "error", "message"),
    [
        ({"norm": None}, {}, "InputError", "neither"),
        ({"bounds": (0, 1)}, {}, "InputError", "both"),
        ({"norm": 0.0}, {}, "OptionError", "norm is out of range"),
        ({"norm": float("nan")}, {}, "OptionError", "norm is out of range"),
        ({"norm": 1e39}, {}, "OptionError", "norm does not fit the precision of the place, float32"),
        ({"norm": 1e-30}, {}, "OptionError", "norm does not fit the precision"),
        ({"norm": None, "bounds": (0.0, 1e39)}, {}, "OptionError", "bounds does not fit the precision"),
        ({"norm": None, "bounds": (1.0, 1.0 + 1e-12)}, {}, "OptionError", "apart by more than rounding"),
        ({"norm": None, "bounds": (1, 0)}, {}, "OptionError", "the upper of the bounds"),
        ({"norm": None, "bounds": (0, float("inf"))}, {}, "OptionError", "the upper of the bounds"),
        ({"norm": None, "bounds": 3.0}, {}, "OptionError", "bounds are two numbers"),
        ({"n_steps": 0}, {}, "OptionError", "n_steps is out of range"),
        ({"n_steps": -3}, {}, "OptionError", "n_steps is out of range"),
        ({"n_starts": 0}, {}, "OptionError", "n_starts is out of range"),
        ({"seed": -1}, {}, "InputError", "negative"),
        ({"parametrisation": "fourrier"}, {}, "OptionError", "did you mean 'fourier'"),
        ({"parametrisation": "fourier"}, {}, "OptionError", "only images"),
        ({"jitter": 2}, {}, "OptionError", "only images"),
        ({"jitter": 0.5}, {}, "OptionError", "jitter is out of range"),
        ({"rotate": 200.0}, {}, "OptionError", "rotate is out of range"),
        ({"rescale": 1.0}, {}, "OptionError", "rescale is out of range"),
        ({}, {"site": ":out"}, "InputError", "is not one unit"),
        ({}, {"site": "nowhere[unit=0]"}, "SiteError", "no site 'nowhere'"),
        ({}, {"site": ":out[unit=9]"}, "SiteError", "out of range"),
        ({}, {"site": ":out[head=0]"}, "SiteError", "no axis 'head'"),
        ({}, {"site": "*[unit=0]"}, "SiteError", "several sites"),
        ({}, {"site": ":out[unit=0, sample=0]"}, "SiteError", "index of samples"),
        ({}, {"at": "nowhere"}, "SiteError", "no site 'nowhere'"),
        ({}, {"reduce": "sum"}, "OptionError", "unknown reduce"),
        ({}, {"like": torch.zeros(2, 30)}, "InputError", "one sample"),
        ({}, {"like": torch.zeros(1, 29)}, "InputError", "could not run on these inputs"),
        ({}, {"like": torch.full((1, 30), torch.nan)}, "InputError", "not finite"),
        ({}, {"examples": torch.full((2, 30), torch.inf)}, "InputError", "not finite"),
        ({}, {"examples": torch.zeros(2, 29)}, "InputError", "could not run on these inputs"),
        ({}, {"vocabulary": torch.zeros(4, 3)}, "InputError", "no table of embeddings"),
    ],
)
def test_what_does_not_fit_is_refused(options, call, error, message):
    call = {"site": ":out[unit=0]", "like": LIKE} | call
    with pytest.raises(getattr(nm.errors, error), match=message):
        FeatureVisualizer(nm.adapt(linear()), **({"norm": 1.0} | options)).maximize(**call)


def test_images_and_sequences_of_another_shape_are_refused():
    with pytest.raises(nm.errors.InputError, match="could not run on these inputs"):
        maximize(cnn(0), "1[channel=0, height=1, width=1]", torch.zeros(1, 3, 20, 20), norm=1.0)
    with pytest.raises(nm.errors.InputError, match=r"add height=0, width=0"):
        maximize(cnn(0), "1[channel=0]", torch.zeros(1, 1, 20, 20), norm=1.0)
    examples = {"examples": torch.zeros(3, 8, 2)}
    with pytest.raises(nm.errors.InputError, match="another shape than the stimulus"):
        maximize(LinearRNN(0), ":out[unit=0, position=-1]", torch.zeros(1, 9, 2), examples, norm=1.0)


def test_models_that_cannot_be_climbed_are_refused():
    with pytest.raises(nm.errors.InputError, match="no adapter"):
        FeatureVisualizer(linear(), norm=1.0).maximize(":out[unit=0]", LIKE)
    recording = nm.adapt(nm.Recording(np.ones((3, 4)), dims=("sample", "unit")))
    with pytest.raises(nm.errors.CapabilityError, match="cannot be edited"):
        FeatureVisualizer(recording, norm=1.0).maximize("data[unit=0]", None)

    class WithoutGradients(type(nm.adapt(linear()))):
        capabilities = frozenset({"capture", "intervene"})

    with pytest.raises(nm.errors.CapabilityError, match="has no gradients"):
        FeatureVisualizer(WithoutGradients(linear()), norm=1.0).maximize(":out[unit=0]", LIKE)
    for odd in ("x", [[1.0], [1.0, 2.0]], object()):
        with pytest.raises(nm.errors.InputError, match="no table of embeddings"):
            FeatureVisualizer(nm.adapt(linear()), norm=1.0).maximize(":out[unit=0]", LIKE, vocabulary=odd)
    with pytest.raises(nm.errors.CapabilityError, match="by itself than in a batch"):
        maximize(Function(lambda x: x - x.mean(0) + x.square()), ":out[unit=0]", LIKE, norm=1.0)
    table = copy.deepcopy(nm.load_model("induction"))
    table.token_embedding.register_forward_hook(lambda _module, _inputs, output: output.tanh())
    with pytest.raises(nm.errors.InputError, match="pass vocabulary="):
        maximize(table, "logits[unit=5, position=-1]", torch.arange(6)[None])
