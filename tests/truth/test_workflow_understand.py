"""Understanding a transformer: the induction heads and their joint effect, and nothing in an untrained copy."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import neuros_mechint as nm
from neuros_mechint import cli
from neuros_mechint.core.errors import CapabilityError, InputError, OptionError, SiteError, StorageError
from neuros_mechint.datasets.measures import previous_token_score
from neuros_mechint.datasets.networks import InductionTransformer
from neuros_mechint.datasets.tasks import repeated_tokens
from neuros_mechint.features.sparse_autoencoder import SparseAutoencoder
from neuros_mechint.workflows.understanding.prompts import PromptPairs, open_prompts, repeated_token_pairs
from neuros_mechint.workflows.understanding.steps import (
    behaviour_of,
    caption_of_features,
    effects_by_head,
    fit_autoencoder,
    judge_autoencoder,
    together_and_alone,
)
from neuros_mechint.workflows.understanding.understand import understand
from neuros_mechint.workflows.understanding.words import in_short
from tests.slow import slow_case
from tests.truth.hand_weighted import hand_weighted, partners

pytestmark = [
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The 'utils' module has been deprecated:DeprecationWarning"),
]
SETTINGS: dict[str, Any] = {"corpus": repeated_tokens(700, 64, seed=7).inputs, "n_prompts": 32}


def untrained(seed):
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return InductionTransformer().eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("understand") / "run"


@pytest.fixture(scope="module")
def found(folder):
    return understand("induction", **SETTINGS, folder=folder, progress=False)


# -- the known answer ------------------------------------------------------------------------------------------------


def test_the_answer_travels_from_the_earlier_token_to_the_next_position_and_to_the_end(found):
    effects = found.results["positions"].normalized()
    for site, position in (("blocks.0.resid_pre", 5), ("blocks.0.resid_post", 6), ("blocks.1.resid_post", 21)):
        assert effects.sel(site=site).values.argmax() == position
        assert effects.sel(site=site, position=position) == pytest.approx(1, abs=1e-3)


def test_heads_do_little_alone_and_all_heads_of_a_layer_do_everything(found):
    result = found.results["together"]
    assert result.redundant == ["blocks.0.z", "blocks.1.z"]
    assert result.data["largest_alone"].sel(site="blocks.1.z") < 0.05
    assert result.data["largest_alone"].sel(site="blocks.0.z") > 0.1
    assert result.data["head"].sel(site="blocks.0.z") == 0  # its previous-token head
    assert (result.data["together"] > 0.95).all()


def test_heads_of_a_layer_that_are_not_needed_alone_are_enough_alone(found):
    """What noising cannot show of heads that stand in for each other, denoising does."""
    lost, back = (found.results[name].normalized() for name in ("heads", "heads_denoising"))
    assert lost.sel(site="blocks.1.z").max() < 0.05
    assert back.sel(site="blocks.1.z").min() > 0.3
    titles = [found.results[name].title for name in ("positions", "heads", "heads_denoising")]
    assert len(set(titles)) == 3
    for title, way in zip(titles, ("denoising", "noising (corrupted into clean)", "denoising"), strict=True):
        assert f": {way}" in title
    assert "Denoising" in found.captions["positions"]
    assert found.captions["heads"].startswith("Noising")
    assert found.captions["heads_denoising"].startswith("Denoising")


def test_the_induction_heads_are_named(found):
    sentences = found.results["in_short"].attributes["sentences"]
    assert sentences[1].startswith("It does induction: heads L0H0, ")
    assert "heads L1H0, L1H1, L1H2, L1H3 at what followed" in sentences[1]
    noising, denoising = (next(one for one in sentences if f"({way})" in one) for way in ("noising", "denoising"))
    assert [one for one in sentences if "L1H0 is head 0 of layer 1" in one] == [sentences[1]]
    lost = found.results["heads"].normalized().sel(site="blocks.0.z", head=0)
    assert f"takes away this share of the behaviour: L0H0 {float(lost):.1%}" in noising
    assert "L1H" not in noising
    assert {f"L1H{head}" for head in range(4)} <= set(re.findall(r"L1H\d", denoising))
    circuit = next(one for one in sentences if one.startswith("A circuit"))
    heads = {
        f"L{layer}H{head}" for layer, head in re.findall(r"a(\d)\.h(\d)", " ".join(found.results["circuit"].nodes))
    }
    assert set(re.findall(r"L\dH\d", circuit)) == heads


def test_attention_is_told_at_as_many_positions_as_the_prompts_have(found):
    """By the model's own attention on the prompts: that over longer sequences is another number, and says so."""
    model = nm.adapt(nm.load_model("induction"))
    prompts = repeated_token_pairs(model, 64).clean
    pattern = model.capture(prompts, "blocks.0.pattern")["blocks.0.pattern"]
    own = previous_token_score(pattern)
    sentence = found.results["in_short"].findings[1]
    told, over_all = (
        [float(one) for one in found_numbers.split(", ")]
        for found_numbers in re.findall(r"((?:[01]\.\d\d(?:, )?){4})", sentence)
    )
    assert "at the first 22 positions, as many as the prompts here have" in sentence
    assert "over all 64 positions" in sentence
    assert prompts.shape[1] == 22
    assert told == pytest.approx(own.tolist(), abs=0.03)
    assert over_all == pytest.approx(found.results["induction"].data["previous_token"].values[:4], abs=0.005)
    assert told[0] > 0.9 > 0.6 > over_all[0]


