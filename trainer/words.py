"""Where words and sentences begin in rows of tokens, in any script, told from the tokens' own bytes.

A word is what blanks and punctuation part, as in BERT's whole-word masking; each character of punctuation is one of its
own. Scripts that put no blanks between words (Chinese, Japanese, Thai, ...) have a word in every token, since their
words cannot be told without a dictionary; a character that is spread over several tokens is one word all the same.
So is every character of bytes whose first alone does not tell the script.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import regex

from trainer.vocabulary import Tokens

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SCRIPTS = (
    "Han Hiragana Katakana Bopomofo Thai Lao Khmer Myanmar Tai_Le New_Tai_Lue Tai_Tham Tai_Viet Ahom Yi Nushu "
    "Tangut Javanese Balinese"
)
"""Scripts without blanks between words: those of the pipeline's stages."""

_SPACELESS = regex.compile("[" + "".join(rf"\p{{Script={name}}}" for name in SCRIPTS.split()) + "\u30fc\uff70]")
_INSIDE = regex.compile(r"[\p{L}\p{N}\p{Pc}]")
_MARK = regex.compile(r"[\p{M}\u200c\u200d]")
_FULL_STOP = regex.compile(r"\p{Sentence_Terminal}")
_LONE = {0xE0: "\u0e40".encode(), 0xF0: "\U00020000".encode()}
"""What the first bytes stand for that begin the characters of many scripts, where they are all that there is: Thai and
Chinese, whose characters may be words. Else a page in single bytes would be one word."""
_CLOSING = regex.compile(r"[\p{Pe}\p{Pf}\"']+$")


@dataclass(frozen=True)
class Words:
    """By token id (vocabulary,): what it says of words and sentences around it."""

    begins_V: Flags
    """A word begins with it."""
    ends_V: Flags
    """A word begins behind it, unless what follows belongs to its last character."""
    continues_V: Flags
    """It begins with a mark, or inside a character."""
    blank_V: Flags
    """It begins with a blank or line end."""
    stops_V: Flags
    """A sentence ends with it, whatever follows: a line end, or a full stop of a script that needs no blank."""
    may_stop_V: Flags
    """A sentence ends with it where a blank follows: as `.`, `!`, `?`."""

    @classmethod
    def of(cls, tokens: Tokens, vocabulary: int) -> Words:
        """From the bytes of tokens; special ones are words and sentences of their own."""
        flags = np.zeros((6, vocabulary), bool)
        flags[:2] = True
        for token, data in tokens.bytes_by_id.items():
            flags[:, token] = _facts(data)
        return cls(*flags)

    def starts(self, tokens_N: Ints) -> Flags:
        """(N,) whether a word begins with each token; the first of a document is left to the caller."""
        result = self.begins_V[tokens_N]
        result[1:] |= self.ends_V[tokens_N[:-1]] & ~self.continues_V[tokens_N[1:]]
        return result

    def sentences(self, tokens_N: Ints) -> Flags:
        """(N,) whether a sentence begins with each token; the first of a document is left to the caller."""
        result = np.zeros(tokens_N.shape, bool)
        before, here = tokens_N[:-1], tokens_N[1:]
        result[1:] = self.stops_V[before] | (self.may_stop_V[before] & self.blank_V[here])
        return result


def _facts(data: bytes) -> tuple[bool, bool, bool, bool, bool, bool]:
    text = _readable(data)
    if not text:  # nothing but the middle of a character
        return False, False, True, False, False, False
    inside = 0x80 <= data[0] < 0xC0
    first, last = text[0], (regex.sub(r"[\p{M}\u200c\u200d]+$", "", text) or text)[-1]
    joins = inside or bool(_MARK.match(first))
    begins = not joins and not _joined(first)
    whole = data.decode("utf-8", "ignore").endswith(text[-1])  # else it ends inside a character
    bare = _CLOSING.sub("", text) or text
    stop = bool(_FULL_STOP.match(bare[-1]))
    ascii_stop = stop and bare[-1] in ".!?"
    return (
        begins,
        whole and not _joined(last) and not _MARK.match(last) and text.strip(" ") != "",  # a blank alone joins the next
        joins,
        first.isspace(),
        whole and (text[-1] in "\n\r\u2029" or (stop and not ascii_stop)),
        whole and ascii_stop,
    )


def _joined(char: str) -> bool:
    """Whether a character is part of a word beside its neighbours."""
    return bool(_INSIDE.match(char)) and not _SPACELESS.match(char)


def _readable(data: bytes) -> str:
    """The characters of a token. One that is cut off counts as the first of all that it may be: enough to know its
    script nearly always."""
    begin = 0
    while begin < len(data) and 0x80 <= data[begin] < 0xC0:
        begin += 1
    data = data[begin:]
    for back in range(1, min(4, len(data) + 1)):
        lead = data[-back]
        if lead >= 0xC0:
            size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            rest = _LONE[lead][1:] if back == 1 and lead in _LONE else b"\x80" * max(0, size - back)
            data += rest
            break
        if lead < 0x80:
            break
    return data.decode("utf-8", "ignore")
