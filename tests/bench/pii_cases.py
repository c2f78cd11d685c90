"""Seeded cases for the stage `pii`: values of each type and hard negatives, in sentences of many languages.

The rules are written anew here (numbers are drawn from libphonenumber's plans and the registries' structures), so
that the stage is not asked about itself; only ID numbers are drawn by trial with the stage's own check digits, which
its tests hold against published numbers.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import phonenumbers
import regex

from stages.pii.national import KINDS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TYPES = ("email", "ip", "phone", "card", "iban", "national_id")
SPACELESS = ("zh", "ja", "th")


class Case(NamedTuple):
    """A text, its language, and the one span of `type` in it; start and end are equal for a hard negative."""

    text: str
    language: str
    type: str
    start: int
    end: int


CUES = {
    "email": {"en": "e-mail ", "de": "E-Mail: ", "zh": "邮箱", "ja": "メール：", "es": "correo ", "ru": "почта ",
    "": ""},
    "ip": {"en": "from ", "de": "Adresse ", "zh": "服务器地址", "ja": "アドレス", "es": "servidor ", "ru": "адрес ",
    "": ""},
    "phone": {
        "en": "phone ", "de": "Tel. ", "zh": "电话", "ja": "電話番号は", "es": "teléfono ", "fr": "Tél. ",
        "ru": "тел. ",
        "ar": "هاتف ", "hi": "फोन ", "tr": "telefon ", "vi": "điện thoại ", "th": "โทร ", "el": "τηλ. ",
        "ro": "telefon ",
    },
    "card": {
        "en": "credit card ", "de": "Kreditkarte ", "zh": "信用卡号", "ja": "カード番号は", "es": "tarjeta ",
        "fr": "carte ",
        "ru": "карта ",
    },
    "iban": {"en": "IBAN ", "de": "Konto ", "zh": "账户", "": ""},
}  # fmt: skip
NEAR = {"zh": "CN", "ja": "JP", "de": "DE", "es": "ES", "en": "US", "ru": "RU", "hi": "IN", "tr": "TR", "vi": "VN",
        "th": "TH",
        "el": "GR", "ro": "RO", "ar": "EG", "fr": "FR"}  # fmt: skip


def sentences() -> dict[str, list[str]]:
    """Language to sentences without digits and at signs, to carry the values."""
    found: dict[str, list[str]] = {}
    for name in ("encyclopedia_12", "docs_ja", "docs_fr", "docs_zh"):
        with gzip.open(SHARED / "text" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                language = row["lang"] if name == "encyclopedia_12" else name[-2:]
                for piece in row["text"].replace("。", "。\n").replace(". ", ".\n").splitlines():
                    piece = piece.strip()
                    plain = not any(c.isdigit() or c in "@`<>{}[]#=|*:$№" for c in piece)
                    own = name == "encyclopedia_12" or any(ord(c) > 0x7F for c in piece)
                    if 20 <= len(piece) <= 200 and plain and own:
                        found.setdefault(language, []).append(piece)
    return found


def digits(rng: random.Random, number: int) -> str:
    """That many random digits."""
    return "".join(rng.choice(string.digits) for _ in range(number))


def email(rng: random.Random) -> str:
    """An address at a domain that is no example."""
    first, last = (
        rng.choice(["anna", "li.wei", "john", "k_sato", "maría", "o'neil", "B", "x9", "jean-paul"]) for _ in "12"
    )
    local = rng.choice(
        [first, f"{first}.{last}", f"{first}{rng.randint(1, 9999)}", f"{first}+{last}", f"{first}_{last}".upper()]
    )
    word = "".join(rng.choice("abcdefghiklmnoprstuwz") for _ in range(rng.randint(2, 12)))
    top = rng.choice(
        [
            "com",
            "org",
            "de",
            "co.uk",
            "com.cn",
            "edu",
            "io",
            "com.br",
            "ac.jp",
            "museum",
            "ru",
            "info",
            "xn--p1ai",
            "рф",
            "中国",
        ]
    )
    domain = rng.choice([word, f"mail.{word}", f"{word}-{word[:3]}", f"{word}{rng.randint(1, 99)}", "münchen", "例子"])
    return f"{local}@{domain}.{top}".replace("o'neil.", "oneil.")


def email_not(rng: random.Random) -> str:
    """What has an at sign and is no address, or an example's."""
    word = "".join(rng.choice(string.ascii_lowercase) for _ in range(6))
    return rng.choice(
        [f"@{word}", f"@{word}@{word}.social", f"{word}@{rng.randint(1, 30)}.{rng.randint(0, 9)}.{rng.randint(0, 9)}",
         f"git@{word}.com:{word}/x.git", f"{word}@2x.png", f"https://{word}:pw@{word}.com/x", f"{word} @ {word}.com",
         f"{word}@example.com", f"{word}@localhost", f"@{word}.setter", f"{word}@{word}", f"me@{word}.example",
         f"https://medium.com/@{word}/{word}", f"{word}@@{word}.com"]
    )  # fmt: skip


