"""A Python-Markdown extension: formulas become MathML while the site is built, so that no browser needs a script.

Inline: `$L_t$`. On its own: a fence named `math`, as GitHub reads it too.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert, convert_to_element
from markdown import Extension, Markdown
from markdown.inlinepatterns import InlineProcessor

# A dollar that opens is not followed by a space, one that closes follows none and comes before no digit: prices stay.
FORMULA = r"(?<![\\$\w])\$(?![\s$])([^$\n]+?)(?<![\s\\])\$(?![\d$])"


class InlineFormula(InlineProcessor):  # type: ignore[misc]
    """`$...$` in running text."""

    def handleMatch(self, m: Any, data: str) -> tuple[Element, int, int]:  # noqa: N802 (Python-Markdown's name)
        """The formula as an element, and which letters of the text it takes the place of."""
        element = convert_to_element(m.group(1))
        return element, m.start(0), m.end(0)


class MathML(Extension):  # type: ignore[misc]
    """Registers the inline formulas; the fences are registered with the others, in mkdocs.yml."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Python-Markdown's name)
        """Before escapes and emphasis, which would read a formula's underscores; after code, which holds dollars."""
        md.inlinePatterns.register(InlineFormula(FORMULA, md), "formula", 185)


def fence(source: str, language: str, css_class: str, options: dict[str, Any], md: Markdown, **others: Any) -> str:
    """A fence of one formula, or of several with an empty line between them."""
    formulas = [one for one in source.split("\n\n") if one.strip()]
    return f'<div class="formulas">{"".join(convert(one, display="block") for one in formulas)}</div>'


def makeExtension(**settings: Any) -> MathML:  # noqa: N802 (Python-Markdown's name)
    """What Python-Markdown asks a module for."""
    return MathML(**settings)
