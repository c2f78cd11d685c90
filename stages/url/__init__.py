"""Documents by their URL. Read `stage` first, then `forms` and `lists` (what lists look like, and the table made of
them), `hosts` (one spelling for URLs), `kernels`, `words`."""

from stages.url.stage import Url

__all__ = ["Url"]