def ip(rng: random.Random) -> str:
    """A public host address."""
    while True:
        if rng.random() < 0.75:
            address = ipaddress.IPv4Address(rng.getrandbits(32))
            if address.is_global and not address.is_multicast and not str(address).endswith(".0"):
                return str(address)
        else:
            prefix = rng.choice([0x2001_0600, 0x2400_CB00, 0x2600_1F18, 0x2A00_1450, 0x2A02_26F0, 0x2804_014C])
            number = prefix << 96 | rng.getrandbits(96) & rng.choice(
                [(1 << 96) - 1, (1 << 16) - 1, 0xFFFF << 64 | 0xFFFF]
            )
            six = ipaddress.IPv6Address(number)
            return rng.choice([six.compressed, six.exploded, six.compressed.upper()])


def ip_not(rng: random.Random) -> str:
    """Versions, sections, private and documentation addresses, times."""
    a, b, c, d = (rng.randint(0, 255) for _ in range(4))
    small = ".".join(str(rng.randint(0, 20)) for _ in range(4))
    return rng.choice(
        [f"192.168.{a}.{b}", f"10.{a}.{b}.{c}", f"172.{rng.randint(16, 31)}.{a}.{b}", f"127.0.0.{a}", f"203.0.113.{a}",
         f"version {a}.{b}.{c}.{d}", f"v{a}.{b}.{c}.{d}", f"{a}.{b}.{c}.{d}.{a}", f"版本{a}.{b}.{c}.{d}", f"§ {small}",
         f"Section {small}", f"{a}.{b}.{c}.{d + 256}", f"{a % 24:02d}:{b % 60:02d}:{c % 60:02d}",
         f"2001:db8::{a:x}:{b:x}",
         f"fe80::{a:x}{b:02x}:{c:x}", "::1", f"{a:02x}:{b:02x}:{c:02x}:{d:02x}:{a:02x}:{b:02x}", "std::abs",
         f"{a}.{b}.{c}",
         f"{a}/{b}/{c}/{d}", f"{a},{b}.{c}.{d}", f"224.0.{a}.{b}", f"release {small}"]
    )  # fmt: skip


def luhn(number: str) -> str:
    """The number with its check digit behind it."""
    for check in string.digits:
        doubled = [int(c) for c in reversed(number + check)]
        if sum(n if i % 2 == 0 else sum(divmod(2 * n, 10)) for i, n in enumerate(doubled)) % 10 == 0:
            return number + check
    raise AssertionError


def card(rng: random.Random) -> tuple[str, bool]:
    """A card number, and whether it should be found without a word beside it."""
    prefix, length = rng.choice(
        [("4", 16), ("4", 16), (f"5{rng.randint(1, 5)}", 16), (str(rng.randint(2221, 2720)), 16), ("34", 15), ("37",
        15),
         ("6011", 16), ("65", 16), ("36", 14), ("38", 14), ("3530", 16), ("62", 16), ("62", 19), ("4", 13), ("4", 19),
         ("5018", 12)]
    )  # fmt: skip
    number = luhn(prefix + digits(rng, length - 1 - len(prefix)))
    sign = rng.choice(["", "", " ", "-"])
    if sign and length in (16, 19):
        number = sign.join(number[i : i + 4] for i in range(0, length, 4))
    elif (sign and length == 15) or (sign and length == 14):
        number = sign.join((number[:4], number[4:10], number[10:]))
    return number, length in (15, 16)


def card_not(rng: random.Random) -> str:
    """Wrong check digits, and good ones of what says that it is something else."""
    good = card(rng)[0]
    wrong = good[:-1] + str((int(good[-1]) + rng.randint(1, 9)) % 10)
    return rng.choice(
        [wrong, wrong, f"card {wrong}", f"IMEI {luhn('35' + digits(rng, 12))}",
        f"order {good.replace(' ', '').replace('-', '')}",
         f"16{digits(rng, 14)}", f"ISBN 978{digits(rng, 10)}", f"{good}{digits(rng, 6)}", f"0.{digits(rng, 16)}",
         f"a{good}",
         f"订单号{good.replace(' ', '').replace('-', '')}",
         f"{digits(rng, 8)}-{digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 12)}",
         f"tracking {luhn('4' + digits(rng, 14))}", f"9{digits(rng, 15)}"]
    )  # fmt: skip


