"""East Asian pages that are declared in another charset: the right characters come out, and other pages stay."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import charsets
from stages.decode import decode

CHINESE = "今天在北京举行了盛大的庆祝活动，市民们纷纷走上街头。" * 4
TAIWANESE = "今天在臺北舉行了盛大的慶祝活動，市民們紛紛走上街頭，觀賞煙火與遊行。" * 4
JAPANESE = "これは日本語の文章です。今日は天気がいいので、公園を散歩しました。カタカナもあります。" * 3
KOREAN = "안녕하세요 오늘은 날씨가 참 좋네요. 산책을 갑시다. " * 4
WRITTEN = {
    "gb18030": CHINESE,
    "gbk": CHINESE,
    "big5": TAIWANESE,
    "cp932": JAPANESE,
    "euc_jp": JAPANESE,
    "iso2022_jp": JAPANESE,
    "cp949": KOREAN,
    "utf-16-le": CHINESE,
    "utf-16-be": JAPANESE,
    "utf-8": CHINESE,
}
HEADERS = (
    "utf-8 iso-8859-1 gb2312 gb18030 big5 shift_jis euc-jp euc-kr iso-2022-jp windows-1251 iso-8859-2 koi8-r "
    "windows-874 utf-16 nonsense"
).split()


@pytest.mark.parametrize("codec", WRITTEN)
def test_what_is_declared_does_not_make_mojibake(codec: str) -> None:
    """Whole sites of Chinese, Japanese and Korean would be garbled, and count as text."""
    payload = f"<html><title>A page</title><p class='main'>{WRITTEN[codec]}</p></html>".encode(codec)
    wrong = [header for header in HEADERS if WRITTEN[codec] not in decode(payload, f"text/html; charset={header}").text]
    assert not wrong
    for header in HEADERS:
        meta = payload.replace(b"<title>", f"<meta charset='{header}'><title>".encode())
        assert codec.startswith("utf-16") or WRITTEN[codec] in decode(meta, "text/html").text


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("It’s what they’ve said all along, and “don’t” is not a word that is heard here … ", "cp1252"),
        ("Ça va bien, l’été à la plage, où les élèves étaient déjà très fatigués. ", "cp1252"),
        ("Zażółć gęślą jaźń, łódź płynęła wśród żółtych śliw. ", "iso8859_2"),
        ("Привет мир, это простой русский текст про погоду и людей. ", "cp1251"),
        ("Привет мир, это простой русский текст про погоду и людей. ", "koi8_r"),
        ("ภาษาไทยเป็นภาษาที่มีระดับเสียงของคำแน่นอน ", "cp874"),
        ("Καλημέρα κόσμε, αυτό είναι ένα απλό κείμενο. ", "cp1253"),
        ("שלום עולם, זה טקסט פשוט בעברית. ", "cp1255"),
        ("Ça va bien, l’été à la plage, où les élèves. ÃÃÃ ÅÅ ÆÆ ", "cp1252"),
    ],
)
def test_other_scripts_stay_what_they_are(text: str, codec: str) -> None:
    """Pages in Latin, Cyrillic, Greek or Thai letters would turn into Chinese."""
    payload = (text * 20).encode(codec)
    assert charsets.evident(payload, [codec]) is None
    assert decode(payload, f"text/html; charset={codec}").text == text * 20


def test_a_few_characters_are_no_evidence() -> None:
    """A name in a page would decide on its charset."""
    assert charsets.evident("<p>東京".encode("cp932"), ["cp1252"]) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.lists(st.sampled_from(["gb18030", "cp932", "cp1252"]), max_size=2))
def test_any_bytes_are_judged(payload: bytes, declared: list[str]) -> None:
    """A page of noise would end the run."""
    found = charsets.evident(payload, declared)
    if found:
        text, codec = found
        assert codec not in declared[:1]
        assert payload.startswith(text.encode(codec, "ignore")[: len(payload) - 4])
