"""What a look, or a metric of one's own, may move in a model is put back, or told."""

from __future__ import annotations

import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, StorageError
from neuros_mechint.core.result_files import read_dataset, write_dataset
from neuros_mechint.training.noise_scale import gradient_noise_scale
from neuros_mechint.training.sharpness import sharpness
from neuros_mechint.training.tracker import MetaDynamicsTracker

mse = nn.functional.mse_loss
x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
y = x[:, :1] * x[:, 1:2]


def network():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def tracked(model, **options):
    return MetaDynamicsTracker(model, x, y, mse, schedule=1, metrics=["loss"], **options)


class Leaky(nn.Module):
    """A module with a state, which puts a new tensor in the place of the old one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 1))
        self.register_buffer("state", torch.zeros(1))
        self.register_buffer("nothing", None)

    def forward(self, inputs):
        self.state = self.state * 0.9 + inputs.detach().mean()
        return inputs @ self.weight + self.state


@pytest.mark.parametrize("fails", [False, True])
def test_statistics_of_batch_normalisation_come_back(fails):
    def trains(adapter, inputs):
        adapter.module.train()
        adapter.module(inputs)
        adapter.module.requires_grad_(False)
        if fails:
            raise RuntimeError("own error")
        return 1.0

    model = network()
    tracker = tracked(model, extra={"trains": trains})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    if fails:
        with pytest.raises(RuntimeError, match="own error"):
            tracker.update(0)
    else:
        assert tracker.update(0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())
    assert all(part.training for part in model.modules())


def test_states_that_a_module_puts_anew_come_back():
    model = Leaky()
    state = model.state
    tracker = tracked(model)
    tracker.update(0)
    assert model.state is state
    assert torch.equal(state, torch.zeros(1))


def add_behind(weight):
    weight.data.add_(1)


def put_anew(weight):
    weight.data = weight.data + 1


@pytest.mark.parametrize("change", [add_behind, put_anew])
def test_weights_that_a_metric_changes_behind_autograd_are_told(change):
    def clumsy(adapter, inputs):
        change(adapter.module[0].weight)
        return 1.0

    with pytest.raises(InputError, match="changed the weights"):
        tracked(network(), extra={"clumsy": clumsy}).update(0)


def test_weights_that_are_not_finite_are_not_taken_for_changed():
    model = network()
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    tracker = tracked(model)
    with pytest.warns(UserWarning, match="loss was nan"):
        assert tracker.update(0)


def test_a_look_that_fails_may_be_taken_again():
    def slow(adapter, inputs):
        time.sleep(0.2)
        if failing:
            raise RuntimeError("own error")
        return 1.0

    failing = True
    tracker = tracked(network(), extra={"slow": slow})
    with pytest.raises(RuntimeError, match="own error") as error:
        tracker.update(0)
    assert "in the metric 'slow'" in error.value.__notes__[0]
    failing = False
    assert tracker.update(0)
    record = tracker.record()
    assert record.steps == [0]
    assert record.attributes["looking_seconds"] > 0.4 > 0.2 > record.attributes["training_seconds"]


# -- callbacks ---------------------------------------------------------------------------------------------------------


def callbacks_of(tracker):
    """Return how loops of both libraries begin a training of a model."""
    arguments = SimpleNamespace(output_dir="nowhere")

    def huggingface(model, step=0):
        state = SimpleNamespace(global_step=step, is_world_process_zero=True)
        tracker.huggingface_callback().on_train_begin(arguments, state, None, model=model)

    def lightning(model, step=0):
        tracker.lightning_callback().on_train_start(SimpleNamespace(global_step=step), model)

    return {"huggingface": huggingface, "lightning": lightning}


@pytest.mark.parametrize("library", ["huggingface", "lightning"])
def test_a_training_of_another_model_is_refused(library):
    model = network()
    tracker = tracked(model)
    begin = callbacks_of(tracker)[library]
    with pytest.raises(InputError, match="not the one that the tracker looks at"):
        begin(network())
    begin(nn.ModuleDict({"part": model}))  # that trains more than what is looked at
    assert tracker.record().steps == [0]


def test_a_resumed_training_without_a_record_says_so():
    model = network()
    tracker = tracked(model)
    with pytest.warns(UserWarning, match="without a record of the steps before"):
        callbacks_of(tracker)["huggingface"](model, step=4)
    assert tracker.record().steps == [4]


# -- saved states ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    tracker = MetaDynamicsTracker(network(), x, y, mse, schedule=1, metrics=["loss", "learning_speed", "cka"])
    tracker.update(0)
    tracker.update(1)
    return tracker.save(tmp_path_factory.mktemp("states") / "tracker.nc")


def other_tracker(model, targets=y):
    return MetaDynamicsTracker(model, x, targets, mse, schedule=1, metrics=["loss", "learning_speed", "cka"])


def test_a_state_of_another_model_is_refused(saved):
    wider = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1))
    with pytest.raises(StorageError, match=r"same model[\s\S]*changes at 0.bias, 0.weight, 1.bias"):
        other_tracker(wider).load(saved)
    bent = network()
    bent[2] = nn.ReLU()
    with pytest.raises(StorageError, match=r"same model[\s\S]*changes at 2"):
        other_tracker(bent).load(saved)
    assert other_tracker(network()).load(saved).record().steps == [0, 1]


def test_a_state_of_other_targets_is_refused(saved):
    with pytest.raises(StorageError, match="same targets"):
        other_tracker(network(), y + 1).load(saved)


@pytest.mark.parametrize("lost", ["description", "seed", "seen", "seconds", "warnings", "metric loss", "weight 1"])
def test_a_state_of_which_a_part_is_missing_is_refused(saved, tmp_path, lost):
    data, metadata = read_dataset(saved)
    if lost in metadata:
        del metadata[lost]
    else:
        data = data.drop_vars(lost)
    write_dataset(tmp_path / "part.nc", data, metadata)
    with pytest.raises(StorageError, match="no complete state"):
        other_tracker(network()).load(tmp_path / "part.nc")


# -- what is measured of broken trainings ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["val/loss", "", " loss", "two\nlines"])
def test_metrics_that_no_file_can_hold_are_refused_before_training(name):
    with pytest.raises(InputError, match="cannot name"):
        tracked(network(), extra={name: lambda adapter, inputs: 1.0})


def test_a_gradient_that_is_not_finite_has_no_noise_scale():
    def broken(output, targets):
        return mse(output, targets) * torch.nan

    with pytest.raises(InputError, match="not finite"):
        gradient_noise_scale(network(), x, y, broken)
    tracker = MetaDynamicsTracker(network(), x, y, broken, schedule=1, metrics=["loss", "noise_scale"])
    with pytest.warns(UserWarning, match="loss was nan"):
        tracker.update(0)
    assert np.isnan(tracker.record()["noise_scale"][0])


def test_without_any_gradient_there_is_neither_signal_nor_noise():
    dead = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    nn.init.constant_(dead[0].bias, -100.0)
    found = gradient_noise_scale(dead, x, torch.zeros(32, 5), mse)
    assert np.isnan(found.value)
    assert "no sample has any gradient" in found.warnings[0]
    assert "no gradient" in found.summary()
    assert found.plot().texts[0].get_text() == "undefined"


# -- what is told of losses and targets --------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [[y], y.tolist(), torch.tensor(1.0), y * torch.nan])
def test_targets_that_are_none_are_called_targets(targets):
    with pytest.raises(InputError, match="targets of the probe are no targets") as error:
        sharpness(network(), x, targets, mse)
    assert "inputs" not in str(error.value)


def test_losses_that_are_none_are_told():
    with pytest.raises(InputError, match="targets are given, and no loss"):
        MetaDynamicsTracker(network(), x, y)
    with pytest.raises(OptionError, match="cannot be called"):
        sharpness(network(), x, y, "mse")
    with pytest.raises(InputError, match="complex64"):
        sharpness(network(), x, y, lambda output, targets: mse(output, targets) + 0j)
    with pytest.raises(InputError, match="without a graph"):
        sharpness(network(), x, y, lambda output, targets: mse(output, targets).detach())
    with pytest.raises(TypeError, match="missing 1 required") as error:
        sharpness(network(), x, None, mse)
    assert error.value.__notes__ == ["in the loss, called with the output"]


def test_one_number_in_an_array_is_a_schedule():
    with pytest.raises(OptionError, match="schedule is out of range"):
        MetaDynamicsTracker(network(), x, y, mse, schedule=np.array(5))


# -- models that are not there as they seem ----------------------------------------------------------------------------


@pytest.mark.slow
def test_of_a_compiled_model_the_module_behind_is_looked_at():
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of itself
        module = torch.compile(model, backend="eager")
    plain, compiled = (MetaDynamicsTracker(one, x, y, mse, schedule=1) for one in (model, module))
    for tracker in (plain, compiled):
        tracker.update(0)
    assert compiled.sites == plain.sites
    assert compiled.record().data.equals(plain.record().data)
    assert sharpness(module, x, y, mse).value == pytest.approx(sharpness(model, x, y, mse).value)


def test_lazy_layers_have_to_run_before():
    lazy = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 1))
    with pytest.raises(CapabilityError, match="lazy layers"):
        MetaDynamicsTracker(lazy, x, y, mse)
    lazy(x)
    assert MetaDynamicsTracker(lazy, x, y, mse, schedule=1).update(0)


def test_a_model_of_one_layer_is_told_how_to_be_tracked():
    with pytest.raises(InputError, match=r"torch.nn.Sequential[\s\S]*weight_norm"):
        MetaDynamicsTracker(nn.Linear(3, 1), x, y, mse)
    assert MetaDynamicsTracker(nn.Sequential(nn.Linear(3, 1)), x, y, mse, schedule=1).update(0)
