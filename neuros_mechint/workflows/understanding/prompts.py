"""Pairs of prompts that differ in one thing, and what to measure: given, read from a file, or drawn for any model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuros_mechint.causal.metrics import PositionMetric, log_probability, logit_difference
from neuros_mechint.core.adapter import Metric
from neuros_mechint.core.errors import CapabilityError, InputError, NeurosMechintError
from neuros_mechint.core.outputs import logits_of
from neuros_mechint.core.random import SeedLike, generator
from neuros_mechint.workflows.quickstart import PERIOD, induction_prompts
from neuros_mechint.workflows.runs.identity import identity
from neuros_mechint.workflows.runs.sources import CODE, OBJECT, Given, Source, absolute_code, is_code, read_from
from neuros_mechint.workflows.runs.user_code import UserCode
from neuros_mechint.workflows.understanding.prompt_file import FORM, read_lists

DRAWN_TOKENS = 64
"""Different tokens in sequences that are drawn at random, the opening one included."""

_FEWEST = 4
_OF_YOUR_OWN = f"give prompts=FILE, pairs of prompts of your own in JSON: {FORM}"


@dataclass(frozen=True)
class PromptPairs:
    """Prompts in which a model shows a behaviour, and partners in which one change takes it away.

    Parameters
    ----------
    clean, corrupted : inputs of the model
        Of the same shape; sample ``i`` of the one is the partner of sample ``i`` of the other.
    metric : callable
        ``metric(output)`` gives ``(batch,)`` values: `neuros_mechint.logit_difference` or `log_probability`, which are
        cut together with the prompts, or a callable that works for any number of prompts.
    told : str
        In words, what these prompts are.

    Raises
    ------
    InputError
        Fewer than 4 pairs, or as many clean as corrupted ones are not there.

    Examples
    --------
    >>> tokens = torch.arange(24).view(6, 4)
    >>> pairs = PromptPairs(tokens, tokens.flip(1), logit_difference(torch.arange(6), 0))
    >>> len(pairs), pairs.rows(0, 2).metric.correct.tolist()
    (6, [0, 1])
    """

    clean: Any
    corrupted: Any
    metric: Metric
    told: str = "pairs of prompts that were given"

    def __post_init__(self) -> None:
        sizes = [_n_rows(one) for one in (self.clean, self.corrupted)]
        if sizes[0] != sizes[1]:
            raise InputError("clean and corrupted prompts are no pairs", expected="as many of each", got=sizes)
        if not callable(self.metric):
            raise InputError(
                "there is nothing to measure by",
                expected="metric(output) -> (batch,), such as nm.logit_difference(correct, wrong)",
                got=type(self.metric).__name__,
            )

    def __len__(self) -> int:
        return _n_rows(self.clean)

    def rows(self, start: int, stop: int) -> PromptPairs:
        """Return the pairs from ``start`` up to ``stop``, with their metric."""
        metric = self.metric.rows(start, stop) if isinstance(self.metric, PositionMetric) else self.metric
        return PromptPairs(_cut(self.clean, start, stop), _cut(self.corrupted, start, stop), metric, self.told)

    def distinct(self) -> PromptPairs:
        """Return each pair once: copies are no further evidence, and none to judge by what was found on the other.

        Examples
        --------
        >>> tokens = torch.tensor([[1, 2], [3, 4], [1, 2]])
        >>> pairs = PromptPairs(tokens, tokens + 1, logit_difference(torch.arange(3), 0)).distinct()
        >>> len(pairs), pairs.metric.correct.tolist()
        (2, [0, 1])
        """
        keys = zip(_keys(self.clean, len(self)), _keys(self.corrupted, len(self)), strict=True)
        first = sorted({key: row for row, key in reversed(list(enumerate(keys)))}.values())
        if len(first) == len(self):
            return self
        metric = self.metric
        if isinstance(metric, PositionMetric):
            metric = metric.take(first)
        told = f"{self.told}, {len(first)} different ones of {len(self)}"
        return PromptPairs(_taken(self.clean, first), _taken(self.corrupted, first), metric, told)

    def halves(self) -> tuple[PromptPairs, PromptPairs]:
        """Return the first half and the second, the one to find something on and the other to judge it.

        Raises
        ------
        InputError
            Fewer than 4 pairs.
        """
        if len(self) < _FEWEST:
            raise InputError(
                "too few prompts to find something on one half and to judge it on the other",
                expected=f"at least {_FEWEST} different pairs, better 24",
                got=len(self),
            )
        half = len(self) // 2
        return self.rows(0, half), self.rows(half, len(self))


def repeated_token_pairs(model: Any, n_prompts: int, seed: SeedLike = 0) -> PromptPairs:
    """Return the test of induction for any model of tokens: random tokens that repeat, and partners that do not.

    The last token has occurred once before, and the answer is what came after it. In the partner the earlier
    occurrence is another token. Tokens are drawn from all that the model knows.

    Parameters
    ----------
    model : Adapter
        Takes token ids and returns logits.
    n_prompts : int
    seed : int or numpy.random.Generator

    Returns
    -------
    PromptPairs
        Measured by the log-probability of the answer.

    Raises
    ------
    InputError
        A model that takes no tokens or has too few of them: give it prompts of its own.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> repeated_token_pairs(nm.adapt(nm.load_model("induction")), 4).clean.shape
    torch.Size([4, 22])
    """
    random = generator(seed)
    ids = drawn_tokens(model, random)
    prompts = induction_prompts(n_prompts, random)
    told = (
        f"random tokens ({len(ids) - 1} kinds) that repeat after {PERIOD}: a test of induction that any language model "
        "can be given, and no texts"
    )
    return PromptPairs(ids[prompts.clean], ids[prompts.corrupted], log_probability(ids[prompts.answer]), told)


def drawn_tokens(model: Any, seed: SeedLike = 0) -> torch.Tensor:
    """Return token ids ``(64,)`` drawn from a model's vocabulary, the one that opens a sequence first.

    Raises
    ------
    InputError
        The model takes no tokens, or knows too few.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> drawn_tokens(nm.adapt(nm.load_model("induction"))).tolist() == list(range(64))
    True
    """
    opening = _opening_token(model)
    try:
        vocabulary = logits_of(model.run(torch.full((1, 4), opening)).output).shape[-1]
    except (NeurosMechintError, RuntimeError, IndexError, TypeError) as error:
        raise InputError(
            "this model cannot be tested with random tokens",
            expected="a model that takes token ids and returns logits",
            got=f"{str(error).splitlines()[0]} (of the opening token, {opening})",
            fix=f"set config.bos_token_id to a token of the vocabulary, or {_OF_YOUR_OWN}",
        ) from error
    if vocabulary < DRAWN_TOKENS:
        raise InputError(
            "this model knows too few tokens for a test with random ones",
            expected=f"at least {DRAWN_TOKENS}",
            got=vocabulary,
            fix=_OF_YOUR_OWN,
        )
    others = np.setdiff1d(np.arange(vocabulary), [opening])
    drawn = np.sort(generator(seed).choice(others, DRAWN_TOKENS - 1, replace=False))
    return torch.from_numpy(np.concatenate([[opening], drawn]))


@dataclass(frozen=True)
class WrittenPrompts:
    """Pairs of prompts as they stand in a file, before a model's tokenizer has read them.

    Parameters
    ----------
    clean, corrupted : list
        Texts, or lists of token ids.
    correct, wrong : list
        Answers, in words or token ids; ``wrong`` may be empty.
    told : str
        In words, what these prompts are.
    """

    clean: list[Any]
    corrupted: list[Any]
    correct: list[Any]
    wrong: list[Any]
    told: str

    def of(self, model: Any) -> PromptPairs:
        """Return the pairs as a model takes them.

        Raises
        ------
        InputError
            Answers that are not one token, or prompts of token ids that differ in length.
        CapabilityError
            Words, and no tokenizer.
        """
        clean, position = _tokens(self.clean, model)
        corrupted, _ = _tokens(self.corrupted, model)
        correct = _answers(self.correct, model)
        if not self.wrong:
            return PromptPairs(clean, corrupted, log_probability(correct, position), self.told)
        metric = logit_difference(correct, _answers(self.wrong, model), position)
        return PromptPairs(clean, corrupted, metric, self.told)


def open_prompts(given: Any) -> Given[PromptPairs | WrittenPrompts]:
    """Open pairs of prompts.

    Parameters
    ----------
    given : PromptPairs, tuple, str or pathlib.Path
        ``(clean, corrupted, metric)``; the path of a JSON file; or ``file.py:function`` of the user's own, which
        returns either when called without arguments.

    Returns
    -------
    Given

    Raises
    ------
    InputError
        No pairs of prompts.
    OptionError, StorageError
        An entry of the file that is unknown; no such file, or none of this form.

    Examples
    --------
    >>> tokens = torch.zeros(6, 4, dtype=torch.long)
    >>> open_prompts((tokens, tokens + 1, lambda output: output[:, -1, 0])).source.kind
    'object'
    """
    if isinstance(given, Given):
        return given
    if isinstance(given, (str, Path)) and is_code(str(given)):
        with UserCode(str(given)) as code:
            return _pairs(code(), CODE, absolute_code(str(given)))
    if isinstance(given, (str, Path)):
        return read_from(Path(given), _read(Path(given)))
    return _pairs(given, OBJECT, type(given).__name__)


def _pairs(given: Any, kind: str, name: str) -> Given[PromptPairs | WrittenPrompts]:
    pairs = _as_pairs(given)
    return Given(pairs, Source(kind, name, identity((pairs.clean, pairs.corrupted, pairs.metric))))


def _as_pairs(given: Any) -> PromptPairs:
    if isinstance(given, PromptPairs):
        return given
    if isinstance(given, tuple) and len(given) == 3:
        return PromptPairs(*given)
    raise InputError(
        "these are no pairs of prompts",
        expected="(clean, corrupted, metric), or the path of a JSON file",
        got=f"tuple of {len(given)}" if isinstance(given, tuple) else type(given).__name__,
    )


def _read(path: Path) -> WrittenPrompts:
    lists = read_lists(path)
    told = f"{len(lists['clean'])} pairs of prompts from {path.name}"
    return WrittenPrompts(lists["clean"], lists["corrupted"], lists["correct"], lists.get("wrong", []), told)


def _tokens(prompts: list[Any], model: Any) -> tuple[Any, Any]:
    """Return prompts as the model takes them, and the position of the last token of each."""
    if not all(isinstance(one, str) for one in prompts):
        try:
            return torch.tensor(prompts, dtype=torch.long), -1
        except (TypeError, ValueError) as error:
            raise InputError("prompts of token ids have different lengths", expected="lists of one length") from error
    batch = model.prepared(prompts, ())[0]
    inputs = dict(batch.kwargs) or batch.args[0]
    alone = [_ids(model.prepared([one], ())[0]) for one in prompts]
    lengths = torch.tensor([one.shape[1] for one in alone])
    first = int(lengths.argmin())
    padded_right = torch.equal(_ids(batch)[first, : lengths[first]], alone[first][0])
    return inputs, lengths - 1 if padded_right else -1


def _ids(batch: Any) -> torch.Tensor:
    return next(iter([*batch.args, *batch.kwargs.values()]))


def _answers(answers: list[Any], model: Any) -> torch.Tensor:
    """Return the token id of each answer."""
    tokenizer = getattr(model, "tokenizer", None) or getattr(getattr(model, "module", None), "tokenizer", None)
    return torch.tensor([answer if isinstance(answer, int) else _one_token(answer, tokenizer) for answer in answers])


def _one_token(answer: Any, tokenizer: Any) -> int:
    if tokenizer is None:
        raise CapabilityError(
            "answers in words need a tokenizer",
            fix="give token ids, or the model as nm.adapt(model, tokenizer), which file.py:function may return",
        )
    ids = tokenizer(str(answer), add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise InputError(
            f"the answer {answer!r} is not one token",
            expected="one token, often with a space before it, such as ' Mary'",
            got=f"{len(ids)} tokens",
        )
    return int(ids[0])


def run_extremes(model: Any, inputs: Any, what: str) -> Any:
    """Return the output for two of the inputs: of token ids, those with the smallest and with the largest one.

    Parameters
    ----------
    model : Adapter
    inputs : inputs of the model
    what : str
        What to call them in the error.

    Raises
    ------
    InputError
        The model cannot run on them; of token ids that it does not know the error says so.

    Examples
    --------
    >>> import neuros_mechint as nm
    >>> run_extremes(nm.adapt(nm.load_model("induction")), torch.tensor([[0, 1], [99, 3]]), "the prompts")
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.InputError: the prompts hold token ids that the model does not know
      expected: whole numbers between 0 and 63
      got:      99
    """
    is_array = isinstance(inputs, (torch.Tensor, np.ndarray))
    tokens = torch.as_tensor(inputs) if is_array else torch.empty(0)
    if tokens.ndim != 2 or tokens.is_floating_point() or not tokens.numel():
        return model.run(_cut(inputs, 0, 2)).output
    rows = tokens[[int(tokens.amin(1).argmin()), int(tokens.amax(1).argmax())]]
    least, most = int(rows.min()), int(rows.max())
    try:
        if least < 0:  # which some models take from the end of the vocabulary
            raise InputError(f"{what} hold token ids below 0")
        return model.run(rows).output
    except InputError as error:
        n_tokens = logits_of(model.run(torch.zeros_like(rows)).output).shape[-1]
        if least >= 0 and most < n_tokens:
            raise
        raise InputError(
            f"{what} hold token ids that the model does not know",
            expected=f"whole numbers between 0 and {n_tokens - 1}",
            got=least if least < 0 else most,
        ) from error


def _opening_token(model: Any) -> int:
    """Return the token that opens a sequence; 0 where the model does not say."""
    module = getattr(model, "module", None)
    places = (getattr(module, "tokenizer", None), getattr(model, "tokenizer", None), getattr(module, "config", None))
    known = (getattr(place, "bos_token_id", None) for place in places)
    return next((int(token) for token in known if isinstance(token, int)), 0)


def _n_rows(inputs: Any) -> int:
    first = next(iter(inputs.values()), ()) if isinstance(inputs, Mapping) else inputs
    if not hasattr(first, "__len__"):
        raise InputError("these are no prompts", expected="token ids (batch, position), a dict or a list of texts")
    return len(first)


def _keys(inputs: Any, n_rows: int) -> list[Any]:
    """Return something hashable for each row of inputs, the same for the same rows."""
    parts = list(inputs.values()) if isinstance(inputs, Mapping) else [inputs]
    rows = [part.tolist() if isinstance(part, (torch.Tensor, np.ndarray)) else list(part) for part in parts]
    return [repr([part[row] for part in rows]) for row in range(n_rows)]


def _taken(inputs: Any, rows: list[int]) -> Any:
    """Return some rows of inputs."""
    if isinstance(inputs, Mapping):
        return {name: _taken(values, rows) for name, values in inputs.items()}
    return inputs[rows] if isinstance(inputs, (torch.Tensor, np.ndarray)) else [inputs[row] for row in rows]


def _cut(inputs: Any, start: int, stop: int) -> Any:
    if isinstance(inputs, Mapping):
        return {name: values[start:stop] for name, values in inputs.items()}
    return inputs[start:stop]
