"""Dale's law: what is refused, and what is taken over and left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuros_mechint.adapters.registry import adapt
from neuros_mechint.core.errors import InputError, OptionError
from neuros_mechint.neuro.biophysics.dale.balance import balanced_weights, connection_mask
from neuros_mechint.neuro.biophysics.dale.compliance import compliance_of, sign_compliance
from neuros_mechint.neuro.biophysics.dale.dann import DANNLayer
from neuros_mechint.neuro.biophysics.dale.linear import DalesLinear
from neuros_mechint.neuro.biophysics.dale.optimisation import enforce_dales_law, parameter_groups
from neuros_mechint.neuro.biophysics.dale.recurrent import EIRecurrentCell, EIRecurrentNetwork

PARAMETRISATIONS = ("projected", "absolute")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 1.5, float("nan"), "most", None])
def test_fractions_that_are_none_are_refused(fraction):
    with pytest.raises(OptionError, match="excitatory_fraction"):
        DalesLinear(10, 10, excitatory_fraction=fraction)


@pytest.mark.parametrize(
    ("n_sources", "fraction", "lacks"), [(2, 0.9, "inhibits"), (1, 0.5, "ne"), (3, 0.1, "excites")]
)
def test_too_few_units_for_both_kinds_are_refused(n_sources, fraction, lacks):
    with pytest.raises(OptionError, match=lacks):
        EIRecurrentNetwork(2, n_sources, 1, excitatory_fraction=fraction)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((4, 5)),
        np.ones(5),
        np.full((5, 4), 0.5),
        np.zeros((5, 4)),
        np.full((5, 4), np.nan),
        np.ma.masked_array(np.ones((5, 4)), np.eye(5, 4)),
        np.full((5, 4), 1j),
        torch.ones(5, 4).to_sparse(),
        [[1] * 4, [1] * 3],
        "all",
    ],
)
def test_masks_that_do_not_fit_are_refused(mask):
    with pytest.raises(InputError, match="mask"):
        DalesLinear(4, 5, mask=mask, excitatory_fraction=0.5)


def test_masks_of_any_kind_are_taken_over_and_left_alone():
    wanted = torch.eye(5, 4).bool()
    numbers = np.eye(5, 4)
    for mask in (numbers, numbers[::-1][::-1], numbers.astype(">f8"), torch.eye(5, 4, requires_grad=True)):
        layer = DalesLinear(4, 5, mask=mask, excitatory_fraction=0.5)
        assert torch.equal(layer.mask, wanted)
    layer.mask[:] = False
    assert numbers.sum() == 4


def test_weights_that_break_the_law_are_not_loaded():
    layer = DalesLinear(10, 4)
    before, wrong = layer.weight.detach().clone(), layer.weight.detach().clone()
    wrong[1, 3] = -0.5
    for bad, match in ((wrong, "column 3"), (torch.full_like(wrong, float("nan")), "not finite")):
        with pytest.raises(InputError, match=match):
            layer.load_state_dict({"weight": bad, "bias": torch.zeros(4)})
        assert torch.equal(layer.weight, before)
    with pytest.raises(InputError, match=r"net\.weight"):
        torch.nn.ModuleDict({"net": layer}).load_state_dict({"net.weight": wrong, "net.bias": torch.zeros(4)})
    right = torch.nn.Linear(10, 4)
    with torch.no_grad():
        right.weight.copy_(right.weight.abs() * layer.signs)
    layer.load_state_dict(right.state_dict())  # weights of a plain layer may come
    assert torch.equal(layer.weight, right.weight)


def test_weights_of_other_signs_are_not_loaded_by_either_parametrisation():
    for parametrisation in PARAMETRISATIONS:
        saved = DalesLinear(10, 4, 0.5, parametrisation).state_dict()
        with pytest.raises(InputError, match="other signs"):
            DalesLinear(10, 4, 0.8, parametrisation).load_state_dict(saved)


def test_free_numbers_of_magnitudes_may_have_any_sign():
    layer = DalesLinear(10, 4, parametrisation="absolute")
    state = layer.state_dict()
    state["parametrizations.weight.original"] = -state["parametrizations.weight.original"]
    before = layer.weight.detach().clone()
    layer.load_state_dict(state)
    assert torch.equal(layer.weight, before)
    with pytest.raises(InputError, match="breaks Dale's law"):
        layer.weight = -before
    with pytest.raises(InputError, match="weight does not fit the layer"):
        layer.weight = before[:, :3]


def test_models_and_signs_that_say_nothing_are_refused():
    with pytest.raises(InputError, match="which units of this model excite"):
        sign_compliance(torch.nn.Linear(3, 2))
    with pytest.raises(InputError, match="no weights 'rnn'"):
        sign_compliance(torch.nn.Linear(3, 2), {"rnn": [1, 1, 1]})
    for signs in ([1, 1], [1, 0, -1], [[1, 1, -1]], [1, 1, float("nan")], ["a", "b", "c"], None, [[1], [1, 2]]):
        with pytest.raises(InputError, match="the signs of weight"):
            sign_compliance(torch.nn.Linear(3, 2), {"weight": signs})
    with pytest.raises(InputError, match="mask"):
        sign_compliance(torch.nn.Linear(3, 2), {"weight": np.ma.masked_array([1, 1, -1], [0, 1, 0])})
    with pytest.raises(InputError, match="names of weights"):
        sign_compliance(torch.nn.Linear(3, 2), [1, 1, -1])
    for no_model in (None, "model", torch.ones(3)):
        with pytest.raises(InputError, match="no model of torch"):
            sign_compliance(no_model)
    broken = DalesLinear(5, 5)
    with torch.no_grad():
        broken.weight[0, 0] = float("inf")
    with pytest.raises(InputError, match="not finite"):
        sign_compliance(broken)
    with pytest.raises(InputError, match="keeps Dale's law"):
        enforce_dales_law(torch.optim.SGD(torch.nn.Linear(3, 2).parameters()), torch.nn.Linear(3, 2))
    with pytest.raises(InputError, match="no optimiser"):
        enforce_dales_law(None, DalesLinear(5, 5))
    with pytest.raises(InputError, match="keeps Dale's law"):
        compliance_of(torch.nn.Linear(3, 2))
    for rate in (0.0, float("nan"), "fast"):
        with pytest.raises(OptionError, match="learning_rate"):
            parameter_groups(DalesLinear(5, 5), rate)


def test_weights_that_are_not_finite_keep_no_sign():
    layer = DalesLinear(5, 4)
    with torch.no_grad():
        layer.weight[0] = float("nan")
    assert compliance_of(layer) == 0.75


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_signs_are_told_in_any_precision(dtype):
    report = sign_compliance(DalesLinear(10, 4).to(dtype))
    assert report.compliance == 1.0
    signs = torch.ones(3, dtype=dtype, requires_grad=True)
    assert sign_compliance(torch.nn.Linear(3, 1), {"weight": signs}).data["n_weights"].item() == 3


@pytest.mark.parametrize(
    "signs", [[1, 0], [0.5, -1], [], [[1, -1]], torch.tensor([1, 1j]), np.ma.masked_array([1, -1], [0, 1]), "a", None]
)
def test_weights_are_drawn_for_signs_only(signs):
    with pytest.raises(InputError, match="signs"):
        balanced_weights(signs, 3)


@pytest.mark.parametrize("layer", [DalesLinear(5, 3), DANNLayer(5, 3)])
def test_inputs_of_layers_that_do_not_fit_are_refused(layer):
    for inputs in (np.ones((2, 5)), [[1.0] * 5], None, torch.ones(2, 4), torch.tensor(1.0)):
        with pytest.raises(InputError, match="inputs do not fit the layer"):
            layer(inputs)
    for inputs in (torch.ones(2, 5).double(), torch.ones(2, 5).int(), torch.ones(2, 5) * 1j):
        with pytest.raises(InputError, match=r"another precision(.|\n)*torch.float32"):
            layer(inputs)
    with torch.autocast("cpu"):
        assert layer(torch.ones(2, 5).bfloat16()).shape == (2, 3)


def test_noise_comes_from_a_generator_of_torch():
    network = EIRecurrentNetwork(2, 10, 1, noise=0.1)
    for random in (0, np.random.default_rng(0)):
        with pytest.raises(InputError, match=r"no source(.|\n)*torch.Generator"):
            network(torch.ones(1, 3, 2), random)


def test_matrices_without_a_spectral_radius_are_refused():
    with pytest.raises(InputError, match="square"):
        DalesLinear(10, 5, spectral_radius=1.0)
    with pytest.raises(InputError, match="no spectral radius"):
        DalesLinear(10, 10, mask=torch.ones(10, 10).tril(-1), spectral_radius=1.0)
    with pytest.raises(InputError, match="same units"):
        connection_mask(4, 5, self_connections=False)
    for radius in (1e308, 1e-320):
        with pytest.raises(OptionError, match=r"spectral_radius(.|\n)*torch.float32"):
            DalesLinear(4, 4, spectral_radius=radius)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.0},
        {"alpha": 1.5},
        {"noise": -1.0},
        {"density": 0.0},
        {"spectral_radius": 0.0},
        {"nonlinearity": "tanh"},
        {"readout": "inhibitory"},
        {"parametrisation": "relu"},
        {"n_units": 0},
        {"n_inputs": 0},
    ],
)
def test_parameters_out_of_range_are_refused(options):
    with pytest.raises(OptionError):
        EIRecurrentNetwork(**({"n_inputs": 2, "n_units": 10, "n_outputs": 1} | options))


@pytest.mark.parametrize("shape", [(5, 2), (3, 5, 4), (3, 0, 2)])
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="inputs do not fit"):
        EIRecurrentNetwork(2, 10, 1)(torch.zeros(shape))


def test_a_cell_by_itself_is_run_over_time():
    cell = EIRecurrentCell(2, 10, seed=0)
    hidden = adapt(cell).capture(torch.ones(3, 5, 2), "hidden")["hidden"]
    assert hidden.shape == (3, 5, 10)
