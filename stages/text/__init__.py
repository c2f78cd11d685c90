"""Text where it lies: kernels over the UTF-8 bytes of an Arrow column.

Read `column` first (a column as bytes and offsets, edits by byte spans), then `utf8` (code points inside of
kernels), `characters` (what a code point is) and `confusables` (what it is taken for, in matching).
"""
