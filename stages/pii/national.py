"""Numbers that states give to persons, by their public rules: shape, date, check digits.

A shape is the lengths of the groups of digits with what stands between them (`3-2-4`), `A` for a letter beside them.
Shapes under `alone` are rare enough by themselves, with their check; the others need a word that names them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import regex

from stages.pii import checks
from stages.pii.cues import BEFORE
from stages.pii.found import Found, value_of


class Kind(NamedTuple):
    """One country's number."""

    name: str
    shapes: str
    """Separated by `|`; those before a `;` may stand alone."""
    check: Callable[[str], bool]
    """Over digits and capital letters, without separators."""
    cues: str
    """Words that name it."""


KINDS = (
    Kind("cn_id", "18|17A|6 8 4|6 8 3A;", checks.chinese, ""),
    Kind("us_ssn", "3-2-4;3 2 4|9|3.2.4", checks.ssn, r"ssn|social security|social sec|itin|tax(?:payer)? id"),
    Kind("de_steuer", "2 3 3 3;11", checks.steuer, r"steuer|steuer-?id\w*|idnr|identifikationsnummer|TIN|tax id"),
    Kind("fr_nir", "15|13 2|1 2 2 2 3 3 2|1 2 2 2 3 3-2;", checks.nir, ""),
    Kind("es_dni", "8A|8-A|2.3.3-A|2.3.3A|A7A;", checks.dni, ""),
    Kind("br_cpf", "3.3.3-2;11|9-2|3 3 3 2", checks.cpf, r"cpf|cadastro"),
    Kind("nl_bsn", ";9|4.2.3|4 2 3|3 3 3|3.3.3", checks.bsn, r"bsn|burgerservicenummer|sofinummer|sofi"),
    Kind("pl_pesel", ";11", checks.pesel, r"pesel\w*"),
    Kind("in_aadhaar", ";4 4 4|4-4-4|12", checks.aadhaar, r"aadhaar|aadhar|uidai|UID|आधार|ஆதார்|আধার|ఆధార్"),
    Kind("ch_ahv", "3.4.4.2;13", checks.ahv, r"ahv\w*|avs|navs\w*|sozialversicherungsnummer"),
    Kind("fi_hetu", "6-3A;6-4", checks.hetu, r"henkilötunnus|hetu"),
    Kind("se_pnr", ";6-4|8-4|10|12|6+4", checks.swedish, r"personnummer|personnr|pnr|samordningsnummer"),
    Kind("no_fnr", ";11|6 5", checks.fodselsnummer, r"f[øo]dselsnummer|fnr|personnummer"),
    Kind("be_nn", "2.2.2-3.2;11|2.2.2 3 2", checks.rijksregister, r"rijksregister\w*|registre national|niss|insz|NN"),
    Kind("ro_cnp", ";13", checks.cnp, r"cnp|cod numeric"),
    Kind("kr_rrn", "6-7;13", checks.rrn, r"주민|주민등록번호|rrn|외국인등록번호"),
    Kind("jp_my_number", ";12|4 4 4|4-4-4", checks.my_number, r"マイナンバー|個人番号|my number"),
    Kind("tw_id", "A9;", checks.taiwan, ""),
    Kind("sg_nric", "A7A;", checks.singapore, ""),
    Kind("hk_id", "A6(1;A6(A", checks.hong_kong, r"hkid|身份證|身分證|identity card"),
    Kind("cl_rut", "2.3.3-1|2.3.3-A|1.3.3-1|1.3.3-A;8-1|8-A|7-1|7-A", checks.rut, r"rut|RUN"),
    Kind("tr_tckn", ";11", checks.tckn, r"TC|T\.C\.|tckn|kimlik|kimlik no"),
    Kind("za_id", ";13|6 4 3|6 4 2 1", checks.south_african, r"ID|identity|id number"),
    Kind("ru_snils", "3-3-3 2;3-3-3-2|11", checks.snils, r"снилс|snils"),
    Kind("ru_inn", ";12", checks.inn, r"инн|INN"),
    Kind("th_id", "1-4-5-2-1;13|1 4 5 2 1", checks.thai, r"บัตรประชาชน|เลขประจำตัวประชาชน|thai id"),
    Kind("pt_nif", ";9|3 3 3", checks.nif, r"nif|contribuinte"),
    Kind("cz_rc", ";6/4|10", checks.birth_czech, r"rodné číslo|rodne cislo|rč|r\.č\.|rodné"),
    Kind("ca_sin", ";3-3-3|3 3 3|9", checks.sin, r"SIN|social insurance|NAS"),
    Kind("au_tfn", ";3 3 3|9", checks.tfn, r"tfn|tax file"),
)
"""Thirty numbers; a value may fit several, for the check digits alone do not tell countries apart."""


