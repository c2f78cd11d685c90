"""One record, cut from its file again: at most the one frame that its origin names is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pipeline.errors import UserError
from pipeline.readers import jsonl, parquet, warc
from pipeline.readers.base import Origin, Piece, Read

_CUTS: dict[str, Callable[[str, Origin, Piece], Read]] = {
    "warc": warc.cut,
    "wet": warc.cut,
    "jsonl": jsonl.cut,
    "parquet": parquet.cut,
}


def cut(
    path: str,
    piece_format: str,
    origin: Origin | Mapping[str, object],
    source: str,
    fields: Iterable[tuple[str, str]] | Mapping[str, str] = (),
) -> Read:
    """The record at `origin` of the file at `path`: the Read that reading the whole file gave, id included.

    `origin` may be a row of the ORIGIN struct. Raises UserError where the file is gone or holds no record there.
    """
    if isinstance(origin, Mapping):
        origin = Origin(**origin)  # type: ignore[arg-type]
    pairs = tuple(fields.items()) if isinstance(fields, Mapping) else tuple(fields)
    piece = Piece(source, piece_format, path, origin.file, origin.offset, origin.offset + 1, pairs)
    if piece_format not in _CUTS:
        raise UserError(f"there is no format '{piece_format}'; there are {', '.join(_CUTS)}")
    try:
        return _CUTS[piece_format](path, origin, piece)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path} cannot be read ({reason}); the record of {origin.file} lies there.") from error
