"""SparseAutoencoder against planted dictionaries, SAELens's own files and an uninterrupted run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint.core.activations import Activations
from neuros_mechint.core.errors import InputError, OptionError, StorageError
from neuros_mechint.core.stores.store import ActivationStore
from neuros_mechint.features import training
from tests.slow import slow_case

ARGUMENTS = {
    "standard": {"sparsity": 0.1},
    "topk": {"k": 3},
    "batchtopk": {"k": 3},
    "jumprelu": {"sparsity": 0.1},
    "gated": {"sparsity": 0.1},
    "matching_pursuit": {"k": 3},
    "matryoshka": {"k": 3, "widths": [16, 64]},
}
QUICK = {"epochs": 1, "batch_size": 256, "progress": False}
CONVERTED = ("batchtopk", "matryoshka")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def planted(seed, n=20_000):
    from sae_lens.synthetic import ActivationGenerator, FeatureDictionary

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dictionary = FeatureDictionary(64, 32)
        x = dictionary(ActivationGenerator(64, 0.05).sample(n)).detach()
    return x, dictionary.feature_vectors.detach()


def agreement(decoder, vectors):
    from sae_lens.synthetic import mean_correlation_coefficient

    return mean_correlation_coefficient(decoder, vectors)


def gaussian(n=4000, seed=0, width=32):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", [0, slow_case(1), slow_case(2)])
def test_a_planted_dictionary_is_found_with_the_defaults(seed):
    x, vectors = planted(seed)
    sae = nm.SparseAutoencoder(64, k=3, seed=seed, progress=False).fit(x)
    assert agreement(sae.decoder, vectors) >= 0.85


@pytest.mark.parametrize("seed", range(3))
def test_in_unstructured_data_an_unrelated_dictionary_is_not_found(seed):
    other = gaussian(64, seed + 100)
    chance = [agreement(gaussian(64, draw), other) for draw in range(200, 230)]
    found = agreement(nm.SparseAutoencoder(64, k=3, seed=seed, **QUICK).fit(gaussian(seed=seed)).decoder, other)
    assert abs(found - np.mean(chance)) < 5 * np.std(chance)


def test_resuming_gives_the_weights_of_an_uninterrupted_run(tmp_path, monkeypatch):
    x = gaussian()
    whole = nm.SparseAutoencoder(64, k=3, **QUICK).fit(x)
    save, saved = training.save, []

    def killed(*arguments):
        save(*arguments)
        saved.append(1)
        if len(saved) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        nm.SparseAutoencoder(64, k=3, **QUICK).fit(x, checkpoint=tmp_path)
    resumed = nm.SparseAutoencoder(64, k=3, **QUICK).fit(x, checkpoint=tmp_path)
    assert len(saved) < 2 * len(whole.history_.step)
    assert torch.equal(resumed.decoder, whole.decoder)
    assert torch.equal(resumed.encoder, whole.encoder)
    with pytest.raises(StorageError, match="another training"):
        nm.SparseAutoencoder(64, k=2, **QUICK).fit(x, checkpoint=tmp_path)
    state = next(tmp_path.glob("step_*/trainer_state.pt"))
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(StorageError, match="damaged"):
        nm.SparseAutoencoder(64, k=3, **QUICK).fit(x, checkpoint=tmp_path)


def test_a_seed_decides_everything_and_global_state_stays():
    x, before = gaussian(), torch.get_rng_state()
    kept = x.clone()
    a, b, c = (nm.SparseAutoencoder(64, k=3, seed=seed, **QUICK).fit(x).decoder for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("architecture", ARGUMENTS)
@pytest.mark.filterwarnings("ignore:.*as JumpReLU")
def test_sae_lens_opens_ours_and_we_open_theirs(architecture, tmp_path):
    from sae_lens import SAE

    x = planted(0, 3000)[0]
    ours = nm.SparseAutoencoder(64, architecture, **ARGUMENTS[architecture], **QUICK).fit(
        Activations({"embed": x}, {"embed": ("sample", "unit")})
    )
    codes = ours.encode(x)
    ours.save(tmp_path / "ours")
    theirs = SAE.load_from_disk(tmp_path / "ours")
    assert torch.allclose(theirs.encode(x), codes, atol=1e-5)
    assert torch.allclose(theirs.decode(codes), ours.decode(codes), atol=1e-5)
    assert theirs.cfg.metadata.hook_name == "embed"
    theirs.save_model(tmp_path / "theirs")
    back = nm.SparseAutoencoder.load(tmp_path / "theirs")
    assert torch.allclose(back.encode(x), codes, atol=1e-5)
    assert back.site == "embed"
    alone = torch.cat([ours.encode(row[None]) for row in x[:50]])
    assert torch.allclose(alone, codes[:50], atol=1e-4)
    assert ours.encode(x[:6].reshape(2, 3, 32)).shape == (2, 3, 64)


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu", "gated", "matching_pursuit"])
def test_an_autoencoder_that_sae_lens_trained_alone_is_opened(architecture, tmp_path):
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    from neuros_mechint.features.architectures import check_arguments, training_sae

    arguments = ARGUMENTS[architecture]
    named = check_arguments(architecture, 64, arguments.get("k"), arguments.get("sparsity"), None)
    x = planted(0, 3000)[0]
    with torch.random.fork_rng(devices=[]):
        sae = training_sae(architecture, 32, 64, named)
    sae.cfg.normalize_activations = "none"
    quiet = LoggingConfig(log_to_wandb=False)
    config = SAETrainerConfig(total_training_samples=2560, train_batch_size_samples=256, lr_end=1e-4, logger=quiet)
    SAETrainer(config, sae, iter(x.split(256))).fit()
    sae.save_inference_model(tmp_path)
    ours = nm.SparseAutoencoder.load(tmp_path)
    with torch.no_grad():
        codes = sae.encode(x)
        assert torch.allclose(ours.encode(x), codes, atol=1e-5)
        assert torch.allclose(ours.reconstruct(x), sae.decode(codes), atol=1e-5)
    assert (ours.architecture, ours.n_features, ours.n_inputs_, ours.site) == (architecture, 64, 32, None)


@pytest.mark.parametrize("architecture", CONVERTED)
def test_saving_says_that_the_architecture_changes(architecture, tmp_path):
    sae = nm.SparseAutoencoder(64, architecture, **ARGUMENTS[architecture], **QUICK).fit(gaussian(1000))
    with pytest.warns(UserWarning, match="JumpReLU"):
        sae.save(tmp_path)


def test_a_store_trains_as_well_as_memory(tmp_path):
    x, vectors = planted(0)
    acts = Activations({"embed": x}, {"embed": ("sample", "unit")})
    with ActivationStore.for_activations(tmp_path / "s.zarr", acts, n_samples=len(x)) as store:
        store.append(acts)
    sae = nm.SparseAutoencoder(64, k=3, progress=False).fit(ActivationStore.open(tmp_path / "s.zarr"), site="embed")
    assert agreement(sae.decoder, vectors) >= 0.85


def test_held_out_samples_of_a_store_are_not_trained_on(tmp_path):
    from neuros_mechint.features.observations import observations

    x = torch.arange(10_000.0)[:, None].repeat(1, 2)
    acts = Activations({"embed": x}, {"embed": ("sample", "unit")})
    with ActivationStore.for_activations(tmp_path / "s.zarr", acts, n_samples=len(x)) as store:
        store.append(acts)
    for source in (ActivationStore.open(tmp_path / "s.zarr"), x):
        data = observations(source, None if source is x else "embed", 0.1, 2)
        seen = torch.cat(list(data.shuffled(512, np.random.default_rng(0))))[:, 0]
        assert torch.equal(torch.cat([seen.sort().values, data.held_out[:, 0]]), x[:, 0])
        assert (data.n_rows, len(data.held_out)) == (9000, 1000)


def test_padding_in_a_store_is_not_counted_as_rows_to_train_on(tmp_path):
    from neuros_mechint.features.observations import observations

    lengths = torch.arange(100) % 5 + 1  # the first sample has one token, so that five times as many are left
    mask = torch.arange(5) < lengths[:, None]
    acts = Activations({"embed": torch.rand(100, 5, 3)}, {"embed": ("sample", "position", "unit")}, attention_mask=mask)
    with ActivationStore.for_activations(tmp_path / "s.zarr", acts, n_samples=100) as store:
        store.append(acts)
    data = observations(ActivationStore.open(tmp_path / "s.zarr"), "embed", 0.1, 3)
    assert data.n_rows == int(lengths[:90].sum()) == sum(map(len, data.shuffled(7, np.random.default_rng(0))))
    assert len(data.held_out) == int(lengths[90:].sum())


def test_training_stops_when_the_held_out_loss_no_longer_falls():
    x = gaussian(300)
    settings = {"k": 8, "epochs": 60, "batch_size": 64, "progress": False}
    with pytest.warns(UserWarning, match="fewer observations"):
        sae = nm.SparseAutoencoder(512, patience=2, **settings).fit(x)
    losses = sae.history_.held_out_loss.values
    assert len(losses) < 20
    assert losses[-2:].min() >= losses[:-2].min()
    with pytest.warns(UserWarning, match="fewer observations"):
        last = nm.SparseAutoencoder(512, patience=None, **settings).fit(x)
    held_out = x[-30:]
    missed = [float((one.reconstruct(held_out) - held_out).pow(2).sum()) for one in (sae, last)]
    assert missed[0] < missed[1]  # the best weights, not the last


def test_what_was_fitted_comes_back_as_what_it_was(tmp_path):
    x = gaussian(2000)
    sae = nm.HierarchicalSAE(widths=[8, 64], k=3, **QUICK).fit(x)
    with pytest.warns(UserWarning, match="JumpReLU"):
        sae.save(tmp_path / "tree")
    again = nm.HierarchicalSAE.load(tmp_path / "tree")
    assert (again.architecture, again.k, again.widths) == ("matryoshka", 3, [8, 64])
    assert torch.equal(again.encode(x), sae.encode(x))
    assert again.fingerprint() == sae.fingerprint()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree"]
    nm.SparseAutoencoder(64, k=3, **QUICK).fit(x).save(tmp_path / "flat")
    assert nm.SparseAutoencoder.load(tmp_path / "flat").k == 3
    with pytest.raises(InputError, match="no nested widths"):
        nm.HierarchicalSAE.load(tmp_path / "flat")


def test_an_evaluation_on_what_it_was_fitted_on_is_said():
    x = gaussian(2000)
    sae = nm.SparseAutoencoder(64, k=3, **QUICK).fit(x)
    with pytest.warns(UserWarning, match="it was fitted on"):
        nm.evaluate_sae(sae, x)
    nm.evaluate_sae(sae, gaussian(2000, seed=1))  # a warning would be an error


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(bad):
    x = gaussian(500)
    x[3, 3] = bad
    with pytest.raises(InputError, match="NaN or infinite"):
        nm.SparseAutoencoder(64, k=3, **QUICK).fit(x)


def test_bad_inputs_are_refused(tmp_path):
    with pytest.raises(InputError, match="constant"):
        nm.SparseAutoencoder(64, k=3, **QUICK).fit(torch.ones(500, 8))
    with pytest.raises(OptionError, match="unknown architecture"):
        nm.SparseAutoencoder(64, "topkk")
    with pytest.raises(OptionError, match="does not use k"):
        nm.SparseAutoencoder(64, "gated", k=3)
    with pytest.raises(InputError, match="k is out of range"):
        nm.SparseAutoencoder(2, k=3)
    with pytest.raises(InputError, match="not fitted"):
        nm.SparseAutoencoder(64, k=3).encode(torch.ones(2, 8))
    with pytest.raises(StorageError, match="no folder"):
        nm.SparseAutoencoder.load(tmp_path / "missing")


def test_a_damaged_file_and_a_wrong_width_are_refused(tmp_path):
    sae = nm.SparseAutoencoder(64, k=3, **QUICK).fit(gaussian(1000))
    with pytest.raises(InputError, match="width"):
        sae.encode(torch.ones(2, 8))
    sae.save(tmp_path)
    weights = tmp_path / "sae_weights.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"damaged", whole[:-1] + bytes([whole[-1] ^ 1])):  # one bit is enough
        weights.write_bytes(damaged)
        with pytest.raises(StorageError, match="changed after it was saved"):
            nm.SparseAutoencoder.load(tmp_path)
    (tmp_path / "checksums.json").unlink()  # as SAELens writes a folder
    weights.write_bytes(b"damaged")
    with pytest.raises(StorageError, match="no autoencoder"):
        nm.SparseAutoencoder.load(tmp_path)


def test_files_of_two_saves_are_not_taken_for_one(tmp_path):
    for k in (2, 4):
        nm.SparseAutoencoder(64, k=k, **QUICK).fit(gaussian(1000)).save(tmp_path / str(k))
    (tmp_path / "4" / "cfg.json").replace(tmp_path / "2" / "cfg.json")  # a save that was interrupted between them
    with pytest.raises(StorageError, match=r"cfg\.json in .* changed"):
        nm.SparseAutoencoder.load(tmp_path / "2")


@pytest.mark.parametrize("architecture", CONVERTED)
def test_as_many_features_are_active_as_were_asked_for_however_short_the_training(architecture):
    sae = nm.SparseAutoencoder(64, architecture, **ARGUMENTS[architecture], **QUICK).fit(gaussian(4000))
    assert float((sae.encode(gaussian(4000, seed=1)) > 0).sum(1).float().mean()) == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("mean", [1000, slow_case(0), slow_case(10)])
def test_a_large_mean_does_no_harm(mean):
    x, vectors = planted(0, 8000)
    sae = nm.SparseAutoencoder(64, k=3, progress=False).fit(x + mean)
    assert agreement(sae.decoder, vectors) >= 0.85
    assert (
        sae.reconstruct(x + mean) - mean - x
    ).var() < 0.3 * x.var()  # three features are kept where 3.2 are active on average


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1e6])
def test_units_make_no_difference(size):
    x = planted(0, 3000)[0]
    one, other = (nm.SparseAutoencoder(64, k=3, **QUICK).fit(x * factor) for factor in (1, size))
    cosine = torch.nn.functional.cosine_similarity(one.decoder.double(), other.decoder.double(), dim=1, eps=0)
    assert cosine.min() > 0.999


def test_numbers_that_cannot_be_trained_on_are_refused():
    x = gaussian(1000)
    for size in (1e-25, 1e25):
        with pytest.raises(InputError, match="too small or too large"):
            nm.SparseAutoencoder(64, k=3, **QUICK).fit(x * size)
    with pytest.raises(InputError, match="diverged"):
        nm.SparseAutoencoder(64, "standard", learning_rate=1e25, **QUICK).fit(x)


def test_a_small_autoencoder_is_saved_and_loaded(tmp_path):
    sae = nm.SparseAutoencoder(8, **QUICK).fit(gaussian(500, width=4))
    sae.save(tmp_path)
    assert torch.equal(
        nm.SparseAutoencoder.load(tmp_path).encode(gaussian(5, width=4)), sae.encode(gaussian(5, width=4))
    )
    assert repr(sae) == "<SparseAutoencoder 8, topk: fitted on 4 units of None>"


def test_an_early_stop_keeps_its_best_weights_over_a_resumption(tmp_path):
    x = gaussian(300)
    settings = {"k": 8, "epochs": 400, "batch_size": 64, "progress": False, "patience": 2}
    with pytest.warns(UserWarning, match="fewer observations"):
        whole = nm.SparseAutoencoder(512, **settings).fit(x)
    for _ in range(2):  # the second finds a training that is finished
        with pytest.warns(UserWarning, match="fewer observations"):
            again = nm.SparseAutoencoder(512, **settings).fit(x, checkpoint=tmp_path)
        assert torch.equal(again.decoder, whole.decoder)


def test_a_checkpoint_of_other_data_with_the_same_end_is_refused(tmp_path):
    x = gaussian(1000)
    nm.SparseAutoencoder(64, k=3, **QUICK).fit(x, checkpoint=tmp_path)
    y = torch.cat([x[:900].flip(1), x[900:]])
    with pytest.raises(StorageError, match="another training") as refusal:
        nm.SparseAutoencoder(64, k=3, **QUICK).fit(y, checkpoint=tmp_path)
    assert "data=" in str(refusal.value)
    assert "batch_size" not in str(refusal.value)


def test_a_folder_for_checkpoints_may_hold_other_things(tmp_path):
    for name in ("step_by_step", "step_notes.part"):
        (tmp_path / name).mkdir()
    (tmp_path / "step_1.txt").write_text("mine")
    for _ in range(2):
        nm.SparseAutoencoder(64, k=3, **QUICK).fit(gaussian(1000), checkpoint=tmp_path)
    assert {"step_by_step", "step_notes.part", "step_1.txt"} < {path.name for path in tmp_path.iterdir()}
    with pytest.raises(StorageError, match="no folder"):
        nm.SparseAutoencoder(64, k=3, **QUICK).fit(gaussian(1000), checkpoint=tmp_path / "step_1.txt")


def test_maps_are_not_taken_for_rows():
    maps = Activations({"conv": torch.rand(8, 3, 5, 5)}, {"conv": ("sample", "channel", "height", "width")})
    with pytest.raises(InputError, match="one place of a map at a time"):
        nm.SparseAutoencoder(8, **QUICK).fit(maps)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(("n_features", bad) for bad in (0, 2.5, True, "16", None)),
        *(("k", bad) for bad in (0, 1.5, True, "2", 65)),
        *(("epochs", bad) for bad in (0, True, "2", float("inf"), None)),
        *(("batch_size", bad) for bad in (True, 2.5)),
        *(("patience", bad) for bad in (0, True, 2.5)),
        *(("learning_rate", bad) for bad in (0, True, float("inf"), "1")),
        *(("validation", bad) for bad in (0, 1, "2", None)),
    ],
)
def test_settings_that_make_no_sense_are_refused(argument, value):
    settings = {"n_features": 64, argument: value}
    with pytest.raises(InputError, match=f"{argument} is out of range"):
        nm.SparseAutoencoder(**settings)


@pytest.mark.parametrize("widths", [5, "ab", [64], [16, 16, 64], [4.0, 64], [True, 64], [16, 32]])
def test_widths_that_do_not_nest_are_refused(widths):
    with pytest.raises(InputError, match="widths"):
        nm.SparseAutoencoder(64, "matryoshka", widths=widths)


def test_settings_from_numpy_are_numbers_too(tmp_path):
    settings = {"k": np.int64(3), "epochs": np.int64(1), "learning_rate": np.float32(1e-3), "progress": False}
    nm.SparseAutoencoder(np.int64(64), **settings).fit(gaussian(600), checkpoint=tmp_path / "c").save(tmp_path / "s")
    assert nm.SparseAutoencoder.load(tmp_path / "s").k == 3


def test_what_is_encoded_may_be_empty_reversed_or_no_numbers():
    sae = nm.SparseAutoencoder(64, k=3, **QUICK).fit(gaussian(600))
    assert sae.encode(torch.zeros(0, 32)).shape == (0, 64)
    rows = gaussian(5).numpy()
    torch.testing.assert_close(sae.encode(rows[::-1]), sae.encode(rows).flip(0))
    for bad in ("text", None, torch.zeros(2, 32, dtype=torch.complex64)):
        with pytest.raises(InputError):
            sae.encode(bad)


def test_training_under_inference_mode_is_training_all_the_same():
    with torch.inference_mode():
        inside = nm.SparseAutoencoder(64, k=3, **QUICK).fit(gaussian(600))
    assert torch.equal(inside.decoder, nm.SparseAutoencoder(64, k=3, **QUICK).fit(gaussian(600)).decoder)
