"""Trains the model of the extractor `blocks` from pages and the text that people took out of them.

    python -m pipeline.train_extractor DATA --out MODEL [--folds FOLDER]

`pages.py` reads the pages, `labels.py` finds which blocks the gold text holds, `examples.py` weighs them,
`words.py` learns which words of classes, ids and short texts speak for content, `fit.py` trains the forests.
"""