def test_each_p_of_a_circuit_is_told_and_the_least_that_there_could_be(found):
    verdict = found.results["faithfulness"]
    for p_of, ending in (
        ({"p_sufficiency": 0.025, "p_necessity": 0.075}, ": necessity alone does not tell it from random ones."),
        ({"p_sufficiency": 0.025, "p_necessity": 0.05}, "."),
        ({"p_sufficiency": 0.2, "p_necessity": 0.1}, ": sufficiency and necessity alone do not tell it from random "
         "ones."),
    ):  # fmt: skip
        results = {**found.results, "faithfulness": replace(verdict, attributes={**verdict.attributes, **p_of})}
        sentence = next(one for one in in_short(results, {}, "none").findings if one.startswith("A circuit"))
        assert "39 circuits can give no p below 0.025" in sentence
        p = [f"{value:.2g}" for value in p_of.values()]
        assert sentence.endswith(f"By sufficiency alone p = {p[0]}, by necessity alone p = {p[1]}{ending}")


@pytest.mark.parametrize(
    ("sure", "told"),
    [
        (0, "None of the {} features that were tested changes the metric by more than chance when it alone"),
        (1, "Of {} features that were tested 1 changes the metric by more than chance"),
        (2, "Of {} features that were tested 2 change the metric by more than chance"),
    ],
)
def test_features_that_explain_variance_and_do_nothing_alone_are_told(found, sure, told):
    effects = found.results["features"]
    data = effects.data.copy(deep=True)
    data["p_adjusted"][:] = 1.0
    data["p_adjusted"][..., :sure] = 0.01
    results = {**found.results, "features": replace(effects, data=data)}
    findings = in_short(results, {}, "none").findings
    at = next(number for number, one in enumerate(findings) if "of the variance of" in one)
    assert findings[at + 1].startswith(told.format(data.sizes["feature"]))
    assert ("smallest p after correction for all: 1)" in findings[at + 1]) == (not sure)
    left = {name: one for name, one in found.results.items() if name != "features"}
    assert "not known: silent." in in_short(left, {"features": "silent"}, "none").findings[at + 1]


def test_more_than_all_is_told_as_a_metric_beyond_the_corrupted_prompts(found):
    heads, together = found.results["heads"], found.results["together"]
    start, end = heads.corrupted, heads.clean  # of the clean and of the corrupted prompts: those patched into and from
    data = heads.data.copy(deep=True)
    data["metric"].loc[{"site": "blocks.1.z", "head": 3}] = start + 1.049 * (end - start)
    whole = together.data.copy(deep=True)
    whole["together"].loc[{"site": "blocks.1.z"}] = 1.049
    doubted = replace(heads, data=data, warnings=("normalized effects are not to be trusted",))
    results = {**found.results, "heads": doubted, "together": replace(together, data=whole)}
    sentences = in_short(results, {}, "none").findings
    noising = next(one for one in sentences if "(noising)" in one)
    assert f"takes away this share of the behaviour: L1H3 104.9%, L0H0 {float(heads.normalized().max()):.1%}" in noising
    assert f"above 100% the metric is below the mean of the corrupted prompts, {end:.4g}" in noising
    layer = next(one for one in sentences if one.startswith("All heads of layer 1"))
    assert (
        f"more than all of the behaviour (104.9%: at {start + 1.049 * (end - start):.4g} the metric is below" in layer
    )
    assert "But normalized effects are not to be trusted." in sentences
    assert not re.search("more than all|But ", " ".join(found.results["in_short"].findings))