IBANS = {"DE": "18n", "GB": "4a14n", "FR": "10n11c2n", "ES": "20n", "NL": "4a10n", "IT": "1a10n12c", "CH": "5n12c",
         "NO": "11n",
         "PL": "24n", "SA": "2n18c", "BR": "23n1a1c", "MT": "4a5n18c", "GR": "7n16c", "TR": "5n1n16c", "SE": "20n",
         "AE": "19n"}  # fmt: skip


def iban(rng: random.Random) -> str:
    """An IBAN of its country's structure."""
    country, structure = rng.choice([*IBANS.items()])
    body, number = "", ""
    for sign in structure:
        if sign.isdigit():
            number += sign
        else:
            letters = {"n": string.digits, "a": string.ascii_uppercase, "c": string.digits + string.ascii_uppercase}[
                sign
            ]
            body += "".join(rng.choice(letters) for _ in range(int(number)))
            number = ""
    moved = "".join(str(int(c, 36)) for c in body + country + "00")
    found = f"{country}{98 - int(moved) % 97:02d}{body}"
    style = rng.random()
    if style < 0.5:
        return found if style < 0.4 else found.lower()
    return (" " if style < 0.9 else "-").join(found[i : i + 4] for i in range(0, len(found), 4))


def iban_not(rng: random.Random) -> str:
    """Wrong checks and lengths, and codes that begin like an IBAN."""
    good = iban(rng)
    place = rng.randrange(4, len(good))
    other = rng.choice(string.digits if good[place].isdigit() else string.ascii_uppercase)
    changed = (
        good[:place]
        + (other if other.lower() != good[place].lower() and good[place].isalnum() else good[place] + "7")
        + good[place + 1 :]
    )
    return rng.choice(
        [changed, changed, "XX" + good[2:], good[2:], f"AB{digits(rng, 2)}-{digits(rng, 6)}", f"SN{digits(rng, 18)}",
         f"{rng.getrandbits(128):032x}", f"{rng.getrandbits(64):016X}",
         f"MP{digits(rng, 2)} {digits(rng, 4)} {digits(rng, 4)}"]
    )  # fmt: skip


def phone(rng: random.Random, language: str) -> tuple[str, bool]:
    """A number that its country's plan allows, and whether it should be found without a word beside it."""
    region = (
        NEAR.get(language, "US")
        if rng.random() < 0.5
        else rng.choice(sorted(set(NEAR.values()) | set("GB BR IT PL SE KR AU ZA MX NL".split())))
    )
    kind = rng.choice([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE])
    example = phonenumbers.example_number_for_type(region, kind) or phonenumbers.example_number(region)
    while True:
        tail = rng.randint(4, 6)
        national = str(example.national_number)
        drawn = phonenumbers.PhoneNumber(
            country_code=example.country_code, national_number=int(national[:-tail] + digits(rng, tail)),
            italian_leading_zero=example.italian_leading_zero,
        )  # fmt: skip
        if phonenumbers.is_valid_number(drawn) and "55501" not in str(drawn.national_number):
            break
    formats = phonenumbers.PhoneNumberFormat
    style = rng.random()
    if style < 0.25:
        return phonenumbers.format_number(drawn, formats.E164), True
    if style < 0.55:
        text = phonenumbers.format_number(drawn, formats.INTERNATIONAL)
        return (text.replace(" ", rng.choice(" -.")) if rng.random() < 0.3 else text), True
    text = phonenumbers.format_number(drawn, formats.NATIONAL)
    if style < 0.65:
        return "".join(c for c in text if c.isdigit()), region == "CN" and language == "zh" and kind == 1
    if style < 0.75:
        return text.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}), False
    # In the national form: the country's own texts, with a trunk zero or an area code in brackets, say enough.
    own = NEAR.get(language) == region
    return text, own and ((text.startswith("0") and " " in text) or region == "US")


