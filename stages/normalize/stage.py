"""Text made regular: mojibake mended, one Unicode form, no control characters, tidy blanks and lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex
from annotated_types import Ge
from ftfy import TextFixerConfig

from stages.base import Outcome, Processor, Stage
from stages.normalize.form import Form
from stages.normalize.kinds import Kinds, kinds_of
from stages.normalize.mend import mended
from stages.normalize.scan import FTFY, TAGGED, Lines, scan
from stages.normalize.tidy import tidied
from stages.rows import Drop, outcome
from stages.text.column import Edits, Ints, Texts, edited, texts
from stages.text.forms import normalized

_BREAKS = regex.compile("\r\n|[\r\v\f\x85\u2028\u2029]")


@dataclass(frozen=True, kw_only=True)
class Normalize(Stage):
    """Mends mojibake (ftfy), brings text to one Unicode form, removes control characters, tidies blanks and lines.

    Line ends become `\\n`, blanks at line ends go, and so do empty lines at either end and in rows of more
    than `max_blank_lines`. Counts `changed_documents`, and `characters_cut`: control characters, blanks and
    whatever else is removed (what ftfy and the Unicode form replace is not cut). A text that is empty then is
    dropped as `empty_text`.
    """

    name: ClassVar[str] = "normalize"
    version: ClassVar[int] = 3
    packages: ClassVar[tuple[str, ...]] = ("ftfy", "regex")

    fix_encoding: bool = True
    """Mend text that was decoded as the wrong charset (`schÃ¶n` to `schön`)."""
    unescape_html: bool = True
    """Turn HTML entities into characters, up to the first line with `<`."""
    uncurl_quotes: bool = False
    """Make curly quotes straight. Off: they are good typography, and Chinese uses them as its own marks."""
    fix_character_width: bool = False
    """Make fullwidth Latin and halfwidth kana their usual width. Off: it also turns the fullwidth
    punctuation that Chinese and Japanese are written with (`，！？（）`) into ASCII."""
    form: Form = "NFC"
    """Unicode normalisation form. NFKC also folds compatibility characters, at a price: `10³` becomes `103`."""
    zero_width: Literal["meaningful", "remove", "keep"] = "meaningful"
    """Zero-width spaces, joiners, non-joiners and invisible operators (U+200B to U+200D, U+2060 to U+2064).
    `meaningful` keeps joiners beside letters of Indic scripts, Arabic and its like, and inside of emoji, and spaces
    between letters of Thai, Khmer and their like; `remove` takes all away, which breaks such text."""
    soft_hyphens: Literal["remove", "keep"] = "remove"
    """U+00AD, an invisible hint at where a word may be parted. Kept, it makes one word two for a tokenizer."""
    collapse_blanks: bool = False
    """Make a run of blanks inside a line one: that blank where all are the same, else a space. Blanks that begin a
    line stay. Off: it ruins tables and code."""
    dehyphenate: bool = False
    """Join words parted at line ends: letter, hyphen, line end, lower-case letter, in Latin, Greek, Cyrillic, Armenian
    and Coptic. For books and PDF text. Off: it also makes `well-known` one word where the line ends at its hyphen."""
    max_blank_lines: Annotated[int, Ge(0)] = 2
    """Most empty lines in a row."""

    def bind(self, files: Mapping[str, bytes]) -> Processor:
        """Reads ftfy's patterns, which takes half a second."""
        self._kinds()
        return self.process

    def process(self, batch: pa.RecordBatch) -> Outcome:
        column = batch.column("text")
        view = texts(column)
        kinds = self._kinds()
        rules = (min(self.max_blank_lines, 1 << 40), self.collapse_blanks, self.dehyphenate)
        lines, touched = scan(view, kinds, *rules)
        new = self._mended(column, view, lines, touched)
        cut, changed, lengths = 0, 0, np.diff(view.offsets)
        if touched.any():
            result = tidied(texts(new), touched, kinds, *rules)
            new, cut = self._formed(result.column, result.unformed), result.cut
            after = texts(new)
            lengths = np.diff(after.offsets)
            changed = sum(
                view.data[view.offsets[row] : view.offsets[row + 1]].tobytes()
                != after.data[after.offsets[row] : after.offsets[row + 1]].tobytes()
                for row in np.flatnonzero(touched & (lengths > 0)).tolist()
            )
        empty = np.flatnonzero(lengths == 0).tolist()
        drops: list[Drop] = [(row, "empty_text" if view.valid[row] else "no_text", None, None) for row in empty]
        columns = {"text": new} if changed else {}
        return outcome(batch, drops, columns, {"changed_documents": changed, "characters_cut": cut})

    def _kinds(self) -> Kinds:
        machine = (self.unescape_html, self.fix_character_width, self.uncurl_quotes)
        return kinds_of(*machine, self.form, self.zero_width, self.soft_hyphens)

    def _config(self) -> TextFixerConfig:
        # Each option is written out, so that a release of ftfy with other defaults changes nothing here.
        return TextFixerConfig(
            unescape_html="auto" if self.unescape_html else False,
            remove_terminal_escapes=True,
            fix_encoding=self.fix_encoding,
            restore_byte_a0=True,
            replace_lossy_sequences=True,
            decode_inconsistent_utf8=True,
            fix_c1_controls=True,
            fix_latin_ligatures=True,
            fix_character_width=self.fix_character_width,
            uncurl_quotes=self.uncurl_quotes,
            fix_line_breaks=False,
            fix_surrogates=True,
            remove_control_chars=False,
            normalization=None,
            max_decode_length=1_000_000,
            explain=False,
        )

    def _mended(self, column: pa.Array, view: Texts, lines: Lines, touched: npt.NDArray[np.bool_]) -> pa.Array:
        """The column with these lines as ftfy and the form make them; their rows are touched then."""
        found: list[int] = []
        replacements: list[bytes] = []
        config = self._config()
        for number, (row, start, end, why) in enumerate(zip(*(part.tolist() for part in lines), strict=True)):
            place = view.offsets[row]
            old = view.data[place + start : place + end].tobytes()
            line = old.decode()
            line = line[:-2] + "\n" if line.endswith("\r\n") else line
            if why & FTFY:
                line = mended(line, config, bool(why & TAGGED))
            # Line breaks only now: U+0085 is more often a Windows ellipsis, which ftfy mends, than a line's end.
            new = _BREAKS.sub("\n", normalized(line, self.form)).encode()
            if new != old:
                found.append(number)
                replacements.append(new)
        if not found:
            return column
        edits = Edits(lines.rows[found], lines.starts[found], lines.ends[found], np.arange(len(found)))
        touched[edits.rows] = True
        return edited(column, edits, replacements)

    def _formed(self, column: pa.Array, rows: Ints) -> pa.Array:
        """The column with these rows in the form once more: marks met their letters where something was cut."""
        if not len(rows):
            return column
        view = texts(column)
        new = [normalized(column[row].as_py(), self.form).encode() for row in rows.tolist()]
        sizes = np.diff(view.offsets)[rows]
        return edited(column, Edits(rows, np.zeros(len(rows), np.int64), sizes, np.arange(len(rows))), new)
