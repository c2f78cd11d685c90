"""Trains the model of the stage `toxicity_model` from labelled posts, word lists and clean text.

    python -m pipeline.train_toxicity DATA --out stages/data/toxicity.npz

`posts.py` reads the labelled sets and splits them, `clean.py` does so for clean text of other kinds, `templates.py`
makes sentences that name groups of people, friendly, sober and hostile, `fit.py` puts them together. DATA holds the
folders `toxicity` and `text`. What the model can do says `python -m tests.bench.toxicity_card`.
"""
