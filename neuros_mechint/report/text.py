"""Plain text as HTML: paragraphs, lists, emphasis and code, everything else escaped."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_INLINE = (
    (re.compile(r"`([^`]+)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*]+)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])"), r"<em>\1</em>"),
)


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
    blocks = re.split(r"\n\s*\n", text.strip())
    return Markup("\n").join(_block(block) for block in blocks if block.strip())


def render_inline(text: str) -> Markup:
    """Return one line with its emphasis and code as HTML.

    Examples
    --------
    >>> print(render_inline("<b> and *words*"))
    &lt;b&gt; and <em>words</em>
    """
    escaped = str(escape(text))
    # Split at code first, so that stars inside code stay stars.
    parts = re.split(r"(`[^`]+`)", escaped)
    code, *emphasis = _INLINE
    for index, part in enumerate(parts):
        for pattern, replacement in (code,) if part.startswith("`") and len(part) > 1 else emphasis:
            parts[index] = pattern.sub(replacement, parts[index])
    return Markup("".join(parts))


def _block(block: str) -> Markup:
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    if all(line.startswith("- ") for line in lines):
        items = Markup("").join(Markup("<li>{}</li>").format(render_inline(line[2:])) for line in lines)
        return Markup("<ul>{}</ul>").format(items)
    return Markup("<p>{}</p>").format(render_inline(" ".join(lines)))
