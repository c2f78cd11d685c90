"""A linear classifier over hashed words and character n-grams: what it sees, how it scores, how it is trained.

It serves three stages' needs: toxicity (`stages.toxicity_model`), quality and topics (`stages.classify`). Read in
this order: `symbols` (what a code point is), `windows` (text is judged in windows about as long as a post),
`features` (hashes of words and n-grams), `model` (the file), `score` (log odds, and what documents and paragraphs
get of them), `causes` (the spans behind a score), `fit` (training). All that meets a threshold is an integer.
"""
