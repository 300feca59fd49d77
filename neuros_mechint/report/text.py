"""Plain text as HTML and as Markdown: paragraphs, lists, emphasis and code, everything else stays text."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_INLINE = (
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])"), r"<em>\1</em>"),
)
_CODE = re.compile(r"(`[^`]+`)")
# What Markdown would read as a link, a table, mathematics, emphasis, a heading or a list.
_MARKS = re.compile(r"[\\\[\]|~$]|(?<!\w)_|_(?!\w)|^[#+=-](?!\d)|(?<=^\d)[.)](?=\s)|(?<=^\d\d)[.)](?=\s)")
_STARS_AND_TICKS = re.compile(r"[*`]")


def render_text(text: str) -> Markup:
    """Return text as HTML: paragraphs parted by empty lines, lists, emphasis and code.

    Lines that begin with ``- `` make a list; ``**bold**``, ``*emphasis*`` and `` `code` `` work as in
    Markdown.

    Parameters
    ----------
    text : str

    Returns
    -------
    markupsafe.Markup

    Examples
    --------
    >>> print(render_text("Layer **1** & `z`"))
    <p>Layer <strong>1</strong> &amp; <code>z</code></p>
    """
    return Markup("\n").join(_block(lines) for lines in _blocks(text))


def render_inline(text: str) -> Markup:
    """Return one line with its emphasis and code as HTML.

    Examples
    --------
    >>> print(render_inline("<b> and *words*"))
    &lt;b&gt; and <em>words</em>
    """
    escaped = str(escape(text))
    # Split at code first, so that stars inside code stay stars.
    parts = _CODE.split(escaped)
    code, *emphasis = _INLINE
    for index, part in enumerate(parts):
        for pattern, replacement in (code,) if part.startswith("`") and len(part) > 1 else emphasis:
            parts[index] = pattern.sub(replacement, parts[index])
    return Markup("".join(parts))


def text_to_markdown(text: str) -> str:
    r"""Return the same text in Markdown: what `render_text` knows is kept, everything else stays text.

    Examples
    --------
    >>> print(text_to_markdown("Layer **1** & `z`, see [1]"))
    Layer **1** &amp; `z`, see \[1\]
    """
    blocks: list[str] = []
    for lines in _blocks(text):
        if _is_list(lines):
            blocks.append("\n".join(f"- {inline_to_markdown(line[2:])}" for line in lines))
        else:
            blocks.append(inline_to_markdown(" ".join(lines)))
    return "\n\n".join(blocks)


def inline_to_markdown(text: str) -> str:
    """Return one line with its emphasis and code in Markdown.

    Examples
    --------
    >>> print(inline_to_markdown("<b> and *words*"))
    &lt;b&gt; and *words*
    """
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if part.startswith("`") and len(part) > 1 else _escaped(part) for part in parts)


def plain_to_markdown(text: object) -> str:
    r"""Return plain text on one line such that Markdown shows it as it is.

    Examples
    --------
    >>> print(plain_to_markdown("a*b* | blocks.0.resid_pre"))
    a\*b\* \| blocks.0.resid_pre
    """
    return _STARS_AND_TICKS.sub(r"\\\g<0>", _escaped(" ".join(str(text).split())))


def _escaped(text: str) -> str:
    marked = _MARKS.sub(r"\\\g<0>", text)
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _blocks(text: str) -> list[list[str]]:
    """Return the lines of each block; blocks are parted by empty lines."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return [[line.strip() for line in block.splitlines() if line.strip()] for block in blocks if block.strip()]


def _is_list(lines: list[str]) -> bool:
    return all(line.startswith("- ") for line in lines)


def _block(lines: list[str]) -> Markup:
    if _is_list(lines):
        items = Markup("").join(Markup("<li>{}</li>").format(render_inline(line[2:])) for line in lines)
        return Markup("<ul>{}</ul>").format(items)
    return Markup("<p>{}</p>").format(render_inline(" ".join(lines)))
