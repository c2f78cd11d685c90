"""Items of benchmarks in documents."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Sequence
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import batch, reasons, texts

from stages.base import Outcome
from stages.decontaminate import Benchmark, Decontaminate
from stages.decontaminate.index import grams, size
from stages.decontaminate.spans import characters, sentences
from stages.registry import make
from stages.words import fold, is_spaceless, words

ITEM = (
    "Janet’s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her friends."
)
SHORT = "What is the capital of the republic of Kiribati?"
CHINESE = "小明家里养了十六只鸭子，每天早上他吃掉三个鸭蛋，剩下的鸭蛋拿到市场上去卖，请问他每天能卖出多少个鸭蛋？"
THAI = "เจเน็ตมีเป็ดที่ออกไข่วันละสิบหกฟอง เธอกินสามฟองเป็นอาหารเช้าทุกวันและอบมัฟฟินให้เพื่อนๆ"
CLEAN = "The river rose in the night, and by morning the lower meadows lay under a foot of brown water. "


def judged(items: Sequence[str], documents: Sequence[str | None], **settings: object) -> Outcome:
    """What becomes of the documents beside a benchmark `b` of these items."""
    stage = Decontaminate(benchmarks=(Benchmark(path="b.txt"),), **{"mode": "tag", **settings})
    return stage.bind({"benchmarks/0/b.txt": "\n".join(items).encode()})(batch(list(documents)))


def named(items: Sequence[str], documents: Sequence[str | None], **settings: object) -> list[list[str]]:
    found: list[list[str]] = judged(items, documents, **settings).batch.column("contaminated_by").to_pylist()
    return found


@pytest.mark.parametrize("item", [ITEM, SHORT, CHINESE, THAI], ids=["long", "short", "chinese", "thai"])
@pytest.mark.parametrize(
    "change", [str, str.upper, lambda text: text.replace(" ", "\n ").replace(",", " --"), lambda text: f"<i>{text}</i>"]
)
def test_a_planted_item_is_found(item: str, change: object) -> None:
    """A model would be tested on what it has read."""
    assert callable(change)
    document = CLEAN * 3 + change(item) + "\n" + CLEAN
    other = "Something else that nobody has ever asked anybody in this way at all."
    assert named([other, item], [document, CLEAN]) == [["b:2"], []]


def test_parts_of_items_count_by_their_share() -> None:
    """Every document with a common phrase would go, or half an item would stay."""
    half = " ".join(ITEM.split()[:14])
    assert named([ITEM], [half, " ".join(ITEM.split()[:11])]) == [["b:1"], []]
    assert named([ITEM], [half, ITEM], min_item_share=0.7) == [[], ["b:1"]]
    assert named([SHORT], ["what is the capital of the republic of Congo", f"x {SHORT} y"]) == [[], ["b:1"]]


def test_templates_condemn_nobody() -> None:
    """An instruction that stands before each item would make every page with it look contaminated."""
    template = "Read the passage below with care and answer the question that follows it in one word"
    items = [f"{template}: {ITEM.replace('16', str(number))} {number} times" for number in range(30)]
    assert named(items, [template, items[4]], max_items=5) == [[], ["b:5"]]
    with pytest.raises(ValueError, match="no item of b"):
        named([template] * 30, [])


def test_share_and_columns() -> None:
    """Nobody could set a threshold, or tell which items leaked."""
    document = ITEM + " " + "river " * 20
    outcome = judged([ITEM, ITEM + " And so on, and so on."], [document, CLEAN, "", None], max_named=1)
    part = len(words(fold(ITEM)))
    assert outcome.batch.column("contamination").to_pylist() == pytest.approx(
        [-(-part * 1000 // (part + 20)) / 1000, 0, 0]
    )
    assert outcome.batch.column("contaminated_by").to_pylist() == [["b:1"], [], []]
    assert outcome.counts == {"contaminated_b": 1}
    assert reasons(outcome) == [(3, "no_text")]


def test_drop_and_cut() -> None:
    """Contaminated documents would stay, or sound sentences go with the others."""
    document = f"# Eggs\n{CLEAN.strip()} 早上好。{ITEM} More of it here. And then.\n\nThe end…"
    dropped = judged([ITEM], [document, CLEAN], mode="drop")
    assert [(row, reason, limit) for row, reason, _, limit in dropped.dropped] == [(0, "contaminated", 0.0)]
    assert texts(dropped) == [CLEAN]
    assert reasons(judged([ITEM], [document], mode="drop", max_share=0.6)) == []
    cut = judged([ITEM], [document, CLEAN, ITEM], mode="cut")
    assert texts(cut) == [document.replace(ITEM + " ", ""), CLEAN]
    assert reasons(cut) == [(2, "contaminated")]
    assert cut.counts["characters_cut"] == 2 * len(ITEM) + 1


def test_cut_in_text_that_folds_only_as_a_whole() -> None:
    """Marks and ligatures shift what is cut: sound text would go, or the item stay."""
    before, behind = "ﬁ ½ u\u0308ber e\u0301te\u0301.\n" * 3, "\nﬁn\u0303al ½."
    cut = judged([ITEM], [before + ITEM + behind], mode="cut")
    assert texts(cut) == [before + behind.strip("\n")]
    cut = judged([THAI], [f"{CLEAN}\n{THAI}\n{CLEAN}"], mode="cut")
    assert texts(cut) == [f"{CLEAN}\n{CLEAN}"]


def test_benchmarks_come_in_many_files() -> None:
    """Benchmarks would have to be rewritten."""
    rows = [
        {"id": "q1", "question": "What do we know of it?", "choices": [ITEM, "no"], "n": 3},
        {"question": SHORT},
        {},
    ]
    data = "\n".join(map(json.dumps, rows)).encode()
    stage = Decontaminate(
        benchmarks=(
            Benchmark(path="a/x.jsonl.gz", fields=("choices", "question")),
            Benchmark(path="lines", name="named"),
        ),
        mode="tag",
    )
    files = {"benchmarks/0/x.jsonl.gz": gzip.compress(data), "benchmarks/1/y.txt.bz2": bz2.compress(CHINESE.encode()),
             "benchmarks/1/README.md": ITEM.encode(), "benchmarks/1/sub/z.txt": f"\n{ITEM}\n".encode()}  # fmt: skip
    outcome = stage.bind(files)(batch([ITEM, CHINESE, SHORT]))
    assert outcome.batch.column("contaminated_by").to_pylist() == [
        ["x:1", "named/sub/z.txt:2"], ["named/y.txt:1"], ["x:2"],
    ]  # fmt: skip
    assert outcome.counts == {"contaminated_x": 2, "contaminated_named": 2}
    assert stage.files() == {"benchmarks/0/": "a/x.jsonl.gz", "benchmarks/1/": "lines"}


@pytest.mark.parametrize(
    ("data", "fields", "message"),
    [
        ('{"a": 1}\n{"a"', (), "b.txt line 2: broken JSON"),
        ('{"a": "x"}\n[1]', (), "b.txt line 2: no JSON object"),
        ('{"question": "x"}', ("questoin",), "did you mean 'question'"),
        ("a line", ("question",), "fields are for JSON lines"),
        ("too short", (), "no item of b.txt"),
        ("", (), "no item of b.txt"),
    ],
)
def test_benchmarks_that_cannot_be_used_stop_before_work(data: str, fields: tuple[str, ...], message: str) -> None:
    """The corpus would pass as clean of a benchmark that nobody looked for."""
    stage = Decontaminate(benchmarks=(Benchmark(path="b.txt", fields=fields),))
    with pytest.raises(ValueError, match=message):
        stage.bind({"benchmarks/0/b.txt": data.encode()})


def test_two_benchmarks_of_one_name_stop_before_work() -> None:
    """A report would take items of one for items of the other."""
    stage = Decontaminate(benchmarks=(Benchmark(path="a/test.txt"), Benchmark(path="b/test.txt")))
    files = {"benchmarks/0/test.txt": ITEM.encode(), "benchmarks/1/test.txt": THAI.encode()}
    with pytest.raises(ValueError, match=r"two have a file test\.txt and would be called 'test'; give one a `name`"):
        stage.bind(files)


def test_what_a_report_by_item_needs() -> None:
    """Nobody could tell how much of an item leaked, or of what was dropped."""
    half = f"{CLEAN}{' '.join(ITEM.split()[:14])} and other things."
    outcome = judged([ITEM], [half, CLEAN, ITEM, None], mode="drop")
    assert reasons(outcome) == [(0, "contaminated"), (2, "contaminated"), (3, "no_text")]
    first, second, third, fourth = outcome.findings["items"].to_pylist()
    assert (second, fourth) == (None, None)
    assert third == [{"item": "b:1", "share": 1.0}]
    assert 0.1 < first[0]["share"] < 0.5
    assert outcome.findings["contamination"].to_pylist()[2] == 1.0
    assert outcome.measures["max_share"].tolist()[1:] == [0.0, 1.0, 0.0]


def test_settings() -> None:
    """A recipe's settings would be taken amiss."""
    with pytest.raises(ValueError, match="short_words"):
        Decontaminate(words=5)
    made = make(Decontaminate, {"benchmarks": [{"path": "a", "fields": ["x"]}]})
    assert made == Decontaminate(benchmarks=(Benchmark(path="a", fields=("x",)),))
    with pytest.raises(ValueError, match="feilds"):
        make(Decontaminate, {"benchmarks": [{"path": "a", "feilds": ["x"]}]})


