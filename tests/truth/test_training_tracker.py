"""A tracker in a training: what it measures, that nothing feels it, that it goes on after an interruption."""

from __future__ import annotations

import random
import warnings
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, SiteError, StorageError
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.datasets.measures import induction_score
from neuros_mechint.datasets.tasks import repeated_tokens
from neuros_mechint.training.noise_scale import gradient_noise_scale
from neuros_mechint.training.record import training_record
from neuros_mechint.training.sharpness import sharpness
from neuros_mechint.training.tracker import MetaDynamicsTracker
from neuros_mechint.training.undisturbed import undisturbed
from tests.truth.tiny_gpt2 import gpt2, tokens

mse = nn.functional.mse_loss
x = torch.randn(48, 3, generator=torch.Generator().manual_seed(0))
y = x[:, :1] * x[:, 1:2]


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def train(model, optimizer, update, steps, stop_after=None):
    """Train with noise of its own, so that a look that draws from global states would show."""
    for step in steps:
        update(step)
        if step == stop_after:
            return
        optimizer.zero_grad()
        mse(model(x + 0.1 * torch.randn(x.shape)), y).backward()
        optimizer.step()


def tracked(model, schedule=10, **options):
    return MetaDynamicsTracker(model, x, y, mse, schedule=schedule, **options)


CHEAP = ["loss", "gradient_norm", "noise_scale", "weight_norm", "learning_speed", "activation_norm"]
ALL = [*CHEAP, "participation_ratio", "cka", "sharpness", "learning_coefficient"]


@pytest.fixture(scope="module")
def record():
    torch.manual_seed(1)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    tracker = tracked(model, extra={"twice": lambda adapter, inputs: 2 * adapter.module(inputs).mean()})
    train(model, optimizer, tracker.update, range(61))
    return tracker.record()


# -- what is measured --------------------------------------------------------------------------------------------------


def test_steps_that_miss_the_schedule_are_looked_at_as_soon_as_they_can_be():
    tracker = tracked(network(), metrics=["loss"])
    assert [step for step in range(0, 50, 7) if tracker.update(step)] == [0, 14, 21, 35, 42]
    assert not tracker.update(49)


def test_a_record_is_labelled_by_step_layer_and_site(record):
    assert record.steps == [0, 10, 20, 30, 40, 50, 60]
    assert record["loss"].dims == ("step",)
    assert record["weight_norm"].dims == ("step", "layer")
    assert record["participation_ratio"].dims == ("step", "site")
    assert record.data["layer"].values.tolist() == record.data["site"].values.tolist() == ["0", "1", "4"]
    assert float(record["loss"][-1]) < float(record["loss"][0])
    assert all(record.data[name].attrs["long_name"] for name in record.data.data_vars)
    assert not np.isnan(record["learning_speed"][1:]).any()
    assert np.isnan(record["learning_speed"][0]).all()


def test_layers_that_do_not_run_are_not_read():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, inputs):
            return self.used(inputs)

    tracker = MetaDynamicsTracker(Idle(), x)
    assert tracker.sites == ["used"]
    assert list(tracker.layers) == ["used", "idle"]
    assert tracker.update(0)
    assert "loss" not in tracker.record().data


