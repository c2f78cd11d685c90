"""How documents move: from a recipe through the phases of a run to shards.

Read in this order: `recipe` (what a user asks for), `driver` and `engine` (how a run lives and dies),
`ledger` (what is committed and why it is believed), `phases` (the work), `readers`, `shards` (the format).
"""

__version__ = "0.1.0"
