"""The papers behind the methods: BibTeX entries kept in ``citations.bib``, looked up by key."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from neuros_mechint.core.errors import InputError, near_names

_ENTRY = re.compile(r"^@(?P<kind>\w+)\{(?P<key>[^,\s]+),\n(?P<body>.*?)^\}$", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", re.MULTILINE)
_ACCENT = re.compile(r"\{\\(['`\"^~])(\w)\}")
_COMBINING = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303"}
_MOST_AUTHORS = 3


@dataclass(frozen=True)
class Citation:
    """One paper or software.

    Parameters
    ----------
    key : str
        BibTeX key.
    authors : tuple of str
        ``"Family, Given"`` each.
    title, venue, year : str
        As printed.
    link : str
        Address of the DOI or of the page.
    bibtex : str
        The entry as it stands in the file.

    Examples
    --------
    >>> cite("mante2013").year
    '2013'
    """

    key: str
    authors: tuple[str, ...]
    title: str
    venue: str
    year: str
    link: str
    bibtex: str

    @property
    def reference(self) -> str:
        """The paper as one line of a reference list, without its link.

        Examples
        --------
        >>> cite("sussillo2013").reference[:24]
        'Sussillo & Barak (2013).'
        """
        families = [name.partition(",")[0] for name in self.authors]
        if len(families) > _MOST_AUTHORS:
            who = f"{families[0]} et al."
        else:
            who = " & ".join(filter(None, (", ".join(families[:-1]), families[-1])))
        return " ".join(f"{part}." for part in (f"{who} ({self.year})", self.title, self.venue) if part)


def cite(key: str) -> Citation:
    """Return the entry of a BibTeX key.

    Parameters
    ----------
    key : str

    Returns
    -------
    Citation

    Raises
    ------
    InputError
        If no entry has this key.

    Examples
    --------
    >>> cite("mante2013").link
    'https://doi.org/10.1038/nature12742'
    """
    entries = _entries()
    if key not in entries:
        near = near_names(str(key), entries)
        raise InputError(
            f"unknown citation key {key!r}",
            expected="a key of neuros_mechint/core/citations.bib",
            fix=f"did you mean {near[0]!r}?" if near else "add the paper's entry to that file",
        )
    return entries[key]


def bibliography(keys: Iterable[str]) -> str:
    """Return the BibTeX entries of ``keys``, each once, in the order given.

    Parameters
    ----------
    keys : iterable of str

    Returns
    -------
    str
        Empty where there are no keys.

    Raises
    ------
    InputError
        If a key is unknown.

    Examples
    --------
    >>> print(bibliography(["mante2013"]).splitlines()[0])
    @article{mante2013,
    """
    return "\n\n".join(cite(key).bibtex for key in dict.fromkeys(keys))


@functools.cache
def _entries() -> dict[str, Citation]:
    text = Path(__file__).with_name("citations.bib").read_text(encoding="utf-8")
    entries: dict[str, Citation] = {}
    for match in _ENTRY.finditer(text):
        if match["key"] in entries:
            raise InputError(f"citations.bib has two entries {match['key']!r}", fix="remove one of them")
        entries[match["key"]] = _parse(match)
    return entries


def _parse(match: re.Match[str]) -> Citation:
    fields = {name: _plain(value) for name, value in _FIELD.findall(match["body"])}
    venue = fields.get("journal") or fields.get("booktitle") or fields.get("publisher") or ""
    if "volume" in fields:
        venue += f" {fields['volume']}"
    if "pages" in fields:
        venue += f", {fields['pages']}"
    doi = fields.get("doi")
    return Citation(
        key=match["key"],
        authors=tuple(fields["author"].split(" and ")),
        title=fields["title"],
        venue=venue,
        year=fields["year"],
        link=f"https://doi.org/{doi}" if doi else fields.get("url", ""),
        bibtex=match.group(0),
    )


def _plain(text: str) -> str:
    composed = _ACCENT.sub(lambda accent: unicodedata.normalize("NFC", accent[2] + _COMBINING[accent[1]]), text)
    return composed.replace("---", "\u2014").replace("--", "\u2013").replace("{", "").replace("}", "")
