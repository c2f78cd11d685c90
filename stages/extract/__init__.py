"""HTML to the text of its main content.

`stage.py` is the stage that recipes name: limits, decoding, and the verdicts.
"""

from stages.extract.stage import Extract

__all__ = ["Extract"]