def test_how_many_random_circuits_did_as_well_is_counted(found):
    verdict = found.results["faithfulness"]
    worth = np.minimum(1 - np.abs(1 - verdict.data["random_sufficiency"]), verdict.data["random_necessity"])
    own = min(1 - abs(1 - verdict.sufficiency), verdict.necessity)
    as_good = int((worth >= own).sum())
    assert verdict.n_as_good == as_good
    sentence = next(one for one in found.results["in_short"].findings if one.startswith("A circuit"))
    assert f"better than chance: of 39 random circuits of its size {as_good or 'none'} did as well" in sentence


def test_every_number_says_of_which_half_of_the_prompts_it_is(found):
    behaviour = found.results["behaviour"]
    baselines = found.results["heads"].corrupted, float(found.results["features"].data["baseline"].mean())
    for half, name, mean in zip(behaviour.halves, ("first half", "second half"), baselines, strict=True):
        assert float(half["clean"].mean()) == pytest.approx(mean, rel=1e-3)
        assert any(one.startswith(f"{name}: 32 pairs, {half['clean'].mean():.4g} clean") for one in behaviour.findings)
    for step, half in {
        "positions": "first", "heads": "first", "heads_denoising": "first", "together": "first", "circuit": "first",
        "features": "second", "faithfulness": "second",
    }.items():  # fmt: skip
        assert f"{half} half of the pairs" in found.captions[step], step


def test_the_circuit_stands_on_prompts_it_was_not_found_on(found):
    circuit, verdict = found.results["circuit"], found.results["faithfulness"]
    assert {"a0.h0", "input"} <= set(circuit.nodes)
    assert any(edge.startswith("a0.h0->a1.") and edge.endswith("<k>") for edge in circuit.edges)
    assert verdict.accepted
    assert verdict.sufficiency > 0.8
    assert verdict.necessity > 0.8
    assert verdict.attributes["n_samples_shared"] == 0


def test_features_carry_what_the_model_needs(found):
    evaluation, effects = found.results["autoencoder"], found.results["features"]
    assert evaluation.attributes["site"] == "blocks.0.resid_post"
    assert evaluation["explained_variance"] > 0.9
    assert evaluation.data["loss_recovered"].min() > 0.9  # .99 with the default
    assert effects.data["error_only"].mean() < -3 < effects.data["without_error"].mean()


class OfUnits:
    """A dictionary whose features are the units."""

    def encode(self, x):
        return x

    def decode(self, features):
        return features


@pytest.mark.parametrize(("every", "told"), [(12, True), (1, False)])
def test_an_interval_without_0_beside_a_large_p_is_explained(every, told):
    """Of 20 features each is active in 4 of 48 prompts, where no p of 20 can be small, or in all, where all are."""
    active = np.arange(48)[:, None] % every == np.arange(20) % every
    x = torch.from_numpy(active * (1 + np.random.default_rng(0).random((48, 20)))).float()
    model = nm.adapt(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(20, 1, bias=False)))
    model.module[1].weight.data = torch.ones(1, 20)
    effects = nm.feature_effects(model, OfUnits(), x, lambda output: output[:, 0], site="0")
    assert (effects.data["high"] < 0).all()
    assert (effects.data["p_adjusted"] > 0.05).all() == told
    caption = caption_of_features(effects)
    assert "adjusted for all 20 features" in caption
    assert (
        "p is large, as for each of 20 features here, it matters to few prompts (typically 4 of 48)" in caption
    ) == told
    assert ("leaves out 0" in caption) == told


def test_the_caption_of_features_stands_in_the_report(found):
    assert found.captions["features"] == caption_of_features(found.results["features"])


