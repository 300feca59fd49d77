"""The JSON file of pairs of prompts: nothing in it is passed over, and nothing is made a token that is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuros_mechint.core.errors import InputError, OptionError, StorageError, check_option
from neuros_mechint.core.json_text import parse_json

FORM = (
    '{"clean": [...], "corrupted": [...], "correct": [...], "wrong": [...]}: prompts as text or as lists of token ids; '
    "of each the token that should come next, and, if you like, another to compare it with"
)
"""What the file holds, in words."""

_LARGEST_FILE = 64 * 2**20  # bytes
_PROMPTS, _ANSWERS = ("clean", "corrupted"), ("correct", "wrong")
_ID = "whole number, of the model's vocabulary"
_LARGEST_ID = 2**63 - 1  # that a tensor holds


def read_lists(path: Path) -> dict[str, list[Any]]:
    """Return the lists of a file by name: ``clean``, ``corrupted``, ``correct`` and, where it is there, ``wrong``.

    Raises
    ------
    InputError
        An entry that is unknown; prompts that are neither texts nor lists of token ids, or both; answers that are
        neither words nor token ids.
    StorageError
        No such file, or one that holds no such lists of one length.

    Examples
    --------
    >>> read_lists(Path("no_such_file.json"))
    Traceback (most recent call last):
    ...
    neuros_mechint.core.errors.StorageError: there is no file no_such_file.json
      expected: pairs of prompts in JSON
    """
    if not path.exists():
        raise StorageError(f"there is no file {path}", expected="pairs of prompts in JSON")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("it is too large for prompts")
        lists = _lists(parse_json(path.read_text(encoding="utf-8")), path.name)
    except OptionError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"{path} holds no prompts", expected=FORM, got=str(error)[:200]) from error
    for name, rows in lists.items():
        for row, one in enumerate(rows):
            (_check_answer if name in _ANSWERS else _check_prompt)(one, f"{name}[{row}] in {path.name}")
    if len({isinstance(one, str) for name in _PROMPTS for one in lists[name]}) > 1:
        raise InputError(f"{path}: some prompts are texts, others token ids", expected="either of them for all prompts")
    return lists


def _lists(content: Any, file: str) -> dict[str, list[Any]]:
    if not isinstance(content, dict):
        raise TypeError(f"{type(content).__name__} instead of lists by name")
    for name in content:  # "wrong" may be left out: misspelt, it would change without a word what is measured
        check_option(f"entry in {file}", name, (*_PROMPTS, *_ANSWERS))
    lists: dict[str, Any] = {name: content.get(name) for name in (*_PROMPTS, *_ANSWERS)}
    if lists["wrong"] in (None, []):
        del lists["wrong"]
    sizes = {name: len(one) if isinstance(one, list) else "no list" for name, one in lists.items()}
    if len(set(sizes.values())) != 1 or {"no list", 0} & set(sizes.values()):
        raise ValueError(f"not as many of each, and at least 1: {_told(sizes)}")
    return lists


def _told(sizes: Mapping[str, object]) -> str:
    return ", ".join(f"{name}: {size}" for name, size in sizes.items())


def _check_prompt(prompt: Any, called: str) -> None:
    ids = prompt if isinstance(prompt, list) else []
    if (isinstance(prompt, str) and prompt) or (ids and all(map(_is_id, ids))):
        return
    wrong = next((one for one in ids if not _is_id(one)), prompt)
    raise InputError(
        f"{called} is no prompt", expected=f"a text, or a list of token ids, each a {_ID}", got=f"{wrong!r:.60}"
    )


def _check_answer(answer: Any, called: str) -> None:
    if not (isinstance(answer, str) and answer) and not _is_id(answer):
        raise InputError(f"{called} is no token", expected=f"a word, or a token id, a {_ID}", got=f"{answer!r:.60}")


def _is_id(value: Any) -> bool:
    """Return whether a value is a token id: tensors would cut off 3.5, and take True for 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_ID
