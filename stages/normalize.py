"""Text made regular: mojibake mended, one Unicode form, no control characters, tidy blanks and lines."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
import regex
from annotated_types import Ge
from ftfy import TextFixerConfig, fix_text

from stages.base import Outcome, Stage
from stages.rows import Drop, outcome, strings, text_array

_BREAKS = regex.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_CONTROL = regex.compile(r"[^\P{Cc}\n\t]|[\ufeff\u206a-\u206f\ufff9-\ufffb]")  # as ftfy, but counted
_TRAILING = regex.compile(r"(?<![^\S\n])[^\S\n]++$", regex.M)  # each run of blanks is looked at once


@dataclass(frozen=True, kw_only=True)
class Normalize(Stage):
    """Mends mojibake (ftfy), brings text to one Unicode form, removes control characters, tidies blanks and lines.

    Line ends become `\\n`, blanks at line ends go, and so do empty lines at either end and in rows of more
    than `max_blank_lines`. Counts `changed_documents`, and `characters_cut`: control characters and blanks
    removed (what ftfy and the Unicode form replace is not cut). A text that is empty then is dropped as `empty_text`.
    """

    name: ClassVar[str] = "normalize"
    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("ftfy", "regex")

    fix_encoding: bool = True
    """Mend text that was decoded as the wrong charset (`schÃ¶n` to `schön`)."""
    unescape_html: bool = True
    """Turn HTML entities into characters, in lines without `<`."""
    uncurl_quotes: bool = False
    """Make curly quotes straight. Off: they are good typography, and Chinese uses them as its own marks."""
    fix_character_width: bool = False
    """Make fullwidth Latin and halfwidth kana their usual width. Off: it also turns the fullwidth
    punctuation that Chinese and Japanese are written with (`，！？（）`) into ASCII."""
    form: Literal["NFC", "NFKC"] = "NFC"
    """Unicode normalisation form. NFKC also folds compatibility characters, at a price: `10³` becomes `103`."""
    max_blank_lines: Annotated[int, Ge(0)] = 2
    """Most empty lines in a row."""

    def process(self, batch: pa.RecordBatch) -> Outcome:
        # Each option is written out, so that a release of ftfy with other defaults changes nothing here.
        config = TextFixerConfig(
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
        drops: list[Drop] = []
        changed = cut = 0
        texts = strings(batch, "text")
        for row, text in enumerate(texts):
            if text is None:
                drops.append((row, "no_text", None, None))
                continue
            mended = unicodedata.normalize(self.form, fix_text(text.replace("\r\n", "\n"), config))
            tidy = self._tidy(mended)
            cut += len(mended) - len(tidy)
            if not tidy:
                drops.append((row, "empty_text", None, None))
            elif tidy != text:
                changed += 1
                texts[row] = tidy
        columns = {"text": text_array(texts)} if changed else {}
        return outcome(batch, drops, columns, {"changed_documents": changed, "characters_cut": cut})

    def _tidy(self, text: str) -> str:
        # Line breaks only now: U+0085 is more often a Windows ellipsis, which ftfy mends, than a line's end.
        # The form is made once more: marks may meet their letters where a control character went.
        text = unicodedata.normalize(self.form, _CONTROL.sub("", _BREAKS.sub("\n", text)))
        text = _TRAILING.sub("", text)
        most = self.max_blank_lines
        text = regex.sub(rf"\n{{{most + 2},}}", "\n" * (most + 1), text)
        text = text.strip("\n")
        return text if text.strip() else ""
