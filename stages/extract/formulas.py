"""Where the TeX of a page's formulas stands, and which elements show the same formula once more.

Sources: MathML with an annotation in TeX (KaTeX, Wikipedia, LaTeXML, MathJax 3), `alttext` of MathML, the
`script type="math/tex"` of MathJax 2, and images whose alternative text is TeX.
"""

from __future__ import annotations

from stages.extract.markup import Bytes, Numbers, attribute, close_of, holds, name, same
from stages.extract.scan import OPEN, TAG_NUMBER, TEXT
from stages.kernels import inline

_ANNOTATION, _MATH, _SCRIPT, _SPAN, _DIV = (TAG_NUMBER[tag] for tag in ("annotation", "math", "script", "span", "div"))
_ENCODING, _ALTTEXT, _DISPLAY, _MODE, _CLASS, _ALT, _SRC, _TYPE = (
    name(text) for text in ("encoding", "alttext", "display", "mode", "class", "alt", "src", "type")
)
_TEX, _LATEX, _BLOCK, _DISPLAYED = (name(text) for text in ("tex", "latex", "block", "display"))
_MATH_TEX, _CDATA, _CDATA_END = (name(text) for text in ("math/tex", "% <![cdata[", "%]]>"))
_MATHJAX, _CHTML, _KATEX_HTML, _FALLBACK, _CODECOGS, _MATHTEX = (
    name(text) for text in ("mathjax", "mjx-chtml", "katex-html", "mwe-math-fallback", "codecogs", "mathtex")
)
_NEAR = 4  # events between a formula and its copy
_FAR = 64  # events to look ahead for the text beside a formula


@inline
def math_source(
    html: Bytes, kind: Bytes, tag: Bytes, start: Numbers, end: Numbers, at: int, last: int
) -> tuple[int, int]:
    """The span of the TeX that the `math` element between events `at` and `last` brings along, else (-1, -1)."""
    for number in range(at + 1, last):
        if kind[number] == OPEN and tag[number] == _ANNOTATION:
            value, value_end = attribute(html, start[number], end[number], _ENCODING)
            if value >= 0 and holds(html, value, value_end, _TEX) and kind[number + 1] == TEXT:
                return start[number + 1], end[number + 1]
    value, value_end = attribute(html, start[at], end[at], _ALTTEXT)
    if value >= 0 and _looks_tex(html, value, value_end):  # else words for listeners
        return value, value_end
    return -1, -1


@inline
def math_kept(kind: Bytes, block: Numbers, keep: Bytes, at: int, last: int) -> int:
    """Whether the first text between two events is kept: 1 or 0, or -1 where they hold none."""
    for number in range(at, last):
        if block[number] >= 0:
            return 1 if keep[block[number]] else 0
    return -1


@inline
def beside_kept(block: Numbers, keep: Bytes, previous: int, at: int) -> bool:
    """Whether the text before (block `previous`, -1: none) or behind event `at` is kept."""
    if previous >= 0 and keep[previous]:
        return True
    for number in range(at, at + _FAR):
        if number < len(block) and block[number] >= 0:
            return bool(keep[block[number]])
    return False


@inline
def displayed(html: Bytes, kind: Bytes, start: Numbers, end: Numbers, at: int) -> bool:
    """Whether the `math` element that event `at` opens stands in lines of its own."""
    for wanted in (_DISPLAY, _MODE):
        value, value_end = attribute(html, start[at], end[at], wanted)
        if value >= 0 and (same(html, value, value_end, _BLOCK) or same(html, value, value_end, _DISPLAYED)):
            return True
    number = at - 1
    while number >= 0 and number >= at - _NEAR and kind[number] == OPEN:  # span.katex-display > span.katex > ...
        value, value_end = attribute(html, start[number], end[number], _CLASS)
        if value >= 0 and holds(html, value, value_end, _DISPLAYED):
            return True
        number -= 1
    return False


