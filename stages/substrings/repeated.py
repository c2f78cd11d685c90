"""All steps in memory, for a list of texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from stages.substrings.cut import Cuts, spans
from stages.substrings.groups import CUT, OPEN, Sharing, decide
from stages.substrings.located import located
from stages.substrings.winnow import fingerprints, windows


def repeated(column: pa.Array, sharing: Sharing) -> Cuts:
    """What is cut of texts that stand in the order of the documents, the best first."""
    words = located(column)
    chosen = fingerprints(words, sharing.tokens)
    verdicts = decide(chosen.keys, chosen.first, chosen.second, chosen.rows, chosen.places, sharing)
    unsettled = verdicts == OPEN
    single = windows(words, sharing.tokens, chosen.rows[unsettled], chosen.lows[unsettled], chosen.highs[unsettled])
    cut = decide(single.first, single.first, single.second, single.rows, single.places, sharing) == CUT
    whole = verdicts == CUT
    return spans(
        column,
        words,
        np.concatenate([chosen.rows[whole], single.rows[cut]]),
        np.concatenate([chosen.lows[whole], single.places[cut]]),
        np.concatenate([chosen.highs[whole], single.places[cut]]),
        sharing.tokens,
    )
