"""What the pages need of Markdown beyond its extensions: mathematics of docstrings, addresses of papers, MathML."""

from __future__ import annotations

import html
import re
from xml.etree.ElementTree import Element

import latex2mathml.converter
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

DIRECTIVE = re.compile(r"^( *)\.\. math::[ \t]*(.*(?:\n\1 +\S.*)*)", flags=re.MULTILINE)
ROLE = re.compile(r":math:`([^`]+)`")
DOI = r"doi:(10\.\d{4,9}/[^\s<>]*[^\s<>.,;:)\]])"
UNKNOWN_COMMANDS = {r"\arg": r"\operatorname{arg}"}  # to the converter
FORMULA = re.compile(r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', flags=re.DOTALL)


class DocstringMathematics(Preprocessor):
    """Turn ``:math:`` and ``.. math::``, as docstrings have them, into what arithmatex reads."""

    def run(self, lines: list[str]) -> list[str]:
        """Return the lines with formulae between brackets."""
        text = DIRECTIVE.sub(lambda match: f"{match[1]}\\[{' '.join(match[2].split())}\\]", "\n".join(lines))
        return ROLE.sub(lambda match: f"\\({match[1]}\\)", text).split("\n")


class PaperAddress(InlineProcessor):
    """Link ``doi:10...`` to the paper."""

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[Element, int, int]:  # noqa: N802  (Markdown's name)
        """Return the link and where it stands in the text."""
        link = Element("a", href=f"https://doi.org/{m[1]}")
        link.text = f"doi:{m[1]}"
        return link, m.start(0), m.end(0)


class Pages(Extension):
    """Mathematics of docstrings, and addresses of papers."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802  (Markdown's name)
        """Register both; code spans and links are read before addresses."""
        md.preprocessors.register(DocstringMathematics(md), "docstring_mathematics", 29)
        md.inlinePatterns.register(PaperAddress(DOI, md), "paper_address", 115)


def with_mathml(page: str) -> str:
    """Return HTML with arithmatex's TeX as MathML, which browsers draw without a script."""

    def convert(match: re.Match[str]) -> str:
        display = "block" if match["tag"] == "div" else "inline"
        tex = (
            html.unescape(match["tex"]).strip().replace("\\arg", "\\operatorname{arg}")
        )  # which the converter does not know
        return latex2mathml.converter.convert(tex, display=display)

    return FORMULA.sub(convert, page)
