"""The stage `pii`: structured personal data out of the text.

Read `scan` first (the gate over the bytes), then `find` (which type takes a place), the types (`mail`, `network`,
`cards`, `national` with `checks`, `phones` with `plans`, and `cues`: words beside a number), `replace` and `fakes`,
`stage` last.
"""

from stages.pii.stage import Pii

__all__ = ["Pii"]
