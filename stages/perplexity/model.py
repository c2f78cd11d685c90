"""KenLM's and SentencePiece's files, opened from their bytes.

KenLM (Heafield 2011) is LGPL and comes as source, so that it takes a compiler: an extra that nobody needs who does not
ask for this stage, imported when it does, and no part of corpusmill. A reader of our own would spare the
compiler, but would have to know ARPA and the six binary formats that people's models are in, to the bit.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXTRA = "perplexity"


@dataclass(frozen=True)
class Model:
    """The models of one language."""

    lm: Any
    pieces: Any
    """SentencePiece's processor, or None: words are what stands between blanks."""

    def score(self, lines: Sequence[str]) -> tuple[float, int]:
        """The sum of the logarithms (base 10) of what is said in some lines, and of how many tokens.

        Each line is a sentence, with its begin given and its end, which is a token too, foretold.
        """
        if self.pieces is None:
            tokens = [line.split() for line in lines]
        else:
            tokens = self.pieces.encode(list(lines), out_type=str, num_threads=1)
        total = 0.0
        for line in tokens:
            total += self.lm.score(" ".join(line), bos=True, eos=True)
        return total, sum(map(len, tokens)) + len(tokens)


def language_model(data: bytes, path: str) -> Any:
    """The model in KenLM's binary or an ARPA file, which may be gzipped. Raises ValueError where it is none."""
    try:
        import kenlm
    except ImportError as error:
        raise ValueError(
            f"'{path}' needs the package kenlm, which is not installed: pip install 'corpusmill[{EXTRA}]'"
        ) from error
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"'{path}' is a broken gzip file: {error}") from None
    settings = kenlm.Config()
    settings.show_progress = False
    settings.arpa_complain = kenlm.ARPALoadComplain.NONE
    try:
        return _from_path(data, lambda name: kenlm.Model(name, settings))
    except (OSError, RuntimeError) as error:
        reason = str(error).partition(" threw ")[2] or str(error)
        raise ValueError(f"'{path}' is no model of KenLM, binary or ARPA: {reason.removesuffix(')')}") from None


def sentence_pieces(data: bytes, path: str) -> Any:
    """The model of SentencePiece in a file. Raises ValueError where it is none."""
    import sentencepiece

    try:
        found = sentencepiece.SentencePieceProcessor()
        if not data or not found.LoadFromSerializedProto(data):
            raise ValueError(f"'{path}' is no model of SentencePiece: it is empty")
    except RuntimeError:
        raise ValueError(f"'{path}' is no model of SentencePiece") from None
    return found


def _from_path(data: bytes, read: Any) -> Any:
    """What a library makes of data that it only takes by the name of a file; in memory where the system can."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("model")
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            return read(f"/proc/self/fd/{number}")
    with tempfile.TemporaryDirectory() as folder:  # mapped into memory, it may be removed
        name = Path(folder) / "model"
        name.write_bytes(data)
        return read(str(name))
