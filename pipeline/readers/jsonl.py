"""JSON lines: plain, gzip, zstd, xz or bz2, one object a line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.errors import RecipeError, UserError, nearest
from pipeline.readers import base
from pipeline.readers.base import Gap, Origin, Piece, Read, Reader, Tally
from pipeline.readers.codecs import Codec
from pipeline.readers.frames import Frame, Frames, detect
from pipeline.readers.sources import File, Source, find
from pipeline.readers.warc import tile
from stages.schema import DOCUMENT_BYTES, document_id

FIELDS = ("text", "url", "title", "date", "language")
"""What `fields` may map. A name that is not mapped is looked up under itself."""

_BLOCK = 1 << 20


class Line(NamedTuple):
    """A line without its end. `data` is None where it is longer than DOCUMENT_BYTES; `size` counts its end."""

    offset: int
    length: int | None
    inner: int
    size: int
    data: bytes | None
    cut: bool = False
    """Whether damage ended it."""
    head: bytes = b""
    """Its first bytes, where `data` is None."""


class _Pending:
    """A line being put together from blocks and, in compressed files, from members."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.size = 0
        self.frame: tuple[int, int | None] = (0, None)
        self.inner = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = DOCUMENT_BYTES + 2 - len(self.data)
        if room > 0:
            self.data += data[:room]

    def take(self, crossed: bool, cut: bool = False) -> Line:
        """The line, complete or cut; clears the state."""
        data = bytes(self.data).removesuffix(b"\n").removesuffix(b"\r")
        held: bytes | None = data
        if len(data) > DOCUMENT_BYTES:
            held = None
        offset, length = self.frame
        line = Line(offset, None if crossed else length, self.inner, self.size, held, cut, data[:4096])
        self.data = bytearray()
        self.size = 0
        return line


def is_json(head: bytes) -> bool:
    """Whether bytes can begin a file of JSON lines: text, not binary."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return start[:1] in (b"{", b"[") or (bool(start) and b"\x00" not in head) or not head.strip()


def _member_starts(head: bytes) -> bool:
    return head.lstrip()[:1] == b"{"


def _codec(file: File) -> Codec | None:
    return detect(file, is_json, _member_starts)


def _binary(file: File) -> bool:
    """Whether a plain file is something else than JSON lines, damaged ones included: no object begins anywhere."""
    return not is_json(file.read(0, 4096)) and file.size > 0 and find(file, b'{"', 0) < 0 and find(file, b'{ "', 0) < 0


def plan(path: str, target: int) -> list[tuple[int, int]]:
    """See `Reader.plan`. Plain files are cut behind line ends, others where a member begins that begins a line."""
    with File(path) as file:
        if file.size <= max(target, 1):
            return [(0, file.size)]
        codec = _codec(file)
        if codec is None:
            return [(0, file.size)] if _binary(file) else tile(_line_starts(file, target), file.size, target)
        return tile(_member_lines(file, codec), file.size, target)


def _line_starts(file: File, target: int) -> Iterator[int]:
    position = target
    while (end := find(file, b"\n", position - 1)) >= 0:
        yield end + 1
        position = end + 1 + target


def _member_lines(file: File, codec: Codec) -> Iterator[int]:
    whole = True
    for part in Frames(file, codec, _member_starts).walk(0, file.size):
        if isinstance(part, Frame):
            if whole:
                yield part.offset
            last = b""
            for _, block in _blocks(part.source):
                last = block[-1:]
            whole = bool(part.error) or (last or (b"\n" if whole else b"")) == b"\n"
        elif isinstance(part, Gap):
            whole = True
            yield part.offset


def _blocks(source: Source) -> Iterator[tuple[int, bytes]]:
    position = 0
    while block := source.read(position, _BLOCK):
        yield position, block
        position += len(block)


def lines(file: File, codec: Codec | None, start: int, end: int, tally: Tally) -> Iterator[Line]:
    """The lines that begin from `start` and before `end`, blank ones included. Books spans and gaps of members."""
    if codec is None:
        yield from _plain_lines(file, start, end)
        return
    pending = _Pending()
    crossed = False
    for part in Frames(file, codec, _member_starts).walk(start, end):
        if isinstance(part, tuple):
            tally.structure += part[1]
            continue
        if isinstance(part, Gap):
            if pending.size:
                yield pending.take(crossed, cut=True)
            crossed = False
            tally.gaps.append(part)
            continue
        content = False
        for base_offset, block in _blocks(part.source):
            content = content or bool(block.strip())
            for inner, piece in _split(block, base_offset):
                if not pending.size:
                    pending.frame, pending.inner, crossed = (part.offset, part.length), inner, False
                elif pending.frame[0] != part.offset:
                    crossed = True
                pending.add(piece)
                if piece.endswith(b"\n"):
                    yield pending.take(crossed)
        part.finish()
        if part.error and pending.size:
            yield pending.take(crossed, cut=True)
        if content or part.error:
            part.book(int(content), tally)
        else:
            tally.structure += part.finish() - part.offset
    if pending.size:
        yield pending.take(crossed)


def _split(block: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start < len(block):
        end = block.find(b"\n", start) + 1 or len(block)
        yield position + start, block[start:end]
        start = end


def _plain_lines(file: File, start: int, end: int) -> Iterator[Line]:
    pending = _Pending()
    position = start
    while position < end and (block := file.read(position, min(_BLOCK, end - position))):
        for offset, piece in _split(block, position):
            if not pending.size:
                pending.frame = (offset, None)
            pending.add(piece)
            if piece.endswith(b"\n"):
                line = pending.take(False)
                yield line._replace(length=line.size, inner=0)
        position += len(block)
    if pending.size:
        line = pending.take(False)
        yield line._replace(length=line.size, inner=0)


def read(piece: Piece, tally: Tally) -> Iterator[Read]:
    """See `Reader.read`. Reasons: `broken_json`, `undecodable_bytes`, `not_an_object`, `no_text`, `bad_text`,
    `empty_text`, `too_large`, `truncated_record`; gaps as in WARC, and `not_jsonl`."""
    keys = mapping(piece.fields)
    with File(piece.path) as file:
        codec = _codec(file)
        if codec is None and _binary(file):
            tally.gaps.append(Gap(piece.start, piece.end - piece.start, "not_jsonl"))
            return
        for line in lines(file, codec, piece.start, piece.end, tally):
            if line.data is not None and not line.data.strip() and not line.cut:
                tally.counts["blank_lines"] += 1
                tally.structure += line.size if codec is None else 0
                continue
            tally.framed += 1
            tally.spans += line.size if codec is None else 0
            yield document(line, piece, keys, tally.counts)


def mapping(given: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Our names to the input's keys. Raises RecipeError for a name that is not ours."""
    for ours, _ in given:
        if ours not in FIELDS:
            raise RecipeError(f"fields: '{ours}' is no field of a document.{nearest(ours, FIELDS)}")
    return {name: name for name in FIELDS} | dict(given)


