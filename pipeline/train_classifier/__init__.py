"""Trains a classifier from a user's documents, and tests one: `corpusmill classifier train` and `test`.

`documents.py` reads the files, `training.py` parts and weighs what is in them, `figures.py` counts how well a model
does. The model itself is `stages.classifier`.
"""