def phone_not(rng: random.Random) -> str:
    """Dates, sums, codes, coordinates: what is made of digits and is no phone's."""
    y, m, d = rng.randint(1900, 2030), rng.randint(1, 12), rng.randint(1, 28)
    n = digits
    return rng.choice(
        [f"{y}-{m:02d}-{d:02d}", f"{d:02d}.{m:02d}.{y}", f"{m}/{d}/{y}", f"{y}{m:02d}{d:02d}{n(rng, 6)}",
        f"{y}-{y + 5}",
         f"{y}-{m:02d}-{d:02d} {d:02d}:{m:02d}:{d:02d}", f"{d:02d}.{m:02d}.{y} {d:02d}.{m:02d}", f"{y}年{m}月{d}日",
         f"ISBN 978-3-{n(rng, 2)}-{n(rng, 6)}-{n(rng, 1)}", f"ISBN 0-{n(rng, 3)}-{n(rng, 5)}-{n(rng, 1)}",
         f"ISSN {n(rng, 4)}-{n(rng, 4)}",
         f"order {n(rng, 10)}", f"#{n(rng, 9)}", f"No. {n(rng, 8)}", f"${n(rng, 8)}", f"{n(rng, 7)}€",
         f"{n(rng, 3)} {n(rng, 3)} {n(rng, 3)} habitants",
         f"{rng.randint(1, 99)},{n(rng, 3)},{n(rng, 3)}", f"{rng.randint(1, 9)} {n(rng, 3)} {n(rng, 3)}",
         f"3.{n(rng, 12)}", f"0.{n(rng, 8)}",
         f"{rng.randint(1, 89)}.{n(rng, 5)}, -{rng.randint(1, 99)}.{n(rng, 5)}", f"doi:10.{n(rng, 4)}/{n(rng, 8)}",
         f"arXiv:{n(rng, 4)}.{n(rng, 5)}",
         f"17{n(rng, 8)}", f"17{n(rng, 11)}", f"PMID {n(rng, 8)}", f"{rng.getrandbits(160):040x}",
         f"{rng.getrandbits(32):08x}-{n(rng, 4)}-4{n(rng, 3)}",
         f"192.168.{rng.randint(0, 255)}.{rng.randint(0, 255)}", f"v{rng.randint(1, 9)}.{n(rng, 2)}.{n(rng, 4)}",
         f"{n(rng, 5)}-{n(rng, 4)}",
         f"{n(rng, 4)}x{n(rng, 4)}", f"{n(rng, 9)} bytes", f"订单号{n(rng, 11)}", f"价格{n(rng, 7)}元",
         f"invoice 2024-{n(rng, 6)}",
         f"{y} {y + 1} {y + 2} {y + 3}", " ".join(str(rng.randint(0, 99)) for _ in range(9)),
         f"{n(rng, 3)}.{n(rng, 3)}.{n(rng, 3)}",
         f"1:{n(rng, 7)}", f"SN{n(rng, 9)}", f"{n(rng, 12)}", f"{n(rng, 8)}", f"0x{n(rng, 8)}", f"US{n(rng, 7)}B2",
         f"pp. {n(rng, 4)}-{n(rng, 4)}",
         f"{n(rng, 2)}-{n(rng, 2)}-{n(rng, 2)}", f"({n(rng, 4)}) {n(rng, 2)}", f"{n(rng, 6)}/{n(rng, 4)}",
         f"id={n(rng, 10)}", f"UTC+{n(rng, 2)}"]
    )  # fmt: skip


def generated(number: int, seed: int) -> Iterator[Case]:
    """`number` cases with a value, and as many hard negatives, of each type."""
    carriers = sentences()
    languages = sorted(carriers)
    for kind in TYPES:
        rng = random.Random(f"{seed}/{kind}")
        for turn in range(2 * number):
            good = turn % 2 == 0
            language = rng.choice(languages)
            cues = CUES.get(kind, {})
            cue = cues.get(language) or cues["en"] if cues else ""
            if kind == "national_id":
                cue, value, good = national(rng)
            elif not good:
                value = {"email": email_not, "ip": ip_not, "phone": phone_not, "card": card_not, "iban": iban_not}[
                    kind
                ](rng)
                cue = ""
            elif kind in ("phone", "card"):
                value, alone = phone(rng, language) if kind == "phone" else card(rng)
                cue = "" if alone and rng.random() < 0.5 else cue
            else:
                value = {"email": email, "ip": ip, "iban": iban}[kind](rng)
                cue = "" if rng.random() < 0.6 else cue
            first, last = rng.choice(carriers[language]), rng.choice(carriers[language])
            tight = language in SPACELESS and rng.random() < 0.7
            before = (
                "" if tight and not first[-1].isascii() and (cue or not value[0].isalpha() or value.isascii()) else " "
            )
            after = "" if tight and not _ascii(last[0]) else " "
            left = first + before + cue
            text = left + value + rng.choice(["", ",", ".", "。", ")"]) * (rng.random() < 0.3) + after + last
            yield Case(text, language, kind, len(left), len(left) + len(value) if good else len(left))


