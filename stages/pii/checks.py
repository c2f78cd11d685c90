"""Check digits and dates of numbers that states give to persons, by their public rules."""

from __future__ import annotations

import datetime

from stages.pii.cards import luhn


def weighted(digits: str, weights: str) -> int:
    """The sum of digits times weights (one decimal or letter each, A = 10)."""
    return sum(int(digit) * int(weight, 36) for digit, weight in zip(digits, weights, strict=False))


def day(year: int, month: int, of_month: int) -> bool:
    """Whether there is such a day, between 1850 and 2100."""
    try:
        return 1850 <= datetime.date(year, month, of_month).year <= 2100
    except ValueError:
        return False


def ymd(six: str) -> bool:
    """Whether YYMMDD is a day of some century."""
    century = day(1900 + int(six[:2]), int(six[2:4]), int(six[4:6]))
    return century or day(2000 + int(six[:2]), int(six[2:4]), int(six[4:6]))


def dmy(six: str) -> bool:
    """Whether DDMMYY is a day of some century."""
    return ymd(six[4:6] + six[2:4] + six[:2])


_VERHOEFF = """
    0123456789 1234067895 2340178956 3401289567 4012395678 5987604321 6598710432 7659821043 8765932104 9876543210
""".split()
_PERMUTED = "0123456789 1576283094 5803796142 8916043527 9453126870 4286573901 2793806415 7046913258".split()


