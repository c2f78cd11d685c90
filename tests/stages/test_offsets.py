"""Spans point at the words that they are of, in the unit that the stages name: code points of the text.

dolma mixes characters and bytes, so that its spans point beside the words where a text is not English alone.
"""

from __future__ import annotations

import functools
import random
import string
from typing import NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import batch, bound, texts

from stages.base import Outcome, Processor, Stage
from stages.decontaminate import Benchmark, Decontaminate
from stages.pii import Pii
from stages.registry import STAGES
from stages.secrets import Secrets
from stages.toxicity import Toxicity
from stages.toxicity_model import ToxicityModel

AROUND = (
    "今天天气很好，", "𠮷野家在那边。", "👩\u200d👩\u200d👧\u200d👦", "👋🏽", "❤\ufe0f", "🇩🇪",
    "e\u0301te\u0301 u\u0308ber", "\u0301", "ﬁ ½ ①", "می\u200cخواهم", "नमस्ते", "สวัสดี", "Ａｂｃ", "한국어", "plain words",
    "\u200b\u00ad",
)  # fmt: skip
"""What one, two, three and four bytes, marks, joiners and compatibility characters go wrong with."""

_RNG = random.Random(7)
TOKEN = "ghp_" + "".join(_RNG.choice(string.ascii_letters + string.digits) for _ in range(36))
PERSONAL = (
    "joe@bar.com",
    "ｊｏｅ＠ｂａｒ．ｃｏｍ",
    "52.14.88.201",
    "+1 650-253-0000",
    "4539 1488 0343 6467",
    "11010519491231002X",
)


class Written(NamedTuple):
    """A text, and where its paragraphs and the words that a stage is to find begin, in code points."""

    text: str
    starts: list[int]
    words: list[tuple[int, str]]


@st.composite
def written(draw: st.DrawFn, words: tuple[str, ...]) -> Written:
    """Paragraphs of all sorts of text, most with one of the words in it."""
    text, starts, placed = "", [], []
    for number in range(draw(st.integers(1, 4))):
        text += "\n" if number else ""
        starts.append(len(text))
        text += "".join(draw(st.lists(st.sampled_from(AROUND), min_size=1, max_size=5))) + "（"
        for word in draw(st.lists(st.sampled_from(words), max_size=2)):
            placed.append((len(text), word))
            text += word + "、"
        text += "）" + "".join(draw(st.lists(st.sampled_from(AROUND), max_size=4)))
    return Written(text, starts, placed)


def spans_of(outcome: Outcome, column: str) -> list[tuple[int, int]]:
    (found,) = outcome.batch.column(column).to_pylist()
    return [(span["start"], span["end"]) for span in found]


def check_tagged(stage: Stage, column: str, given: Written) -> None:
    spans = spans_of(bound(stage)(batch([given.text])), column)
    assert [(start, given.text[start:end]) for start, end in spans] == given.words
    for start, end in spans:  # the same within the paragraph
        begin = max(place for place in given.starts if place <= start)
        paragraph = given.text[begin:].split("\n")[0]
        assert paragraph[start - begin : end - begin] == given.text[start:end]


def check_replaced(stage: Stage, column: str, given: Written, placeholder: str) -> None:
    """Spans are of the text as it leaves the stage."""
    outcome = bound(stage)(batch([given.text]))
    expected = given.text
    for _, word in given.words:
        expected = expected.replace(word, placeholder, 1)
    (left,) = texts(outcome)
    assert left == expected
    assert [left[start:end] for start, end in spans_of(outcome, column)] == [placeholder] * len(given.words)
    assert outcome.counts.get("characters_cut", 0) == sum(len(word) for _, word in given.words)


@settings(max_examples=60)
@given(written(PERSONAL))
def test_spans_of_personal_data(given: Written) -> None:
    """Another stage would cut, and an audit would show, something else than the address."""
    check_tagged(Pii(mode="tag"), "pii", given)
    same = dict.fromkeys(("email", "ip", "phone", "card", "iban", "national_id"), "<某人👤>")
    check_replaced(Pii(placeholders=same), "pii", given, "<某人👤>")


@settings(max_examples=60)
@given(written((TOKEN,)))
def test_spans_of_secrets(given: Written) -> None:
    """A key would be cut in part, and the rest of it stay."""
    check_tagged(Secrets(mode="tag"), "secrets", given)
    check_replaced(Secrets(placeholder="<密🔑>"), "secrets", given, "<密🔑>")


