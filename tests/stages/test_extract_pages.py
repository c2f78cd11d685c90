"""The default extractor on whole pages: real ones in many languages, and made-up ones that are meant to break it."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path

import pytest
import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser
from stage_helpers import SHARED, bound, needs_shared, pages, reasons, texts

from stages.base import Processor
from stages.decode import decode
from stages.extract import Extract
from stages.extract.scan import TEXT, canonical, scan

CRAWL = Path(__file__).parents[1] / "data" / "crawl"


@cache
def extractor(format: str = "markdown") -> Processor:
    return bound(Extract(format=format))


@cache
def crawl() -> dict[str, bytes]:
    """The pages of the bundled crawl by their id."""
    found = {}
    for name in ("web-000.warc.gz", "web-001.warc.gz", "web-zh.warc.zst"):
        data = (CRAWL / name).read_bytes()
        if name.endswith(".zst"):
            data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
        for record in ArchiveIterator(io.BytesIO(data), record_types=WarcRecordType.response):
            found[(record.record_id or "").removeprefix("<urn:page:").rstrip(">")] = record.reader.read()
    return found


def extracted(payload: bytes) -> str:
    (text,) = texts(extractor()(pages([payload])))
    return text


@pytest.mark.parametrize(
    ("id", "wanted", "unwanted"),
    [
        pytest.param(
            "1387c2934867375b",
            ("# Managing dependencies\n", "\n```\nGOPRIVATE=*.corp.example.com,*.research.example.com\n```"),
            ("Skip to Main Content", "arrow_drop_down", "Case Studies"),
            id="documentation with code",
        ),
        pytest.param(
            "e341c98b4094f7e7",
            ("## Beginner’s Guide", "matching `location` blocks nginx selects the one with the longest prefix"),
            ("русский", "enterprise", "download"),
            id="documentation in a table layout",
        ),
        pytest.param(
            "f171986286e08600",
            (
                "# Product Feed Specification",
                "| name | color | feature | material |\n| --- | --- | --- | --- |\n| iPhone",
            ),
            ("Help Articles", "Sign Up", "Quick-Start Guide"),
            id="tables",
        ),
        pytest.param(
            "be33a86e2c272b42",
            ("we have never been to Japan", "American family that goes by the name Kensho Quest"),
            ("My Account", "Jump to bottom", "About Rick"),
            id="forum",
        ),
        pytest.param(
            "23d49c551a7a0f5f",
            ("Was ist Freie Software und warum ist sie wichtig?", "bitkom.org/de/publikationen"),
            ("Registrieren", "Powered by"),
            id="forum in German",
        ),
        pytest.param(
            "a93ec13adad9800d",
            ("Very interested and curious about the ergonomic ref counting", "improved ergonomics for refcounting"),
            ("Moderation Log", "Recent Comments"),
            id="thread of comments",
        ),
        pytest.param(
            "120dec187c70c686",
            ("In den Heizungen unserer Privathäuser liegt ein großes Potenzial", "zuverlässig und bezahlbar bleiben"),
            ("Landes- und Bezirksgruppen", "Mein DVGW"),
            id="German",
        ),
        pytest.param(
            "8c56719ab8bd5683",
            ("Que en la Antártida se registren temperaturas", "ese récord de 20,75 grados"),
            ("Suscríbete", "mostrar/ocultar menú"),
            id="Spanish",
        ),
        pytest.param(
            "7c97fa9c2e553462",
            ("17 kwietnia na konferencji prasowej premier", "interesy Federacji Rosyjskiej."),
            ("Wyszukiwarka", "Stronicowanie"),
            id="Polish",
        ),
        pytest.param(
            "581f854d58b1437a",
            ("Ветеран сборной Германии Лукаш Подольски", "Бастиан Швайнштайгер"),
            ("Мобильная версия", "Регистрация"),
            id="Russian",
        ),
        pytest.param(
            "17e3f74a88c7e055",
            ("تشغل وزارة النقل التاكسى الكهربائى الأربعاء القادم", "داخل العاصمة الإدارية الجديدة ."),
            ("تليفزيون", "كاريكاتير"),
            id="Arabic",
        ),
        pytest.param(
            "47ae48d28a975c04",
            ("ڈیم کی تعمیر سے بھارت کی جانب سے آنے والا پانچ فیصد پانی بند ہوچکا ہے",),
            ("مرکزی صفحہ", "English News"),
            id="Urdu",
        ),
        pytest.param(
            "530e116717e6ad84",
            ("新华社上海11月30日电 中共中央总书记", "有关企业负责同志参加座谈会。"),
            ("切换导航", "科普大家"),
            id="Chinese",
        ),
        pytest.param(
            "0f1b5a564abb2727",
            ("本文会以多个实际的线上例子", "  docker stop grafana && docker rm grafana\nfi\n```"),
            ("新随笔", "退出登录"),
            id="Chinese with code",
        ),
        pytest.param(
            "fb5d934ee4b2d151",
            ("グルメなあの人にお願いして", "そういう牛肉を扱えることは料理人冥利に尽きます"),
            ("話題のキーワード", "食べることを愛してやまない食いしん坊集団"),
            id="Japanese",
        ),
    ],
)
def test_the_main_text_is_there_and_the_menu_is_not(
    id: str, wanted: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    """Pages of this kind, or in this language, would lose their text, or bring their menu into every corpus."""
    page = crawl()[id]
    source = decode(page, "text/html").text
    text = extracted(page)
    assert [snippet for snippet in wanted if snippet not in text] == []
    assert [snippet for snippet in unwanted if snippet in text] == []
    shown = " ".join(LexborHTMLParser(source).root.text(separator="").split())  # type: ignore[union-attr]
    assert [snippet for snippet in unwanted if snippet not in shown] == []  # else it would prove nothing


def test_a_page_in_thai_keeps_its_text_alone() -> None:
    """A language without blanks, of which no training page exists, would be taken for one long menu entry, or none."""
    menu = "".join(f"<li><a href='/{number}'>{name}</a></li>" for number, name in enumerate(
        ("หน้าแรก", "ข่าวล่าสุด", "กีฬา", "บันเทิง", "ติดต่อเรา")))  # fmt: skip
    story = (
        "กรุงเทพมหานครประกาศเปิดสวนสาธารณะแห่งใหม่ริมแม่น้ำเจ้าพระยาในวันจันทร์ ประชาชนจำนวนมากเดินทางมาร่วมงานตั้งแต่เช้า",
        "ผู้ว่าราชการกล่าวว่าสวนแห่งนี้มีต้นไม้มากกว่าสองพันต้น และจะเปิดให้บริการทุกวันโดยไม่เสียค่าใช้จ่าย",
        "ชาวบ้านในพื้นที่บอกว่ารู้สึกดีใจมากที่มีพื้นที่สีเขียวใกล้บ้าน เด็กและผู้สูงอายุสามารถออกกำลังกายได้อย่างปลอดภัย",
    )
    body = "".join(f"<p>{paragraph}</p>" for paragraph in story)
    page = (
        f"<html lang=th><body><nav><ul>{menu}</ul></nav><main><h1>เปิดสวนสาธารณะแห่งใหม่</h1>{body}</main>"
        "<footer><p>สงวนลิขสิทธิ์ พ.ศ. 2567</p></footer></body></html>"
    )
    text = extracted(page.encode())
    assert "\n\n".join(story) in text
    assert "ติดต่อเรา" not in text
    assert "สงวนลิขสิทธิ์" not in text


def test_instructions_left_in_a_page_cost_none_of_its_text() -> None:
    """A page with a forgotten <?php ... ?> would be one link from there to its end, and so lose its text."""
    story = "<p>" + "The quick brown fox jumps over the lazy dog, and then it sleeps under the old tree. " * 3 + "</p>"
    page = "<body><nav><ul><li><a href=/>{}Home</a></li><li><a href=/s>Shop</a></li></ul></nav><article>{}</article>"
    clean, left = (extracted(page.format(part, story * 3).encode()) for part in ("", "<?php menu('a') ?>"))
    assert clean == left
    assert "Home" not in left


@needs_shared
def test_pages_of_many_languages_give_text() -> None:
    """A script that our tables of characters do not know would give empty documents, each counted as `no_text`."""
    with (SHARED / "crawl" / "llm-webkit-000.warc.gz").open("rb") as stream:
        found = [record.reader.read() for record in ArchiveIterator(stream, record_types=WarcRecordType.response)]
    outcome = extractor()(pages([page for page in found if len(page) < 300_000]))
    kept = texts(outcome)
    assert len(kept) > 0.9 * (len(kept) + len(outcome.dropped))
    assert sum(len(text) > 200 for text in kept) > 0.8 * len(kept)


NAMES = (
    "div p span b a ul ol li table tr td th h1 h2 pre code br hr img blockquote section nav article script style title "
    "textarea select option form button noscript custom-tag dl dt dd details iframe svg object template figure"
).split()
HTML = st.lists(
    st.one_of(
        st.sampled_from(
            ("A sentence, with words. ", "menu", "中文。", "ไทย", "&amp;", "&lt;p&gt;", "\x00", "\n\n", "é")
        ),
        st.text(max_size=8),
        st.builds(
            "<{}{}>".format, st.sampled_from(NAMES), st.sampled_from(("", " class='post body'", " hidden", " a"))
        ),
        st.builds("</{}>".format, st.sampled_from(NAMES)),
        st.sampled_from(("<!-- c -->", "<?pi?>", "<!", "<![CDATA[x]]>", "</", "&#0;", "&#x10FFFF;", "<p " + "a " * 50)),
    ),
    max_size=40,
).map("".join)


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(HTML)
def test_any_page_gives_a_part_of_its_text_in_order_or_a_reason(html: str) -> None:
    """One odd page among billions would end the run; or words would come out that no page has, or in another order."""
    payload = html.encode("utf-8", "replace")
    outcome = extractor("text")(pages([payload]))
    kept = texts(outcome)
    assert len(kept) + len(reasons(outcome)) == 1
    if kept:
        events = scan(canonical(decode(payload, "text/html").text))
        seen = events.html.tobytes()
        visible = (
            seen[start:end].decode()
            for kind, start, end, block in zip(events.kind, events.start, events.end, events.block, strict=True)
            if kind == TEXT and block >= 0
        )
        source = iter(squeezed(unescaped("".join(visible))))
        marks = re.compile(r"^\s*(- |\d+\. )+", re.M)  # of lists
        assert all(character in source for character in squeezed(marks.sub("", kept[0])))  # a subsequence


def unescaped(text: str) -> str:
    for entity, character in (("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text


@given(HTML)
def test_markdown_of_any_page_is_made_too(html: str) -> None:
    """The other format would end the run on a page that the first one bears."""
    payload = html.encode("utf-8", "replace")
    both = [extractor(format)(pages([payload])) for format in ("text", "markdown")]
    assert reasons(both[0]) == reasons(both[1])
