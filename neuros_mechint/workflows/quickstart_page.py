"""The page that tells what the quickstart found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from neuros_mechint.causal.patching.patcher import PatchingEffects
from neuros_mechint.core.result import Result
from neuros_mechint.report.report import Report


def write_page(model: Any, results: Mapping[str, Any], period: int, earlier: int) -> Report:
    """Return the report of the quickstart.

    Parameters
    ----------
    model : Adapter
        The transformer.
    results : mapping of str to Result
        See `neuros_mechint.workflows.quickstart.Quickstart`.
    period, earlier : int
        Of the prompts: distance of the repetition, and position of the earlier occurrence of the last token.
    """
    report = Report(
        "How a small transformer continues a repeated sequence",
        "A look inside two trained networks that ship with neuros-mechint: every number below was computed just now.",
    )
    _tell_the_question(report, model, results["accuracy"])
    _tell_where_heads_look(report, results["attention"], results["head_scores"], period)
    _tell_what_is_needed(report, results["positions"], results["heads"], results["joint"], earlier)
    return report.add(
        results["trajectories"],
        caption="States of an RNN that must remember the signs of three pulses. Each combination of bits has its own "
        "place, a corner of a cube, and pulses move the state along its edges.",
    )


def _tell_the_question(report: Report, model: Any, accuracy: Result) -> None:
    report.add_text(
        "The transformer has two layers of four attention heads and nothing else. It was trained on random tokens "
        "that repeat after a random distance. To guess the next token it must find where the present token occurred "
        "before, and copy what came after it: *induction*. The following steps find out how it does it, by reading "
        "activations and by exchanging them between runs.",
        title="The question",
    )
    report.add_table(
        model.sites().to_dataframe()[["name", "native", "dims", "check"]],
        title="Where one can look",
        caption="The model's sites. A name is offered only where an identity, checked on this very model, proves it.",
    )
    report.add(
        accuracy,
        caption="Fraction of repeated tokens predicted correctly, at distances inside and outside of the range the "
        f"model was trained on (6 to 32). Guessing would give {accuracy.attributes['chance']:.1%}.",
    )


def _tell_where_heads_look(report: Report, attention: Result, scores: Result, period: int) -> None:
    report.add(
        attention,
        caption=f"Attention of all heads on one sequence that repeats after {period} tokens. A line just below the "
        "diagonal looks at the previous token; a line further down looks at what followed the last occurrence.",
    )
    report.add(
        scores,
        caption="Mean attention to the previous token, and to the token after an earlier occurrence of the present "
        "one, for each head (layer.head).",
    )


def _tell_what_is_needed(
    report: Report, positions: PatchingEffects, heads: PatchingEffects, joint: PatchingEffects, earlier: int
) -> None:
    effects = heads.normalized()
    first, second = effects.sel(site="blocks.0.z"), effects.sel(site="blocks.1.z")
    leader = int(first.values.argmax())
    report.add(
        positions,
        title="Where the answer travels",
        caption="In the corrupted prompts the earlier occurrence of the last token is replaced. One residual-stream "
        f"position of the clean run at a time is put back. The information enters at position {earlier}, has moved "
        "one position on after the first layer, and ends at the last position: two steps, two layers.",
    )
    report.add(
        heads,
        title="Which heads are needed, one at a time",
        caption="The other way round: one head of the corrupted run is put into the clean run. 1 means that the answer "
        f"is lost. Head 0.{leader}, which looks at the previous token, matters most ({float(first[leader]):.2f}); of "
        f"the second layer no head seems to matter (at most {float(second.max()):.3f}).",
    )
    report.add(
        alone_and_together(heads, joint),
        title="... and all heads of the second layer at once",
        caption=f"Exchanged together they lose {joint.normalized().item():.0%} of the answer. They stand in for each "
        "other: looking at one at a time misses them, which is why joint patching exists.",
    )


def alone_and_together(heads: PatchingEffects, joint: PatchingEffects) -> Result:
    """Return the effects of the second layer's heads, one at a time and all at once, as one result."""
    alone = heads.normalized().sel(site="blocks.1.z")
    effect = xr.DataArray(
        [*alone.values, joint.normalized().item()],
        dims="part",
        coords={"part": [*(f"head 1.{head}" for head in alone["head"].values), "all together"]},
        attrs=alone.attrs,
    )
    return Result(
        effect.to_dataset(name="effect"),
        "Alone and together",
        provenance=joint.provenance,
        citations=joint.citations,
    )
