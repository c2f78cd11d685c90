"""Documents by their URL. Read `stage` first, then `lists` (forms of lists), `hosts` (one spelling for URLs),
`kernels`, `words`."""

from stages.url.stage import Url

__all__ = ["Url"]
