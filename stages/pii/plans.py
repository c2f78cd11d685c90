"""Numbering plans: which digits are a phone's in which country, by `phonenumbers` (Google's libphonenumber)."""

from __future__ import annotations

import phonenumbers
import regex

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

_TRUNK = regex.compile(r"(\d{1,3}) ?\(0\)(.*)", regex.S)
_THOUSANDS = regex.compile(r"\d{1,3}(?:([ .])\d{3})(?:\1\d{3})*")
_NANP = regex.compile(r"(?:1[ .-]?)?(?:\([2-9]\d\d\)[ -]?|[2-9]\d\d\)[ -]?|[2-9]\d\d[.-])[2-9]\d\d[.-]\d{4}")
_MOBILE = {"CN": r"1[3-9]\d{9}", "KR": r"01[016-9]\d{7,8}", "TW": r"09\d{8}", "JP": r"0[789]0\d{8}"}
_MOBILE_ALONE = {region: regex.compile(pattern) for region, pattern in _MOBILE.items()}


def regions_of(language: str | None) -> tuple[str, ...]:
    """The countries for a document's language code."""
    found = LANGUAGES.get((language or "").lower().replace("_", "-").split("-")[0])
    return tuple(found.split()) if found else OTHERS


def international(digits: str, number: str, plus: bool, sure: bool) -> str | None:
    """The digits behind `+`, for a number written with it, or with `00` and separators; None where there is none.

    Valid by its country's plan, or of a possible length where it is written in groups or `sure` to be a phone's.
    """
    if not plus:
        if not (digits.startswith("00") and 10 <= len(digits) <= 17 and not number.isdigit()):
            return None
        digits = digits[2:]
    elif not 7 <= len(digits) <= 16:
        return None
    trunk = _TRUNK.match(number)  # `+41 (0)69 ...`: the prefix in brackets is for callers at home
    if trunk:
        digits = trunk[1] + regex.sub(r"\D", "", trunk[2])
    try:
        parsed = phonenumbers.parse("+" + digits)
    except phonenumbers.NumberParseException:
        return None
    loose = (sure or not number.isdigit()) and phonenumbers.is_possible_number(parsed)
    return digits if (loose or phonenumbers.is_valid_number(parsed)) and not fictional(digits) else None


def fictional(digits: str) -> bool:
    """Numbers kept for fiction: 555-0100 to 555-0199 in North America."""
    return len(digits) in (10, 11) and digits[-7:-2] == "55501"


def mobile(number: str, regions: tuple[str, ...]) -> bool:
    """Whether digits without separators are a mobile phone's where people write it so."""
    return any(region in _MOBILE_ALONE and _MOBILE_ALONE[region].fullmatch(number) for region in regions)


def american(number: str) -> bool:
    """Whether the number is grouped as in North America, in the digits that its plan leaves."""
    return _NANP.fullmatch(number) is not None


def national(digits: str, number: str, lengths: list[int], regions: tuple[str, ...]) -> bool:
    """Whether one of the countries has this number, grouped as it groups or with its trunk prefix and area code."""
    if _THOUSANDS.fullmatch(number) or number.isdigit() or len(digits) < 8:
        return False
    for region in regions:
        try:
            parsed = phonenumbers.parse(digits, region)
        except phonenumbers.NumberParseException:
            continue
        if not phonenumbers.is_valid_number_for_region(parsed, region):
            continue
        style = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
        area = digits[0] == "0" and 3 <= lengths[0] <= 5 and len(lengths) <= 4 and number.count(".") != 1
        if area or lengths == [len(group) for group in regex.findall(r"\d+", style)]:
            return True
    return False
