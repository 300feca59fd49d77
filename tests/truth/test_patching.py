"""Patching and metrics against answers known from algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import neuros_mechint as nm


class TwoPaths(torch.nn.Module):
    """``y = 3 a(x) + b(x)`` with ``a`` and ``b`` reading different inputs; ``idle`` runs but nobody reads it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.idle = torch.nn.Identity(), torch.nn.Identity(), torch.nn.Identity()

    def forward(self, x):
        self.idle(x)
        return 3 * self.a(x[:, :1]) + self.b(x[:, 1:])


@pytest.fixture(scope="module")
def partners():
    random = torch.Generator().manual_seed(0)
    return torch.randn(6, 2, generator=random), torch.randn(6, 2, generator=random)


@pytest.fixture(scope="module")
def patcher():
    return nm.ActivationPatcher(nm.adapt(TwoPaths()), lambda output: output[:, 0])


def test_each_path_restores_its_own_share(patcher, partners):
    clean, corrupted = partners
    effects = patcher.sweep(clean, corrupted, ["a", "b", "idle"], by=())
    by_hand = {
        "a": 3 * clean[:, 0] + corrupted[:, 1],
        "b": 3 * corrupted[:, 0] + clean[:, 1],
        "idle": 3 * corrupted[:, 0] + corrupted[:, 1],
    }
    for site, expected in by_hand.items():
        np.testing.assert_allclose(effects.data["per_sample"].sel(site=site), expected, rtol=1e-6)
        assert float(effects.values.sel(site=site)) == pytest.approx(expected.mean().item(), rel=1e-6)


def test_a_site_that_is_not_read_has_exactly_no_effect(patcher, partners):
    assert patcher.sweep(*partners, "idle", by=()).normalized().item() == 0


def test_effects_of_a_linear_model_add_up_to_one_and_joint_patching_restores_all(patcher, partners):
    alone = patcher.sweep(*partners, ["a", "b"], by=()).normalized()
    assert alone.sum().item() == pytest.approx(1, abs=1e-6)
    joint = patcher.joint(*partners, ["a", "b"])
    assert joint.normalized().item() == pytest.approx(1, abs=1e-6)
    assert joint.values.item() == pytest.approx(joint.clean, rel=1e-6)


def test_swapping_the_runs_measures_what_is_lost(patcher, partners):
    clean, corrupted = partners
    restored = patcher.sweep(clean, corrupted, ["a", "b"], by=()).normalized()
    lost = patcher.sweep(corrupted, clean, ["a", "b"], by=()).normalized()
    np.testing.assert_allclose(restored, lost, atol=1e-5)  # equal in a linear model only


def test_effects_do_not_depend_on_the_batch_size(patcher, partners):
    whole = patcher.sweep(*partners, ["a", "b"], by=("unit",))
    parts = patcher.sweep(*partners, ["a", "b"], by=("unit",), batch_size=4)
    np.testing.assert_array_equal(whole.values, parts.values)


def test_redundant_paths_show_up_jointly_only():
    class Maximum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = torch.nn.Identity(), torch.nn.Identity()

        def forward(self, x):
            return torch.maximum(self.left(x), self.right(x))

    patcher = nm.ActivationPatcher(nm.adapt(Maximum()), lambda output: output[:, 0])
    present, absent = torch.ones(3, 1), torch.zeros(3, 1)
    alone = patcher.sweep(absent, present, ["left", "right"], by=()).normalized()
    np.testing.assert_array_equal(alone, [0, 0])
    assert patcher.joint(absent, present, ["left", "right"]).normalized().item() == 1


def test_the_residual_stream_restores_everything_at_the_changed_position_only(induction, tokens):
    other = tokens.clone()
    other[:, 5] = (other[:, 5] % 63) + 1
    effects = nm.ActivationPatcher(induction, lambda output: output[:, 5, 7]).sweep(tokens, other, "blocks.0.resid_pre")
    normalized = effects.normalized().sel(site="blocks.0.resid_pre").values
    assert normalized[5] == pytest.approx(1, abs=1e-5)
    assert np.abs(np.delete(normalized, 5)).max() == 0


