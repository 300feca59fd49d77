"""Dashboards hold what plain loops over all activations find, without padding, however the model is batched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import neuros_mechint as nm
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, SiteError
from neuros_mechint.features.dashboard import codes as codes_module
from neuros_mechint.report import Report
from tests.conformance.architectures import ARCHITECTURES
from tests.truth.planted_features import N_FEATURES, PAD, VOCABULARY, WIDTH, Planted

SEEDS = range(3)


class Nameless(Planted):
    """The same, without telling its directions."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.hidden = self.decoder
        del self.decoder

    def decode(self, feature_acts):
        return feature_acts @ self.hidden


class Embedding(nn.Module):
    """What stands at a place depends on its token and position alone; padding is by far the largest."""

    def __init__(self, seed=0):
        super().__init__()
        random = torch.Generator().manual_seed(100 + seed)
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.tokens.weight.data = torch.randn(VOCABULARY, WIDTH, generator=random)
        self.tokens.weight.data[PAD] = 100.0
        self.positions = 0.3 * torch.randn(30, WIDTH, generator=random)
        self.out = nn.Identity()
        self.calls = 0

    def forward(self, tokens, attention_mask=None):
        self.calls += 1
        return self.out(self.tokens(tokens) + self.positions[: tokens.shape[1]])


def padded(n_samples=40, n_positions=11, seed=0):
    random = np.random.default_rng(seed)
    tokens = random.integers(1, VOCABULARY, size=(n_samples, n_positions))
    length = random.integers(3, n_positions + 1, size=n_samples)
    mask = np.arange(n_positions) < length[:, None]
    mask[::2] = mask[::2, ::-1]  # padded on the left, too
    return {
        "tokens": torch.from_numpy(np.where(mask, tokens, PAD)),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
    }


def toy(seed=0, **options):
    inputs = padded(seed=seed)
    return nm.feature_dashboard(nm.adapt(Embedding(seed)), Planted(seed), inputs, site="out", **options)


def by_hand(seed=0):
    """Return all features ``(n_samples, n_positions, n_features)`` and what is no padding."""
    inputs = padded(seed=seed)
    with torch.no_grad():
        codes = Planted(seed).encode(Embedding(seed)(inputs["tokens"]))
    return codes.double().numpy(), inputs["attention_mask"].numpy().astype(bool), inputs["tokens"].numpy()


# -- what is found -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_examples_histograms_and_densities_are_those_of_plain_loops(seed):
    codes, mask, tokens = by_hand(seed)
    found = toy(seed, features=range(N_FEATURES), n_examples=7, context=3)
    assert found.attributes["n_observations"] == mask.sum()
    for feature in range(N_FEATURES):
        own = found.data.sel(feature=feature)
        listed = [
            (codes[s, p, feature], s, p)
            for s in range(mask.shape[0])
            for p in range(mask.shape[1])
            if mask[s, p] and codes[s, p, feature] > 0
        ]
        assert own["density"] == pytest.approx(len(listed) / mask.sum())
        assert own["count"].sum() == len(listed)
        values = np.array([value for value, _, _ in listed])
        expected, edges = np.histogram(values, 50, (values.min(), values.max()))
        np.testing.assert_array_equal(own["count"], expected)
        np.testing.assert_allclose(own["bin_centre"], (edges[1:] + edges[:-1]) / 2)
        listed.sort(key=lambda entry: -entry[0])
        for example in range(7):
            value, sample, position = listed[example]
            assert own["activation"][example] == pytest.approx(value)
            assert (int(own["sample"][example]), int(own["position"][example])) == (sample, position)
            for slot, offset in enumerate(range(-3, 4)):
                at = position + offset
                inside = 0 <= at < mask.shape[1] and mask[sample, at]
                assert own["token"][example, slot] == (str(tokens[sample, at]) if inside else "")
                window = float(own["token_activation"][example, slot])
                assert window == pytest.approx(codes[sample, at, feature]) if inside else np.isnan(window)


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbours_are_those_of_numpy(seed):
    codes, mask, _ = by_hand(seed)
    rows = codes[mask]
    correlation = np.corrcoef(rows.T)
    directions = Planted(seed).decoder.double().numpy()
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found = toy(seed, features=[4, 0, 8])
    for feature in (4, 0, 8):
        own = found.data.sel(feature=feature)
        for name, similarity in (
            ("activation", correlation[feature]),
            ("decoder", (directions @ directions.T)[feature]),
        ):
            others = [one for one in np.argsort(-similarity) if one != feature][:5]
            assert own[f"{name}_neighbour"].values.tolist() == others
            amount = own["activation_correlation" if name == "activation" else "decoder_cosine"]
            np.testing.assert_allclose(amount, similarity[others], atol=1e-6)
        nearest = own["activation_neighbour"].values
        cosine = rows[:, feature] @ rows[:, nearest] / np.linalg.norm(rows[:, feature])
        np.testing.assert_allclose(own["activation_cosine"], cosine / np.linalg.norm(rows[:, nearest], axis=0))


