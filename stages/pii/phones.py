"""Phone numbers, by the numbering plans that `phonenumbers` (Google's libphonenumber) carries."""

from __future__ import annotations

import phonenumbers
import regex

from stages.pii.cues import AFTER, BEFORE, OTHER, PHONE, PHONE_AFTER, PHONE_WEAK, last
from stages.pii.found import Found

LANGUAGES = {
    "ar": "EG SA AE MA", "bg": "BG", "bn": "BD IN", "ca": "ES", "cs": "CZ", "da": "DK", "de": "DE AT CH",
    "el": "GR", "en": "US GB AU IN", "es": "ES MX AR CO CL PE", "et": "EE", "fa": "IR", "fi": "FI",
    "fr": "FR BE CH", "he": "IL", "hi": "IN", "hr": "HR", "hu": "HU", "id": "ID", "it": "IT CH", "ja": "JP",
    "ko": "KR", "lt": "LT", "lv": "LV", "ms": "MY", "nb": "NO", "nl": "NL BE", "no": "NO", "pl": "PL",
    "pt": "BR PT", "ro": "RO", "ru": "RU KZ", "sk": "SK", "sl": "SI", "sr": "RS", "sv": "SE", "sw": "KE TZ",
    "ta": "IN", "te": "IN", "th": "TH", "tl": "PH", "tr": "TR", "uk": "UA", "ur": "PK", "vi": "VN",
    "zh": "CN TW HK",
}  # fmt: skip
"""Countries whose national form is looked for in a text of this language, where no `regions` are set."""
OTHERS = ("US", "CN")
"""Those for other languages and for none."""

SEPARATORS = frozenset(["", " ", "-", ".", "/", ") ", ")", " (", "(", "-(", ")-", " - ", " / ", ") - ", " ("])
_NANP = regex.compile(r"(?:\+?1[ .-]?)?(?:\([2-9]\d\d\)[ -]?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4}")
_EXTENSION = regex.compile(r" ?(?:x|ext\.?|extension|доб\.?|转|轉|内線|#) ?\d{1,6}(?!\d)", regex.I)
_DATE = regex.compile(
    r"(?:1[4-9]|20|21)\d\d(?P<s>[ ./-])(?:0?[1-9]|1[0-2])(?P=s)(?:0?[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?:0?[1-9]|[12]\d|3[01])(?P<t>[ ./-])(?:0?[1-9]|[12]\d|3[01])(?P=t)(?:1[4-9]|20|21)\d\d(?!\d)"
    r"|(?:1[4-9]|20)\d\d ?[-/] ?(?:1[4-9]|20)\d\d(?!\d)|(?:1[4-9]|20)\d\d (?:1[4-9]|20)\d\d (?:1[4-9]|20)\d\d"
)
_DECIMAL = regex.compile(r"\d{1,2}\.\d+|\d+\.\d{1,2}|\d+\.\d{5,}")
_HAN = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
_THOUSANDS = regex.compile(r"\d{1,3}(?:([ .])\d{3})(?:\1\d{3})*")
_MOBILE_ALONE = {
    "CN": regex.compile(r"1[3-9]\d{9}"),
    "KR": regex.compile(r"01[016-9]\d{7,8}"),
    "TW": regex.compile(r"09\d{8}"),
    "JP": regex.compile(r"0[789]0\d{8}"),
}
_GLUED = regex.compile(r"[A-Za-z0-9_]")
_ALNUM = regex.compile(r"[A-Za-z0-9]")
_UNITS = regex.compile(
    r" ?(?:%|€|\$|£|¥|元|円|원|km|kg|mm|cm|bytes?|px|ms|people|habitants|habitantes|Einwohner|人|年|月)"
)


def regions_of(language: str | None) -> tuple[str, ...]:
    """The countries for a document's language code."""
    found = LANGUAGES.get((language or "").lower().replace("_", "-").split("-")[0])
    return tuple(found.split()) if found else OTHERS