def _ascii(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def national(rng: random.Random) -> tuple[str, str, bool]:
    """A word, an ID number beside it and whether it is good: of one of thirty kinds, in the way it is written."""
    kind = rng.choice(KINDS)
    alone, _, named = kind.shapes.partition(";")
    shapes = [(shape, True) for shape in alone.split("|") if shape] + [
        (shape, False) for shape in named.split("|") if shape
    ]
    shape, free = rng.choice(shapes)
    wanted = rng.random() < 0.5
    for _ in range(100_000):
        value = _drawn(rng, kind.name, shape)
        if kind.check("".join(c for c in value if c.isalnum())) == wanted:
            break
    else:
        raise AssertionError(f"no {kind.name} of shape {shape}")
    cue = CUES_NATIONAL.get(kind.name, "")
    return ("" if free and (not wanted or rng.random() < 0.5) else cue), value + (")" if "(" in shape else ""), wanted


CUES_NATIONAL = {
    "cn_id": "身份证号", "us_ssn": "SSN ", "de_steuer": "Steuer-ID: ", "br_cpf": "CPF ", "nl_bsn": "BSN ",
    "pl_pesel": "PESEL ",
    "in_aadhaar": "Aadhaar ", "ch_ahv": "AHV-Nr. ", "se_pnr": "personnummer ", "no_fnr": "fødselsnummer ",
    "be_nn": "NISS ", "ro_cnp": "CNP ",
    "kr_rrn": "주민등록번호 ", "jp_my_number": "マイナンバー", "hk_id": "HKID ", "cl_rut": "RUT ",
    "tr_tckn": "TC kimlik no ", "za_id": "ID number ",
    "ru_snils": "СНИЛС ", "ru_inn": "ИНН ", "th_id": "บัตรประชาชน ", "pt_nif": "NIF ", "cz_rc": "rodné číslo ",
    "ca_sin": "SIN ", "au_tfn": "TFN ",
    "es_dni": "DNI ", "fi_hetu": "hetu ",
}  # fmt: skip
DATED = {"pl_pesel": 0, "se_pnr": 0, "ro_cnp": 1, "kr_rrn": 0, "za_id": 0, "cz_rc": 0, "be_nn": 0}
REVERSED = {"fi_hetu", "no_fnr"}


def _drawn(rng: random.Random, name: str, shape: str) -> str:
    """Random digits and letters in this shape, with a date where the kind has one."""
    day = f"{rng.randint(0, 99):02d}", f"{rng.randint(1, 12):02d}", f"{rng.randint(1, 28):02d}"
    size = sum(int(part) for part in regex.findall(r"\d+", shape)) + shape.count("A")
    letters = [rng.choice(string.digits) for _ in range(size)]
    dated = DATED.get(
        name, 6 if name == "cn_id" else 2 if name == "se_pnr" and size == 12 else 0 if name in REVERSED else None
    )
    if name == "se_pnr" and size == 12:
        letters[:2], dated = list("19"), 2
    if name == "cn_id":
        letters[:8], dated = [*rng.choice(["110105", "440304", "310101", "510107"]), "1", "9"], 8
    if name == "ch_ahv":
        letters[:3] = list("756")
    if dated is not None:
        letters[dated : dated + 6] = list("".join(day[::-1] if name in REVERSED else day))
    if name == "fr_nir":
        letters[:5] = list(rng.choice("12") + day[0] + day[1])
        letters[13:] = list(f"{97 - int(''.join(letters[:13])) % 97:02d}") if rng.random() < 0.5 else letters[13:]
    if name == "be_nn" and rng.random() < 0.5:
        letters[9:] = list(f"{97 - int(''.join(letters[:9])) % 97:02d}")
    if name == "de_steuer":
        ten = rng.sample(string.digits, 10)
        ten[rng.randrange(10)] = ten[rng.randrange(10)]
        letters[:10] = ten
    out, at = "", 0
    for part in regex.findall(r"\d+|\D", shape):
        if part.isdigit():
            out += "".join(letters[at : at + int(part)])
            at += int(part)
        elif part == "A":
            first = {"es_dni": "XYZ", "sg_nric": "STFG", "tw_id": "ABCDEFGH", "hk_id": "ABCDEFGH"}.get(name, "A")
            last = {"cn_id": "X", "cl_rut": "K", "hk_id": "A"}.get(name, string.ascii_uppercase)
            out += rng.choice(first if not out else last)
            at += 1
        else:
            out += part
    return out