def test_the_last_token_has_occurred_before_and_in_the_partner_it_has_not():
    pairs: Any = repeated_token_pairs(nm.adapt(nm.load_model("induction")), 5, seed=3)
    earlier = pairs.clean.shape[1] - 1 - 16
    assert torch.equal(pairs.clean[:, earlier], pairs.clean[:, -1])
    assert torch.equal(pairs.clean[:, earlier + 1], pairs.metric.token)
    changed = pairs.clean != pairs.corrupted
    assert changed.sum(1).tolist() == [1] * 5
    assert changed[:, earlier].all()


def test_the_same_numbers_by_hand(found):
    """All heads of layer 1 of the corrupted run in the clean one, by torch alone."""
    model = nm.adapt(nm.load_model("induction"))
    pairs, network = repeated_token_pairs(model, 6, seed=0), nm.load_model("induction")
    heads = effects_by_head(model, pairs)
    result = together_and_alone(model, pairs, heads)
    kept = {}
    with torch.no_grad():
        into = network.blocks[1].attention.output
        handle = into.register_forward_pre_hook(lambda _, args: kept.update(z=args[0]))
        corrupted = network(pairs.corrupted)
        handle.remove()
        clean = network(pairs.clean)
        handle = into.register_forward_pre_hook(lambda _, args: (kept["z"],))
        patched = network(pairs.clean)
        handle.remove()
    value = [float(pairs.metric(output).mean()) for output in (patched, clean, corrupted)]
    expected = (value[0] - value[1]) / (value[2] - value[1])
    assert float(result.data["together"].sel(site="blocks.1.z")) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_finds_the_same(seed):
    found = understand("induction", seed=seed, progress=False)
    assert found.left_out == {}
    assert found.results["together"].redundant == ["blocks.0.z", "blocks.1.z"]
    assert found.results["induction"].is_induction
    assert found.results["faithfulness"].accepted
    assert found.results["autoencoder"].data["loss_recovered"].min() > 0.99


# -- negative controls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, *map(slow_case, (1, 2, 3))])
def test_an_untrained_copy_shows_none_of_it_and_says_so(seed):
    found = understand(
        untrained(seed), corpus=SETTINGS["corpus"][:40], n_features=32, n_prompts=24, seed=seed, progress=False
    )
    words = " ".join(found.results["in_short"].findings)
    assert "There is no induction here" in words
    assert "no head attends to the token before" in words
    assert not found.results["behaviour"].is_there
    assert "there is no behaviour to explain" in found.left_out["circuit"]
    assert "Effects of heads are not to be read" in words
    assert "faithfulness" not in found.results


def test_a_metric_that_has_nothing_to_do_with_the_corruption_has_no_behaviour():
    model = nm.adapt(nm.load_model("induction"))
    pairs = repeated_token_pairs(model, 48, seed=1)
    answers = torch.randint(1, 64, (2, 48), generator=torch.Generator().manual_seed(5))
    unrelated = PromptPairs(pairs.clean, pairs.corrupted, nm.logit_difference(*answers))
    assert behaviour_of(model, pairs).is_there
    assert not behaviour_of(model, unrelated).is_there


def test_an_autoencoder_where_nothing_matters_is_judged_without_a_loss():
    model = nm.adapt(nm.load_model("induction"))
    pairs = repeated_token_pairs(model, 8)
    site = "blocks.1.z[head=0, position=1]"  # what follows reads the last position only
    training, tokens = SETTINGS["corpus"][:300], SETTINGS["corpus"][300:600]
    with pytest.warns(UserWarning, match="which are few"):
        sae = fit_autoencoder(model, site, training, 8, progress=False)
    with pytest.warns(UserWarning, match="not known: ablating"):
        evaluation = judge_autoencoder(sae, model, pairs, tokens)
    assert "loss_recovered" not in evaluation.data


# -- going on, and other models --------------------------------------------------------------------------------------


