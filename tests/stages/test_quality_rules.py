"""Repetition, C4, FineWeb and RefinedWeb: each rule at its limit, in several scripts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from stage_helpers import batch, bound, texts

from stages.base import Outcome, Stage, with_column
from stages.quality import statistics
from stages.quality.c4 import C4, C4Paragraphs
from stages.quality.fineweb import FineWebQuality
from stages.quality.gopher import GopherQuality
from stages.quality.refinedweb import RefinedWebLines
from stages.quality.repetition import GopherRepetition
from stages.registry import make

SENTENCE = "The cat sat on the mat and looked at the dog. "
CHINESE = "今天的天气很好，我们在公园里散步。"


def judge(stage: Stage, text: str | None, language: str | None = "en") -> Outcome:
    return bound(stage)(batch([text], language=[language]))


def verdict(stage: Stage, text: str | None, language: str | None = "en") -> tuple[Any, ...] | None:
    outcome = judge(stage, text, language)
    return outcome.dropped[0][1:] if outcome.dropped else None


def numbered(count: int, template: str = "This is line {} of many lines that differ.") -> list[str]:
    return [template.format("abcdefghijklmnopqrstuvwxyz"[n % 26] * (n // 26 + 2)) for n in range(count)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join(["same"] * 4 + ["other"] * 1 + ["x " + "long words here in a line " * 30] * 1), "lines"),
        ("\n\n".join(["one\ntwo"] * 3 + ["three words here", "four more words here"]), "paragraphs"),
        ("\n".join([*numbered(8), *["a very long line that stands here twice " * 9] * 2]), "line_characters"),
        ("buy cheap shoes " * 20, "top_2"),
        ("今天天气很好，" * 30, "top_2"),
        (" ".join(f"{a}{b}" for a in "abcdefghij" for b in "klmnop") + " one two three four five six" * 3, "top_4"),
        (SENTENCE + "A bird flew over the house to the old tree by the river.\n" + CHINESE, None),
        ("", None),
        ("单", None),
    ],
)  # fmt: skip
def test_repetition(text: str, reason: str | None) -> None:
    """Pages that say one thing again and again would fill the corpus."""
    found = verdict(GopherRepetition(), text)
    assert (found and found[0]) == reason


@pytest.mark.parametrize("text", [SENTENCE * 1, CHINESE * 1, "ที่นี่อากาศดีมากและผู้คนใจดี", ""])
def test_what_is_said_once_is_no_repetition(text: str) -> None:
    """Short texts would go because an n-gram that occurs once is their most frequent one."""
    assert verdict(GopherRepetition(), text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join(numbered(10)), None),
        ("\n".join(line.rstrip(".") for line in numbered(10)), "terminal_lines"),
        ("\n".join([f"{CHINESE}{n}号的公园里还有很多人在散步和唱歌，大家都很高兴。" for n in "一二三四五"]), None),
        ("\n".join(f"Line {n}." for n in "abcdefgh"), "short_lines"),
        ("\n".join([*numbered(30), numbered(1)[0]]), "repeated_characters"),
        ("\n\n\n\n\n\n\n\n".join(numbered(9, "{} is a line of thirty or more letters.")), "breaks"),
        (" \n \n", "empty"),
        ("He said: “This is a sentence that is long enough.”", None),
        ("„Das ist ein Satz, der lang genug ist.“\n»Das ist noch ein Satz, der lang genug ist.«", None),
    ],
)
def test_fineweb(text: str, reason: str | None) -> None:
    """Lists and menus would pass for text."""
    found = verdict(FineWebQuality(), text)
    assert (found and found[0]) == reason


def test_limits_by_language() -> None:
    """A limit for words would be held against characters."""
    text = "\n".join([CHINESE] + [f"{n}号公园里有很多人在散步。" for n in "一二三四五"])
    assert verdict(FineWebQuality(), text, "zh") == ("short_lines", 1.0, 0.67)
    stage = make(FineWebQuality, {"by_language": {"zh": {"short_line": 8, "min_terminal_lines": 0.5}}})
    assert verdict(stage, text, "zh") is None
    assert verdict(stage, text, "zh-CN") is None
    assert verdict(stage, text, "en") == ("short_lines", 1.0, 0.67)
    assert verdict(stage, text.replace("。", ""), "zh") == ("terminal_lines", 0.0, 0.5)
    both = bound(stage)(batch([text, text], language=["en", "zh"]))
    assert [row for row, *_ in both.dropped] == [0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"by_language": {"zh": {"min_word": 5}}}, "'min_word' is no limit of this stage. Did you mean 'min_words'"),
        ({"by_language": {"zh": {"max_symbols": -1}}}, "by_language.zh.max_symbols"),
        ({"by_language": {"zh": {"min_words": 200_000}}}, "above max_words"),
        ({"by_language": {"zh": {"stop_words": 1}}}, "'stop_words' is no limit"),
    ],
)  # fmt: skip
def test_wrong_limits_by_language_are_refused(settings: dict[str, Any], says: str) -> None:
    """A misspelled limit would change nothing, and nobody would notice."""
    with pytest.raises(ValidationError, match=says):
        make(GopherQuality, settings)


def test_a_language_without_a_list_is_refused() -> None:
    """The rule on stop words would be off without a word."""
    with pytest.raises(ValueError, match="fallback_language: the file of stop words has no list for 'xx'"):
        bound(GopherQuality(fallback_language="xx"))


ENOUGH = "\n".join(numbered(4))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{ENOUGH}\nNo mark at the end of it", ENOUGH),
        (f"Menu\n\n{ENOUGH}\n\nToo few words.", ENOUGH),
        (f"{ENOUGH}\nThis line needs JavaScript to be seen.", ENOUGH),
        (f"{ENOUGH}\nOur Ｐｒｉｖａｃｙ Policy is to be read here.", ENOUGH),
        (f"  {ENOUGH} \n {'x' * 1001} is a long word of this line.", ENOUGH),
        (f"{ENOUGH}[1][citation needed]", ENOUGH),
        (f"[12]{ENOUGH}", ENOUGH),
        (ENOUGH.replace(" of ", " of[3] "), ENOUGH),
        (f"{ENOUGH}\nThis one trails off at the end...", ENOUGH),
        (f"{ENOUGH}\n« Older posts on this page and newer posts »", ENOUGH),
        (f"{ENOUGH}\nThis one trails off and says read more... »", ENOUGH),
        (f"„Das ist wirklich sehr gut.“\n{ENOUGH}\n»Das ist wirklich sehr gut.«\nMenü", None),
        (f"« C’est vraiment très bien. »\n{ENOUGH}\n‹ Prev 1 2 3 Next ›", None),
        (f"{CHINESE}\n首页\n{CHINESE}[1]\n“公园里的人都很高兴。”", f"{CHINESE}\n{CHINESE}\n“公园里的人都很高兴。”"),
    ],
)  # fmt: skip
def test_c4_cuts_lines_that_are_no_sentences(text: str, left: str | None) -> None:
    """Menus, notices and marks of citation would stay in the text; or speech in German and French books would go."""
    outcome = judge(C4(), text)
    left = left or text.rpartition("\n")[0]
    assert texts(outcome) == [left]
    assert outcome.counts["characters_cut"] == len(text) - len(left)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{ENOUGH}\nLorem Ipsum is a text that means nothing.", ("page_phrase", None, None)),
        (f"{ENOUGH}\nfunction f() {{ return 'a word or two.'", ("curly_bracket", None, None)),
        ("One sentence of this page.\nAnother sentence of this page.", ("few_sentences", 2.0, 3.0)),
        ("", ("few_sentences", 0.0, 3.0)),
        (None, ("no_text", None, None)),
    ],
)
def test_c4_drops_pages(text: str | None, expected: tuple[Any, ...]) -> None:
    """Code and placeholder pages would stay; or a page would go without its reason."""
    assert verdict(C4(), text) == expected


def test_c4_thresholds_go_by_name() -> None:
    """One could not compare with the corpus that one's thresholds are of."""
    text = "\n".join(["Three words here."] * 4)
    assert verdict(C4(), text) == ("few_sentences", 0.0, 3.0)
    assert verdict(C4(thresholds="datatrove"), text) == ("few_sentences", 4.0, 5.0)
    assert verdict(C4(thresholds="datatrove", min_sentences=4), text) is None
    thai = "วันนี้อากาศดีมาก เราไปเดินเล่นที่สวนสาธารณะ"
    assert texts(judge(C4(end_marks=False, min_sentences=1), thai)) == [thai]
    with pytest.raises(ValidationError, match="line_phrases: an empty phrase"):
        make(C4, {"line_phrases": ["javascript", " "]})


