"""What was found of a transformer, in words: which heads, and of which prompts each number is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from neuros_mechint.causal.circuits.results import Circuit
from neuros_mechint.causal.circuits.verdict import Faithfulness
from neuros_mechint.causal.patching.patcher import PatchingEffects
from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.features.effects import FeatureEffects
from neuros_mechint.features.evaluation.evaluate import SAEEvaluation
from neuros_mechint.workflows.heads import head_name, layer_of
from neuros_mechint.workflows.induction import InductionCheck
from neuros_mechint.workflows.runs.in_short import InShort, short_reason, told_in_short
from neuros_mechint.workflows.understanding.steps import (
    FIRST,
    SECOND,
    Behaviour,
    TogetherAndAlone,
    caption_of_features,
)

_ENOUGH_ATTENTION = 0.25
_NOTED = 0.05  # of the difference between clean and corrupted
_MOST_HEADS, _MOST_IN_CIRCUIT = 8, 12
_NAMES = "L1H0 is head 0 of layer 1, both counted from 0"
_CLEAN, _CORRUPTED = "the clean prompts", "the corrupted prompts"
_CITATIONS = ("heimersheim2024", "mcgrath2023hydra", "olsson2022", "gao2024", "mueller2025mib")
_CAPTIONS = {
    "behaviour": "The metric of every clean prompt, and of its corrupted partner, in which one thing is changed: all "
    "pairs. They are halved, because what is found on some prompts has to be judged on others; the means of the halves "
    "differ a little, and each section below says of which half its numbers are.",
    "induction": "Whether the model continues random tokens that repeat, at distances seen and not seen in training; "
    "the dashed line is what the verdict asks for. Attention is that over these sequences, which are longer than the "
    f"prompts of the other sections; that to the token before may fall with the position. {_NAMES}.",
    "positions": "Denoising: one position of the residual stream at a time is put from the clean run into the "
    f"corrupted one, on the {FIRST} of the pairs. 1 means that this place holds all that the answer needs: read from "
    "top to bottom, how it travels.",
    "heads": "Noising: one head of the corrupted run at a time is put into the clean run, on the "
    f"{FIRST} of the pairs. 1 means that the metric gets to its mean on the corrupted prompts, above 1 that it "
    "goes beyond: the head is needed. 0 does not mean that a head does nothing: another may do the same. "
    "Row blocks.1.z, column 0 is L1H0.",
    "heads_denoising": "Denoising: the other way round, one head of the clean run at a time is put into the corrupted "
    f"run, on the same {FIRST} of the pairs. 1 means that this head alone brings the answer back. A head that is "
    "enough here and not needed in the figure before has others that do the same; one that is needed there and not "
    "enough here works only together with others.",
    "together": "Noising of all heads of a layer, and of its MLP, at once, beside the largest effect of one head; "
    f"{FIRST} of the pairs. Where the blue bar is long and the other short, heads stand in for each other. Ablation "
    "asks something else, and may disagree about a head: patching exchanges what a head says differently on the two "
    "prompts, while ablation (nm.AblationStudy, by zero or by the mean) takes away all that it says, also what it says "
    "alike on both. In either case later heads may step in for what is missing (backup heads, self-repair), so that a "
    "small effect is no proof that a head takes no part.",
    "autoencoder": "How often each feature of the sparse autoencoder is active on inputs that it was not trained on. "
    f"The loss recovered is that of the clean prompts of the {SECOND} of the pairs.",
    "circuit": f"The edges that were found on the {FIRST} of the pairs; a1.h0 is L1H0. All other edges carry what the "
    "corrupted prompts put there (resample ablation).",
    "faithfulness": f"The circuit on the {SECOND} of the pairs, on which it was not found: how much of the behaviour "
    "the best edges restore, and random circuits of the same size.",
}


def captions(results: Mapping[str, Result]) -> dict[str, str]:
    """Return what to see in the figure of each step.

    Parameters
    ----------
    results : mapping of str to Result
        The steps of `neuros_mechint.workflows.understanding.understand.understand`.
    """
    found, features = dict(_CAPTIONS), results.get("features")
    if isinstance(features, FeatureEffects):
        found["features"] = caption_of_features(features)
    largest = ["", ""]
    if results["together"].attributes["normalized"]:
        largest = [f" ({_by_size(_effects(results, name))[0][0]})" for name in ("heads", "heads_denoising")]
    found["in_short"] = (
        f"On one scale: the largest effect of one head exchanged{largest[0]}, of all heads of a layer exchanged at "
        f"once, and of one head put back{largest[1]}; how far the circuit is enough, and needed (sufficiency and "
        "necessity); how much variance, and how much of the loss of an ablation, the features of the autoencoder "
        "explain."
    )
    return found


def in_short(results: Mapping[str, Result], left_out: Mapping[str, str], fingerprint: str) -> InShort:
    """Return what the steps found, in words and as fractions of a whole.

    Parameters
    ----------
    results : mapping of str to Result
        The steps of `neuros_mechint.workflows.understanding.understand.understand`.
    left_out : mapping of str to str
        Steps that do not apply, and why.
    fingerprint : str
        Of the model.

    Returns
    -------
    InShort
    """
    behaviour, together = results["behaviour"], results["together"]
    assert isinstance(behaviour, Behaviour)
    assert isinstance(together, TogetherAndAlone)
    sentences = [_on_behaviour(behaviour), *_on_induction(results)]
    fractions: dict[str, float] = {}
    if behaviour.is_there and together.attributes["normalized"]:
        one, other = _effects(results, "heads"), _effects(results, "heads_denoising")
        sentences += [
            _on_heads(one, "takes away", "put from the corrupted run into the clean one (noising)", _CORRUPTED),
            _on_heads(other, "brings back", "put from the clean run into the corrupted one (denoising)", _CLEAN),
            *_on_layers(together, one),
            *(f"But {text}." for text in one.warnings),
            _on_halves(behaviour),
        ]
        layers = together.data["together"].where(together.data["head"] >= 0)
        fractions |= {
            "one head exchanged": _by_size(one)[0][1],
            "all heads of a layer exchanged": float(layers.max()),
            "one head put back": _by_size(other)[0][1],
        }
    else:
        sentences.append("Effects of heads are not to be read: there is no behaviour that they could change.")
    verdict = results.get("faithfulness")
    if isinstance(verdict, Faithfulness):
        fractions |= {"circuit enough": verdict.sufficiency, "circuit needed": verdict.necessity}
        sentences.append(_on_circuit(verdict, results["circuit"]))
    else:
        sentences.append(f"No circuit: {short_reason(left_out.get('faithfulness', ''))}.")
    evaluation = results["autoencoder"]
    assert isinstance(evaluation, SAEEvaluation)
    fractions["variance explained"] = evaluation["explained_variance"]
    if "loss_recovered" in evaluation.data:
        fractions["loss recovered"] = float(evaluation.data["loss_recovered"].sel(ablation="mean"))
    sentences += [_on_features(evaluation), *_on_effects_of_features(results.get("features"), left_out)]
    _explain_names(sentences)
    return told_in_short(
        "fraction", fractions, {"long_name": "fraction", "units": ""}, sentences, fingerprint, _CITATIONS
    )


def _explain_names(sentences: list[str]) -> None:
    """Say where heads are first named what their names mean."""
    first = next((at for at, text in enumerate(sentences) if re.search(r"\bL\d+H\d", text)), None)
    if first is not None:
        sentences[first] += f" {_NAMES}."


def _on_behaviour(behaviour: Behaviour) -> str:
    clean, corrupted = (float(behaviour.data[name].mean()) for name in ("clean", "corrupted"))
    return (
        f"Clean and corrupted prompts {'differ' if behaviour.is_there else 'do not differ'} in the metric by more than "
        f"chance ({clean:.3g} and {corrupted:.3g} over all {behaviour.data.sizes['pair']} pairs, "
        f"p = {behaviour.attributes['p']:.2g})."
    )


def _on_halves(behaviour: Behaviour) -> str:
    first, second = behaviour.halves
    return (
        f"Heads, positions and the circuit were looked for on the {FIRST} of the pairs ({first.sizes['pair']}), "
        f"features and the circuit judged on the {SECOND} ({second.sizes['pair']}): what is found on some prompts must "
        "stand on others. Percentages are of the difference between clean and corrupted prompts in that half."
    )


def _on_induction(results: Mapping[str, Result]) -> Iterator[str]:
    check = results.get("induction")
    if not isinstance(check, InductionCheck):
        return
    if not check.is_induction:
        yield f"There is no induction here: {'; '.join(check.reasons)}."
        return
    n_tokens, n_here = int(check.data["position"][-1]) + 1, _effects(results, "positions").values.sizes["position"]
    # of a causal model the attention at the first positions is what it would be if the sequence ended there
    here = check.data["previous_token_at"].sel(position=slice(None, n_here - 1)).mean("position")
    overall = check.data["previous_token"]
    before = here["head"].values[np.maximum(here.values, overall.values) > _ENOUGH_ATTENTION]
    after = check.data["head"].values[check.data["induction"].values > _ENOUGH_ATTENTION]
    told, whole = (", ".join(f"{float(one.sel(head=head)):.2f}" for head in before) for one in (here, overall))
    yield (
        f"It does induction: heads {', '.join(map(str, before))} look at the token before (mean attention "
        f"{told} at the first {n_here} positions, as many as the prompts here have; {whole} over all {n_tokens} "
        f"positions of the random sequences that this was tested with), and heads {', '.join(map(str, after))} at what "
        "followed the present token when it came first."
    )


class _Scale(NamedTuple):
    """The metric at 0% and at 100%, and what has the latter."""

    start: float
    end: float
    of_end: str

    def told(self, fraction: float, digits: int = 1) -> str:
        """Return a part of the behaviour in words; more than all of it is a metric beyond that of the other prompts."""
        share = f"{fraction:.{digits}%}"
        if not self.is_past(fraction, digits):
            return f"{share} of the behaviour"
        value = self.start + fraction * (self.end - self.start)
        return f"more than all of the behaviour ({share}: at {value:.4g} the metric {self.past()})"

    def is_past(self, fraction: float, digits: int = 1) -> bool:
        """Return whether a part is written as more than 100%."""
        return round(fraction, digits + 2) > 1

    def past(self) -> str:
        """Return what the metric does beyond 100%."""
        return f"is {'below' if self.end < self.start else 'above'} the mean of {self.of_end}, {self.end:.4g}"


def _effects(results: Mapping[str, Result], name: str) -> PatchingEffects:
    found = results[name]
    assert isinstance(found, PatchingEffects)
    return found


def _scale(effects: PatchingEffects, of_end: str) -> _Scale:
    return _Scale(effects.corrupted, effects.clean, of_end)  # "clean" is the run that was patched from


def _by_size(effects: PatchingEffects) -> list[tuple[str, float]]:
    """Return heads with the part of the behaviour that each is worth, the largest first."""
    values = effects.normalized()
    names = [head_name(str(site), int(head)) for site in values["site"].values for head in values["head"].values]
    found = [(name, float(one)) for name, one in zip(names, values.values.ravel(), strict=True) if np.isfinite(one)]
    return sorted(found, key=lambda one: -abs(one[1]))


def _on_heads(effects: PatchingEffects, does: str, way: str, of_end: str) -> str:
    """Return which heads matter when one is exchanged at a time."""
    scale = _scale(effects, of_end)
    noted = [(name, part) for name, part in _by_size(effects) if abs(part) >= _NOTED]
    if not noted:
        return f"No head {does} {_NOTED:.0%} of the behaviour when it alone is {way}."
    told = ", ".join(f"{name} {part:.1%}" for name, part in noted[:_MOST_HEADS])
    rest = len(noted) - _MOST_HEADS
    more = f", and {rest} more of at least {_NOTED:.0%}" if rest > 0 else f"; no other {does} {_NOTED:.0%}"
    notes = [f"above 100% the metric {scale.past()}"] if any(scale.is_past(part) for _, part in noted) else []
    if any(part < 0 for _, part in noted):
        notes.append("below 0 it goes the other way")
    said = f" ({'; '.join(notes)})" if notes else ""
    return f"One head alone, {way}, {does} this share of the behaviour: {told}{more}{said}."


def _on_layers(together: TogetherAndAlone, heads: PatchingEffects) -> Iterator[str]:
    data, scale = together.data, _scale(heads, _CORRUPTED)
    for site in together.redundant:
        one = data.sel(site=site)
        yield (
            f"All heads of layer {layer_of(site)} exchanged at once take away {scale.told(float(one['together']))}, "
            f"one at a time at most {float(one['largest_alone']):.1%} ({head_name(site, int(one['head']))}): "
            "they stand in for each other."
        )
    if not together.redundant:
        one = data.isel(site=int(np.abs(data["together"].values).argmax()))
        site, head = str(one["site"].item()), int(one["head"])
        part = "the heads" if head >= 0 else "the MLP"
        alone = f", {head_name(site, head)} alone {float(one['largest_alone']):.1%}" if head >= 0 else ""
        yield (
            f"Of whole layers, {part} of layer {layer_of(site)} exchanged at once take away most: "
            f"{scale.told(float(one['together']))}{alone}."
        )


def _on_circuit(verdict: Faithfulness, circuit: Result) -> str:
    found = verdict.attributes
    size = f"{found['n_kept']} of {found['n_total']} {found['level']}s{_through(circuit)}"
    if not verdict.accepted:
        reasons = [text.removeprefix("rejected: ") for text in verdict.warnings if text.startswith("rejected: ")]
        return f"The circuit of {size} that was found is rejected: {'; '.join(reasons)}."
    restored = _Scale(found["empty"], found["full"], "the whole model").told(verdict.sufficiency, 0)
    lost = _Scale(found["full"], found["empty"], _CORRUPTED).told(verdict.necessity, 0)
    return (
        f"A circuit of {size} restores {restored}, and without it {lost} is lost, on prompts that it was not found on. "
        f"It is better than chance: of {found['n_null']} random circuits of its size {verdict.n_as_good or 'none'} did "
        f"as well in both (p = {verdict.p:.2g}; {found['n_null']} circuits can give no p below "
        f"{1 / (found['n_null'] + 1):.2g}). {_on_each(found)}"
    )


def _on_each(found: Mapping[str, float]) -> str:
    """Return how sure each of the two measures of a circuit is by itself."""
    p = {name: found[f"p_{name}"] for name in ("sufficiency", "necessity")}
    weak = [name for name, value in p.items() if value > SIGNIFICANT]
    told = f"By sufficiency alone p = {p['sufficiency']:.2g}, by necessity alone p = {p['necessity']:.2g}"
    if not weak:
        return f"{told}."
    return f"{told}: {' and '.join(weak)} alone {'do' if weak[1:] else 'does'} not tell it from random ones."


def _through(circuit: Result) -> str:
    """Return the heads of a circuit."""
    assert isinstance(circuit, Circuit)
    found = (re.fullmatch(r"a(\d+)\.h(\d+)", node) for node in circuit.nodes)
    names = [head_name(int(one[1]), int(one[2])) for one in found if one]
    if not names:
        return ""
    rest = len(names) - _MOST_IN_CIRCUIT
    return f", through heads {', '.join(names[:_MOST_IN_CIRCUIT])}{f' and {rest} more' if rest > 0 else ''},"


def _on_features(evaluation: SAEEvaluation) -> str:
    share, site = evaluation["explained_variance"], evaluation.attributes["site"]
    how_much = f"{share:.0%}" if share > 0 else f"none ({share:.0%}: worse than the mean alone)"
    return (
        f"{evaluation['l0']:.3g} of {evaluation.data.sizes['feature']} features at a time explain {how_much} of the "
        f"variance of {site} on inputs that they were not trained on."
    )


def _on_effects_of_features(effects: Result | None, left_out: Mapping[str, str]) -> Iterator[str]:
    """Yield how many features matter by themselves: variance that they explain need not be used."""
    if not isinstance(effects, FeatureEffects):
        yield f"What single features do is not known: {short_reason(left_out.get('features', 'not measured'))}."
        return
    p = effects.data["p_adjusted"].values
    sure, n_tested = int((p <= SIGNIFICANT).sum()), int(np.isfinite(p).sum())
    if sure:
        yield (
            f"Of {n_tested} features that were tested {sure} {'changes' if sure == 1 else 'change'} the metric by more "
            f"than chance when set to zero alone (p <= {SIGNIFICANT:g} after correction for all)."
        )
        return
    yield (
        f"None of the {n_tested} features that were tested changes the metric by more than chance when it alone is "
        f"set to zero (smallest p after correction for all: {np.nanmin(p):.2g}): which of them matter is not shown."
    )