def test_by_default_the_features_with_the_largest_mean_are_shown_and_silent_ones_never():
    codes, mask, _ = by_hand()
    expected = np.argsort(-codes[mask].mean(0))
    assert toy().features == expected.tolist()
    sae = Planted()
    sae.E[:, [2, 3]] = 0  # relu(-0.5)
    model, inputs = nm.adapt(Embedding()), padded()
    assert toy_features(model, sae, inputs) == [one for one in expected if one not in (2, 3)]
    named = nm.feature_dashboard(model, sae, inputs, features=[2, 0], site="out")
    assert float(named.data["density"].sel(feature=2)) == 0
    assert (named.data["sample"].sel(feature=2) == -1).all()
    assert 2 not in named.data["activation_neighbour"]
    assert any("never fire on these inputs: 2" in warning for warning in named.warnings)
    assert named._repr_html_()
    assert named.to_dataframe()["feature"].unique().tolist() == [0]
    sae.E[:] = 0
    with pytest.raises(InputError, match="no feature fires"):
        toy_features(model, sae, inputs)


def toy_features(model, sae, inputs):
    return nm.feature_dashboard(model, sae, inputs, site="out").features


@pytest.mark.parametrize("seed", SEEDS)
def test_padding_never_shows_up(seed):
    codes, mask, _ = by_hand(seed)
    found = toy(seed, features=range(N_FEATURES), n_examples=500)
    assert codes[~mask].max() > 20 * codes[mask].max()  # it would come first everywhere
    assert float(found.data["maximum"].max()) == pytest.approx(codes[mask].max())
    samples, positions = found.data["sample"].values, found.data["position"].values
    assert mask[samples[samples >= 0], positions[samples >= 0]].all()
    assert "0" not in found.data["token"].values  # the number of the padding token
    places = [set(zip(*pair, strict=True)) for pair in zip(samples, positions, strict=True)]
    assert [len(one - {(-1, -1)}) for one in places] == (samples >= 0).sum(1).tolist()  # no place twice


def test_texts_that_transformer_lens_pads_on_the_right_without_a_mask_show_no_padding():
    from neuros_mechint.features.dashboard.tokens import _without_padding_at_the_end

    ids = torch.tensor([[1, 9, 4, 9], [1, 4, 9, 9], [1, 2, 3, 4]])
    tokenizer = type("Tokenizer", (), {"pad_token_id": 9})
    kept = _without_padding_at_the_end(ids, tokenizer)
    assert kept.tolist() == [[True, True, True, False], [True, True, False, False], [True] * 4]
    assert _without_padding_at_the_end(ids[2:], tokenizer) is None