LINES = [
    *numbered(3), "", "  ", "Menu", "[1]", "See [edit] here.", "a b c d e... ", "{ x y z a b.", CHINESE,
    "javascript is on in here.",
]  # fmt: skip


@given(st.lists(st.sampled_from(LINES), max_size=9), st.integers(0, 1))
def test_c4_is_what_its_rules_say_line_by_line(lines: list[str], end: int) -> None:
    """An edit would take away more than its line, or leave a part of one."""
    kept, page = [], None
    for line in lines:
        plain = line.replace("[1]", "").replace("[edit]", "").strip()
        if plain == line.strip() == "" or not plain or plain[-1] not in ".。" or plain.endswith("..."):
            continue
        if sum(len(word) if word[0] > "\u3000" else 1 for word in plain.split()) < 5:
            continue
        if "javascript" in plain:
            continue
        if "{" in plain:
            page = "curly_bracket"
            break
        kept.append(line.strip().removeprefix("[1]").replace("[edit]", "").strip())
    outcome = judge(C4(min_sentences=0), "\n".join(lines) + "\n" * end)
    assert [drop[1] for drop in outcome.dropped] == ([page] if page else [])
    if not page:
        assert texts(outcome) == ["\n".join(kept)]


def test_c4_paragraphs() -> None:
    """Pages without a paragraph would stay in mC4's way of choosing."""
    line = "word " * 40 + "."
    assert verdict(C4Paragraphs(), "\n".join([line] * 3)) is None
    assert verdict(C4Paragraphs(), "\n".join([line] * 2 + ["short"] * 9)) == ("few_paragraphs", 2, 3)