def test_measures_are_those_of_the_library():
    torch.manual_seed(0)
    model = network()
    tracker = tracked(model, metrics=ALL)
    tracker.update(0)
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    adapter = nm.adapt(model)
    first = adapter.capture(x, "0").matrix("0").numpy()
    train(model, optimizer, lambda _: None, range(10))
    tracker.update(10)
    record = tracker.record().data.isel(step=1)
    acts = adapter.capture(x, ["0", "4"])
    one = acts.matrix("0").numpy()
    assert float(record["cka_initial"].sel(site="0")) == pytest.approx(nm.CKA().score(one, first), abs=1e-6)
    with pytest.warns(UserWarning, match="48 points are few"):
        dimension = nm.intrinsic_dimension(one, method="participation_ratio").dimension
    assert float(record["participation_ratio"].sel(site="0")) == pytest.approx(dimension, rel=1e-6)
    norm = float(acts.matrix("4").square().sum(1).mean().sqrt())
    assert float(record["activation_norm"].sel(site="4")) == pytest.approx(norm, rel=1e-6)
    model.eval()
    loss = mse(model(x), y)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    assert float(record["loss"]) == pytest.approx(loss.item(), rel=1e-5)
    assert float(record["gradient_norm"]) == pytest.approx(sum(float((g**2).sum()) for g in gradient) ** 0.5, rel=1e-4)
    assert float(record["sharpness"]) == pytest.approx(sharpness(model, x, y, mse).value, rel=2e-3)
    moved, size = model[4].weight.detach() - start["4.weight"], start["4.weight"].norm() ** 2
    moved_bias, size = model[4].bias.detach() - start["4.bias"], size + start["4.bias"].norm() ** 2
    speed = float(((moved**2).sum() + (moved_bias**2).sum()).sqrt() / size.sqrt() / 10)
    assert float(record["learning_speed"].sel(layer="4")) == pytest.approx(speed, rel=1e-5)
    noise = gradient_noise_scale(model, x, y, mse, n_parts=4).value
    assert float(record["noise_scale"]) == pytest.approx(noise, rel=1e-3)
    assert np.isfinite(record["learning_coefficient"])


def test_similarity_to_first_last_and_the_look_before_come_from_one_matrix(record):
    cka = record["cka"]
    assert cka.dims == ("site", "step", "other_step")
    np.testing.assert_allclose(cka.transpose("step", "other_step", "site").values.diagonal(), 1, atol=1e-5)
    np.testing.assert_array_equal(record["cka_initial"].sel(site="0"), cka.sel(site="0")[0])
    np.testing.assert_array_equal(record["cka_final"].sel(site="0"), cka.sel(site="0")[-1])
    np.testing.assert_array_equal(record["cka_previous"].sel(site="4")[1:], np.diagonal(cka.sel(site="4"), 1))
    assert np.isnan(record["cka_previous"][0]).all()


def test_the_trajectory_starts_at_one_end_and_is_drawn(record, tmp_path):
    places = record.trajectory()
    assert places.dims == ("step", "component")
    apart = np.linalg.norm(places.values - places.values[0], axis=1)
    assert apart.argmax() >= 4
    assert record.trajectory("0", n_components=3).shape == (7, 3)
    assert record.plot_trajectory().get_xlabel().startswith("first axis")
    assert record.plot().get_xlabel() == "step of training"
    assert len(record.plot_metric("cka_initial").get_lines()) >= 3
    assert "twice" in record.summary()
    assert nm.load_result(record.save(tmp_path / "record.nc")) == record


def test_a_report_of_a_record_shows_every_metric(record):
    titles = [section.title for section in nm.Report("Training").add(record).sections]
    assert titles[0] == record.title
    assert len(titles) == 1 + sum(name != "cka" for name in record.data.data_vars)
    assert any("CKA" in title for title in titles)


def test_values_that_no_figure_holds_are_said_in_figure_and_caption():
    inf, nan = np.inf, np.nan
    values = {
        "finite": [1.0, 2.0, 3.0],
        "infinite": [inf, inf, inf],
        "mixed": [inf, nan, inf],
        "at times": [1.0, inf, 3.0],
        "first undefined": [nan, 2.0, 3.0],  # as likeness to the look before always is
        "weight_norm": [[1.0, nan], [2.0, nan], [inf, nan]],
    }
    about = {"training_seconds": 1.0, "looking_seconds": 0.0}
    given = training_record([0, 1, 2], values, None, ["a", "b"], [], Provenance.record(), about, [])
    captions = {title: caption for _, title, caption in given.report_sections()}
    expected = {
        "Finite": "By step.",
        "Infinite": "By step. Nothing to draw: all 3 values are infinite.",
        "Mixed": "By step. Nothing to draw: all 3 values are infinite or undefined.",
        "At times": "By step. Not drawn: 1 of 3 values, which are infinite.",
        "First undefined": "By step.",
    }
    assert {title: captions[title] for title in expected} == expected
    assert (
        "By step, one line for each layer. Not drawn: 1 of 6 values, which are infinite. "
        "No line, because nothing is finite, of layer b."
    ) in captions.values()
    for name in values:
        ax = given.plot_metric(name)
        told = [text.get_text() for text in ax.texts]
        assert bool(told) == (name in ("infinite", "mixed"))
        assert bool(ax.lines) != bool(told)
        plt.close(ax.figure)


