"""One record, cut from its file again: at most the one frame that its origin names is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.errors import UserError
from pipeline.readers import CUTS
from pipeline.readers.base import Origin, Piece, Read


def cut(
    path: str,
    piece_format: str,
    origin: Origin | Mapping[str, object],
    source: str,
    fields: Iterable[tuple[str, str]] | Mapping[str, str] = (),
    options: Iterable[tuple[str, str]] | Mapping[str, str] = (),
) -> Read:
    """The record at `origin` of the file at `path`: the Read that reading the whole file gave, id included.

    `origin` may be a row of the ORIGIN struct. Raises UserError where the file is gone or holds no record there.
    """
    if isinstance(origin, Mapping):
        origin = Origin(**origin)  # type: ignore[arg-type]
    piece = Piece(
        source, piece_format, path, origin.file, origin.offset, origin.offset + 1, _pairs(fields), _pairs(options)
    )
    if piece_format not in CUTS:
        raise UserError(f"there is no format '{piece_format}'; there are {', '.join(CUTS)}")
    try:
        return CUTS[piece_format](path, origin, piece)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path} cannot be read ({reason}); the record of {origin.file} lies there.") from error


def _pairs(given: Iterable[tuple[str, str]] | Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(given.items()) if isinstance(given, Mapping) else tuple(given)
