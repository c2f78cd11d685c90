"""How documents move: from a recipe through the phases of a run to shards.

Read in this order: `recipe` (what a user asks for) with `settings` and `sources`; `driver`, `runner` and `engine`
(how a run lives and dies) with `work`, `ledger`, `store` and `parts` (what is committed, where, and why it is
believed); `phases` (the work) with `readers` and the functions that they call: `dedup`, `lsh`, `splits`, `mixture`,
`tokenizers`; `shards` (the format, all that the trainer knows); `accounts` (the books); `look` (into runs), `corpora`
and `export` (what becomes of finished shards), `app`, `cli` and `commands`.
By itself: `cluster` (Flink on this machine), `library`, stages on tables of one's own.
"""

__version__ = "0.1.0"