def test_metrics_of_the_library_can_be_followed():
    """Induction scores, the Lyapunov exponent of a recurrent network, fractal slopes and likeness to recorded data."""
    trials = repeated_tokens(8, 24, 16, seed=0)
    transformer = nm.load_model("induction")

    def induction(adapter, inputs):
        pattern = adapter.capture(inputs, "blocks.1.pattern")["blocks.1.pattern"]
        return induction_score(pattern, trials.conditions["lag"]).max()

    tracker = MetaDynamicsTracker(transformer, trials.inputs, metrics=["cka"], extra={"induction": induction})
    tracker.update(0)
    record = tracker.record()
    assert record["induction"].item() > 0.5
    assert record.data["site"].values.tolist() == ["blocks.0.resid_post", "blocks.1.resid_post"]

    recurrent, data = nn.RNN(2, 6, batch_first=True), torch.randn(40, 5)

    def exponent(adapter, inputs):
        return nm.lyapunov_spectrum(adapter, torch.zeros(6), n_steps=100, n_exponents=1, warmup=10).exponents[0]

    def slope(adapter, inputs):
        return nm.HiguchiFractalDimension(k_max=4)(adapter.capture(inputs, "hidden")["hidden"].mT).mean()

    def likeness(adapter, inputs):
        return nm.CKA().score(adapter.capture(inputs, "hidden[time=-1]")["hidden[time=-1]"].numpy(), data)

    extra = {"exponent": exponent, "slope": slope, "likeness": likeness}
    tracker = MetaDynamicsTracker(recurrent, torch.randn(40, 60, 2), sites="hidden", metrics=["cka"], extra=extra)
    tracker.update(0)
    found = tracker.record()
    assert found["exponent"].item() < 0  # a small random network forgets
    assert 1.5 < found["slope"].item() < 2.2
    assert abs(found["likeness"].item()) < 0.3


# -- nothing feels it --------------------------------------------------------------------------------------------------