def test_results_are_saved_and_loaded_whole(patcher, partners, tmp_path):
    effects = patcher.sweep(*partners, ["a", "b"], by=("unit",))
    loaded = nm.load_result(effects.save(tmp_path / "effects.nc"))
    assert loaded == effects
    assert type(loaded) is type(effects)
    np.testing.assert_array_equal(loaded.normalized(), effects.normalized())


# -- ablation --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def induction():
    return nm.adapt(nm.load_model("induction"))


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(1, 64, (4, 12), generator=torch.Generator().manual_seed(3))


def test_zeroing_a_head_equals_zeroing_its_part_of_the_output_matrix(induction, tokens):
    cut = nm.load_model("induction")
    with torch.no_grad():
        cut.blocks[0].attention.output.weight[:, 16:32] = 0  # head 1 of four, 16 units each
        expected = cut(tokens)
    got = induction.run(tokens, edits=nm.Zero("blocks.0.z[head=1]")).output
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)
    assert (got - induction.run(tokens).output).abs().max() > 0.1


def test_the_mean_over_copies_of_one_input_changes_nothing(induction, tokens):
    copies = tokens[:1].expand(5, -1)
    reference = induction.capture(copies, "blocks.0.resid_post")
    edited = induction.run(copies, edits=nm.Mean("blocks.0.resid_post", reference, over=("sample",))).output
    torch.testing.assert_close(edited, induction.run(copies).output, rtol=0, atol=1e-5)


def test_resampling_from_the_partner_runs_it_from_there_on(induction, tokens):
    pair = tokens[:2]
    swapped = nm.Resample("blocks.0.resid_post", induction.capture(pair, "blocks.0.resid_post"))
    torch.testing.assert_close(induction.run(pair, edits=swapped).output, induction.run(pair).output.flip(0))


# -- metrics ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logits():
    return torch.randn(3, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_log_probability_equals_log_softmax(logits):
    token, position = torch.tensor([1, 0, 5]), torch.tensor([0, -1, 2])
    got = nm.log_probability(token, position)(logits)
    probability = torch.stack(
        [logits[i, p].exp()[t] / logits[i, p].exp().sum() for i, (t, p) in enumerate(zip(token, position, strict=True))]
    )
    torch.testing.assert_close(got, probability.log())
    assert nm.log_probability(0)(torch.zeros(1, 1, 8)).item() == pytest.approx(-np.log(8))


def test_logit_difference_ignores_what_raises_all_logits(logits):
    metric = nm.logit_difference(2, 4, position=1)
    torch.testing.assert_close(metric(logits), logits[:, 1, 2] - logits[:, 1, 4])
    torch.testing.assert_close(metric(logits + 7), metric(logits))


def test_kl_divergence_equals_its_sum_and_is_zero_only_for_the_same_distribution(logits):
    metric = nm.kl_divergence(logits, position=2)
    other = logits.flip(-1)
    p, q = logits[:, 2].softmax(-1), other[:, 2].softmax(-1)
    torch.testing.assert_close(metric(other), (p * (p / q).log()).sum(-1))
    assert metric(logits).abs().max() < 1e-12
    assert metric(other).min() > 0.01
    assert metric(logits + 3).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda: nm.log_probability(6), "token out of range"),
        (lambda: nm.log_probability(torch.tensor([1, 2])), "does not match the samples"),
        (lambda: nm.log_probability(1.5), "whole numbers"),
        (lambda: nm.logit_difference(1, 2, position=4), "position out of range"),
        (lambda: nm.kl_divergence(torch.zeros(3, 5)), "another shape"),
    ],
)
def test_metrics_refuse_what_does_not_fit(logits, metric, message):
    with pytest.raises(nm.errors.InputError, match=message):
        metric()(logits)


def test_metrics_read_outputs_of_every_form(logits):
    metric = nm.log_probability(1)
    for output in ({"logits": logits}, (logits, None), type("Output", (), {"logits": logits})()):
        torch.testing.assert_close(metric(output), metric(logits))
    with pytest.raises(nm.errors.InputError, match="holds no logits"):
        metric("text")


# -- what is said about the numbers ----------------------------------------------------------------------------------


