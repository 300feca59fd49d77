"""What a feature does to the output directly: its direction, read by the unembedding of any transformer."""

from __future__ import annotations

import re
from typing import Any

import torch

from neuros_mechint.causal.paths.flow import last_stream
from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.edits import Replace
from neuros_mechint.core.errors import CapabilityError, SiteError
from neuros_mechint.core.outputs import logits_of

_IN_THE_STREAM = re.compile(r"embed|pos_embed|ln_final|blocks\.\d+\.(resid_(pre|mid|post)|attn_out|mlp_out)")
_LINEAR = 1e-3
"""Largest deviation from linearity, as a part of the largest effect."""


def logit_effects(model: Adapter, inputs: Any, site: str, directions: torch.Tensor) -> torch.Tensor:
    """Return how much one unit of each direction in the residual stream adds to each logit.

    The directions are put in place of what the final norm gives (of the last residual stream where there is no norm),
    and the output without any is taken away: ``directions @ W_U`` without looking for ``W_U``. That the output is
    linear in them, and position by position, is checked.

    Parameters
    ----------
    model : Adapter
        It has been run before, so that its sites are proven.
    inputs : inputs of the model
        The first sample is used, as something to run on.
    site : str
        Where the directions come from; it must be the residual stream or be added to it.
    directions : torch.Tensor of shape (n_directions, n_units)

    Returns
    -------
    torch.Tensor of shape (n_directions, n_logits)
        In double precision.

    Raises
    ------
    SiteError
        The site is not part of the residual stream, or the model has none.
    CapabilityError
        The model cannot be edited, or its output is not linear in the last stream.
    """
    if not _IN_THE_STREAM.fullmatch(site):
        raise SiteError(f"{site!r} does not write into the residual stream by itself")
    prepare: Any = getattr(model, "prepared", None)
    if prepare is None or "intervene" not in model.capabilities:
        raise CapabilityError(f"{model!r} cannot be edited")
    ending = "ln_final" if "ln_final" in set(model.sites()) else last_stream(model)
    part = prepare(inputs, [])[0].rows(0, 1)
    sample = part.args or dict(part.kwargs)
    run: Any = model.observe  # type: ignore[attr-defined]
    n_positions, width = run(sample, capture=ending).activations[ending].shape[-2:]
    if directions.shape[1] != width:
        raise SiteError(f"{site!r} has {directions.shape[1]} units, and the last residual stream {width}")

    def output(values: torch.Tensor) -> torch.Tensor:
        logits = logits_of(run(sample, edits=[Replace(ending, values.float())]).output).double().cpu()
        if logits.ndim != 3 or logits.shape[1] != n_positions:
            raise CapabilityError("the output is not one set of logits per position")
        return logits[0]

    nothing = output(torch.zeros(n_positions, width))
    length = directions.norm(dim=1, keepdim=True)
    unit = torch.nn.functional.normalize(directions, dim=1)  # of one size, whatever the decoder's
    effects: list[torch.Tensor] = []
    for start in range(0, len(unit), n_positions):
        some = unit[start : start + n_positions]
        placed = torch.zeros(n_positions, width, dtype=torch.float64)
        placed[: len(some)] = some
        effect = output(placed) - nothing
        if not start:
            _check_linear(effect, output(2 * placed.roll(1, 0)) - nothing)
        effects.append(effect[: len(some)])
    return torch.cat(effects) * length


def _check_linear(effect: torch.Tensor, doubled: torch.Tensor) -> None:
    error = float((doubled - 2 * effect.roll(1, 0)).abs().max())
    if error > _LINEAR * max(float(effect.abs().max()), 1e-12):
        raise CapabilityError("the logits are not linear in the last residual stream, position by position")