def test_a_run_is_gone_on_with_and_gives_the_same_numbers(found, folder, monkeypatch):
    def never(*_, **__):
        raise AssertionError("this was done before")

    (folder / "steps" / "together.nc").unlink()
    monkeypatch.setattr(SparseAutoencoder, "fit", never)
    monkeypatch.setattr("neuros_mechint.workflows.understanding.understand.effects_by_head", never)
    with pytest.warns(UserWarning, match="'together'"):
        again = understand("induction", **SETTINGS, folder=folder, progress=False)
    assert list(again.results) == list(found.results)
    for name, result in found.results.items():
        assert again.results[name].data.identical(result.data), name
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in ("The behaviour", "they stand in for each other", "Faithfulness of a circuit", "In short"):
        assert words in page


def test_a_language_model_of_which_nothing_is_known_is_given_random_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=300, n_positions=80, n_embd=16, n_layer=2, n_head=2, bos_token_id=5, eos_token_id=5
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config).eval()
    pairs = repeated_token_pairs(nm.adapt(model), 8)
    assert (pairs.clean[:, 0] == 5).all()
    assert int(pairs.clean.max()) > 63
    found = understand(model, corpus=pairs.clean, n_prompts=6, n_features=8, progress=False)
    assert "any language model can be given" in found.subtitle
    assert set(found.results["together"].data["site"].values) >= {"blocks.0.z", "blocks.0.mlp_out", "blocks.1.mlp_out"}
    assert (found.results["together"].data["head"].sel(site="blocks.0.mlp_out") == -1).all()
    assert not found.results["induction"].is_induction


def test_ones_own_prompts_from_python_and_from_a_file(tmp_path):
    clean, corrupted, correct, wrong = partners(32, 1)
    path = tmp_path / "prompts.json"
    lists = zip(("clean", "corrupted", "correct", "wrong"), (clean, corrupted, correct, wrong), strict=True)
    path.write_text(json.dumps({name: one.tolist() for name, one in lists}))
    model = nm.adapt(hand_weighted(10.0, 0.02))
    given: Any = open_prompts((clean, corrupted, nm.logit_difference(correct, wrong))).value
    written: Any = open_prompts(path).value
    read = written.of(model)
    assert torch.equal(read.clean, given.clean)
    assert torch.equal(read.corrupted, given.corrupted)
    output = model.run(clean).output
    assert torch.equal(read.metric(output), given.metric(output))
    found = understand(model, path, n_features=8, progress=False)
    assert "a1.h0" in found.results["circuit"].nodes
    assert "induction" not in found.results
    assert found.manifest.inputs["prompts"].kind == "file"
    assert found.results["faithfulness"].accepted


def test_texts_are_read_by_the_models_tokenizer(tmp_path):
    """Padding stands on the right: the answer is read at the last token of each prompt."""
    transformers = pytest.importorskip("transformers")

    def tokenize(texts, return_tensors="pt", padding=True, add_special_tokens=True):
        if isinstance(texts, str):
            return {"input_ids": [1 + len(word) for word in texts.split()]}
        rows = [[1 + len(word) for word in text.split()] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}

    config = transformers.GPT2Config(vocab_size=30, n_positions=16, n_embd=8, n_layer=1, n_head=2, eos_token_id=0)
    model = nm.adapt(transformers.GPT2LMHeadModel(config).eval(), tokenizer=tokenize)
    path = tmp_path / "prompts.json"
    texts = ["a bb ccc", "dd e", "a a a a", "bb bb bb"]
    content = {"clean": texts, "corrupted": [f"xxxx {text.partition(' ')[2]}" for text in texts], "correct": ["aa"] * 4}
    path.write_text(json.dumps(content))
    written: Any = open_prompts(path).value
    pairs = written.of(model)
    assert pairs.clean["input_ids"].tolist()[1] == [3, 2, 0, 0]
    assert pairs.metric.position.tolist() == [2, 1, 3, 2]
    assert pairs.metric.token.tolist() == [3] * 4
    path.write_text(json.dumps(content | {"correct": ["aa bb"] * 4}))
    written = open_prompts(path).value
    with pytest.raises(InputError, match="not one token"):
        written.of(model)


