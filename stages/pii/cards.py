"""Payment cards and IBANs: digits that check themselves."""

from __future__ import annotations

import regex

from stages.pii.cues import CARD, before, named, other
from stages.pii.found import Found, value_of

SHAPES = frozenset(map(str, range(12, 20))) | {
    "4 4 4 4", "4-4-4-4", "4.4.4.4", "4 6 5", "4-6-5", "4 6 4", "4-6-4", "4 4 4 4 3", "4-4-4-4-3", "6 13", "4 4 4",
    "8 8",
}  # fmt: skip
"""Groups of digits in which card numbers are written, with what stands between them."""
_ALONE = frozenset({15, 16})
_ISSUERS = (
    ("4", (13, 16, 19)),  # Visa
    ("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),  # Mastercard
    ("3[47]", (15,)),  # American Express
    ("30[0-5]|309|36|38|39", (14, 16, 19)),  # Diners Club
    ("6011|64[4-9]|65", (16, 19)),  # Discover
    ("35", (16, 19)),  # JCB: 3528 to 3589
    ("2131|1800", (15,)),  # JCB, old
    ("62|81", (16, 17, 18, 19)),  # UnionPay
    ("5018|5020|5038|5[678]|6304|6759|676[1-3]|0604|60|67", (12, 13, 14, 15, 16, 17, 18, 19)),  # Maestro, RuPay
    ("220[0-4]", (16, 17, 18, 19)),  # Mir
    ("9792", (16,)),  # Troy
)  # ISO/IEC 7812; ranges as the schemes publish them
_NAMED_ONLY = regex.compile(r"0|60(?!11)|67|1800|2131|35(?!2[89]|[3-8])")
_ROW, _ROW_ON = regex.compile(r"[A-Za-z]?\d[ -]$"), regex.compile(r"[ -][0-9]")
_ISSUER = [(regex.compile(prefix), lengths) for prefix, lengths in _ISSUERS]
_EXAMPLES = frozenset(
    """378282246310005 371449635398431 378734493671000 30569309025904 38520000023237 6011111111111117 6011000990139424
    3530111333300000 3566002020360505 5555555555554444 5105105105105100 4111111111111111 4012888888881881 4222222222222
    4242424242424242 4000056655665556 2223003122003222 5200828282828210 6200000000000005 4000000000000002""".split()
)
"""Numbers that the schemes publish for tests."""


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = ord(digit) - 48
        if place % 2:
            number = number * 2 - 9 * (number > 4)
        total += number
    return total % 10 == 0


def card(text: str, start: int, end: int, shape: str, digits: str) -> Found | None:
    """The card number `text[start:end]`, if it is one.

    Fifteen and sixteen digits need no word beside them unless one says otherwise; other lengths do.
    """
    if digits in _EXAMPLES or len(set(digits)) < 3 or not luhn(digits):
        return None
    if not any(len(digits) in lengths and prefix.match(digits) for prefix, lengths in _ISSUER):
        return None
    left = before(text, start)
    if not named(left, CARD):
        if len(digits) not in _ALONE and shape not in ("4 6 4", "4-6-4", "4 4 4 4 3"):
            return None
        if other(left) >= 0 or _ROW.search(left) or _ROW_ON.match(text, end) or _NAMED_ONLY.match(digits):
            return None
    return Found("card", start, end, digits)


_IBAN_LENGTHS = dict(
    item.split(":")
    for item in """
    AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DJ:27
    DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HN:28 HR:21 HU:28
    IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22
    MK:19 MN:20 MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 SA:24
    SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20 YE:30
    """.split()
)
"""Country to length: SWIFT, IBAN Registry, release 99."""
_ALNUM = regex.compile("[A-Za-z0-9]")
_IBAN = regex.compile(r"[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}", regex.A)


def mod97(iban: str) -> int:
    """What ISO 13616 makes of an IBAN: 1 for a good one."""
    number = 0
    for letter in iban[4:] + iban[:4]:
        number = int(f"{number}{int(letter, 36)}") % 97
    return number


def iban(text: str, start: int, end: int) -> Found | None:
    """The IBAN that begins at `start`, with or without blanks."""
    match = _IBAN.match(text, start, end)
    if match is None or (start and _ALNUM.match(text, start - 1)):
        return None
    length = int(_IBAN_LENGTHS.get(match.group()[:2].upper(), 0))
    stop, count = start, 0
    while stop < end and count < length:
        count += text[stop] not in " -"
        stop += 1
    value = value_of(text[start:stop])
    if (
        not length
        or count < length
        or stop > match.end()
        or (stop < len(text) and text[stop].isascii() and text[stop].isalnum())
    ):
        return None
    if mod97(value) != 1 or value[4:8] == "test" or len(set(value[4:])) < 3:
        return None
    return Found("iban", start, stop, value)
