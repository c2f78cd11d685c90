"""The model of the extractor `blocks`: its compiled inference, its choice of blocks, its file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage_helpers import DATA, bound, pages, reasons, texts

from pipeline.errors import UserError
from pipeline.train_extractor.fit import forest, lightgbm
from stages.extract import Extract, model
from stages.extract.blocks import read
from stages.extract.model import LEAF, ONE, Forest, choose, dump, load, logistic_table, probabilities
from stages.extract.scan import canonical, scan
from stages.extract.tokens import COUNTS, TOKENS
from tests.bench.extract_card import BEGIN, END, filled

BUILTIN = (DATA / "extract-blocks.npz").read_bytes()


def booster(x: np.ndarray, y: np.ndarray, **settings: object) -> Any:
    try:
        library = lightgbm()
    except UserError as error:
        pytest.skip(str(error))
    common = {"objective": "cross_entropy", "verbosity": -1, "num_threads": 1, "seed": 7, "min_data_in_leaf": 5}
    return library.train(common | settings, library.Dataset(x, y), 25)


@pytest.mark.parametrize("whole_numbers", [False, True])
def test_compiled_trees_decide_as_lightgbm_does(whole_numbers: bool) -> None:
    """What was measured in training would not be what users get."""
    generator = np.random.default_rng(7)
    x = generator.uniform(-2, 2, size=(3000, 12)).astype(np.float32)
    if whole_numbers:  # thresholds lie between and on them
        x = np.round(x * 3).astype(np.float32)
    y = 1 / (1 + np.exp(-2 * x[:, 0] * x[:, 1] + x[:, 2]))
    trained = booster(x, y, num_leaves=15, use_missing=False)
    trees = forest(trained.dump_model())
    unseen = np.concatenate((x, generator.normal(size=(2000, 12)).astype(np.float32), np.round(x) / 3))
    wanted = 1 / (1 + np.exp(-trained.predict(unseen, raw_score=True)))
    found = model.scores(trees, unseen, logistic_table()) / ONE
    # Leaves are rounded to 1/4096 in each of 25 trees, log odds to 1/64 in the table.
    assert np.abs(found - wanted).max() < (25 * 0.5 / LEAF + 0.5 / 64) / 4 + 1 / ONE
    assert found.std() > 0.1


def test_a_tree_of_one_leaf_is_a_constant() -> None:
    """Training on few pages, where a tree finds nothing to split, would end with an error or with noise."""
    x = np.zeros((50, 3), np.float32)
    trees = forest(booster(x, np.full(50, 0.8)).dump_model())
    assert np.abs(model.scores(trees, x, logistic_table()) / ONE - 0.8).max() < 0.01


def test_the_sums_of_leaves_are_those_of_a_walk() -> None:
    """Where LightGBM is not installed nothing else would tell that trees are walked as they were fitted."""
    trees = load(BUILTIN).first
    x = np.random.default_rng(7).normal(scale=20, size=(40, len(model.features.NAMES))).astype(np.float32)
    expected = []
    for row in x:
        total = 0
        for root in trees.roots:
            at = int(root)
            while trees.threshold[at] < np.inf:
                at = int(trees.child[at]) + int(row[trees.feature[at]] > trees.threshold[at])
            total += int(trees.leaf[at])
        expected.append(total / LEAF)
    found = model.scores(trees, x, logistic_table()) / ONE
    assert np.abs(found - 1 / (1 + np.exp(-np.array(expected)))).max() < 0.5 / 64 / 4 + 1 / ONE


def test_a_probability_that_is_sure_stays_between_none_and_all() -> None:
    """Extreme log odds would wrap around: the surest blocks would be dropped first."""
    one = np.zeros(1, np.int32)
    for leaf, share in ((2**30, ONE), (-(2**30), 0), (0, ONE // 2)):
        tree = Forest(one, one, one.astype(np.int16), np.full(1, np.inf, np.float32), one, np.full(1, leaf, np.int32))
        assert model.scores(tree, np.zeros((1, 1), np.float32), logistic_table()).tolist() == [share]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, ONE)), min_size=1, max_size=9))
def test_the_choice_has_the_highest_expected_f1_of_all(blocks: list[tuple[int, int]]) -> None:
    """Text would be lost, or boilerplate kept, that the model itself holds for worth keeping, or for not."""
    counts = np.zeros((len(blocks), len(COUNTS)), np.int32)
    counts[:, TOKENS] = [tokens for tokens, _ in blocks]
    probability = np.array([share for _, share in blocks], np.int32)
    mass = counts[:, TOKENS].astype(np.int64) * probability

    def expected(keep: np.ndarray) -> float:
        """Twice the tokens that are rightly kept, over the tokens kept and the tokens wanted, each as expected."""
        return 2 * mass[keep].sum() / (ONE * counts[keep, TOKENS].sum() + mass.sum()) if mass.sum() else 0.0

    best = max(expected(np.array(keep)) for keep in product((False, True), repeat=len(blocks)))
    keep, score = model._chosen(probability, counts)
    assert expected(keep) == pytest.approx(best, abs=1e-12)
    assert score == pytest.approx(best, abs=0.0005 + 1e-9)


def test_a_page_without_blocks_has_no_choice() -> None:
    """An empty page would end the run."""
    chosen = choose(load(BUILTIN), read(scan(canonical("<img src=x>"))))
    assert (chosen.keep.tolist(), chosen.score) == ([], 0.0)


def test_a_page_has_the_same_probabilities_wherever_it_stands() -> None:
    """A document would depend on the pages before it, and no run could be repeated."""
    chooser = load(BUILTIN)
    html = "<nav><a>Home</a></nav><article><h1>Fox</h1><p>The quick brown fox jumps over the lazy dog.</article>"
    found = [read(scan(canonical(page))) for page in (html, "<p>" * 500 + "x", html)]
    first, _, last = (probabilities(chooser, each).tolist() for each in found)
    assert first == last


def test_a_model_survives_its_file() -> None:
    """A model would decide otherwise once it is saved, or its bytes change from save to save."""
    made = load(BUILTIN)
    again = load(dump(made))
    assert dump(again) == dump(made)
    for name, array in dict(np.load(io.BytesIO(BUILTIN))).items():
        role, _, field = name.partition(".")
        if role in made._fields:
            copy = getattr(again, role)
            assert np.array_equal(getattr(copy, field) if field else copy, array)
    assert len(BUILTIN) < 3_000_000


def changed(**changes: Any) -> bytes:
    """The built-in model's file with other arrays; None takes one out."""
    arrays = dict(np.load(io.BytesIO(BUILTIN)))
    arrays |= {name.replace("__", "."): value for name, value in changes.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in arrays.items() if value is not None})
    return buffer.getvalue()