def test_runs_that_do_not_differ_beyond_chance_are_flagged_and_clear_differences_are_not(patcher):
    random = torch.Generator().manual_seed(5)
    noise = torch.randn(2, 30, 2, generator=random)
    flagged = patcher.sweep(noise[0], noise[1], "a", by=())
    assert any("standard error" in text for text in flagged.warnings)
    clear = patcher.sweep(noise[0] + 5, noise[1], "a", by=())
    assert clear.warnings == ()


def test_the_summary_tells_changes_and_shares(patcher, partners):
    effects = patcher.sweep(*partners, ["a", "b"], by=())
    share = effects.normalized().sel(site="a").item()
    change = effects.values.sel(site="a").item() - effects.corrupted
    assert f"a: {change:+.4g} ({share:.1%})" in effects.summary()


# -- estimates from a gradient ---------------------------------------------------------------------------------------


def test_estimates_are_exact_where_the_model_is_linear(patcher, partners):
    exact = patcher.sweep(*partners, ["a", "b", "idle"], by=())
    estimated = patcher.sweep(*partners, ["a", "b", "idle"], by=(), engine="attribution", verify=0)
    np.testing.assert_allclose(estimated.values, exact.values, atol=1e-6)
    np.testing.assert_allclose(estimated.data["per_sample"], exact.data["per_sample"], atol=1e-5)
    assert not estimated.data["exact"].any()
    assert "estimated" in estimated.title
    assert any("estimated from a gradient" in text for text in estimated.warnings)


