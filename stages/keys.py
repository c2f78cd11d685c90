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

from stages.kernels import njit
from stages.lookup import SEED_1, SEED_2, step_1, step_2
from stages.rows import strings
from stages.text.characters import CODES, NOT_ALONE, every_code, folds
from stages.text.column import texts
from stages.text.forms import normalized
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
    """128 bits of each text, equal where `sound` is: two chained hashes of its code points."""
    view = texts(column)
    found = np.empty((len(column), 2), np.uint64)
    unfit = np.zeros(len(column), np.bool_)
    letters, starts, more = _sounds()
    _text_keys(view.data, view.offsets, letters, starts, more, found, unfit)
    again = np.flatnonzero(unfit)
    if len(again):
        kept = [sound(text) or text for text in column.take(pa.array(again)).to_pylist()]
        folded = texts(pa.array(kept, pa.string()))
        some = np.empty((len(again), 2), np.uint64)
        _text_keys(folded.data, folded.offsets, _ITSELF, starts, more, some, np.zeros(len(again), np.bool_))
        found[again] = some
    missing = None if view.valid.all() else pa.py_buffer(np.packbits(view.valid, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.binary(16), len(column), [missing, pa.py_buffer(found.astype("<u8").tobytes())])


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


_NOTHING = 0xFFFFFFFE
_UNFIT = 0xFFFFFFFF
_SEVERAL = 1 << 31
_ITSELF = np.arange(CODES, dtype=np.uint32)


@functools.cache
def _sounds() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """What `sound` makes of each code point: one, `_NOTHING`, several (`_SEVERAL` + i: those of the second array from
    the i-th entry of the first on), or `_UNFIT` where its neighbours matter too."""
    alone = folds()
    silent = np.zeros(CODES, np.bool_)
    for match in _SOUND.finditer(every_code()):
        silent[match.start() : match.end()] = True
    table = alone.copy()
    fits = alone != NOT_ALONE
    table[fits] = np.where(silent[alone[fits]], np.uint32(_NOTHING), alone[fits])
    starts, several = [0], []
    for code in np.flatnonzero(~fits).tolist():
        letters = [] if 0xD800 <= code < 0xE000 else [ord(letter) for letter in fold(chr(code))]
        if not letters or any(alone[letter] != letter for letter in letters):
            table[code] = _UNFIT
            continue
        heard = [letter for letter in letters if not silent[letter]]
        table[code] = _SEVERAL + len(starts) - 1 if heard else _NOTHING
        if heard:
            several += heard
            starts.append(len(several))
    table.setflags(write=False)
    return table, np.array(starts, np.int64), np.array(several or [0], np.int64)


@njit
def _text_keys(data: Any, offsets: Any, letters: Any, starts: Any, several: Any, found: Any, unfit: Any) -> None:
    for row in range(len(unfit)):
        begin, end = offsets[row], offsets[row + 1]
        first, second = SEED_1, SEED_2
        heard = False
        at = begin
        while at < end:
            letter = np.int64(letters[code_at(data, at)])
            at += width(data[at])
            if letter == _UNFIT:
                unfit[row] = True
                break
            if letter < _SEVERAL:
                first, second = step_1(first, letter), step_2(second, letter)
                heard = True
            elif letter != _NOTHING:
                for place in range(starts[letter - _SEVERAL], starts[letter - _SEVERAL + 1]):
                    first, second = step_1(first, several[place]), step_2(second, several[place])
                heard = True
        if not heard:  # nothing is left of it: its raw self
            for place in range(begin, end):
                first, second = step_1(first, np.uint64(data[place])), step_2(second, np.uint64(data[place]))
        found[row, 0], found[row, 1] = first, second
