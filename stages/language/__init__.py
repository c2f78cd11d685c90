"""Which language a text is in.

`stage` is the stage, `naive_bayes` py3langid's model as a kernel; fastText's models are read by `stages.fasttext`.
"""

from stages.language.stage import LANGUAGES, Language, py3langid

__all__ = ["LANGUAGES", "Language", "py3langid"]
