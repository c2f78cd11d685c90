"""Keys by which documents are the same, and the shingles by which they are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote, urlsplit

import pyarrow as pa
import regex
import xxhash

from stages.rows import strings
from stages.text.forms import normalized
from stages.words import fold, words

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

    `url`: xxHash3-128 of `canonical_url`; null where there is no URL. `text`: that of `sound`, or of the raw
    text where nothing is left of it (so that a page of punctuation equals only itself); null where the text is.
    Raises ValueError for other kinds.
    """
    keys: dict[str, pa.Array] = {}
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"no such key: {kind!r}; one of {', '.join(KINDS)}")
        values = strings(batch, kind)
        if kind == "url":
            plain = [canonical_url(url) if url and url.strip() else None for url in values]
        else:
            plain = [text and (sound(text) or text) for text in values]
        digests = [None if value is None else xxhash.xxh3_128_digest(value.encode()) for value in plain]
        keys[kind] = pa.array(digests, pa.binary(16))
    return keys


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


def shingles(text: str, ngram: int) -> list[bytes]:
    """The word n-grams of a text as UTF-8, words apart by one blank; NFKC, case folded, without punctuation.

    A text of fewer words is one shingle, and one without words its raw self: every document has a
    shingle, so that none is immune to deduplication.
    """
    found = words(fold(text))
    if len(found) < ngram:
        return [(" ".join(found) or text).encode()]
    return [" ".join(found[start : start + ngram]).encode() for start in range(len(found) - ngram + 1)]
