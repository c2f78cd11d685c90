"""What every stage promises, whatever the text."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stage_helpers import batch, bound, pages

from stages.base import Outcome
from stages.registry import STAGES, make

SAMPLES = [
    "The quick brown fox jumps over the lazy dog, and that is all there is to say of it. " * 4,
    "我❄️你，今天天气很好。我们去公园散步吧！他妈的，他妈的，他妈的。" * 3,
    "วันนี้อากาศดีมาก เราไปเดินเล่นที่สวนสาธารณะกันเถอะ 👋🏽" * 3,
    "اليوم الطقس جميل جدا، فلنذهب إلى الحديقة. می‌خواهم 👨‍👩‍👧‍👦" * 3,
    "schÃ¶n &amp; gut\r\n\r\n\r\n\r\n\r\nfuck fuck fuck\x00\x07 ﬁn  ",
    "#" * 50,
    "- a\n- b\n- c...",
]
PIECES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(SAMPLES),
    st.text("ab \n\t\r\x00\x85\u2028…#.-—，。我ー한👍❤\ufe0f\ufe0e\u200d1\u20e3🇩🇪é\u0301<&;", max_size=30),
)
TEXTS = st.one_of(st.none(), st.lists(PIECES, max_size=4).map("".join))
LANGUAGES = st.sampled_from([None, "", "en", "zh", "zh-CN", "ja", "th", "ko", "de", "und", "xx", "EN"])
ROWS = st.lists(st.tuples(TEXTS, LANGUAGES), max_size=6)
READY = [name for name in STAGES if name != "perplexity"]
"""Those that work as they come; the others name files, and their own tests hold them to the same."""
NAMES = [name for name in READY if name != "extract"]


def joined(outcomes: list[Outcome], schema: pa.Schema) -> tuple[list[dict[str, object]], list[object], dict[str, int]]:
    rows: list[dict[str, object]] = []
    dropped: list[object] = []
    counts: dict[str, int] = {}
    for number, outcome in enumerate(outcomes):
        assert outcome.batch.schema == schema
        rows += outcome.batch.to_pylist()
        dropped += [(number, *drop[1:]) for drop in outcome.dropped]
        for key, count in outcome.counts.items():
            counts[key] = counts.get(key, 0) + count
    return rows, dropped, counts


def check(name: str, whole: pa.RecordBatch) -> None:
    process = bound(make(STAGES[name], {}))
    outcome = process(whole)
    assert outcome.batch.num_rows + len(outcome.dropped) == whole.num_rows
    assert [drop[0] for drop in outcome.dropped] == sorted({drop[0] for drop in outcome.dropped})
    outcome.batch.validate(full=True)
    single = [process(whole.slice(row, 1)) for row in range(whole.num_rows)]
    rows, dropped, counts = joined(single, outcome.batch.schema)
    assert rows == outcome.batch.to_pylist()
    assert dropped == list(outcome.dropped)
    assert counts == dict(outcome.counts)
    for kind in ("measures", "findings", "groups"):
        for found, values in getattr(outcome, kind).items():
            assert len(values) == whole.num_rows
            alone = [getattr(one, kind)[found] for one in single]
            assert repr([value for one in alone for value in one.tolist()]) == repr(values.tolist()), found


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS)
def test_a_row_does_not_depend_on_its_batch(name: str, rows: list[tuple[str | None, str | None]]) -> None:
    """A document would be kept or dropped, or read otherwise, by what happened to lie beside it."""
    check(name, batch([text for text, _ in rows], language=[language for _, language in rows]))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(payloads=st.lists(st.one_of(st.none(), st.binary(max_size=60), PIECES.map(str.encode)), max_size=4))
def test_a_page_does_not_depend_on_its_batch(payloads: list[bytes | None]) -> None:
    """A page's text would hang on the pages that the extractor saw before."""
    html = [
        p and b"<html><head><title>t</title></head><body><p>" + p + b"</p><p>More text here.</p></body>"
        for p in payloads
    ]
    check("extract", pages(html))
    check("extract", pages(payloads))


@pytest.mark.parametrize("name", READY)
def test_stages_work_after_pickling_and_have_fingerprints(name: str) -> None:
    """A run with several workers would fail, or not notice a changed setting."""
    stage = make(STAGES[name], {})
    again = pickle.loads(pickle.dumps(stage))
    whole = (
        pages([b"<html><body><p>Some text for the page.</p></body></html>"] * 2)
        if name == "extract"
        else batch(SAMPLES)
    )
    assert again == stage
    assert bound(again)(whole).batch.equals(bound(stage)(whole).batch)
    assert again.fingerprint() == stage.fingerprint()
    assert set(stage.fingerprint()["packages"]) == set(stage.packages)


def test_outcomes_do_not_hang_on_the_process() -> None:
    """Two workers would give different bytes for the same documents."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_stage_contract import SAMPLES\nfrom stage_helpers import batch, bound\n"
        "from stages.registry import STAGES, make\nfrom test_stage_contract import READY\nimport hashlib\n"
        "for name in READY:\n"
        "    found = bound(make(STAGES[name], {}))(batch(SAMPLES))\n"
        "    print(name, hashlib.sha256(repr((found.batch.to_pylist(), found.dropped)).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "4"))
    }
    assert len(digests) == 1
    assert len(digests.pop().splitlines()) == len(READY)
