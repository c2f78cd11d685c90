"""Repeated lines and paragraphs inside a text: what is cut, what stays, against plain Python."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import SHARED, batch, needs_shared, reasons, texts

from stages.repeated_text import RepeatedText
from stages.text.characters import folds_alone
from stages.words import SPACELESS

LONG = "A paragraph that is long enough to be one of those that a page should not hold a second time, whatever it is."
LINE = "A line that is long enough to go."
_LETTER = regex.compile(rf"[[{SPACELESS}]&&\p{{L}}]", regex.V1)


def cut(text: str, **changed: Any) -> str:
    """What the stage leaves of a text."""
    found = texts(RepeatedText(**changed).process(batch([text])))
    return found[0]


def left(text: str, compare: str) -> str:
    """What a unit is compared by."""
    if compare == "exact":
        return text.strip()
    small = (chr(folds_alone()[ord(character)]) for character in text)
    return "".join(c for c in small if not c.isspace() and not regex.match(r"\p{N}", c))


def reference(text: str, stage: RepeatedText) -> tuple[str, int, int]:
    """The text without what is repeated, and how many paragraphs and lines were cut."""
    lines = text.split("\n")
    full = [number for number, line in enumerate(lines) if line.strip()]
    if not full:
        return text, 0, 0
    code: set[int] = set()
    fence = ""
    for number in full if stage.keep_code else []:
        line = lines[number].strip()
        match = regex.match(r"(```+|~~~+)", line)
        if match or fence or lines[number].startswith(("    ", "\t")):
            code.add(number)
        if not fence:
            fence = match[0] if match else ""
        elif match and match[0].startswith(fence) and match[0] == line:
            fence = ""
    paragraphs: list[list[int]] = []
    for number in full:
        if paragraphs and paragraphs[-1][-1] == number - 1:
            paragraphs[-1].append(number)
        else:
            paragraphs.append([number])

    def repeated(units: list[tuple[int, str]], scope: str, least: int) -> set[int]:
        """Which of these (number, text; an empty one parts runs) repeat an earlier one."""
        found = set()
        seen: set[str] = set()
        for number, unit in units:
            value = left(unit, stage.compare)
            if len(unit.strip().encode()) < least:
                value = ""
            long = len(value) + len(_LETTER.findall(value)) >= least
            if value in seen and long and not (stage.keep_tables and "|" in unit):
                found.add(number)
            if scope == "runs" and (not value or value not in seen):
                seen = set()
            if len(unit.strip().encode()) >= least:
                seen.add(value)
        return found if scope != "none" else set()

    blocks = ["\n".join(lines[number] for number in block) for block in paragraphs]
    units = [(at, "" if code & set(block) else blocks[at]) for at, block in enumerate(paragraphs)]
    gone_blocks = repeated(units, stage.paragraphs, stage.min_paragraph)
    gone = {number for at in gone_blocks for number in paragraphs[at]}
    gone_lines = repeated(
        [(number, "" if number in code | gone else lines[number]) for number in full], stage.lines, stage.min_line
    )
    gone |= gone_lines
    for block in paragraphs:
        if gone >= set(block):  # the empty lines behind it
            number = block[-1] + 1
            while number < full[-1] and not lines[number].strip():
                gone.add(number)
                number += 1
    body, behind = list(range(full[-1] + 1)), lines[full[-1] + 1 :]
    if body[-1] in gone:
        while body[-1] in gone or not lines[body[-1]].strip():
            body.pop()
    return "\n".join([*(lines[n] for n in body if n not in gone), *behind]), len(gone_blocks), len(gone_lines)


UNITS = [
    *(
        "aaaa",
        "bbbb",
        "aaaa bbbb",
        "a1a2a3a4",
        "aaaa 77",
        "ＡＡＡＡ",
        "東京東京",
        "東京 東京",
        "한국어",
        "ก่ก่",
        "}",
        "",
        " ",
        "\u3000",
        "\r",
    ),
    *(
        "```",
        "~~~~",
        "``` py",
        "    aaaa",
        "\taaaa",
        "   aaaa",
        "| aaaa |",
        "a | bbbb",
        "aaaa\r",
        "\x1caaaa\x85",
        "\0\0\0\0",
        "12345",
    ),
]
SETTINGS = st.builds(
    RepeatedText,
    paragraphs=st.sampled_from(["none", "runs", "all"]),
    lines=st.sampled_from(["none", "runs", "all"]),
    min_paragraph=st.sampled_from([1, 4, 9]),
    min_line=st.sampled_from([1, 4, 9]),
    compare=st.sampled_from(["exact", "folded"]),
    keep_code=st.booleans(),
    keep_tables=st.booleans(),
)
TEXTS = st.one_of(
    st.lists(st.sampled_from(UNITS), max_size=14).map("\n".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30).map(lambda text: f"{text}\n\n{text}\n{text}"),
    st.text("ab \n", max_size=40),
)


@settings(max_examples=250)
@given(st.lists(TEXTS, min_size=1, max_size=3), SETTINGS)
def test_equals_plain_python(values: list[str], stage: RepeatedText) -> None:
    """Text would be lost, or parts of two paragraphs be run together."""
    outcome = stage.process(batch([*values]))
    expected = [reference(text, stage) for text in values]
    assert texts(outcome) == [text for text, _, _ in expected]
    assert outcome.counts.get("paragraphs_cut", 0) == sum(number for _, number, _ in expected)
    assert outcome.counts.get("lines_cut", 0) == sum(number for _, _, number in expected)
    assert outcome.counts.get("characters_cut", 0) == sum(map(len, values)) - sum(len(text) for text, _, _ in expected)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (f"{LONG}\n\nother\n\n{LONG}\n\nend", f"{LONG}\n\nother\n\nend"),
        (f"{LONG}\n\nother\n\n{LONG}", f"{LONG}\n\nother"),
        (f"{LONG}\n\nother\n\n  {LONG}\n", f"{LONG}\n\nother\n"),
        (f"{LINE}\n{LINE}\n\n{LINE}\nother", f"{LINE}\n\nother"),
        (f"{LINE}\nother\n{LINE}", None),
        ("- one\n- one\n}\n}\n", None),
        (f"```\n{LONG}\n\n{LONG}\n```", None),
        (f"    {LONG}\n\n    {LONG}", None),
        (f"| {LONG} |\n| {LONG} |", None),
        ("東京は日本の首都である。" * 6 + "\n\n" + "東京は日本の首都である。" * 6, "東京は日本の首都である。" * 6),
        (
            "Row, row, row your boat\nGently down the stream\n\nMerrily, merrily\n\nRow, row, row your boat\nLife is",
            None,
        ),
    ],
)
def test_what_goes_and_what_stays(text: str, rest: str | None) -> None:
    """A page's double layout would stay; code, tables, lists or verse would be broken."""
    assert cut(text) == (text if rest is None else rest)