def weights_after(update, seed=3):
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    model = network(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    train(model, optimizer, update(model), range(12))
    states = (torch.random.get_rng_state(), np.random.get_state()[1], random.getstate())  # noqa: NPY002
    return model, optimizer, states


def test_training_goes_on_as_if_nobody_had_looked():
    def greedy(adapter, inputs):
        np.random.normal()  # noqa: NPY002
        random.random()
        torch.rand(1)
        mse(adapter.module(inputs), y).backward()  # fills .grad
        return 0.0

    def looking(model):
        return tracked(model, schedule=5, metrics=ALL, extra={"greedy": greedy}).update

    (alone, its, state), (watched, other, states) = weights_after(lambda _: lambda step: None), weights_after(looking)
    for name, tensor in alone.state_dict().items():  # weights, and means of batches
        assert torch.equal(tensor, watched.state_dict()[name]), name
    for one, two in zip(alone.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)
        assert torch.equal(its.state[one]["exp_avg"], other.state[two]["exp_avg"])
    assert torch.equal(state[0], states[0])
    assert (state[1] == states[1]).all()
    assert state[2] == states[2]
    assert all(part.training for part in watched.modules())
    assert not any(part._forward_hooks for part in watched.modules())


def test_flags_that_differ_and_gradients_that_are_none_stay_so():
    model = network()
    model[1].eval()
    with undisturbed(model):
        assert not any(part.training for part in model.modules())
        model(x).sum().backward()
    assert [part.training for part in model] == [True, False, True, True, True]
    assert all(weight.grad is None for weight in model.parameters())


def test_a_metric_that_changes_the_weights_is_refused():
    def clumsy(adapter, inputs):
        with torch.no_grad():
            adapter.module[0].weight.mul_(2)
        return 1.0

    with pytest.raises(InputError, match="changed the weights"):
        tracked(network(), extra={"clumsy": clumsy}).update(0)


# -- interruption ------------------------------------------------------------------------------------------------------


def test_a_training_that_was_interrupted_has_the_same_record(tmp_path):
    options = {"metrics": [name for name in ALL if name != "learning_coefficient"], "schedule": "log"}

    def prepared(seed=4):
        model = network(seed)
        return model, torch.optim.Adam(model.parameters(), lr=0.02), tracked(model, **options)

    torch.manual_seed(4)
    model, optimizer, tracker = prepared()
    train(model, optimizer, tracker.update, range(33))
    whole = tracker.record()

    torch.manual_seed(4)
    model, optimizer, tracker = prepared()
    train(model, optimizer, tracker.update, range(33), stop_after=20)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.pt")
    tracker.save(tmp_path / "tracker.nc")
    state = torch.random.get_rng_state()

    model, optimizer, tracker = prepared(seed=9)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    tracker.load(tmp_path / "tracker.nc")
    torch.random.set_rng_state(state)
    train(model, optimizer, tracker.update, range(20, 33))
    assert tracker.record().steps == [0, 1, 3, 10, 15, 22, 32]
    assert tracker.record().data.identical(whole.data)


def test_a_state_of_another_tracker_or_a_damaged_one_is_refused(tmp_path):
    tracker = tracked(network())
    tracker.update(0)
    path = tracker.save(tmp_path / "tracker.nc")
    with pytest.raises(StorageError, match="same metrics"):
        tracked(network(), metrics=["loss"]).load(path)
    with pytest.raises(StorageError, match="same probe"):
        MetaDynamicsTracker(network(), x + 1, y, mse).load(path)
    with pytest.raises(StorageError, match=r"no such file[\s\S]*the tracker's save\(\)"):
        tracker.load(tmp_path / "none.nc")
    with pytest.raises(StorageError, match="no state of a tracker"):
        tracker.load(tracker.record().save(tmp_path / "record.nc"))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(StorageError, match="damaged"):
        tracker.load(path)


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_model_whose_sites_changed_is_refused():
    model = network()
    tracker = tracked(model)
    tracker.update(0)
    model[4] = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))
    with pytest.raises(SiteError, match=r"no longer built.*\n.*\n.*4"):
        tracker.update(10)
    model[4] = nn.Linear(8, 1)  # built as before, of other weights
    assert tracker.update(10)
    loss = mse(model.eval()(x), y)
    gradient = torch.autograd.grad(loss, list(model.parameters()))
    norm = sum(float((one**2).sum()) for one in gradient) ** 0.5
    assert float(tracker.record()["gradient_norm"][-1]) == pytest.approx(norm, rel=1e-4)
    model[0].requires_grad_(False)
    with pytest.raises(SiteError, match="trained as before"):
        tracker.update(20)


def test_a_tracker_is_for_one_training():
    tracker = tracked(network())
    with pytest.raises(InputError, match="not looked yet"):
        tracker.record()
    assert tracker.update(10)
    assert not tracker.update(10)
    assert not tracker.update(11)
    assert tracker.update(11, always=True)
    assert not tracker.update(11, always=True)
    with pytest.raises(InputError, match="new tracker for another training"):
        tracker.update(0)