class _Rule(NamedTuple):
    kind: Kind
    alone: bool
    named: regex.Pattern[str]


SHAPES: dict[str, list[_Rule]] = {}
"""Shape to the kinds that are written so."""
for _kind in KINDS:
    # Short names that are also words (`sin`, `run`) only in capitals.
    _words = "|".join(rf"(?-i:{word})" if word.isupper() else word for word in _kind.cues.split("|")) or "(?!)"
    _named = regex.compile(rf"(?<![\p{{Latin}}\p{{N}}])(?:{_words})(?![\p{{Latin}}\p{{N}}])", regex.I)
    _alone, _, _with = _kind.shapes.partition(";")
    for _list, _flag in ((_alone, True), (_with, False)):
        for _shape in filter(None, _list.split("|")):
            SHAPES.setdefault(_shape, []).append(_Rule(_kind, _flag, _named))


_DEVICE = regex.compile(r"(?:imei|imsi|iccid|isbn|order|serial|tracking|invoice|订单|单号|编号)[^0-9]*$", regex.I)


def national(text: str, start: int, end: int, shape: str) -> Found | None:
    """The number `text[start:end]` of this shape, if it is a state's."""
    rules = SHAPES.get(shape)
    if rules is None:
        return None
    value = value_of(text[start:end]).upper()
    left = text[max(0, start - BEFORE) : start]
    for kind, alone, named in rules:
        if kind.check(value) and (named.search(left) or (alone and not (value.isdigit() and _DEVICE.search(left)))):
            return Found("national_id", start, end, value.lower())
    return None


_ODD_LETTERS = "1 0 5 7 9 13 15 17 19 21 2 4 18 20 11 3 6 8 12 14 16 10 22 25 24 23".split()
_ODD = {chr(65 + place): int(number) for place, number in enumerate(_ODD_LETTERS)}
_ODD |= {str(digit): _ODD[chr(65 + digit)] for digit in range(10)}
_FISCALE = regex.compile(r"[A-Z]{6}[\dLMNP-V]{2}[ABCDEHLMPRST][\dLMNP-V]{2}[A-Z][\dLMNP-V]{3}[A-Z]", regex.I)
_CURP = regex.compile(r"[A-Z][AEIOUX][A-Z]{2}(\d{6})[HMX][A-Z]{2}[B-DF-HJ-NP-TV-Z]{3}[0-9A-Z]\d", regex.I)
_CORSICAN = regex.compile(r"\d{5}2[AB]\d{8}", regex.I | regex.A)
_NINO = regex.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]")


def code(text: str, start: int, end: int) -> Found | None:
    """The Italian, Mexican or British number of letters and digits `text[start:end]`, if it is one."""
    token = text[start:end]
    value = token.upper()
    good = False
    if len(token) == 16 and _FISCALE.fullmatch(token):
        total = sum(_ODD[c] if place % 2 == 0 else int(c, 36) - 10 * (c > "9") for place, c in enumerate(value[:15]))
        good = chr(65 + total % 26) == value[15]
    elif len(token) == 18 and (match := _CURP.fullmatch(token)):
        letters = "0123456789ABCDEFGHIJKLMN*OPQRSTUVWXYZ"
        total = sum(letters.index(c) * (18 - place) for place, c in enumerate(value[:17]))
        good = checks.ymd(match[1]) and (10 - total % 10) % 10 == int(value[17])
    elif len(token) == 15:
        good = _CORSICAN.fullmatch(token) is not None and checks.nir(value)
    elif len(token) == 9:
        good = _NINO.fullmatch(token) is not None
    return Found("national_id", start, end, token.lower()) if good else None