@functools.cache
def listed() -> Processor:
    return bound(Toxicity(mode="tag"))


@settings(max_examples=60)
@given(written(("他妈的", "傻逼")))
def test_words_of_lists(given: Written) -> None:
    """Rude words would be missed, or counted twice, behind text that is longer in bytes than in characters."""
    outcome = listed()(batch([given.text], language=["zh"]))
    assert outcome.batch.column("toxic_words").to_pylist() == [len(given.words)]


ITEM = "Natalia sold clips to forty eight of her friends in April, and then she sold half as many in May"


@settings(max_examples=50)
@given(written((f"。{ITEM}。",)))
def test_sentences_cut_for_benchmarks(given: Written) -> None:
    """Sound sentences would go, and parts of an item stay."""
    stage = Decontaminate(benchmarks=(Benchmark(path="b.txt"),), mode="cut")
    outcome = stage.bind({"benchmarks/0/b.txt": ITEM.encode()})(batch([given.text]))
    (left,) = texts(outcome)
    assert left == given.text.replace(f"{ITEM}。", "")
    assert outcome.counts.get("characters_cut", 0) == len(given.words) * (len(ITEM) + 1)


RUDE = {
    "emoji": "Shut up 👎🏽 you stupid bitch, you are a worthless piece of shit 💩 and everybody hates you, "
    "you dumb cunt, so go to hell 🔥 and stay there.",
    "Chinese": "你就是个傻逼👎🏽，滚出去，你妈的，没人喜欢你这种垃圾，脑残，去死吧，"
    "别再让我看见你这个贱人，恶心的东西。",
    "marks": "Shut up you stu\u0301pid bitch, you are a wo\u0308rthless piece of shit and everybody hate\u0301s you, "
    "you dumb cunt, so go to hell and stay there.",
}
OFFENDING = (
    "stupid", "stu\u0301pid", "bitch", "worthless", "piece of shit", "hate", "dumb cunt", "go to hell", "傻逼",
    "滚出去", "你妈的", "垃圾", "脑残", "去死", "贱人", "恶心",
)  # fmt: skip
CALM = (
    "今天天气很好👩\u200d👩\u200d👧\u200d👦，我们去公园散步，看到了许多人和一些小鸟。"
    "e\u0301te\u0301 u\u0308ber 🇩🇪: after the concert we went home, had supper with our old neighbours and read a long "
    "book ❤\ufe0f until we fell asleep on the sofa."
)


@pytest.mark.parametrize("rude", RUDE.values(), ids=RUDE)
def test_spans_of_toxic_paragraphs(rude: str) -> None:
    """Another paragraph would be cut than the one that was found, and its causes be shown beside the words."""
    text = f"{CALM}\n{rude}\n{CALM}\n{rude}\n{CALM}"
    outcome = bound(ToxicityModel(mode="tag"))(batch([text]))
    (found,) = outcome.batch.column("toxicity_paragraphs").to_pylist()
    assert [text[one["start"] : one["end"]].strip("\n") for one in found] == [rude, rude]
    causes = [[text[a["start"] : a["end"]] for a in one["causes"]] for one in found]
    assert causes[0] == causes[1]
    assert causes[0]
    assert all(any(cause in word for word in OFFENDING) for cause in causes[0])
    cut = bound(ToxicityModel(mode="cut"))(batch([text]))
    assert texts(cut) == [f"{CALM}\n{CALM}\n{CALM}"]
    assert cut.counts["characters_cut"] == 2 * (len(rude) + 1)


def test_no_other_stage_reports_spans() -> None:
    """A stage would come to report spans that no test holds against their words."""

    def has_spans(kind: pa.DataType) -> bool:
        inner = [kind.field(number).type for number in range(kind.num_fields)]
        names = [kind.field(number).name for number in range(kind.num_fields)]
        return {"start", "end"} <= set(names) or any(map(has_spans, inner))

    ready = [name for name in STAGES if name != "perplexity"]  # has no model without settings, and writes numbers alone
    schemas = {name: bound(STAGES[name]())(batch(["A text."])).batch.schema for name in ready}
    reporting = {name for name, schema in schemas.items() if any(has_spans(field.type) for field in schema)}
    assert reporting == {"pii", "secrets", "toxicity_model"}
