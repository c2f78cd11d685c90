"""Files that are one document each: what they have in common.

The file is the record and the frame. A format gives a function from the open file to a `Parsed`; texts may be
packed, and are decoded by `stages.decode`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pipeline.errors import UserError
from pipeline.readers import base
from pipeline.readers.base import Gap, Origin, Piece, Read, Reader, Tally
from pipeline.readers.codecs import CODECS, Member
from pipeline.readers.languages import two_letters
from pipeline.readers.sources import File
from pipeline.readers.tables import clean
from stages.decode import control_share, decode
from stages.schema import DOCUMENT_BYTES, document_id

MOST_CONTROL = 0.01
"""Greatest share of control bytes in a text."""
MOST_REPLACED = 0.01
"""Greatest share of characters in a text that stand for bytes which could not be decoded."""


class Parsed(NamedTuple):
    """What a file gave: a text, or the reason why it is no document."""

    text: str | None = None
    title: str | None = None
    url: str | None = None
    date: str | None = None
    """As the file spells it."""
    language: str | None = None
    reason: str | None = None
    value: float | None = None
    limit: float | None = None
    cut_at: int | None = None
    """The byte behind which the file is damaged."""
    damage: str = ""
    """What the damage is, as a gap's reason."""


class NoRecord(Exception):
    """A file that is damaged as a whole: the reason of its gap."""


Parse = Callable[[File, Piece, Counter[str]], Parsed]


class Documents:
    """The reader of a format whose files are one document each. `parse` may raise NoRecord, OSError, UserError."""

    def __init__(self, name: str, parse: Parse) -> None:
        self.reader = Reader(name, self.plan, self.read)
        self._parse = parse

    def plan(self, path: str, target: int, options: object = ()) -> list[tuple[int, int]]:
        """See `Reader.plan`: one range."""
        with File(path) as file:
            return [(0, file.size)]

    def read(self, piece: Piece, tally: Tally) -> Iterator[Read]:
        """See `Reader.read`: one record, or a gap over a file that is damaged as a whole."""
        if piece.end == piece.start:
            return
        with File(piece.path) as file:
            try:
                parsed = self._parse(file, piece, tally.counts)
            except NoRecord as damage:
                tally.gaps.append(Gap(0, file.size, str(damage)))
                return
            read = _read(file, piece, parsed)
        tally.framed += 1
        tally.spans += file.size if parsed.cut_at is None else parsed.cut_at
        if parsed.cut_at is not None:
            tally.gaps.append(Gap(parsed.cut_at, file.size - parsed.cut_at, parsed.damage))
        yield read

    def cut(self, path: str, origin: Origin, piece: Piece) -> Read:
        """The document. Raises UserError where the file holds none any more."""
        with File(path) as file:
            if file.size == origin.length:
                try:
                    return _read(file, piece, self._parse(file, piece, Counter()))
                except NoRecord:
                    pass
        raise UserError(f"{path} is not the file that the run read, or it was changed since.")


def _read(file: File, piece: Piece, parsed: Parsed) -> Read:
    origin = Origin(piece.name, 0, file.size, 0, file.size)
    texts = (parsed.text, parsed.title, parsed.url, parsed.language)
    text, title, url, language = (value and clean(value, Counter()) for value in texts)
    spelled = parsed.date.strip() if parsed.date else None
    date = base.parse_date(spelled)
    known = Read(
        b"", origin, url or None, date and date.replace(microsecond=0), title=" ".join((title or "").split()) or None,
        language=_language(language), reason=parsed.reason, value=parsed.value, limit=parsed.limit,
    )  # fmt: skip
    if parsed.reason is None and not (text or "").strip():
        known = known._replace(reason="empty_text")
    elif parsed.reason is None and text is not None:
        size = len(text.encode())
        if size <= DOCUMENT_BYTES:
            return known._replace(id=document_id(piece.source, url, spelled, text.encode()), text=text)
        known = known._replace(reason="too_large", value=float(size), limit=float(DOCUMENT_BYTES))
    stand_in = file.read(0, 1 << 16) + str(file.size).encode()
    return known._replace(id=document_id(piece.source, url, spelled, stand_in))


def _language(spelled: str | None) -> str | None:
    """`en` of `en-US` and of `eng`; as it is where that is not known."""
    first = (spelled or "").strip().replace("_", "-").split("-")[0].lower()
    return two_letters(first) or first or None


def text_of(file: File, piece: Piece, counts: Counter[str]) -> str | Parsed:
    """The text of a file, unpacked and decoded, with newlines alone at its line ends; or why it has none.

    Reasons: `too_large`, `truncated_record`, `not_text`, `undecodable_bytes`, `empty_text`. Counts
    `replaced_characters`. Raises NoRecord.
    """
    data, damage, fault = _unpacked(file)
    if len(data) > DOCUMENT_BYTES:
        return Parsed(reason="too_large", value=float(max(len(data), file.size)), limit=float(DOCUMENT_BYTES))
    if damage:
        if not data:
            raise NoRecord(damage)
        return Parsed(reason="truncated_record", cut_at=fault, damage=damage)
    control = control_share(data)
    if control > MOST_CONTROL:
        return Parsed(reason="not_text", value=control, limit=MOST_CONTROL)
    charset = dict(piece.options).get("charset")
    decoded = decode(data, f"text/plain; charset={charset}" if charset else "text/plain")
    replaced = decoded.replaced / max(1, len(decoded.text))
    if replaced > MOST_REPLACED:
        return Parsed(reason="undecodable_bytes", value=replaced, limit=MOST_REPLACED)
    if decoded.replaced:
        counts["replaced_characters"] += decoded.replaced
    text = decoded.text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return text if text.strip() else Parsed(reason="empty_text")


def _unpacked(file: File) -> tuple[bytes, str | None, int]:
    """The bytes of a plain or packed file up to a little over DOCUMENT_BYTES, its damage, and where that begins."""
    head = file.read(0, 8)
    codec = next((codec for codec in CODECS if head.startswith(codec.magic)), None)
    if codec is None:
        return file.read(0, DOCUMENT_BYTES + 1), None, 0
    data = bytearray()
    position = 0
    while position < file.size:
        member = Member(file, position, codec)
        for chunk in member.chunks():
            data += chunk
            if len(data) > DOCUMENT_BYTES:
                return bytes(data), None, 0
        if member.error or member.end is None:
            rest = file.read(position, DOCUMENT_BYTES)
            if position and not rest.strip(b"\x00"):  # padding of tapes and block devices
                break
            return bytes(data), member.error or "truncated", member.fault
        position = member.end
    return bytes(data), None, 0