@inline
def script_source(html: Bytes, start: Numbers, end: Numbers, at: int) -> tuple[int, int, bool]:
    """The span of TeX in the script that event `at` opens and whether it is displayed; (-1, -1, ...) for others."""
    value, value_end = attribute(html, start[at], end[at], _TYPE)
    if value < 0 or not same(html, value, value_end, _MATH_TEX):
        return -1, -1, False
    first, last = start[at + 1], end[at + 1]
    while first < last and (html[first] == 32 or 9 <= html[first] <= 13):
        first += 1
    while first < last and (html[last - 1] == 32 or 9 <= html[last - 1] <= 13):
        last -= 1
    if same(html, first, last, _CDATA):  # kramdown wraps TeX that holds < or &
        first += len(_CDATA)
        if last - len(_CDATA_END) >= first and same(html, last - len(_CDATA_END), last, _CDATA_END):
            last -= len(_CDATA_END)
    return first, last, holds(html, value, value_end, _DISPLAYED)


@inline
def image_source(html: Bytes, start: Numbers, end: Numbers, at: int) -> tuple[int, int]:
    """The span of TeX in the alternative text of the image of event `at`, else (-1, -1)."""
    alt, alt_end = attribute(html, start[at], end[at], _ALT)
    if alt < 0 or alt == alt_end:
        return -1, -1
    value, value_end = attribute(html, start[at], end[at], _CLASS)
    if value >= 0 and (
        holds(html, value, value_end, _LATEX)
        or holds(html, value, value_end, _FALLBACK)
        or (same(html, value, value_end, _TEX) and (value_end - value == 3 or html[value + 3] == 32))
    ):
        return alt, alt_end
    value, value_end = attribute(html, start[at], end[at], _SRC)
    if (
        value >= 0
        and not _is_data(html, value)
        and (
            holds(html, value, value_end, _CODECOGS)
            or holds(html, value, value_end, _MATHTEX)
            or (holds(html, value, value_end, _LATEX) and _looks_tex(html, alt, alt_end))
        )
    ):
        return alt, alt_end
    return -1, -1


@inline
def _is_data(html: Bytes, value: int) -> bool:
    return bool(html[value] == 100 and html[value + 4] == 58)  # data:


@inline
def _looks_tex(html: Bytes, start: int, end: int) -> bool:
    for at in range(start, end):  # noqa: SIM110  (numba compiles no generators)
        if html[at] == 92 or html[at] == 94 or html[at] == 95 or html[at] == 123:  # \ ^ _ {
            return True
    return False


@inline
def is_copy(html: Bytes, start: Numbers, end: Numbers, at: int, formula: int) -> bool:
    """Whether the span or image of event `at` shows the formula that ended with event `formula` once more."""
    if formula < 0 or at - formula > _NEAR:
        return False
    value, value_end = attribute(html, start[at], end[at], _CLASS)
    return bool(value >= 0 and (holds(html, value, value_end, _KATEX_HTML) or holds(html, value, value_end, _FALLBACK)))


@inline
def _is_typeset(html: Bytes, start: Numbers, end: Numbers, at: int) -> bool:
    """Whether a class begins with MathJax (its capitals: `mathjax_ignore` is what authors write) or mjx-chtml."""
    value, value_end = attribute(html, start[at], end[at], _CLASS)
    if value < 0:
        return False
    if same(html, value, value_end, _MATHJAX):
        return bool(html[value] == 77 and html[value + 4] == 74)
    return bool(same(html, value, value_end, _CHTML))


@inline
def typeset(html: Bytes, kind: Bytes, tag: Bytes, start: Numbers, end: Numbers, at: int) -> tuple[int, int]:
    """What MathJax has put in place of a formula: (the event that closes it, its `math` element or -1).

    (-1, -1) where event `at` opens no such element, or one that is the only copy. A script that follows it
    holds the same formula; without one, the MathML inside does.
    """
    if not _is_typeset(html, start, end, at):
        return -1, -1
    last = close_of(kind, tag, at)
    number = last + 1
    steps = 0
    while number < len(kind) and steps < 2 * _NEAR:
        steps += 1
        if kind[number] == OPEN:
            if tag[number] == _SCRIPT:
                first, _, _ = script_source(html, start, end, number)
                if first >= 0:
                    return last, -1
                break
            if (tag[number] == _SPAN or tag[number] == _DIV) and _is_typeset(html, start, end, number):
                number = close_of(kind, tag, number)  # a preview before the formula before the script
            else:
                break
        elif kind[number] == TEXT and end[number] - start[number] > 2:
            break
        number += 1
    for number in range(at + 1, last):
        if kind[number] == OPEN and tag[number] == _MATH:
            return last, number
    return -1, -1
