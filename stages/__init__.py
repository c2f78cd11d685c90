"""What happens to a batch of documents. A batch in, a batch out; no files, no recipe.

Read in this order: `schema` (the columns), `base` (what a stage is), then any stage, then `registry`.
"""
