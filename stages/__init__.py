"""What happens to a batch of documents. A batch in, a batch out; no files, no recipe.

Read in this order: `schema` (the columns), `base` (what a stage is), then any stage, then `registry`. Stages share
`rows` (Arrow to strings and back), `words` (what a word is in every script), `text` (kernels' view of a text column),
`lookup` and `listfiles` (long lists), `wordlists`, `fasttext` and `classifier` (models); `decode` belongs to `extract`.
`keys` and `minhash` give the keys and signatures of deduplication, `bpe` the kernels of encoding, which are phases, not
stages.
"""