def verhoeff(digits: str) -> bool:
    """Verhoeff's check over the dihedral group (Verhoeff 1969)."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF[check][int(_PERMUTED[place % 8][int(digit)])])
    return check == 0


def iso_11_10(digits: str) -> bool:
    """ISO 7064, MOD 11,10."""
    check = 10
    for digit in digits[:-1]:
        check = ((check + int(digit)) % 10 or 10) * 2 % 11
    return (check + int(digits[-1])) % 10 == 1


def chinese(value: str) -> bool:
    """GB 11643-1999: region, date of birth, ISO 7064 MOD 11-2."""
    if (
        not value[:17].isdigit()
        or value[0] not in "12345689"
        or not day(int(value[6:10]), int(value[10:12]), int(value[12:14]))
    ):
        return False
    return "10X98765432"[weighted(value, "79A584216379A5842") % 11] == value[17]


def ssn(value: str) -> bool:
    area, group, serial = int(value[:3]), int(value[3:5]), int(value[5:])
    if value in ("078051120", "219099999", "123456789", "987654321") or not group or not serial or len(set(value)) < 3:
        return False
    individual = area >= 900 and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)
    return individual or (area not in (0, 666) and area < 900)


def steuer(value: str) -> bool:
    counts = sorted((value[:10].count(digit) for digit in set(value[:10])), reverse=True)
    return value[0] != "0" and counts[0] in (2, 3) and counts[1] == 1 and iso_11_10(value)


def nir(value: str) -> bool:
    if value[0] not in "123478" or not (
        1 <= int(value[3:5]) <= 12 or 20 <= int(value[3:5]) <= 42 or int(value[3:5]) >= 50
    ):
        return False
    # Corsica's departments count as 19 and 18 (INSEE).
    number = value[:5] + {"2A": "19", "2B": "18"}.get(value[5:7], value[5:7]) + value[7:13]
    return number.isdigit() and 97 - int(number) % 97 == int(value[13:15])


def dni(value: str) -> bool:
    number = value[:-1].replace("X", "0", 1).replace("Y", "1", 1).replace("Z", "2", 1)
    return number.isdigit() and value[0] in "0123456789XYZ" and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == value[-1]


def cpf(value: str) -> bool:
    first = weighted(value, "A98765432") * 10 % 11 % 10
    second = weighted(value, "BA98765432") * 10 % 11 % 10
    return len(set(value)) > 1 and value[9:] == f"{first}{second}"


def bsn(value: str) -> bool:
    return len(set(value)) > 2 and (weighted(value[:8], "98765432") - int(value[8])) % 11 == 0


def pesel(value: str) -> bool:
    month = int(value[2:4]) % 20
    return 1 <= month <= 12 and 1 <= int(value[4:6]) <= 31 and weighted(value, "13791379131") % 10 == 0


def aadhaar(value: str) -> bool:
    return value[0] > "1" and len(set(value)) > 2 and verhoeff(value)


def ahv(value: str) -> bool:
    return value.startswith("756") and weighted(value, "1313131313131") % 10 == 0


def hetu(value: str) -> bool:
    number = value[:-1]
    return number.isdigit() and dmy(number) and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number) % 31] == value[-1]


def swedish(value: str) -> bool:
    return ymd(value[-10:-4]) and luhn(value[-10:])


def fodselsnummer(value: str) -> bool:
    return dmy(value) and weighted(value, "3761894521") % 11 == 0 and weighted(value, "54327654321") % 11 == 0


def rijksregister(value: str) -> bool:
    number, check = value[:9], int(value[9:])
    date = 0 <= int(value[2:4]) <= 12 and int(value[4:6]) <= 31
    return date and (97 - int(number) % 97 == check or 97 - int("2" + number) % 97 == check)


def cnp(value: str) -> bool:
    check = weighted(value[:12], "279146358279") % 11
    return value[0] in "12345678" and ymd(value[1:7]) and int(value[12]) == (1 if check == 10 else check)


def rrn(value: str) -> bool:
    return (
        value[6] in "12345678" and ymd(value[:6]) and (11 - weighted(value, "234567892345") % 11) % 10 == int(value[12])
    )


def my_number(value: str) -> bool:
    rest = weighted(value[:11], "65432765432") % 11
    return int(value[11]) == (0 if rest <= 1 else 11 - rest)


def taiwan(value: str) -> bool:
    if value[1] not in "1289":
        return False
    region = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(value[0]) + 10
    return (region // 10 + region % 10 * 9 + weighted(value[1:], "876543211")) % 10 == 0


def singapore(value: str) -> bool:
    total = weighted(value[1:8], "2765432") + {"T": 4, "G": 4, "M": 3}.get(value[0], 0)
    rest = total % 11 if value[0] != "M" else 10 - total % 11
    kinds = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "KLJNPQRTUWX"}
    return value[0] in kinds and kinds[value[0]][rest] == value[8]


def hong_kong(value: str) -> bool:
    check = 10 if value[7:] == "A" else int(value[7:]) if value[7:].isdigit() else 99
    total = 36 * 9 + (ord(value[0]) - 55) * 8 + weighted(value[1:7], "765432") + check
    return total % 11 == 0


def rut(value: str) -> bool:
    return "0123456789K"[(11 - weighted(value[-2::-1], "23456723") % 11) % 11] == value[-1]


def tckn(value: str) -> bool:
    digits = [*map(int, value)]
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return digits[0] > 0 and digits[9] == tenth and sum(digits[:10]) % 10 == digits[10]


def south_african(value: str) -> bool:
    return ymd(value) and value[10] in "012" and luhn(value)


def snils(value: str) -> bool:
    return weighted(value, "987654321") % 101 % 100 == int(value[9:]) and int(value[:9]) > 1001998


def inn(value: str) -> bool:
    checks = ("724A359468", "3724A359468")
    return all(weighted(value, weights) % 11 % 10 == int(value[len(weights)]) for weights in checks)


def thai(value: str) -> bool:
    return value[0] in "12345678" and (11 - weighted(value, "DCBA98765432") % 11) % 10 == int(value[12])


def nif(value: str) -> bool:
    rest = weighted(value[:8], "98765432") % 11
    return value[0] in "1235689" and int(value[8]) == (0 if rest < 2 else 11 - rest)


def birth_czech(value: str) -> bool:
    month = int(value[2:4]) % 50 % 20
    return 1 <= month <= 12 and 1 <= int(value[4:6]) <= 31 and int(value) % 11 == 0


def sin(value: str) -> bool:
    return value[0] not in "08" and luhn(value)


def tfn(value: str) -> bool:
    return weighted(value, "14375869A") % 11 == 0