PIECES = st.one_of(
    st.sampled_from(
        [
            "a",
            "b",
            "aa",
            " ",
            "  ",
            "-",
            "_",
            "1",
            "中",
            "文",
            "。",
            "น",
            "้ำ",
            "ー",
            "カ",
            "ﾞ",
            "é",
            "e\u0301",
            "\u200d",
            "\u200c",
            "ß",
            "ﬁ",
            "½",
            "…",
            "한",
            "ㄱ",
            "क",
            "्",
            "\n",
            "٣",
            "๓",
            "İ",
            "\ufe0f",
            "Ａ",
            "\x00",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
TEXT = st.lists(PIECES, max_size=25).map("".join)


def plain_grams(text: str, n: int, characters: int) -> list[tuple[str, ...]]:
    """N-grams in plain Python: from each word on, until their weight is reached."""
    found = [word.replace("\u200c", "").replace("\u200d", "") for word in words(fold(text))]
    weights = [n if is_spaceless(word) and is_spaceless(word[0]) else characters for word in found]
    result = []
    for start in range(len(found)):
        weight = 0
        for end in range(start, len(found)):
            weight += weights[end]
            if weight >= n * characters:
                result.append(tuple(found[start : end + 1]))
                break
    return result


@settings(max_examples=300)
@given(st.lists(TEXT | st.none(), max_size=4), st.sampled_from([(2, 3), (3, 2), (2, 2), (3, 6)]))
def test_the_kernel_finds_the_n_grams_that_plain_python_finds(
    values: list[str | None], lengths: tuple[int, int]
) -> None:
    """Items would be missed in some script, or where letters are composed."""
    n, many = lengths
    wanted = [plain_grams(value or "", n, many) for value in values]
    found = grams(pa.array(values, pa.string()), size(n, many, n), None)
    assert [int((found.rows == row).sum()) for row in range(len(values))] == list(map(len, wanted))
    flat = [gram for row in wanted for gram in row]
    hashes = [tuple(pair) for pair in found.hashes.tolist()]
    assert len(set(zip(flat, hashes, strict=True))) == len(set(flat)) == len(set(hashes))


@settings(max_examples=200)
@given(TEXT, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=3))
def test_spans_in_folded_text_come_back_as_spans_of_the_text(text: str, spans: list[tuple[int, int]]) -> None:
    """The wrong sentence would be cut."""
    for refolded in (False, True):
        data = (fold(text) if refolded else text).encode()
        places = [n for n in range(len(data) + 1) if n == len(data) or data[n] & 0xC0 != 0x80]
        some = [(places[min(a, b) % len(places)], places[-1]) for a, b in spans]
        for (start, _), (left, right) in zip(some, characters(text, some, refolded), strict=True):
            assert right == len(text)
            rest = fold(text[left:]) if refolded else text[left:]
            assert len(rest.encode()) >= len(data) - start


@given(TEXT, st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=3))
def test_sentences_hold_the_spans(text: str, spans: list[tuple[int, int]]) -> None:
    """A part of an item would stay behind."""
    some = [(min(a, b, len(text)), min(max(a, b), len(text))) for a, b in spans]
    merged = sentences(text, some)
    assert all(any(left <= a and b <= right for left, right in merged) for a, b in some)
    assert all(a[1] < b[0] for a, b in pairwise(merged))