@pytest.mark.parametrize("kind", ["WordPiece", "SentencePiece", "bytes"])
def test_words_keep_the_spaces_before_them_whatever_the_tokenizer(kind):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from neuros_mechint.features.dashboard.tokens import Tokens

    pieces = {
        "WordPiece": ["a", "the", "cat", "##s", "sat", "."],
        "SentencePiece": ["▁a", "▁the", "▁cat", "s", "▁sat", "."],
        "bytes": ["a", "Ġthe", "Ġcat", "s", "Ġsat", "."],
    }[kind]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, "[UNK]"])}
    model = models.WordPiece(vocabulary, unk_token="[UNK]") if kind == "WordPiece" else models.WordLevel(vocabulary)
    built = Tokenizer(model)
    built.pre_tokenizer = pre_tokenizers.Whitespace() if kind != "SentencePiece" else pre_tokenizers.Metaspace()
    built.decoder = {
        "WordPiece": decoders.WordPiece(), "SentencePiece": decoders.Metaspace(), "bytes": decoders.ByteLevel()
    }[kind]  # fmt: skip
    tokens = Tokens(None, PreTrainedTokenizerFast(tokenizer_object=built, unk_token="[UNK]"), None)
    assert "".join(tokens.word(number) for number in range(1, 6)) == " the cats sat."
    assert Tokens(None, None, None).word(3) == "3"


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_change_nothing_and_the_model_runs_once(batch_size):
    model = nm.adapt(Embedding())
    model.capture(padded(), "out")
    model.module.calls = 0
    found = nm.feature_dashboard(model, Planted(), padded(), site="out", batch_size=batch_size)
    assert model.module.calls == -(-40 // batch_size)
    assert_same(found, toy())


def assert_same(found, expected, without=()):
    assert set(found.data) == set(expected.data)
    for name in set(found.data) - set(without):
        if found.data[name].dtype.kind == "f":
            np.testing.assert_allclose(found.data[name], expected.data[name], rtol=1e-6, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(found.data[name], expected.data[name], err_msg=name)


def test_only_a_bounded_number_of_features_is_held_at_once(monkeypatch):
    expected = toy()
    monkeypatch.setattr(codes_module, "_BLOCK_ROWS", 13)
    monkeypatch.setattr(codes_module, "_BLOCK_NUMBERS", 5 * N_FEATURES)
    sizes = []
    encode = Planted.encode
    monkeypatch.setattr(Planted, "encode", lambda self, x: sizes.append(x.shape[0]) or encode(self, x))
    found = toy()
    assert [size for size in sizes if size > 5] == [16]  # which asks, once, whether rows depend on each other
    assert sum(sizes) > 3 * 40  # it was all of them
    assert_same(found, expected, without=["correlation_by_chance"])  # permuted within blocks


# -- the control ---------------------------------------------------------------------------------------------------


def sparse_data(seed, n=1500, width=12):
    random = np.random.default_rng(seed)
    x = random.exponential(size=(n, width)) * (random.random((n, width)) < 0.2)
    return torch.from_numpy(x).float()


class Units:
    """A dictionary whose features are the units."""

    decoder = torch.eye(12)

    def encode(self, x):
        return torch.relu(x)

    def decode(self, feature_acts):
        return feature_acts


def test_independent_features_are_no_more_alike_than_chance_and_planted_ones_are():
    model, above, correlations = nm.adapt(nn.Sequential(nn.Identity())), [], []
    for seed in range(10):
        data = nm.feature_dashboard(model, Units(), sparse_data(seed), features=range(12), site="0", seed=seed).data
        above += (data["activation_correlation"][:, 0] > data["correlation_by_chance"]).values.tolist()
        correlations += data["activation_correlation"].values[:, 0].tolist()
    assert max(correlations) < 0.2
    assert np.mean(above) < 0.12  # 0.05 is expected of 120
    for seed in SEEDS:
        x = sparse_data(seed)
        x[:, 3] = torch.where(torch.rand(len(x), generator=torch.Generator().manual_seed(seed)) < 0.3, x[:, 7], x[:, 3])
        data = nm.feature_dashboard(model, Units(), x, features=range(12), site="0", seed=seed).data
        assert [int(data["activation_neighbour"].sel(feature=one)[0]) for one in (3, 7)] == [7, 3]
        expected = np.corrcoef(x[:, 3], x[:, 7])[0, 1]
        for one in (3, 7):
            assert float(data["activation_correlation"].sel(feature=one)[0]) == pytest.approx(expected, abs=1e-6)
            assert expected > 1.5 * float(data["correlation_by_chance"].sel(feature=one))


# -- effects on the logits -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def induction():
    return nm.adapt(nm.load_model("induction"))


def induction_tokens(n_samples=6):
    return torch.randint(1, 64, (n_samples, 9), generator=torch.Generator().manual_seed(0))


def assert_logits(found, effects):
    """``effects`` are (feature, logit)."""
    for index in range(len(effects)):
        order = np.argsort(-effects[index])
        own = found.data.isel(feature=index)
        n = own.sizes["rank"]
        np.testing.assert_array_equal(own["raised_unit"], order[:n])
        np.testing.assert_array_equal(own["lowered_unit"], order[::-1][:n])
        scale = np.abs(effects[index]).max()
        np.testing.assert_allclose(own["raised_by"], effects[index][order[:n]], atol=2e-5 * scale)
        np.testing.assert_allclose(own["lowered_by"], effects[index][order[::-1][:n]], atol=2e-5 * scale)
        assert own["logit_count"].sum() == effects.shape[1]
        middle, (count, edges) = own["logit_bin_centre"], np.histogram(effects[index], 50)
        np.testing.assert_allclose(middle, (edges[1:] + edges[:-1]) / 2, atol=1e-4 * scale)
        assert np.abs(own["logit_count"].values - count).sum() <= 2  # rounding at an edge moves one


@pytest.mark.parametrize("seed", SEEDS)
def test_effects_on_the_logits_are_the_decoder_times_the_unembedding(induction, seed):
    sae = Planted(seed, 64, 80)
    sae.decoder *= torch.logspace(-3, 3, 80)[:, None]  # of whatever length
    features = list(range(0, 80, 6))  # more than positions
    found = nm.feature_dashboard(induction, sae, induction_tokens(), features=features, site="blocks.0.attn_out")
    unembedding = induction.module.unembedding.weight.detach().double()
    assert_logits(found, (sae.decoder[features].double() @ unembedding.T).numpy())
    assert found.warnings == () or all("never fire" in one for one in found.warnings)


@pytest.mark.parametrize("name", ["GPT2", "Llama", "GPTNeoX"])
def test_they_are_that_in_models_with_norms_too(name):
    module, inputs = ARCHITECTURES[name].build()
    model, site = nm.adapt(module), "blocks.1.resid_post"
    width = model.capture(inputs, site)[site].shape[-1]
    sae = Planted(1, width, 10)
    found = nm.feature_dashboard(model, sae, inputs, features=[1, 5], site=site)
    weight = module.get_output_embeddings().weight.detach().double()
    assert_logits(found, (sae.decoder[[1, 5]].double() @ weight.T).numpy())


def test_where_they_cannot_be_told_the_dashboard_says_why(induction):
    tokens = induction_tokens()
    silent = nm.feature_dashboard(induction, Planted(0, 64), tokens, site="blocks.0.z")
    assert "raised" not in silent.data
    assert any("'blocks.0.z' does not write into the residual stream" in one for one in silent.warnings)
    module, inputs = ARCHITECTURES["BERT"].build()
    bert = nm.adapt(module)
    width = bert.capture(inputs, "blocks.1.resid_post")["blocks.1.resid_post"].shape[-1]
    found = nm.feature_dashboard(bert, Planted(0, width), inputs, site="blocks.1.resid_post")
    assert "raised" not in found.data  # its head for masked words has a layer and a norm of its own
    assert any("not linear in the last residual stream" in one for one in found.warnings)
    nameless = nm.feature_dashboard(induction, Nameless(0, 64), tokens, site="blocks.0.resid_post")
    assert {"raised", "decoder_neighbour"} & set(nameless.data) == set()
    assert sum("shows no decoder" in one for one in nameless.warnings) == 2
    assert "activation_neighbour" in nameless.data


def test_an_output_that_is_not_linear_in_the_stream_is_left_out():
    class Squashed(type(nm.load_model("induction"))):
        def forward(self, tokens):
            return torch.tanh(super().forward(tokens))

    module = Squashed()
    module.load_state_dict(nm.load_model("induction").state_dict())
    found = nm.feature_dashboard(
        nm.adapt(module.eval()), Planted(0, 64), induction_tokens(), site="blocks.0.resid_post"
    )
    assert "raised" not in found.data
    assert any("not linear" in one for one in found.warnings)


# -- other models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_networks_show_sample_and_time(batch_first, batch_size):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, x = nn.GRU(3, 12, batch_first=batch_first), torch.randn(5, 8, 3)
    states = network(x if batch_first else x.transpose(0, 1))[0].detach()
    states = states if batch_first else states.transpose(0, 1)
    found = nm.feature_dashboard(
        nm.adapt(network), Units(), x if batch_first else x.transpose(0, 1), [2], "hidden", batch_size=batch_size
    )
    sample, time = np.unravel_index(int(states[..., 2].argmax()), (5, 8))
    assert (int(found.data["sample"][0, 0]), int(found.data["time"][0, 0])) == (sample, time)
    assert "token" not in found.data
    assert "sample" in Report("x").add(found).to_html()
    with pytest.raises(CapabilityError, match="no tokens"):
        found.to_neuronpedia("never_written.json")


def test_recordings_and_plain_networks_have_dashboards_too():
    values = np.random.default_rng(0).normal(size=(4, 5, 12))
    recording = nm.adapt(nm.Recording(values, dims=("stimulus", "time", "unit")))
    found = nm.feature_dashboard(recording, Units(), None, features=[1], site="data", batch_size=2)
    place = int(found.data["stimulus"][0, 0]), int(found.data["time"][0, 0])
    assert place == np.unravel_index(values[..., 1].argmax(), (4, 5))
    assert found.data["density"] == pytest.approx((values[..., 1] > 0).mean())
    plain = nm.feature_dashboard(nm.adapt(nn.Sequential(nn.Identity())), Units(), sparse_data(0), site="0")
    assert int(plain.data["sample"][0, 0]) == int(sparse_data(0)[:, plain.features[0]].argmax())


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [[], [0, 0], [-1], [N_FEATURES], [0.5], [True], "ab", 3])
def test_features_that_are_none_are_refused(features):
    with pytest.raises(InputError, match="no features of the dictionary"):
        toy(features=features)


def test_other_bad_input_is_refused():
    model = nm.adapt(Embedding())
    with pytest.raises(InputError, match="where does this dictionary belong"):
        nm.feature_dashboard(model, Planted(), padded())
    with pytest.raises(InputError, match="does not take activations of 6 units"):
        nm.feature_dashboard(model, Planted(0, 7), padded(), site="out")
    with pytest.raises(InputError, match="empty"):
        nm.feature_dashboard(model, Planted(), torch.zeros(0, 3, dtype=torch.int64), site="out")
    with pytest.raises(SiteError):
        nm.feature_dashboard(model, Planted(), padded(), site="nowhere")
    with pytest.raises(InputError, match="no dictionary"):
        nm.feature_dashboard(model, object(), padded(), site="out")
    nothing = {**padded(), "attention_mask": 0 * padded()["attention_mask"]}
    with pytest.raises(InputError, match="nothing to show"):
        nm.feature_dashboard(model, Planted(), nothing, site="out")
    for option in ({"n_examples": 0}, {"n_logits": 0}, {"context": -1}):
        with pytest.raises(OptionError, match="out of range"):
            toy(**option)
    model.module.tokens.weight.data[3] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        nm.feature_dashboard(model, Planted(), padded(), site="out")


def test_nothing_of_the_callers_is_changed():
    model, inputs = nm.adapt(Embedding()), padded()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    state, given = torch.get_rng_state(), {name: value.clone() for name, value in inputs.items()}
    first = nm.feature_dashboard(model, Planted(), inputs, site="out", batch_size=9)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert all(torch.equal(value, given[name]) for name, value in inputs.items())
    assert first.data.identical(nm.feature_dashboard(model, Planted(), inputs, site="out", batch_size=9).data)
