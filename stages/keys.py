"""Keys by which documents are the same."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex
import xxhash

from stages.kernels import inline, njit
from stages.lookup import SEED_1, SEED_2, step_1, step_2
from stages.rows import strings
from stages.text.block_words import COMPOSING, MARKED, bits_of, letters, pieces_of
from stages.text.characters import CODES, NOT_ALONE, every_code, folds
from stages.text.column import texts
from stages.text.eight import before_first, digits_in, eight_at, leading, letters_in, stirred, up_to_eight
from stages.text.forms import normalized
from stages.text.joining import joining, joins, marks
from stages.text.utf8 import code_at, width
from stages.words import fold

KINDS = ("url", "text")

_SOUND = regex.compile(r"[\p{Z}\p{P}\p{Cc}\p{Cf}]+")
_TRACKING = regex.compile(
    r"utm_\w*|gclid|gclsrc|dclid|gbraid|wbraid|fbclid|msclkid|yclid|twclid|igshid|igsh|mc_cid|mc_eid|_ga|_gl|"
    r"_hsenc|_hsmi|mkt_tok|vero_id|oly_anon_id|oly_enc_id|wt_mc|spm|scm",
    regex.I,
)
_ESCAPE = regex.compile(r"%([0-9A-Fa-f]{2})")
_PORTS = {"http": "80", "https": "443"}


def exact_keys(batch: pa.RecordBatch, kinds: Sequence[str]) -> dict[str, pa.Array]:
    """A `binary(16)` column for each of `kinds` (`url`, `text`): equal digests, equal documents.

    `url`: xxHash3-128 of `canonical_url`; null where there is no URL. `text`: a hash of `sound`, or of the raw
    text where nothing is left of it (so that a page of punctuation equals only itself); null where the text is.
    Raises ValueError for other kinds.
    """
    keys: dict[str, pa.Array] = {}
    for kind in kinds:
        if kind == "url":
            plain = [canonical_url(url) if url and url.strip() else None for url in strings(batch, kind)]
            digests = [None if value is None else xxhash.xxh3_128_digest(value.encode()) for value in plain]
            keys[kind] = pa.array(digests, pa.binary(16))
        elif kind == "text":
            keys[kind] = text_keys(batch.column(kind))
        else:
            raise ValueError(f"no such key: {kind!r}; one of {', '.join(KINDS)}")
    return keys


def text_keys(column: pa.Array) -> pa.Array:
    """128 bits of each text, equal where `sound` is: a hash of its UTF-8."""
    view = texts(column)
    found = np.empty((len(column), 2), np.uint64)
    unfit = np.zeros(len(column), np.bool_)
    _text_keys(view.data, view.offsets, *_sounds(), letters().kinds, joining(), found, unfit)
    again = np.flatnonzero(unfit)
    if len(again):
        kept = [sound(text) or text for text in column.take(pa.array(again)).to_pylist()]
        folded = texts(pa.array(kept, pa.string()))
        some = np.tile(_SEEDS, (len(again), 1))
        _digest(folded.data, folded.offsets, some)
        found[again] = some
    return _binary(found, view.valid)


def content_keys(batch: pa.RecordBatch) -> pa.Array:
    """A `binary(16)` digest of each row's title, language and text, nulls as if empty: what records of one id may still
    differ in. An id names the record as the crawl holds it; a table's title and language stand outside of it."""
    found = np.tile(_SEEDS, (batch.num_rows, 1))
    for name in ("title", "language", "text"):
        view = texts(batch.column(name))
        _digest(view.data, view.offsets, found)
    return _binary(found, np.ones(batch.num_rows, np.bool_))


def _binary(found: npt.NDArray[np.uint64], valid: npt.NDArray[np.bool_]) -> pa.Array:
    missing = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    data = pa.py_buffer(np.ascontiguousarray(found, "<u8"))
    return pa.Array.from_buffers(pa.binary(16), len(found), [missing, data])


def sound(text: str) -> str:
    """What two texts must have in common to be the same: NFKC, case folded, without blanks and punctuation."""
    # Composed once more: marks may meet letters where a blank went.
    return normalized(_SOUND.sub("", fold(text)), "NFKC")


