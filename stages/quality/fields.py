"""What is counted of a text. Integers only, so that no rule hangs on a rounding.

A *line* is what stands between line breaks, less the blanks around it, where anything is left; a *paragraph* the
lines between empty ones. A *word* is what stands between blanks, or one character (with what follows that is no
letter) of a script without spaces (`stages.words.tokens`); a *term* is a run of letters, digits and marks, or one such
character (`stages.words.words`). Where a segmenter is named for the text's language (`stages.segmenters`), the
characters of such a script that it leaves together are one word and one term. Lengths are code points.
"""

from __future__ import annotations

FIELDS = (
    "characters",
    "blanks",  # white space, line breaks included
    "letters",
    "digits",
    "capitals",
    "marks",  # punctuation and symbols
    "hashes",  # `#`
    "ellipses",  # `...` and runs of `…`
    "breaks",  # line feeds
    "words",
    "spaced_words",  # words between blanks: `words` less the characters of scripts without spaces
    "spaced_length",  # of the words between blanks, punctuation included
    "letter_words",  # with at least one alphabetic character
    "longest_word",
    "terms",
    "term_length",
    "letter_terms",  # with at least one alphabetic character
    "sentences",
    "lines",
    "line_length",
    "longest_line",
    "bullet_lines",  # that begin with a bullet
    "ellipsis_lines",  # that end with an ellipsis, before closing quotes and brackets
    "terminal_lines",  # that end a sentence, before closing quotes and brackets
    "repeated_lines",  # that stood before
    "repeated_line_length",
    "paragraphs",
    "repeated_paragraphs",
    "repeated_paragraph_length",
    "top_2",  # all occurrences of the most frequent 2-gram of terms that occurs twice, with what is between its terms
    "top_3",
    "top_4",
    "repeated_5",  # the terms in 5-grams that stood before, no term counted twice
    "repeated_6",
    "repeated_7",
    "repeated_8",
    "repeated_9",
    "repeated_10",
)
"""The columns of the table, in order."""

(
    CHARACTERS, BLANKS, LETTERS, DIGITS, CAPITALS, MARKS, HASHES, ELLIPSES, BREAKS, WORDS, SPACED_WORDS, SPACED_LENGTH,
    LETTER_WORDS, LONGEST_WORD, TERMS, TERM_LENGTH, LETTER_TERMS, SENTENCES, LINES, LINE_LENGTH, LONGEST_LINE,
    BULLET_LINES, ELLIPSIS_LINES, TERMINAL_LINES, REPEATED_LINES, REPEATED_LINE_LENGTH, PARAGRAPHS, REPEATED_PARAGRAPHS,
    REPEATED_PARAGRAPH_LENGTH, TOP_2, TOP_3, TOP_4, REPEATED_5, REPEATED_6, REPEATED_7, REPEATED_8, REPEATED_9,
    REPEATED_10,
) = range(len(FIELDS))  # fmt: skip

BULLETS = "-*+•‣⁃◦▪●○■□·・∙➢►※"
"""What a line may begin with to be an item of a list; not where another of `-*+` follows."""