class Saturated(torch.nn.Module):
    """``y = tanh(20 a) + b``: at a corrupted value far from zero the gradient with respect to ``a`` vanishes."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Identity(), torch.nn.Identity()

    def forward(self, x):
        return torch.tanh(20 * self.a(x[:, :1])) + self.b(x[:, 1:])


def test_what_is_verified_is_exact_and_the_rest_is_marked_as_an_estimate():
    patcher = nm.ActivationPatcher(nm.adapt(Saturated()), lambda output: output[:, 0])
    clean, corrupted = torch.tensor([[1.0, 1.0], [1.0, 0.5]]), torch.tensor([[-1.0, 0.0], [-1.0, 0.0]])
    exact = patcher.sweep(clean, corrupted, ["a", "b"], by=())
    found = patcher.sweep(clean, corrupted, ["a", "b"], by=(), engine="attribution", verify=1)
    assert found.data["exact"].values.tolist() == [False, True]  # the saturated site looks unimportant
    assert found.values.sel(site="b").item() == pytest.approx(exact.values.sel(site="b").item())
    assert abs(found.values.sel(site="a").item() - found.corrupted) < 1e-3
    assert exact.values.sel(site="a").item() - exact.corrupted == pytest.approx(2)  # what the estimate misses
    assert any("not to be trusted at a" in text for text in found.warnings)
    assert not any("not to be trusted at b" in text for text in found.warnings)
    everything = patcher.sweep(clean, corrupted, ["a", "b"], by=(), engine="attribution", verify=2)
    np.testing.assert_allclose(everything.values, exact.values, atol=1e-6)


def test_the_prescreen_finds_the_head_that_matters(induction, tokens):
    other = tokens.clone()
    other[:, 4] = (other[:, 4] % 63) + 1
    patcher = nm.ActivationPatcher(induction, nm.log_probability(tokens[:, 5], position=4))
    exact = patcher.sweep(tokens, other, "blocks.*.z", by=("head",))
    found = patcher.sweep(tokens, other, "blocks.*.z", by=("head",), engine="attribution", verify=3)
    assert int(found.data["exact"].sum()) == 3
    verified = found.data["exact"].values
    np.testing.assert_allclose(found.values.values[verified], exact.values.values[verified], atol=1e-5)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p, x: p.sweep(x, x[:, :5], "blocks.0.z"), nm.errors.InputError, "not partners"),
        (lambda p, x: p.sweep(x, x[:2], "blocks.0.z"), nm.errors.InputError, "not partners"),
        (lambda p, x: p.joint(x, x[:2], "blocks.0.z"), nm.errors.InputError, "not partners"),
        (lambda p, x: p.sweep(x, x, []), nm.errors.InputError, "no sites"),
        (lambda p, x: p.sweep(x, x, "blocks.7.z"), nm.errors.SiteError, "blocks.0.z"),
        (lambda p, x: p.sweep(x, x, "blocks.0.z", by="haed"), nm.errors.SiteError, "cannot be taken apart"),
        (lambda p, x: p.sweep(x, x, "blocks.0.z[head=1]", by="head"), nm.errors.SiteError, "head"),
        (lambda p, x: p.sweep(x, x, "blocks.0.z", engine="fast"), nm.errors.OptionError, "unknown engine"),
        (lambda p, x: p.sweep(x, x, "blocks.0.z", verify=3), nm.errors.OptionError, "belongs to engine='attribution'"),
        (
            lambda p, x: p.sweep(x, x, "blocks.0.z", engine="attribution", verify=-1),
            nm.errors.OptionError,
            "verify is out of range",
        ),
        (lambda p, x: p.sweep(x, x, "blocks.0.z", batch_size=0), nm.errors.InputError, "batch_size is out of range"),
        (lambda p, x: p.sweep(x, x, "blocks.0.z").normalized(), nm.errors.InputError, "hardly differ"),
    ],
)
def test_bad_input_is_refused(induction, tokens, call, error, message):
    patcher = nm.ActivationPatcher(induction, nm.log_probability(7))
    with pytest.raises(error, match=message):
        call(patcher, tokens)


@pytest.mark.parametrize("engine", ["auto", "loop", "batched", "suffix"])
@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda output: output[:, -1, 0] * float("nan"), "not finite"),
        (lambda output: torch.ones(output.shape[0]), "does not depend on the model's output"),
        (lambda output: output[:, -1], "too many axes"),
        (nm.log_probability(7, position=30), "position out of range"),
        (nm.log_probability(torch.tensor([1, 2])), "does not match the samples"),
    ],
    ids=["not finite", "constant", "too many axes", "out of range", "another batch"],
)
def test_metrics_that_measure_nothing_are_refused(induction, tokens, metric, message, engine):
    with pytest.raises(nm.errors.InputError, match=message):
        nm.ActivationPatcher(induction, metric).sweep(tokens, tokens.flip(0), "blocks.*.z", by=("head",), engine=engine)


def test_answers_at_different_positions_are_refused():
    from tests.conformance.architectures import ARCHITECTURES

    module, inputs = ARCHITECTURES["GPT2"].build()
    masks = torch.ones(2, *inputs["input_ids"].shape, dtype=torch.long)
    masks[1, 0, :2] = 0
    clean, corrupted = ({**inputs, "attention_mask": mask} for mask in masks)
    with pytest.raises(nm.errors.InputError, match="padded differently"):
        nm.ActivationPatcher(nm.adapt(module), nm.log_probability(5)).sweep(clean, corrupted, "blocks.0.z", by="head")


def test_a_sweep_holds_no_more_rows_at_once_than_it_should(monkeypatch):
    """Interventions are planned in slabs: with a tiny budget the numbers are the same."""
    from neuros_mechint.causal.engines import suffix
    from tests.conformance.architectures import ARCHITECTURES

    module, inputs = ARCHITECTURES["GPT2"].build()
    model, other = nm.adapt(module), {"input_ids": inputs["input_ids"].flip(0)}
    patcher = nm.ActivationPatcher(model, nm.log_probability(5))
    whole = patcher.sweep(other, inputs, "blocks.*.resid_pre")
    monkeypatch.setattr(suffix, "_BYTES_AT_ONCE", 1)
    monkeypatch.setattr("neuros_mechint.causal.engines.cost._FLOATS_PER_CALL", 1)
    largest = []
    run_block = suffix.Replay._run_block

    def watched(self, layer, hidden, *rest):
        largest.append(hidden.shape[0])
        return run_block(self, layer, hidden, *rest)

    monkeypatch.setattr(suffix.Replay, "_run_block", watched)
    parts = patcher.sweep(other, inputs, "blocks.*.resid_pre")
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-5)
    assert max(largest) == 3  # one copy of the three samples