def test_copies_of_a_pair_are_no_further_evidence():
    pairs = repeated_token_pairs(nm.adapt(nm.load_model("induction")), 6)
    again = [*range(6), *range(6), 3, 3]
    copies = PromptPairs(pairs.clean[again], pairs.corrupted[again], pairs.metric.copies(3).rows(0, 14))
    kept = copies.distinct()
    assert len(kept) == 6
    assert torch.equal(kept.clean, pairs.clean)
    assert torch.equal(kept.metric.token, pairs.metric.token)
    assert kept.told.endswith("6 different ones of 14")
    assert pairs.distinct() is pairs
    texts = PromptPairs({"input_ids": ["a", "b", "a", "a"]}, ["c", "d", "c", "e"], lambda output: output).distinct()
    assert (texts.clean, texts.corrupted) == ({"input_ids": ["a", "b", "a"]}, ["c", "d", "e"])
    one = PromptPairs(*(half[:1].repeat(24, 1) for half in (pairs.clean, pairs.corrupted)), nm.log_probability(3))
    with pytest.raises(InputError, match="too few prompts") as refused:
        understand("induction", one, progress=False)
    assert "different pairs" in str(refused.value)


# -- bad input -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_understood_is_refused_with_a_reason(tmp_path):
    tokens = torch.arange(40).view(8, 5)
    other = tokens + 1
    metric = nm.log_probability(3)
    cases = [
        (CapabilityError, "no transformer", ("decision_rnn", (torch.zeros(8, 5, 4), torch.ones(8, 5, 4), torch.sum))),
        (InputError, "cannot be tested with random tokens", ("decision_rnn",)),
        (InputError, "no model 'inducton'", ("inducton",)),
        (
            InputError,
            "does not depend on the model's output",
            ("induction", (tokens, other, lambda o: torch.zeros(len(o)))),
        ),
        (InputError, "the same for every clean prompt", ("induction", (tokens, tokens, metric))),
        (InputError, "too few prompts", ("induction", (tokens[:3], other[:3], metric))),
        (InputError, "one value for each prompt", ("induction", (tokens, other, lambda o: o[:, -1, 3].mean()))),
        (InputError, "are no pairs", ("induction", (tokens, other[:7], metric))),
        (InputError, "nothing to measure by", ("induction", (tokens, other, 3))),
        (InputError, "no pairs of prompts", ("induction", [tokens])),
        (StorageError, "there is no file", ("induction", tmp_path / "none.json")),
    ]
    for kind, message, arguments in cases:
        with pytest.raises(kind, match=message):
            understand(*arguments, progress=False)
    with pytest.raises(SiteError, match=r"blocks\.9"):
        understand("induction", site="blocks.9.resid_post", progress=False)
    for corpus in (tokens[:1], tokens.float(), tokens[0]):
        with pytest.raises(InputError, match="no corpus"):
            understand("induction", corpus=corpus, progress=False)
    for choice in (
        {"corpus": tokens + 1000},
        {"corpus": tokens - 1},
        {"site": "blocks.*.resid_post"},
        {"site": "nope"},
    ):
        with pytest.raises((InputError, SiteError), match=r"ids that the model does not know|is several sites|no site"):
            understand("induction", folder=tmp_path / "none", progress=False, **choice)
    assert not (tmp_path / "none").exists()
    with pytest.raises(InputError, match="not a seed"):
        understand("induction", seed=None, progress=False)  # type: ignore[arg-type]
    wrong: list[dict[str, Any]] = [{"n_prompts": 1}, {"n_null": 5}, {"n_features": 1}]
    for options in wrong:
        with pytest.raises(OptionError, match="out of range"):
            understand("induction", progress=False, **options)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"clean": [[1]], "corrupted": [[2]]}',
        '{"clean": [[1]], "corrupted": [[2], [3]], "correct": [1]}',
        '{"clean": [], "corrupted": [], "correct": []}',
        '{"clean": [[1]], "corrupted": [[2]], "correct": [1], "wrong": 0}',
        "3",
    ],
)
def test_damaged_files_of_prompts_are_refused(tmp_path, content):
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(StorageError, match="holds no prompts"):
        open_prompts(path)


