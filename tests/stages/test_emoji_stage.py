"""Emoji to names, in the language of the document, and nothing else touched."""

from __future__ import annotations

import emoji
import pyarrow as pa
import pytest
from emoji_reference import found
from hypothesis import given, settings
from hypothesis import strategies as st
from stage_helpers import SHARED, batch, needs_shared, reasons, texts

from stages.emoji_names import LANGUAGES, Emoji
from stages.emoji_names.emoticons import EMOTICONS
from stages.emoji_names.find import find
from stages.emoji_names.table import names, symbols, trie
from stages.text.column import texts as column_texts

MODES = ("name", "shortcode", "remove")


def replaced(values: list[str], language: str | None = "en", **fields: object) -> list[str]:
    """The texts after the stage; empty for those that it drops."""
    outcome = Emoji(**fields).process(batch(values, language=[language] * len(values)))  # type: ignore[arg-type]
    kept = iter(texts(outcome))
    dropped = {row for row, _ in reasons(outcome)}
    return ["" if row in dropped else next(kept) for row in range(len(values))]


@pytest.mark.parametrize(
    ("text", "language", "name", "shortcode", "removed"),
    [
        ("I❤️you", "en", "I red heart you", "I:red_heart:you", "I you"),
        ("我❄️你", "zh", "我雪花你", "我:雪花:你", "我你"),
        ("我❄️你", "zh-CN", "我雪花你", "我:雪花:你", "我你"),
        ("very🆒ok", "zh", "very cool按钮ok", "very:cool按钮:ok", "very ok"),
        ("とても😀です", "ja", "とてもにっこり笑うです", "とても:にっこり笑う:です", "とてもです"),
        ("Ich ❤️ dich", "de", "Ich rotes herz dich", "Ich :rotes_herz: dich", "Ich  dich"),
        ("สวัสดี👋ครับ", "th", "สวัสดี waving hand ครับ", "สวัสดี:waving_hand:ครับ", "สวัสดีครับ"),
        ("Great!👍", None, "Great! thumbs up", "Great!:thumbs_up:", "Great!"),
        ("(👍), ok👍.", "en", "(thumbs up), ok thumbs up.", "(:thumbs_up:), ok:thumbs_up:.", "(), ok."),
        ("a🇩🇪🇫🇷b", "en", "a Germany France b", "a:Germany::France:b", "a b"),
        ("👩🏽‍🚀!", "en", "woman astronaut medium skin tone!", ":woman_astronaut_medium_skin_tone:!", "!"),
        ("call 1️⃣ now", "en", "call keycap 1 now", "call :keycap_1: now", "call  now"),
        ("🏴󠁧󠁢󠁳󠁣󠁴󠁿!", "en", "Scotland!", ":Scotland:!", "!"),
        ("🏴󠁵󠁳󠁴󠁸󠁿!", "en", "black flag!", ":black_flag:!", "!"),  # Texas, which the table does not have
        ("a👩‍🚀‍🔧b", "en", "a woman astronaut wrench b", "a:woman_astronaut::wrench:b", "a b"),
        ("a👩‍b", "en", "a woman b", "a:woman:b", "a b"),
        ("🇿🇿🇦🇩", "en", "🇿🇿 Andorra", "🇿🇿:Andorra:", "🇿🇿"),
    ],
)
def test_names(text: str, language: str | None, name: str, shortcode: str, removed: str) -> None:
    """Emoji would be lost, glued to words, or named in the wrong language."""
    for mode, expected in (("name", name), ("shortcode", shortcode), ("remove", removed), ("keep", text)):
        outcome = Emoji(mode=mode).process(batch([text], language=[language]))  # type: ignore[arg-type]
        assert texts(outcome) == [expected]
        assert outcome.counts.get("emoji_replaced", 0) == (
            0 if mode == "keep" else 2 if "🇫🇷" in text or "(👍)" in text else 1
        )