def cut(path: str, origin: Origin, piece: Piece) -> Read:
    """The line at `origin`, read as the whole file would be. Raises UserError where no line begins there."""
    with File(path) as file:
        codec = _codec(file)
        end = file.size if codec is not None or origin.length is None else origin.offset + origin.length
        for line in lines(file, codec, origin.offset, end, Tally()):
            if (line.offset, line.inner) == (origin.offset, origin.inner_offset):
                return document(line, piece, mapping(piece.fields), Counter())
            if line.offset > origin.offset or line.inner > origin.inner_offset:
                break
    raise UserError(
        f"{path} holds no line at byte {origin.offset} (inside its member: {origin.inner_offset}). "
        "The file is not the one that the run read, or it was changed since."
    )


def document(line: Line, piece: Piece, keys: dict[str, str], counts: Counter[str]) -> Read:
    """What a line holds."""
    origin = Origin(piece.name, line.offset, line.length, line.inner, line.size)
    raw = line.head if line.data is None else line.data
    blank = Read(document_id(piece.source, None, None, raw), origin)
    if line.data is None:
        return blank._replace(reason="too_large", value=float(line.size), limit=float(DOCUMENT_BYTES))
    if line.cut:
        return blank._replace(reason="truncated_record")
    try:
        row = json.loads(line.data.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError:
        return blank._replace(reason="undecodable_bytes")
    except (ValueError, RecursionError):
        return blank._replace(reason="broken_json")
    if not isinstance(row, dict):
        return blank._replace(reason="not_an_object")
    return mapped({name: _lookup(row, key) for name, key in keys.items()}, blank, raw, piece.source, counts)


def mapped(row: dict[str, Any], blank: Read, raw: bytes, source: str, counts: Counter[str]) -> Read:
    """The document of a row of a table, by our names; `raw` stands for rows that have no text."""
    spelled = _string(row["date"], counts)
    url, title, language = (_string(row[name], counts) for name in ("url", "title", "language"))
    text = row["text"]
    known = blank._replace(url=url, title=title, language=language, date=_date(spelled))
    if not isinstance(text, str) or not text.strip():
        reason = "no_text" if text is None else "bad_text" if not isinstance(text, str) else "empty_text"
        return known._replace(id=document_id(source, url, spelled, raw), reason=reason)
    text = _clean(text, counts)
    encoded = text.encode()
    known = known._replace(id=document_id(source, url, spelled, encoded))
    if len(encoded) > DOCUMENT_BYTES:
        return known._replace(reason="too_large", value=float(len(encoded)), limit=float(DOCUMENT_BYTES))
    return known._replace(text=text)


def _lookup(row: dict[str, Any], key: str) -> Any:
    if key in row:
        return row[key]
    value: Any = row
    for part in key.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _string(value: Any, counts: Counter[str]) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return _clean(str(value), counts).strip() or None


def _clean(text: str, counts: Counter[str]) -> str:
    """The text with surrogates that JSON escapes left alone replaced, since they are no characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        counts["texts_with_lone_surrogates"] += 1
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _date(spelled: str | None) -> Any:
    date = base.parse_date(spelled)
    return None if date is None else date.replace(microsecond=0)


JSONL = Reader("jsonl", plan, read, mapped=True)