PAIRS: dict[str, Any] = {"clean": [[1, 2]] * 4, "corrupted": [[1, 3]] * 4, "correct": [4] * 4, "wrong": [5] * 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"worng": [5] * 4}, r"unknown entry in p\.json 'worng'[\s\S]*did you mean 'wrong'"),
        ({"answers": [4] * 4}, "unknown entry"),
        *(({"clean": [[1, 2], [1, one], [1, 2], [1, 2]]}, r"clean\[1\] in p\.json is no prompt") for one in
          (3.5, True, 10**30, float("nan"), -1, [2], None)),
        ({"corrupted": [[1, 3]] * 3 + [[]]}, r"corrupted\[3\] in p\.json is no prompt"),
        ({"clean": [1, 2, 3, 4]}, r"clean\[0\] in p\.json is no prompt"),
        ({"clean": ["words"] * 4}, "some prompts are texts"),
        ({"correct": [4, 4, 4, 3.5]}, r"correct\[3\] in p\.json is no token[\s\S]*got: +3\.5"),
        ({"correct": [[4]] * 4}, r"correct\[0\] in p\.json is no token"),
        ({"wrong": [False] * 4}, r"wrong\[0\] in p\.json is no token"),
        ({"corrupted": [[1, 2], [1, 64], [1, 2], [1, 2]]}, r"corrupted prompts hold[\s\S]*between 0 and 63\s+got: +64"),
        ({"clean": [[1, 2]] * 3 + [[99, 2]]}, r"clean prompts hold[\s\S]*between 0 and 63\s+got: +99"),
        ({"corrupted": [[1, 2, 3]] * 4}, "are not partners"),
    ],
)  # fmt: skip
def test_what_stands_in_a_file_of_prompts_is_taken_as_it_is_or_refused(tmp_path, change, message):
    """Nothing is cut off or passed over, and what is refused leaves no folder, though other entries are in order."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps(PAIRS | change))
    with pytest.raises(InputError, match=message):
        understand("induction", path, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_token_ids_below_0_are_refused_of_arrays_too():
    tokens = torch.arange(40).view(8, 5)
    for first, second, where in ((tokens - 1, tokens, "clean"), (tokens, tokens - 1, "corrupted")):
        with pytest.raises(InputError, match=rf"{where} prompts hold[\s\S]*between 0 and 63\s+got: +-1"):
            understand("induction", (first, second, nm.log_probability(3)), progress=False)


def test_prompts_that_are_no_partners_leave_no_folder(tmp_path):
    tokens = torch.arange(60).view(6, 10)
    with pytest.raises(InputError, match="are not partners"):
        understand("induction", (tokens, tokens[:, :5], nm.log_probability(3)), folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_weights_that_are_no_numbers_are_told_by_name(tmp_path):
    model = nm.load_model("induction")
    with torch.no_grad():
        model.blocks[1].attention.output.weight[0, 0] = float("nan")
    with pytest.raises(
        InputError, match=r"weights blocks\.1\.attention\.output\.weight of the model: some values are not"
    ):
        understand(model, folder=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_words_without_a_tokenizer_are_refused(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"clean": [[1, 2]] * 4, "corrupted": [[1, 3]] * 4, "correct": [" Mary"] * 4}))
    with pytest.raises(CapabilityError, match="need a tokenizer"):
        understand("induction", path, progress=False)
    path.write_text(json.dumps({"clean": [[1, 2], [1]] * 2, "corrupted": [[1, 3]] * 4, "correct": [4] * 4}))
    with pytest.raises(InputError, match="different lengths"):
        understand("induction", path, progress=False)


def test_who_has_too_few_tokens_is_told_how_to_give_prompts_on_the_command_line_too():
    with pytest.raises(InputError, match="too few tokens") as refused:
        understand(InductionTransformer(d_vocab=16).eval(), progress=False)
    assert "give prompts=FILE" in str(refused.value)
    told = cli._spoken(str(refused.value), "understand")
    assert 'give --prompts FILE, pairs of prompts of your own in JSON: {"clean": [...]' in told
    assert "PromptPairs" not in told


def test_nothing_is_changed(found):
    """The caller's model and random state are as they were."""
    model = nm.load_model("induction")
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.random.get_rng_state()
    adapter = nm.adapt(model)
    pairs = repeated_token_pairs(adapter, 8)
    behaviour_of(adapter, pairs)
    together_and_alone(adapter, pairs, effects_by_head(adapter, pairs))
    with pytest.warns(UserWarning, match="176 observations, which are few"):
        fit_autoencoder(adapter, "blocks.0.resid_post", pairs.clean, 8, progress=False)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())
    assert np.isfinite(found.results["in_short"].main).all()