@pytest.mark.parametrize(
    "text",
    [
        "1 + 2 = 3 # 5 * 4 © ® ™ ©️",
        "a → b ↔ c ‼ ℹ Ⓜ ▪ ■ 〰 ㊗",
        "क्‍ष श्री",
        "می‌خواهم",
        "❤︎ as text",
        "日本語、中文。한국어",
        "",
    ],
)
def test_what_is_no_emoji_stays(text: str) -> None:
    """Digits, typography and joiners of Indic scripts and Persian would be damaged."""
    data = batch([text])
    outcome = Emoji().process(data)
    assert texts(outcome) == [text]
    assert outcome.batch.column("text").buffers()[2] is None or (
        outcome.batch.column("text").buffers()[2].address == data.column("text").buffers()[2].address
    )


def test_fallback_and_empty() -> None:
    """A recipe could not choose the language of last resort; texts of emoji alone would become empty documents."""
    data = batch(["❤️", None, "❤️"], language=["sw", "en", "fr"])
    assert texts(Emoji(fallback_language="es").process(data)) == ["corazón rojo", "cœur rouge"]
    assert reasons(Emoji(mode="remove").process(data)) == [(0, "empty_text"), (1, "no_text"), (2, "empty_text")]


PARTS = st.sampled_from(
    [
        *emoji.EMOJI_DATA,
        *"a我 .,(\nÉ1#*©→❤👍🏽👩🚀🇩🇪🏴🦰",
        "\ufe0f",
        "\ufe0e",
        "\u200d",
        "\u20e3",
        "\U000e0067",
        "क्\u200dष",
    ]
)


@settings(max_examples=400)
@given(
    st.lists(st.lists(st.one_of(PARTS, st.sampled_from("a🚀❤\u200d\ufe0f🏽🇩🇪")), max_size=8).map("".join), max_size=5)
)
def test_the_kernel_finds_what_plain_python_finds(values: list[str]) -> None:
    """Emoji would stay, or characters beside them be swallowed."""
    numbers = {symbol: number for number, symbol in enumerate(symbols(False))}
    expected = [
        (row, len(text[:start].encode()), len(text[:end].encode()), names("en", False)[numbers[symbol]], joined)
        for row, text in enumerate(values)
        for start, end, symbol, joined in found(text)
    ]
    place = find(column_texts(pa.array(values, pa.string())), trie(False), False)
    rows = zip(*(part.tolist() for part in place), strict=True)
    assert [(r, start, end, names("en", False)[entry], bool(j)) for r, start, end, entry, _, _, j in rows] == expected


@settings(max_examples=200)
@given(st.text("a我 .,(\n❤\ufe0f\ufe0e👍🏽👩\u200d🚀1#\u20e3🇩🇪🏴\U000e0067", max_size=20), st.sampled_from(LANGUAGES))
def test_text_around_emoji_is_kept(text: str, language: str) -> None:
    """Characters beside an emoji would be swallowed."""
    for mode in MODES:
        (new,) = replaced([text + "x"], language, mode=mode)
        assert new[-1] == "x"
        assert new.count("\n") == text.count("\n")
        if mode == "remove":
            assert [c for c in new[:-1] if c in "a我.,("] == [c for c in text if c in "a我.,("]
            assert "👍" not in new.replace("👍\ufe0e", "")
        else:
            assert new.count("我") >= text.count("我")


def shown(symbol: str) -> bool:
    """Whether an entry of the table is shown as a picture where nobody asks for one."""
    typography = symbol in "〰〽㊗㊙" or symbol < "\u2600"
    return symbol[0] not in "©®™" and not (len(symbol) == 1 and typography and symbol not in "⌚⌛⏩⏪⏫⏬⏰⏳◽◾")


def test_every_entry_of_the_table_is_named() -> None:
    """Emoji of some status, unqualified or a part, would stay in the text or be named otherwise."""
    every = list(emoji.EMOJI_DATA)
    for language, before, after in (("en", "so ", " it is"), ("zh", "我", "你"), ("ja", "とても", "です")):
        values = [f"{before}{symbol}{after}" for symbol in every]
        blank = "" if language == "en" else "_"
        for text, symbol, old, name in zip(
            replaced(values, language), every, values, names(language, False), strict=True
        ):
            expected = name.replace("_", "" if blank else " ")
            assert text == (f"{before}{expected}{after}" if shown(symbol) else old)
        assert replaced(values, language, mode="remove") == [
            before + after if shown(symbol) else old for symbol, old in zip(every, values, strict=True)
        ]


