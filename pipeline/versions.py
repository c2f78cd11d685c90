"""The version of each phase: of what its units write, and of the code that makes it."""

from __future__ import annotations

VERSIONS = {
    "index": 2,
    "clean": 4,
    "lines": 1,
    "host_lines": 1,
    "host": 1,
    "signatures": 4,
    "exact": 3,
    "bands": 3,
    "join": 1,
    "stars": 1,
    "clusters": 3,
    "losers": 1,
    "fingerprints": 1,
    "repeats": 1,
    "stretches": 1,
    "matches": 1,
    "spans": 1,
    "documents": 4,
    "tokenizer": 3,
    "tokenise": 5,
    "plan": 4,
    "shard": 4,
}
"""To be raised when a phase gives other results for equal inputs, or when its tables or the body of its manifest rows
look otherwise (tests/pipeline/test_phase_formats.py notices the latter). It is part of the keys of units, and
`ledger/run.json` says of which version the rows of a folder are: what an older one wrote is never read, but redone."""