def canonical_url(url: str) -> str:
    """One spelling for URLs that lead to the same page.

    Host in lower case, without a leading `www.`, a trailing dot, user name and default port; `http` and
    `https` alike; no fragment (but `#!`, by which old scripted pages are addressed); no slash at the end of
    the path; escapes of unreserved characters undone, all others in upper case; parameters without a
    tracking name (`utm_*`, `gclid`, `fbclid` and their like), in order. What is no URL stays as it is, trimmed.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port and str(parts.port) != _PORTS.get(parts.scheme.lower()) else ""
    except ValueError:
        return url
    scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
    if not host:
        return url
    host = normalized(host, "NFKC").casefold().removeprefix("www.")
    path = _escaped(parts.path).rstrip("/")
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    kept = sorted(
        (_escaped(name), sign, _escaped(value)) for name, sign, value in pairs if not _TRACKING.fullmatch(name)
    )
    query = "&".join(name + sign + value for name, sign, value in kept)
    fragment = f"#{parts.fragment}" if parts.fragment.startswith("!") else ""
    return f"{'https' if scheme in _PORTS else scheme}://{host}{port}{path}{'?' if query else ''}{query}{fragment}"


def _escaped(part: str) -> str:
    """The part with escapes of unreserved characters (RFC 3986, section 2.3) undone, others made the same."""

    def plain(match: regex.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character.isascii() and (character.isalnum() or character in "-._~") else match[0].upper()

    return quote(_ESCAPE.sub(plain, part), safe="/:@!$&'()*+,;=~?%[]", errors="surrogatepass")


_SEEDS = np.array((SEED_1, SEED_2))
_UNFIT = 0xFFFFFFFF
_SEVERAL = 0xFF000000
"""Above all UTF-8 that has the first byte lowest."""


@functools.cache
def _sounds() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """What `sound` makes of each code point: UTF-8 of up to four bytes, the first one lowest; 0 for nothing; `_SEVERAL`
    + i for the parts of the third array from the i-th entry of the second on; or `_UNFIT` where its neighbours matter
    too."""
    alone = folds()
    silent = np.zeros(CODES, np.bool_)
    for match in _SOUND.finditer(every_code()):
        silent[match.start() : match.end()] = True
    fits = alone != NOT_ALONE
    table = pieces_of(np.where(fits & ~silent[np.where(fits, alone, 0)], alone, 0))
    stay = frozenset.union(*marks())
    starts, parts = [0], []
    for code in np.flatnonzero(~fits).tolist():
        codes = [] if 0xD800 <= code < 0xE000 else [ord(letter) for letter in fold(chr(code))]
        if code in stay:
            table[code] = pieces_of(np.array([code], np.uint32))[0]
            continue
        if not codes or alone[codes[0]] != codes[0] or any(alone[o] != o and o not in stay for o in codes[1:]):
            table[code] = _UNFIT
            continue
        heard = [one for one in codes if not silent[one]]
        if heard and heard[0] in stay:  # an accent by itself, which would come to stand on what is before it
            table[code] = _UNFIT
            continue
        data = "".join(map(chr, heard)).encode()
        if len(data) <= 4:
            table[code] = int.from_bytes(data, "little")
            continue
        table[code] = _SEVERAL + len(starts) - 1
        parts += [int.from_bytes(data[place : place + 4], "little") for place in range(0, len(data), 4)]
        starts.append(len(parts))
    table.setflags(write=False)
    return table, np.array(starts, np.int64), np.array(parts, np.uint32)


@inline
def _joined(first: Any, second: Any, block: Any, used: int, piece: Any, bits: int) -> tuple[Any, Any, Any, int]:
    """The two hashes, and the block of `used` bits that is not yet in them, after `bits` more bits, 1 to 64."""
    block |= piece << np.uint64(used)
    used += bits
    if used >= 64:
        block = stirred(block)
        first, second = step_1(first, block), step_2(second, block)
        used -= 64
        block = piece >> np.uint64(bits - used) if used else np.uint64(0)
    return first, second, block, used


@njit
def _text_keys(
    data: Any, offsets: Any, pieces: Any, starts: Any, parts: Any, kinds: Any, joining: Any, found: Any, unfit: Any
) -> None:
    orders, pairs = joining
    for row in range(len(unfit)):
        begin, end = offsets[row], offsets[row + 1]
        last = end - 8
        first, second, block = SEED_1, SEED_2, np.uint64(0)
        used = size = 0
        previous = np.int64(0)  # that is heard
        at = begin
        while at < end:
            code = code_at(data, at)
            piece = np.uint64(pieces[code])
            if piece == 0:
                at += width(data[at])
                continue
            if piece < 0x80 and at <= last:
                eight = eight_at(data, at)
                letter = letters_in(eight)
                run = before_first(letter | digits_in(eight))
                if run:
                    eight |= letter >> np.uint64(2)
                    eight = eight if run == 8 else leading(eight, run)
                    first, second, block, used = _joined(first, second, block, used, eight, 8 * run)
                    size += run
                    at += run
                    previous = np.int64(data[at - 1])
                    continue
            kind = kinds[code]
            if piece == _UNFIT or (kind & MARKED and not joins(code, previous, kind & COMPOSING != 0, orders, pairs)):
                unfit[row] = True
                break
            previous = code
            if piece < _SEVERAL:
                bits = bits_of(piece)
                first, second, block, used = _joined(first, second, block, used, piece, bits)
                size += bits >> 3
            else:
                for place in range(starts[piece - _SEVERAL], starts[piece - _SEVERAL + 1]):
                    part = np.uint64(parts[place])
                    bits = bits_of(part)
                    first, second, block, used = _joined(first, second, block, used, part, bits)
                    size += bits >> 3
            at += width(data[at])
        if size == 0:  # nothing is left of it: its raw self
            found[row, 0], found[row, 1] = _digested(data, begin, end, SEED_1, SEED_2)
            continue
        if used:
            block = stirred(block)
            first, second = step_1(first, block), step_2(second, block)
        found[row, 0], found[row, 1] = step_1(first, size), step_2(second, size)


@inline
def _digested(data: Any, begin: int, end: int, first: Any, second: Any) -> tuple[Any, Any]:
    """The two hashes with a text's bytes, eight at a time, and its length."""
    for at in range(begin, end, 8):
        block = stirred(up_to_eight(data, at, end))
        first, second = step_1(first, block), step_2(second, block)
    return step_1(first, end - begin), step_2(second, end - begin)


@njit
def _digest(data: Any, offsets: Any, found: Any) -> None:
    """Takes each text into its pair of hashes."""
    for row in range(len(found)):
        found[row, 0], found[row, 1] = _digested(data, offsets[row], offsets[row + 1], found[row, 0], found[row, 1])