LONG = "\n".join(numbered(60))


@pytest.mark.parametrize(
    ("line", "left", "reason"),
    [
        ("THIS LINE SHOUTS at you", "", "capitals"),
        ("1,234 56%", "", "numbers"),
        ("12 Comments", "", "counter"),
        ("3 条评论", "", "counter"),
        ("Menu", "", "one_word"),
        ("Sign in to see it", "to see it", "phrase"),
        ("A short teaser of it. Read more »", "A short teaser of it.", "phrase"),
        ("大家都很高兴。查看更多>>", "大家都很高兴。", "phrase"),
        ("There are 3 items in cart now", "There are 3  now", "phrase"),
        ("12 Monkeys was a film", None, None),
        ("Signing in is not for everybody", None, None),
        ("这是一行普通的文字", None, None),
        ("---", None, None),
    ],
)
def test_refinedweb_lines(line: str, left: str | None, reason: str | None) -> None:
    """Counters, shouts and teasers would stay between the paragraphs."""
    for text in (f"{LONG}\n{line}\n{LONG}", f"{LONG}\n{line}", f"{line}\n{LONG}"):
        outcome = judge(RefinedWebLines(), text)
        without = text.replace(f"{line}\n", "").replace(f"\n{line}", "")
        assert texts(outcome) == [text if left is None else text.replace(line, left) if left else without]
        lines = {name: number for name, number in outcome.counts.items() if name.startswith("lines")}
        assert lines == ({f"lines_cut_{reason}": 1} if reason else {})


def test_refinedweb_drops_what_is_mostly_flagged() -> None:
    """A page of menus would leave its rest as a document."""
    found = verdict(RefinedWebLines(), "Menu\nHome\n" + SENTENCE * 2)
    assert found is not None
    assert found[0] == "flagged_words"
    assert verdict(RefinedWebLines(max_flagged_words=1), "Menu\nHome\n" + SENTENCE * 2) is None


def test_stages_share_their_counts_and_see_every_change() -> None:
    """A text would be counted once for each stage; or be judged by the counts of what it was before."""
    first, counts = statistics.counted(batch([SENTENCE * 3, None, CHINESE]))
    again, same = statistics.counted(first)
    assert again is first
    assert (same == counts).all()
    part, _ = statistics.counted(first.slice(2, 1))
    assert part.column(statistics.COLUMN).equals(first.column(statistics.COLUMN).slice(2, 1))
    changed = with_column(first, "text", pa.array([SENTENCE * 2, None, CHINESE]))
    assert (statistics.counted(changed)[1][:, 0] != counts[:, 0]).any()
