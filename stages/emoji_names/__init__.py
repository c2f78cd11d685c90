"""The stage `emoji`: emoji to their names, found by one kernel over the bytes.

Read `stage` first (settings, how a name is written into its text). `table` is the emoji package's table as a trie of
arrays, `find` the kernel that looks for its longest entries, `emoticons` the table of those.
"""

from stages.emoji_names.stage import LANGUAGES, Emoji

__all__ = ["LANGUAGES", "Emoji"]
