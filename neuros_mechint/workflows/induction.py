"""Tell a model that does induction from one that only looks like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
import xarray as xr

from neuros_mechint.core.adapter import Adapter
from neuros_mechint.core.errors import CapabilityError, InputError
from neuros_mechint.core.figures.plotting import MUTED_INK, line
from neuros_mechint.core.outputs import logits_of
from neuros_mechint.core.provenance import Provenance
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.core.result import Result
from neuros_mechint.datasets.measures import accuracy_by_lag, induction_score, previous_token_score
from neuros_mechint.datasets.tasks import repeated_tokens
from neuros_mechint.workflows.heads import head_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAGS = (3, 4, 5, 8, 16, 24, 31, 32, 33, 40, 48)
_ENOUGH_ACCURACY = 0.9
_ENOUGH_ATTENTION = 0.25


class InductionCheck(Result):
    """Whether a model does induction.

    ``data`` holds ``accuracy`` over ``(lag,)`` and, over ``(head,)``, ``previous_token`` and ``induction``: the mean
    attention each head pays to the token before, and to what followed the present token when it came first. Over
    ``(head, position)`` it holds ``previous_token_at``, the first of these at each position but the opening one.
    """

    @property
    def is_induction(self) -> bool:
        """The verdict: right at every lag, by a head that looks one token back and a later one that looks it up."""
        return bool(self.attributes["is_induction"])

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against induction; empty where nothing does."""
        return tuple(self.attributes["reasons"])

    def _draw(self, ax: Axes) -> None:
        line(self.data["accuracy"], ax)
        ax.axhline(_ENOUGH_ACCURACY, color=MUTED_INK, linestyle="--", linewidth=1)
        ax.set_ylim(0, 1.05)

    def _summary_lines(self) -> Iterator[str]:
        yield "verdict: " + ("induction" if self.is_induction else "not induction")
        yield from (f"  because {reason}" for reason in self.reasons)
        accuracies = zip(self.data["lag"].values, self.data["accuracy"].values, strict=True)
        yield "accuracy by lag: " + ", ".join(f"{lag}: {accuracy:.2f}" for lag, accuracy in accuracies)
        n_tokens = int(self.data["position"][-1]) + 1
        for name in ("previous_token", "induction"):
            best = self.data[name].values.argmax()
            head, score = self.data["head"].values[best], self.data[name].values[best]
            told = f"{name.replace('_', '-')} attention, mean over sequences of {n_tokens} tokens: at most {score:.2f}"
            yield f"{told}, by head {head}{self._along(int(best), n_tokens) if name == 'previous_token' else ''}"

    def _along(self, head: int, n_tokens: int) -> str:
        """Return whether attention to the token before is the same from the first positions to the last."""
        part, at = max(1, n_tokens // 4), self.data["previous_token_at"].isel(head=head).values
        first, last = float(at[:part].mean()), float(at[-part:].mean())
        return f" ({first:.2f} at the first {part} of these positions, {last:.2f} at the last {part})"


def induction_check(
    model: Adapter, lags: Sequence[int] = LAGS, n_tokens: int = 64, vocabulary: int = 64, seed: SeedLike = 0
) -> InductionCheck:
    """Test whether a transformer continues repeated sequences by induction.

    Attention to the right place is not enough: a model trained on one period copies from a fixed distance, and its
    heads have perfect induction scores at that period. Three things are asked for: accuracy at every lag, a head that
    attends to the token before, and a head in a later layer that attends to what followed the present token.

    Parameters
    ----------
    model : Adapter
        Takes token ids and offers ``blocks.*.pattern``.
    lags : sequence of int
        Periods of the test sequences; take care that some of them were not trained on.
    n_tokens, vocabulary : int
        Of the test sequences, on which attention is measured too, see `neuros_mechint.datasets.tasks.repeated_tokens`.
    seed : int or numpy.random.Generator

    Returns
    -------
    InductionCheck

    Raises
    ------
    CapabilityError
        The model has no attention patterns.
    InputError
        No lags.

    References
    ----------
    Olsson et al. 2022, In-context learning and induction heads, doi:10.48550/arXiv.2209.11895

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> nm.induction_check(nm.adapt(nm.load_model("induction"))).is_induction
    True
    """
    if not len(lags):
        raise InputError("no lags to test", expected="at least one period, and some that were not trained on")
    random = generator(seed)
    accuracy = accuracy_by_lag(
        lambda tokens: logits_of(model.run(tokens).output), lags, n_tokens=n_tokens, vocabulary=vocabulary, seed=random
    )
    trials = repeated_tokens(32, n_tokens, vocabulary, seed=random)
    patterns = _patterns(model, trials.inputs)
    previous = torch.cat([previous_token_score(pattern) for pattern in patterns])
    induction = torch.cat([induction_score(pattern, trials.conditions["lag"]) for pattern in patterns])
    layers = torch.cat([torch.full((one.shape[1],), layer) for layer, one in enumerate(patterns)])
    reasons = list(_reasons(accuracy, previous, induction, layers))
    data = xr.Dataset(
        {
            "accuracy": ("lag", list(accuracy.values()), {"long_name": "accuracy", "units": "fraction correct"}),
            "previous_token": ("head", previous.numpy(), {"long_name": "attention to the token before"}),
            "induction": ("head", induction.numpy(), {"long_name": "attention to what followed"}),
            "previous_token_at": (
                ("head", "position"),
                torch.cat([_previous_token_at(pattern) for pattern in patterns]).numpy(),
                {"long_name": "attention to the token before"},
            ),
        },
        coords={
            "lag": ("lag", list(accuracy), {"long_name": "distance of the repetition", "units": "tokens"}),
            "head": [head_name(layer, head) for layer, one in enumerate(patterns) for head in range(one.shape[1])],
            "position": ("position", range(1, n_tokens), {"long_name": "position", "units": "tokens"}),
        },
    )
    return InductionCheck(
        data,
        "Does the model do induction?",
        attributes={"is_induction": not reasons, "reasons": reasons},
        provenance=Provenance.record(
            seed=seed,
            model=model.fingerprint(),
            arguments={"lags": list(lags), "n_tokens": n_tokens, "vocabulary": vocabulary},
        ),
        citations=("olsson2022",),
    )


def _patterns(model: Any, tokens: torch.Tensor) -> list[torch.Tensor]:
    captured = model.capture(tokens, "blocks.*.pattern")
    if not len(captured):
        raise CapabilityError("the model offers no attention patterns", expected="blocks.*.pattern among its sites")
    return [captured[name].float().cpu() for name in captured]


def _previous_token_at(pattern: torch.Tensor) -> torch.Tensor:
    """Return the mean attention to the token before, ``(head, position)``, of all positions but the first."""
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=0)


def _reasons(
    accuracy: dict[int, float], previous: torch.Tensor, induction: torch.Tensor, layers: torch.Tensor
) -> Iterator[str]:
    wrong = [lag for lag, value in accuracy.items() if value < _ENOUGH_ACCURACY]
    if wrong:
        yield f"it is wrong at {len(wrong)} of {len(accuracy)} lags: " + ", ".join(map(str, wrong))
    if previous.max() < _ENOUGH_ATTENTION:
        yield f"no head attends to the token before (at most {previous.max():.2f})"
    elif not ((induction > _ENOUGH_ATTENTION) & (layers > layers[previous.argmax()])).any():
        yield "no later head attends to what followed the present token"