def test_folded_comparison_leaves_numbers_alone() -> None:
    """Teasers that differ in a date would stay; columns of numbers would be taken for one another."""
    posts = "Posted on 1 May 2020 by the editor\nPOSTED ON 12 MAY 2021 by the editor"
    text = f"{posts}\n1234567890123456789012\n98765432109876543210987"
    assert cut(text) == text
    assert cut(text, compare="folded").count("\n") == 2


def test_untouched_text_is_the_same_array_and_much_repeated_text_is_dropped() -> None:
    """Every batch would be copied; a page of one paragraph a hundred times over would be kept as if it were a page."""
    data = batch(["one\n\ntwo", None, f"{LONG}\n\n" * 9 + "end", ""])
    outcome = RepeatedText(max_cut=0.5).process(data)
    assert reasons(outcome) == [(1, "no_text"), (2, "cut")]
    _, _, share, limit = outcome.dropped[1]
    assert share == pytest.approx(1 - len(f"{LONG}\n\nend") / len(f"{LONG}\n\n" * 9 + "end"))
    assert limit == 0.5
    assert dict(outcome.counts) == {}
    single = batch(["one\n\ntwo"])
    before, after = (part.column("text").buffers()[2] for part in (single, RepeatedText().process(single).batch))
    assert before.address == after.address
    kept = RepeatedText().process(data)
    assert dict(kept.counts) == {"paragraphs_cut": 8, "characters_cut": 8 * len(f"{LONG}\n\n")}


def test_long_texts_take_linear_time() -> None:
    """A log of a million equal lines would hold a worker for hours."""
    stage = RepeatedText(lines="all", min_line=1, min_paragraph=1)
    many = "\n".join(f"line {number}" for number in range(200_000))
    column: list[str | None] = [
        f"{LINE}\n" * 1_000_000,
        f"{many}\n\n{many}",
        "a" * 1_000_000,
        "\n" * 1_000_000,
        "a\n\n" * 300_000,
        "\0",
    ]
    outcome = stage.process(batch([*column]))
    assert texts(outcome) == [f"{LINE}\n", many, *column[2:4], "a\n\n", "\0"]
    assert outcome.counts["lines_cut"] == 999_999
    assert outcome.counts["paragraphs_cut"] == 1 + 299_999


@needs_shared
@pytest.mark.parametrize(
    ("name", "most"), [("books", 2e-3), ("poetry_zh", 1e-3), ("code_python", 1e-4), ("docs_fr", 5e-3)]
)
def test_defaults_leave_real_texts_alone(name: str, most: float) -> None:
    """Verse, dialogue and code would lose lines that their authors wrote twice."""
    with gzip.open(SHARED / "text" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        values = [json.loads(line)["text"] for _, line in zip(range(150), lines, strict=False)]
    outcome = RepeatedText().process(batch([*values]))
    assert texts(outcome) == [reference(text, RepeatedText())[0] for text in values]
    assert outcome.counts.get("characters_cut", 0) <= most * sum(map(len, values))
