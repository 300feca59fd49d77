"""Ways to get silently wrong numbers, each closed: nested runs, threads, look-alike models, odd indices and batches."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint import errors


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def induction():
    return nm.adapt(nm.load_model("induction"))


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(1, 64, (4, 9), generator=torch.Generator().manual_seed(1))


class Heads(nn.Module):
    """Attention whose number of heads is a plain attribute: no parameter, class or repr tells it."""

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        batch, position, _ = x.shape
        q, k, v = (
            part.reshape(batch, position, self.n_heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        z = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return x + self.out(z.transpose(1, 2).reshape(batch, position, 8))


def one_block(n_heads: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model = nn.Module()
        model.blocks = nn.ModuleList([Heads(n_heads)])
        model.forward = lambda x: model.blocks[0](x)
    return model


def test_a_run_inside_an_edit_is_not_seen_by_the_run_around_it(induction, tokens):
    other = tokens.flip(1)
    plain = induction.run(tokens, capture="blocks.1.resid_post").activations["blocks.1.resid_post"]

    def detour(values):
        induction.run(other, capture="blocks.1.resid_post")
        return values

    edits = [nm.Apply("blocks.0.resid_post", detour)]
    around = induction.run(tokens, edits=edits, capture="blocks.1.resid_post")
    assert torch.equal(around.activations["blocks.1.resid_post"], plain)
    zeroed = induction.run(tokens, edits=[*edits, nm.Zero("blocks.1.attn_out")]).output
    assert torch.equal(zeroed, induction.run(tokens, edits=nm.Zero("blocks.1.attn_out")).output)


def test_threads_keep_apart_and_leave_no_forward_behind(random):
    module = nn.GRU(2, 3, batch_first=True)
    inputs = torch.randn(4, 6, 2, generator=random)
    model, before = nm.adapt(module), module(inputs)[0]
    expected = [model.run(inputs, edits=nm.Zero(f"hidden[time={step}]")).output[0] for step in range(6)]
    got: dict[int, torch.Tensor] = {}

    def work(step):
        for _ in range(5):
            got[step] = model.run(inputs, edits=nm.Zero(f"hidden[time={step}]")).output[0]

    threads = [threading.Thread(target=work, args=(step,)) for step in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(got[step], expected[step]) for step in range(6))
    assert "forward" not in module.__dict__
    assert torch.equal(module(inputs)[0], before)


def test_models_that_differ_in_a_plain_attribute_only_do_not_share_their_proofs(random):
    inputs = torch.randn(3, 5, 8, generator=random)
    for n_heads in (2, 4):
        z = nm.adapt(one_block(n_heads)).capture(inputs, "blocks.0.z")["blocks.0.z"]
        assert z.shape == (3, 5, n_heads, 8 // n_heads)
    assert nm.adapt(one_block(2)).fingerprint() != nm.adapt(one_block(4)).fingerprint()


def test_a_weight_written_past_autograd_changes_the_fingerprint():
    module = nn.Linear(3, 3)
    model = nm.adapt(module)
    before = model.fingerprint()
    module.weight.data.mul_(2)
    assert model.fingerprint() != before


def test_a_store_of_other_scalar_inputs_is_refused(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x, scale):
            return self.layer(x * scale)

    model, x = nm.adapt(Scaled()), torch.ones(2, 2)
    model.capture({"x": x, "scale": 1.0}, "layer", to=tmp_path / "store")
    with pytest.raises(errors.StorageError, match="another capture"):
        model.capture({"x": x, "scale": 5.0}, "layer", to=tmp_path / "store")


def test_a_sweep_does_not_reinterpret_an_index(induction, tokens):
    patcher = nm.ActivationPatcher(induction, nm.log_probability(3))
    with pytest.raises(errors.SiteError, match="already indexed along 'position'"):
        patcher.sweep(tokens, tokens.flip(1), "blocks.0.resid_post[position=3:7]", by=("position",))


@pytest.mark.parametrize("samples", ["[3, 0]", "::-1", "[1, 1]", "-1", "1:3"])
def test_samples_come_as_asked_for_in_any_batch_size(induction, tokens, samples):
    site = f"embed[sample={samples}]"
    whole, parts = (induction.capture(tokens, site, batch_size=size)[site] for size in (None, 2))
    assert torch.equal(whole, parts)
    index = eval(f"slice({samples.replace('::', 'None, None, ')})") if samples == "::-1" else None
    everything = induction.capture(tokens, "embed")["embed"]
    if index is not None:
        assert torch.equal(whole, everything.flip(0))
    elif samples == "[3, 0]":
        assert torch.equal(whole, everything[[3, 0]])


def test_a_scalar_metric_is_not_differentiated_batch_by_batch(induction, tokens):
    def mean(output):
        return output.mean()

    with pytest.raises(errors.InputError, match="scalar metric"):
        induction.gradients(tokens, "embed", mean, batch_size=1)
    assert induction.gradients(tokens, "embed", mean)["embed"].abs().sum() > 0


def test_nested_inputs_are_cut_and_never_written_to():
    class Nested(nn.Module):
        def forward(self, x, extra):
            extra["shift"] += 1
            return x + extra["shift"]

    inputs = (torch.arange(4.0)[:, None], {"shift": torch.arange(4.0)[:, None]})
    model = nm.adapt(Nested())
    torch.testing.assert_close(model.run(inputs, batch_size=1).output, 2 * torch.arange(4.0)[:, None] + 1)
    assert torch.equal(inputs[1]["shift"], torch.arange(4.0)[:, None])


def test_sequence_first_modules_are_not_cut_along_time(random):
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    inputs = torch.randn(5, 4, 8, generator=random)  # (position, sample, unit)
    with pytest.raises(errors.InputError, match="sample_axis"):
        nm.adapt(layer).run(inputs, batch_size=2)
    model = nm.adapt(layer, sample_axis=1)
    torch.testing.assert_close(model.run(inputs, batch_size=2).output, model.run(inputs).output)
    captured = model.capture(inputs, "linear2", batch_size=2)
    assert captured.dims("linear2") == ("position", "sample", "unit")


def test_an_axis_that_does_not_count_samples_takes_no_index_of_samples(random):
    class Flattened(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x.flatten(0, 1)).reshape(*x.shape[:2], 2)

    model, x = nm.adapt(Flattened()), torch.randn(4, 5, 3, generator=random)
    with pytest.raises(errors.SiteError, match="no axis 'sample'"):
        model.run(x, edits=nm.Zero("fc[sample=-1]"))


def test_a_recurrent_module_that_runs_twice_has_no_single_time_axis(random):
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(2, 3, batch_first=True)

        def forward(self, a, b):
            return self.rnn(a)[0] - self.rnn(b)[0]

    pair = torch.randn(2, 2, 4, 2, generator=random).unbind(0)
    with pytest.raises(errors.InputError, match="several times"):
        nm.adapt(Siamese()).capture(tuple(pair), "hidden")


def test_a_name_means_the_same_whatever_was_asked_before(random):
    class Named(Heads):
        def __init__(self):
            super().__init__(2)
            self.q = nn.Identity()

        def forward(self, x):
            return super().forward(self.q(x))

    def model():
        outer = nn.Module()
        outer.blocks = nn.ModuleList([Named()])
        outer.forward = lambda x: outer.blocks[0](x)
        return nm.adapt(outer)

    inputs = torch.randn(3, 5, 8, generator=random)
    fresh, used = model(), model()
    used.capture(inputs, "blocks.0.resid_post")
    assert fresh.capture(inputs, "blocks.0.q").dims("blocks.0.q") == used.capture(inputs, "blocks.0.q").dims(
        "blocks.0.q"
    )


@pytest.mark.parametrize("over", [("samples",), ("position",), ()])
def test_a_mean_over_no_axis_is_refused(over):
    with pytest.raises(errors.InputError, match="no axis to average over"):
        nm.Mean("h", torch.ones(2, 3), over=over).apply(torch.ones(2, 3), ("sample", "unit"))


def test_project_acts_on_channels_of_a_convolution(random):
    values = torch.randn(2, 4, 3, 3, generator=random)
    edited = nm.Project("conv", [1.0, 0, 0, 0]).apply(values, ("sample", "channel", "height", "width"))
    assert edited[:, 0].abs().max() == 0
    assert torch.equal(edited[:, 1:], values[:, 1:])
    with pytest.raises(errors.InputError, match="no features"):
        nm.Project("conv[channel=2]", [1.0, 0, 0]).apply(values, ("sample", "channel", "height", "width"))


def test_reading_a_pattern_does_not_hide_nan(induction, tokens):
    edit = nm.Replace("blocks.0.q[head=0, position=3]", float("nan"))
    for capture in ((), "blocks.0.pattern"):
        assert induction.run(tokens, edits=edit, capture=capture).output[:, 3].isnan().all()


def test_a_dict_that_a_module_keeps_is_not_written_to():
    class Keeper(nn.Module):
        def __init__(self):
            super().__init__()
            self.kept = {"bias": torch.ones(1, 2)}

        def forward(self, x):
            return self.kept

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.keeper = Keeper()

        def forward(self, x):
            return x + self.keeper(x)["bias"]

    model = nm.adapt(Outer())
    assert model.run(torch.zeros(1, 2), edits=nm.Zero("keeper:out[bias]")).output.abs().sum() == 0
    assert torch.equal(model.module.keeper.kept["bias"], torch.ones(1, 2))


def test_masks_with_minus_infinity_and_padding_masks_are_taken(random):
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    x = torch.randn(3, 5, 8, generator=random)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    padding = torch.zeros(3, 5, dtype=torch.bool)
    padding[0, 3:] = True
    model = nm.adapt(encoder)
    for extra in ({"mask": causal}, {"src_key_padding_mask": padding}):
        captured = model.capture({"src": x, **extra}, "layers.1")["layers.1"]
        encoder.eval()
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # PyTorch's nested tensors are a prototype
            expected = encoder(x, **extra)
        encoder.train()
        real = ~padding if "src_key_padding_mask" in extra else torch.ones(3, 5, dtype=torch.bool)
        torch.testing.assert_close(captured[real], expected[real], rtol=1e-4, atol=1e-5)


def test_a_short_first_batch_does_not_stand_in_the_way_of_a_longer_one(random):
    model = nm.adapt(one_block(1))
    with pytest.raises(errors.SiteWithheldError):
        model.capture(torch.randn(1, 2, 8, generator=random), "blocks.0.z")
    assert "blocks.0.z" in model.capture(torch.randn(3, 6, 8, generator=random), "blocks.0.z")


def test_generation_refuses_edits_whose_rows_or_positions_would_not_be_the_prompts():
    import transformers

    config = transformers.GPT2Config(vocab_size=30, n_embd=8, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    model = nm.adapt(transformers.GPT2LMHeadModel(config))
    prompts, edit = torch.tensor([[3, 4, 5]]), nm.Zero("blocks.0.z[position=1]")
    for options in ({"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}, {"use_cache": False}):
        with pytest.raises(errors.OptionError, match="edits need"):
            model.generate(prompts, edits=edit, **options)
        assert model.generate(prompts, **options).shape[1] > 3