def flipped(data: bytes) -> bytes:
    return bytes(byte ^ (at == len(data) // 2) for at, byte in enumerate(data))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: b"", "no model"),
        (lambda: b"hello", "no model"),
        (lambda: b"\x80\x04N.", "no model"),
        (lambda: BUILTIN[:-50], "damaged"),
        (lambda: flipped(BUILTIN), "damaged"),
        (lambda: changed(format=None), "no model"),
        (lambda: changed(format=np.array([1, 2])), "no model"),
        (lambda: changed(first__leaf=None), "damaged"),
        (lambda: changed(first__child=np.array([10**6], np.int32)), "damaged"),
        (lambda: changed(second__feature=load(BUILTIN).second.feature + np.int16(1000)), "damaged"),
        (lambda: changed(word_weights=np.zeros(3, np.int8)), "damaged"),
        (lambda: changed(logistic=np.zeros(2049, np.int64)), "damaged"),
        (lambda: changed(format=np.array(2)), "other features than this version.*pipeline.train_extractor"),
        (lambda: changed(names=np.array("tokens\nlinked")), "other features"),
    ],
)
def test_a_file_that_is_no_model_is_named_as_one(make: Callable[[], bytes], says: str) -> None:
    """A wrong file in a recipe would end in a traceback, or in memory that is not the model's: in noise."""
    with pytest.raises(ValueError, match=says):
        load(make())
    with pytest.raises(ValueError, match=says):
        Extract(model="mine.npz").bind({"model": make()})


def test_a_model_of_ones_own_is_used() -> None:
    """`model:` in a recipe would be read and ignored."""
    page = b"<p>The quick brown fox jumps over the lazy dog, and then it sleeps under a tree.</p>"
    ours = load(BUILTIN)
    never = dump(ours._replace(**{name: _constant(getattr(ours, name), -(2**20)) for name in ("first", "second")}))
    assert len(texts(bound(Extract())(pages([page])))) == 1
    assert reasons(Extract(model="mine.npz").bind({"model": never})(pages([page]))) == [(0, "no_text")]


def _constant(trees: Forest, leaf: int) -> Forest:
    return trees._replace(leaf=np.full_like(trees.leaf, leaf))


def test_the_card_is_of_the_model_that_ships() -> None:
    """Somebody would read the scores, data and licence of another model."""
    card = (DATA / "extract-blocks.md").read_text("utf-8")
    assert f"{len(BUILTIN):,} bytes, SHA-256 `{hashlib.sha256(BUILTIN).hexdigest()}`" in card
    ours = load(BUILTIN)
    assert f"({len(ours.first.roots)} and {len(ours.second.roots)} trees" in card
    assert f"over {len(model.features.NAMES)} figures" in card
    assert f"with {len(model.features.CONTEXT_NAMES)} more" in card


def test_the_card_takes_its_scores_from_the_bench() -> None:
    """Scores would be copied by hand, and stay when the model changes."""
    scores = dict.fromkeys(("ours", "trafilatura", "resiliparse"), 0.5)
    row = {"name": "token F1, forum", "pages": 1234, "scores": scores, "difference": [0.1, -0.2, 0.3]}
    row["against"] = "resiliparse"
    figures = {"environment": {"machine": "x", "Python": "3"}, "rows": [row, row, row | {"name": "CPU"}]}
    made = filled(f"above {BEGIN}old{END} below", figures)
    assert made.startswith(f"above {BEGIN}\n")
    assert made.endswith(f"\n\nMeasured with Python 3.\n{END} below")
    assert (
        made.count("| token F1, forum | 1,234 | 0.500 | 0.500 | 0.500 | +0.100 [-0.200, +0.300] to resiliparse |") == 1
    )
    assert "old" not in made
    assert "CPU" not in made
    with pytest.raises(ValueError, match="the card has no"):
        filled("no marks", figures)