def test_a_loss_that_is_not_finite_is_recorded_and_told_once():
    model = network()
    tracker = tracked(model)
    tracker.update(0)
    with torch.no_grad():
        model[0].weight.mul_(torch.nan)
    with pytest.warns(UserWarning, match="loss was nan at step 10"):
        tracker.update(10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker.update(20)
    record = tracker.record()
    assert np.isnan(record["loss"][1:]).all()
    assert np.isnan(record["cka_initial"].sel(site="4")[1:]).all()
    assert any("loss was nan at step 10" in text for text in record.warnings)
    with pytest.raises(InputError, match=r"cannot be compared[\s\S]*\[10, 20\]"):
        record.trajectory()


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(OptionError, match="did you mean 'loss'"):
        tracked(network(), metrics=["los"])
    with pytest.raises(OptionError, match="needs a loss"):
        MetaDynamicsTracker(network(), x, metrics=["loss"])
    with pytest.raises(OptionError, match="named twice"):
        tracked(network(), metrics=["loss", "loss"])
    with pytest.raises(OptionError, match="nothing to measure"):
        tracked(network(), metrics=[])
    for extra in ({"loss": max}, {"mine": 3}, {"step": max}):
        with pytest.raises(OptionError, match="no metric of one's own"):
            tracked(network(), extra=extra)
    with pytest.raises(OptionError, match="gave no number"):
        tracked(network(), extra={"mine": lambda adapter, inputs: "high"}).update(0)
    for schedule in ("lin", 0, -3, 2.5, [-1], [3, 3], []):
        with pytest.raises(InputError):
            tracked(network(), schedule=schedule)
    with pytest.raises(OptionError, match="step"):
        tracked(network()).update(-1)
    with pytest.raises(SiteError):
        tracked(network(), sites="5")


def test_probes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="could not run"):
        MetaDynamicsTracker(network(), x[:, :2], y, mse)
    with pytest.raises(InputError, match="do not fit"):
        MetaDynamicsTracker(network(), x, y[:4], mse)
    with pytest.raises(InputError, match="too few samples"):
        MetaDynamicsTracker(network(), x[:3], y[:3], mse)
    with pytest.raises(CapabilityError, match="no model that torch trains"):
        MetaDynamicsTracker(nm.Recording(xr.DataArray(np.eye(5), dims=("trial", "unit"))), x)


def test_an_error_in_a_metric_names_it():
    with pytest.raises(ZeroDivisionError) as error:
        tracked(network(), extra={"broken": lambda adapter, inputs: 1 / 0}).update(0)
    assert "'broken'" in error.value.__notes__[0]


# -- in other loops ----------------------------------------------------------------------------------------------------


def trainer(folder, callback, model, n_steps=8, **options):
    import transformers

    settings = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=n_steps, per_device_train_batch_size=5, save_steps=4, report_to=[],
        use_cpu=True, disable_tqdm=True, logging_strategy="no", seed=0, **options,
    )  # fmt: skip
    rows = [{"input_ids": row, "labels": row} for row in tokens(0).repeat(4, 1)]
    return transformers.Trainer(model=model, args=settings, train_dataset=rows, callbacks=[callback])


def test_a_huggingface_trainer_tells_the_tracker_and_keeps_its_state(tmp_path):
    pytest.importorskip("accelerate")

    def fresh():
        torch.manual_seed(0)
        model = gpt2()
        probe = {"input_ids": tokens(1), "labels": tokens(1)}
        return model, MetaDynamicsTracker(model, probe, schedule=2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what transformers and torch say of each other
        model, tracker = fresh()
        trainer(tmp_path, tracker.huggingface_callback(), model).train()
        whole = tracker.record()
        assert whole.steps == [0, 2, 4, 6, 8]
        assert (tmp_path / "checkpoint-4" / "meta_dynamics.nc").is_file()
        model, tracker = fresh()
        run = trainer(tmp_path, tracker.huggingface_callback(), model)
        run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert tracker.record().data.identical(whole.data)
    assert not any("weights" in text for text in tracker.record().warnings)
    assert whole.data["site"].values.tolist() == ["blocks.0.resid_post", "blocks.1.resid_post"]


def test_a_loop_like_lightnings_calls_the_hooks():
    model = network()
    tracker = tracked(model, schedule=[0, 2])
    callback, loop = tracker.lightning_callback(), SimpleNamespace(global_step=0)
    callback.on_train_start(loop, model)
    for batch in range(6):  # gradients of two batches are one step
        loop.global_step = (batch + 1) // 2
        callback.on_train_batch_end(loop, model, None, None, batch)
    callback.on_train_end(loop, model)
    assert tracker.record().steps == [0, 2, 3]
