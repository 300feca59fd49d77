"""What comparing a model with a recording found, in words; what is doubted as a whole is doubted in each sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from neuros_mechint.core.result import Result
from neuros_mechint.core.statistics.p_values import SIGNIFICANT
from neuros_mechint.neuro.fractals.comparison.results import ComplexityComparison
from neuros_mechint.workflows.alignment.order import OF_ORDER
from neuros_mechint.workflows.alignment.results import ChanceLevel, LayerChoice, LayerCorrelations, MeasureAgreement
from neuros_mechint.workflows.runs.in_short import InShort, short_reason, told_in_short

_ON_CENTRED = (
    "The units of the recording have no mean over stimuli beyond what chance gives, as after z-scoring or when it was "
    "subtracted, and those of the model were centred likewise: correlation distance depends on these means."
)
_BY_HOLM = ", adjusted for all layers by Holm's method"
_CITATIONS = ("kriegeskorte2008", "nili2014", "varma2006")


def in_short(results: Mapping[str, Result], left_out: Mapping[str, str], fingerprint: str) -> InShort:
    """Return what the steps found, in words and on one scale.

    Parameters
    ----------
    results : mapping of str to Result
        The steps of `neuros_mechint.workflows.alignment.align.align`.
    left_out : mapping of str to str
        Steps that do not apply, and why.
    fingerprint : str
        Of the model.

    Returns
    -------
    InShort
    """
    chance, choice = results["chance"], results.get("choice")
    assert isinstance(chance, ChanceLevel)
    best, alone = chance.data.sel(site=chance.best), chance.data.sizes["site"] == 1
    scores = {"the layer" if alone else "best layer": float(best["score"]), "shuffled (95%)": float(best["high"])}
    sentences = list(_on_match(chance, choice))
    measures = results.get("measures")
    if isinstance(measures, MeasureAgreement):
        early = (measures.disagreeing or measures.undecided) and not chance.may_be_order
        place = 1 if early else len(sentences)
        sentences[place:place] = _on_measures(measures, chance)
    layers = results["layers"]
    if layers.attributes["centred"]:
        sentences.append(_ON_CENTRED)
    if isinstance(choice, LayerChoice):
        scores |= {} if alone else {"held out": choice.held_out}
        sentences.append(_on_choice(choice, chance))
        lower, upper = choice.ceilings
        scores |= {"lower ceiling": lower, "upper ceiling": upper} if np.isfinite(lower) else {}
    sentences += _on_responses(results.get("correlations"), left_out, chance)
    sentences += _on_complexity(results.get("complexity"), left_out)
    return told_in_short(
        "score", scores, {"long_name": chance.data["score"].attrs["long_name"]}, sentences, fingerprint, _CITATIONS
    )


def _on_match(chance: ChanceLevel, choice: Result | None) -> Iterator[str]:
    """Yield whether the best layer is like the recording, what is doubted before all else."""
    best, alone = chance.best, chance.data.sizes["site"] == 1
    layers = "the one layer compared" if alone else f"the best of {chance.data.sizes['site']} layers"
    measure = f"RSA ({chance.attributes['distance']})"
    p = f"p = {chance.attributes['best_p']:.2g}"
    score = f"{float(chance.data['score'].sel(site=best)):.3f}"
    of_ceilings = _of_ceilings(float(chance.data["score"].sel(site=best)), choice)
    if not chance.is_more_than_chance:
        others = "it is" if alone else "layers are"
        yield (
            f"Nothing was found by {measure}: {layers}, {best} ({score}), is no more like the recording than "
            f"{others} with shuffled stimuli ({p})."
        )
    elif chance.may_be_order:
        yield f"Not to be told from drift: {OF_ORDER}."
        has = "has it" if alone else "has most of it"
        yield f"Whether drift or a match, layer {best} {has} by {measure}: {score}{of_ceilings}."
        yield f"Shuffled stimuli are as good in {layers} with {p} only, and this does not speak against drift."
    else:
        told = f"{best}, the one layer compared, is like" if alone else f"{best} is most like"
        yield f"Layer {told} the recording by {measure}: {score}{of_ceilings}."
        yield f"With shuffled stimuli {'it' if alone else layers} is as good with {p}."


def _of_ceilings(score: float, choice: Result | None) -> str:
    if not isinstance(choice, LayerChoice) or not np.isfinite(choice.ceilings[0]):
        return "; how much could be reached is not known, for there is one measurement"
    lower, upper = choice.ceilings
    shares = (
        f"{score / lower:.0%} of the lower ({lower:.3f}) and " if lower > 0 else f"the lower ceiling is {lower:.3f}; "
    )
    return f", {shares}{score / upper:.0%} of the upper noise ceiling ({upper:.3f})"


def _on_measures(found: MeasureAgreement, chance: ChanceLevel) -> tuple[str, ...]:
    """Return whether measures agree, unless that there is nothing is said already."""
    surely = bool(found.disagreeing or found.undecided)
    if not surely and not chance.is_more_than_chance:
        return ()
    first, *others = found.sentences
    doubt = ", which drift can give too" if any(map(chance.doubted, found.data["best"].values)) else ""
    return (f"{first.removesuffix('.')}{doubt}.", *others)


def _on_choice(choice: LayerChoice, chance: ChanceLevel) -> str:
    names, counts = np.unique(choice.data["chosen"].values, return_counts=True)
    told = ", ".join(f"layer {name} {count} of {counts.sum()}" for name, count in zip(names, counts, strict=True))
    doubt = ", which drift can give too" if any(map(chance.doubted, names)) else ""
    if choice.alone:
        return f"In one {choice.attributes['counted']} at a time it scores {choice.held_out:.3f} on average{doubt}."
    return (
        f"Chosen by RSA without the {choice.attributes['counted']} it is judged on: {told} times; there it scores "
        f"{choice.held_out:.3f}{doubt}."
    )


def _on_responses(found: Result | None, left_out: Mapping[str, str], chance: ChanceLevel) -> Iterator[str]:
    if not isinstance(found, LayerCorrelations):
        yield f"No canonical correlations: {short_reason(left_out.get('correlations', 'not asked for'))}."
        return
    best, alone = found.data.sel(site=found.best), found.data.sizes["site"] == 1
    p, score = float(best["p_adjusted"]), f"{float(best['score']):.3f} held out"
    against = f"p = {p:.2g} with shuffled stimuli{'' if alone else _BY_HOLM}"
    first = "" if alone else "is best, "
    if p > SIGNIFICANT:
        told = f"is {'' if alone else 'best, and '}no better than with shuffled stimuli: {score} ({against})"
    elif chance.doubted(found.best):
        told = f"{first or 'has '}{score} ({against}), which drift can give too"
    else:
        told = f"shares {'directions' if alone else 'most'} with the responses: {score} ({against})"
    yield f"By canonical correlation layer {found.best} {told}{'' if alone or p > SIGNIFICANT else _next(found)}."


def _next(found: LayerCorrelations) -> str:
    """Return the layer after the best one: the largest of several is not surely larger."""
    others = found.data["score"].drop_sel(site=found.best)
    following = others.isel(site=int(np.nanargmax(others.values)))
    return (
        f"; layer {following['site'].item()} is next with {float(following):.3f}, and whether the two differ is not "
        "tested"
    )


def _on_complexity(found: Result | None, left_out: Mapping[str, str]) -> Iterator[str]:
    if not isinstance(found, ComplexityComparison):
        yield f"No comparison of complexity in time: {short_reason(left_out['complexity'])}."
        return
    nearest = found.data.isel(site=int(np.abs(found.data["hedges_g"].values).argmin()))
    alone = found.data.sizes["site"] == 1
    told = "differs from" if alone else "is nearest to"
    yield (
        f"In complexity in time layer {nearest['site'].item()} {told} the recording: Hedges' g "
        f"{float(nearest['hedges_g']):.2f} (p = {float(nearest['p_adjusted']):.2g}{'' if alone else _BY_HOLM})."
    )
