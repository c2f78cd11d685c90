"""Values in the form of personal data that are nobody's: the same for the same value in the same document."""

from __future__ import annotations

from collections.abc import Iterator

import xxhash

from stages.pii.cards import mod97
from stages.pii.found import Found

_KEY = xxhash.xxh3_64_intdigest(b"corpusmill/pii")
_CARDS = """
    4242424242424242 4111111111111111 4012888888881881 5555555555554444 5105105105105100 5200828282828210
    2223003122003222 6011111111111117 6011000990139424 3566002020360505 3530111333300000 6200000000000005
""".split()
_AREAS = ("201", "212", "303", "312", "415", "503", "602", "617", "702", "808")
_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")


def fake(document: bytes, one: Found) -> str:
    """What stands in for a value: at example.com, in the address ranges of RFC 5737 and RFC 3849, among the schemes'
    test cards and 555-01xx, at the bank TEST; of an ID number the form alone, with zeros first, which no state gives.

    The value itself is in it by a keyed 64-bit hash only. Ranges are small (762 IPv4 addresses, 12 cards, 1,000
    phones): two values of one document may get the same fake.
    """
    number = xxhash.xxh3_64_intdigest(document + f"\0{one.type}\0{one.value}".encode(), seed=_KEY)
    if one.type == "email":
        return f"user{number:016x}"[:12] + "@example.com"
    if one.type == "ip" and ":" in one.value:
        return f"2001:db8::{number >> 48:x}:{number >> 32 & 0xFFFF:x}:{number & 0xFFFF:x}"
    if one.type == "ip":
        return f"{_NETWORKS[number % 3]}.{number // 3 % 254 + 1}"
    if one.type == "phone":
        return f"+1 {_AREAS[number % 10]}-555-01{number // 10 % 100:02d}"
    if one.type == "card":
        return _CARDS[number % len(_CARDS)]
    if one.type == "iban":
        account = f"GB00TEST{number % 10**14:014d}"
        return f"GB{98 - mod97(account.lower()):02d}{account[4:]}"
    return "".join(_shape(one.value, number))


def _shape(value: str, number: int) -> Iterator[str]:
    for place, letter in enumerate(value):
        number, rest = divmod(number, 10) if number else (place, place % 10)
        yield ("0" if place < 3 else str(rest)) if letter.isdigit() else "X"