def phone(text: str, start: int, end: int, groups: list[tuple[int, int]], regions: tuple[str, ...]) -> Found | None:
    """The phone number made of these groups of digits, where it is one.

    Written with `+`, or `00` and separators: a number that its country's plan allows, or with a word beside it that
    says phone. In the national form: by the plan of `regions`, grouped as there; or any seven to fifteen digits with
    such a word. Dates, years, prices and numbers that are named otherwise are none.
    """
    begin = start
    plus = start > 0 and text[start - 1] == "+"
    opened = start > 0 and text[start - 1] == "("
    if plus or opened:
        begin -= 1
        if opened and begin and text[begin - 1] == "+":
            begin, plus = begin - 1, True
    before = text[begin - 1 : begin]
    if (before and _GLUED.match(before)) or (before in "+=*/\\-.:,'" and before and _tight(text, begin)):
        return None
    number = text[start:end]
    if opened and ")" not in number:
        return None
    if end < len(text) and (_GLUED.match(text, end) or _tight_after(text, end)) and not _EXTENSION.match(text, end):
        return None
    if _DATE.match(number) or _UNITS.match(text, end):
        return None
    left = text[max(0, begin - BEFORE) : begin]
    listed = not plus and _listed(text, begin, end, number)
    named_at, other_at = last(PHONE, left), last(OTHER, left)
    named = named_at >= 0 and other_at <= named_at
    after = PHONE_AFTER.match(text, end, end + AFTER) is not None
    digits = "".join(text[a:b] for a, b in groups)
    if len(set(digits)) < 3 or _DECIMAL.fullmatch(number):
        return None
    sure = named or after or (not number.isdigit() and -1 < last(PHONE_WEAK, left) >= other_at)
    if not sure and (other_at >= 0 or listed):
        return None
    canonical = _international(digits, number, plus, sure)
    if canonical is None:
        if plus and not sure:
            return None
        canonical = _national(text, begin, end, number, digits, groups, regions, sure)
    if canonical is None:
        return None
    extension = _EXTENSION.match(text, end)
    if extension:
        end = extension.end()
    return Found("phone", begin, end, canonical)


def _tight(text: str, begin: int) -> bool:
    """Whether the sign before a number binds it to a digit or letter before it, or is arithmetic."""
    sign = text[begin - 1]
    if sign in ":/":  # `Tel:123`, `tel:/123`; but not a port, a time or a path
        return begin >= 2 and (text[begin - 2].isdigit() or (sign == "/" and text[begin - 2] not in " :"))
    return sign in "+*\\" or (sign != "=" and begin >= 2 and _ALNUM.match(text, begin - 2) is not None)


def _listed(text: str, begin: int, end: int, number: str) -> bool:
    """Whether the number is but a part of a row of numbers: another stands beside it, as near as its groups."""
    before = text[max(0, begin - 2) : begin]
    after = text[end : end + 2]
    if before[-1:] == " " and before[:1].isdigit() and text[begin].isdigit() and " " in number:
        return True
    return after[:1] == " " and after[1:].isdigit() and " " in number


def _tight_after(text: str, end: int) -> bool:
    return text[end] in "-./:,+*=@" and end + 1 < len(text) and text[end + 1].isascii() and text[end + 1].isdigit()


def _international(digits: str, number: str, plus: bool, sure: bool) -> str | None:
    if not plus:
        if not (digits.startswith("00") and 10 <= len(digits) <= 17 and not number.isdigit()):
            return None
        digits = digits[2:]
    elif not 7 <= len(digits) <= 16:
        return None
    # `+41 (0)69 ...`: the prefix in brackets is for callers at home.
    trunk = regex.match(r"(\d{1,3}) ?\(0\)(.*)", number, regex.S)
    if trunk:
        digits = trunk[1] + regex.sub(r"\D", "", trunk[2])
    try:
        parsed = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_valid_number(parsed) and not _fictional(digits):
        return digits
    grouped = not number.isdigit()
    if (sure or grouped) and phonenumbers.is_possible_number(parsed) and not _fictional(digits):
        return digits
    return None


def _fictional(digits: str) -> bool:
    """Numbers kept for fiction: 555-0100 to 555-0199 in North America."""
    return len(digits) in (10, 11) and digits[-7:-2] == "55501"


def _national(
    text: str,
    begin: int,
    end: int,
    number: str,
    digits: str,
    groups: list[tuple[int, int]],
    regions: tuple[str, ...],
    sure: bool,
) -> str | None:
    if not 7 <= len(digits) <= 15 or _fictional(digits):
        return None
    if sure:
        return digits if len(digits) <= 13 else None
    if _THOUSANDS.fullmatch(number):
        return None
    if _NANP.fullmatch(text, begin, end):
        return digits
    for region in regions:
        if number.isdigit():
            alone = _MOBILE_ALONE.get(region)
            near = max(0, begin - BEFORE)
            if alone is not None and alone.fullmatch(number) and _HAN.search(text, near, end + AFTER):
                return digits
            continue
        if len(digits) < 8:
            continue
        try:
            parsed = phonenumbers.parse(digits, region)
        except phonenumbers.NumberParseException:
            continue
        if not phonenumbers.is_valid_number_for_region(parsed, region):
            continue
        style = regex.findall(r"\d+", phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL))
        written = [b - a for a, b in groups]
        # Grouped as the country groups; or a trunk prefix with an area code, that its plan allows.
        area = digits[0] == "0" and written[0] >= 3 and len(written) <= 4 and number.count(".") != 1
        if area or written == [*map(len, style)]:
            return digits
    return None