@needs_shared
def test_every_emoji_of_unicode_has_a_name() -> None:
    """Emoji of Unicode's own list would stay in the text, or take a neighbour with them."""
    lines = (SHARED / "emoji_mojibake" / "emoji-test.txt").read_text("utf-8").splitlines()
    every = [
        "".join(chr(int(code, 16)) for code in line.split(";")[0].split())
        for line in lines
        if not line.startswith("#") and "; fully-qualified" in line
    ]
    assert len(every) > 2000
    known = dict(zip(symbols(False), zip(names("en", False), names("zh", False), strict=True), strict=True))
    english = replaced([f"We like {symbol} here, 1 # 2." for symbol in every])
    chinese = replaced([f"我们喜欢{symbol}，很好。" for symbol in every], "zh")
    for symbol, one, two in zip(every, english, chinese, strict=True):
        if symbol.strip("\ufe0f") in "©®™":
            assert (one, two) == (f"We like {symbol} here, 1 # 2.", f"我们喜欢{symbol}，很好。")
        else:
            names_of = known[symbol]
            assert one == f"We like {names_of[0].replace('_', ' ')} here, 1 # 2."
            assert two == f"我们喜欢{names_of[1].replace('_', '')}，很好。"


def test_all_but_typography_is_as_the_library_has_it() -> None:
    """Our search for emoji, which is linear where the library's is quadratic, would miss some."""
    every = [text for symbol in emoji.EMOJI_DATA for text in (f"x {symbol} y", symbol + symbol)]
    ours = replaced(every, mode="shortcode")
    differ = {
        text.strip("xy \ufe0f")
        for text, new in zip(every, ours, strict=True)
        if new != emoji.demojize(text) and text.startswith("x ")
    }
    assert all(len(symbol) == 1 and (symbol < "\u2600" or symbol in "〰〽㊗㊙") for symbol in differ)
    assert {"©", "®", "™", "ℹ", "↔"} <= differ
    assert replaced(["👨\u200d👩🏿\u200d" * 10_000], mode="remove") == [""]


@pytest.mark.parametrize(
    "piece", ["👩\u200d", "🇩", "1", "\u20e3", "🏽\ufe0f", "🏴\U000e0067", ":", "(", "E\u0301", "。", "\u200d"]
)
def test_large_texts_of_one_kind(piece: str) -> None:
    """One odd document would hold up the run, or end it."""
    for emoticons in (False, True):
        (new,) = replaced([piece * 60_000 + "👍"], mode="remove", emoticons=emoticons)
        assert "👍" not in new
        assert new.count("1") == piece.count("1") * 60_000


def test_emoticons_are_the_emoji_that_they_stand_for() -> None:
    """Who asks for emoticons would get other names than for emoji."""
    every = list(EMOTICONS)
    assert replaced(every) == every
    for language in ("en", "zh"):
        expected = replaced(list(EMOTICONS.values()), language)
        assert replaced(every, language, emoticons=True) == expected
    assert replaced(["I <3 you :-).", "Nice :))) (really ;))", "(oh :P) :D"], emoticons=True) == [
        "I red heart you slightly smiling face.",
        "Nice slightly smiling face (really winking face)",
        "(oh face with tongue) grinning face",
    ]
    assert replaced(["好的:)谢谢", "好的。:-("], "zh", emoticons=True) == ["好的呵呵谢谢", "好的。微微不满"]
    assert replaced(["so :-) 😀:)"], mode="shortcode", emoticons=True) == [
        "so :slightly_smiling_face: :grinning_face::slightly_smiling_face:"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "http://a.b/:)c https://x.org/:D/ file:///c:/d C:\\ D:\\data",
        "7) one 8) two B) three x) four (a) (b:) ratio 3:3 at 8:00",
        "f(:, :) x[:] A(1, :) print(a=) {k:v} std::string foo:bar a:b; :Dog x:P y",
        "`x :) y` and (see also :) and | :-: | :-| a:/b",
        "XD O:Name =Property =(1+2) <3.5 x<3 :).com",
    ],
)
def test_text_that_looks_like_emoticons_stays(text: str) -> None:
    """URLs, lists and code would get faces."""
    assert replaced([text], emoticons=True) == [text]
