"""The stage `normalize`: text made regular, nearly always without a Python string.

Read `stage` first. `suspicious` turns ftfy's patterns into one automaton, so that only lines that ftfy may change
reach it; `kinds` says what each code point is to the kernels; `form` checks Unicode's form; `scan` finds the lines
and documents with something to do; `mend` is ftfy for those lines; `tidy` writes those documents anew.
"""

from stages.normalize.stage import Normalize

__all__ = ["Normalize"]
