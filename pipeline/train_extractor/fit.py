"""The forests: fitted by LightGBM, kept as plain arrays.

No score that a forest learns from was made with the page's own site: the tables of words and the first forest's
scores come from the other folds (stacking, Wolpert 1992). A model without fold f has seen nothing of fold f.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import UserError
from pipeline.train_extractor.examples import Example
from pipeline.train_extractor.pages import DataError
from pipeline.train_extractor.words import FoldCounts, count, tables
from stages.extract import features
from stages.extract.folds import FOLDS
from stages.extract.model import LEAF, Forest, Model, logistic_table, scores

SETTINGS = {
    "objective": "cross_entropy",
    "learning_rate": 0.1,
    "num_leaves": 31,
    "max_depth": 8,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "max_bin": 63,
    "use_missing": False,
    "seed": 7,
    "num_threads": 2,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
SECOND = {"num_leaves": 15, "learning_rate": 0.06, "min_data_in_leaf": 150, "lambda_l2": 20.0, "feature_fraction": 0.3}
"""The second forest sees the first one's opinion of the whole page and learns its pages by heart where it is let."""
TREES = (120, 110)
_PAGE_BLOCKS = 250  # of a longer page a sample stands for all

Report = Callable[[str], None]


def lightgbm() -> Any:
    """The library. Raises UserError where it is not installed, or the OpenMP of GCC, which its wheel does not bring."""
    try:
        return importlib.import_module("lightgbm")
    except ModuleNotFoundError as error:
        raise UserError(f"training needs {error.name}: install corpusmill[extractor]") from error
    except OSError as error:
        if "libgomp" not in str(error) or not _openmp_of_torch():
            raise UserError(
                f"LightGBM cannot be loaded: {error}. It needs the system's OpenMP; on Debian: apt install libgomp1"
            ) from error
        return importlib.import_module("lightgbm")


def _openmp_of_torch() -> bool:
    """Loads torch's copy of the library, under its common name, which serves all that is loaded later."""
    torch = importlib.util.find_spec("torch")
    for folder in torch.submodule_search_locations or () if torch else ():
        for path in Path(folder).glob("lib/libgomp.so.1"):
            ctypes.CDLL(str(path))
            return True
    return False


class Trainer:
    """Fits models on the folds that are allowed, each forest once."""

    def __init__(self, examples: Sequence[Example], report: Report) -> None:
        self._examples = examples
        self._counts: list[FoldCounts] = count(examples, FOLDS)
        self._report = report
        self._tables = cache(lambda without: tables(self._counts, without))
        self._first = cache(self._fit_first)

    def model(self, without: frozenset[int] = frozenset()) -> Model:
        """The model that has seen every fold but these."""
        seen = self._seen(without)
        matrices = []
        for example in seen:
            x = self._matrix(example, without | {example.fold})
            score = scores(self._first(without | {example.fold}), x, logistic_table())
            matrices.append(np.concatenate((x, features.context(example.blocks, score)), axis=1))
        second = self._fit(seen, matrices, SETTINGS | SECOND, TREES[1], f"second forest, {_spell(without)}")
        return Model(*self._tables(without), self._first(without), second, logistic_table())

    def check(self, without: frozenset[int] = frozenset()) -> None:
        """Raises DataError where too few folds have pages for the model without these: see the module."""
        if len({example.fold for example in self._seen(without)}) < 2:
            raise DataError(
                f"a model {_spell(without)} cannot be made: it needs pages with a main text in two folds or more, of "
                f"sites that differ, and the data has {len(self._examples):,} such pages of "
                f"{len({example.site for example in self._examples}):,} sites"
            )

    def _seen(self, without: frozenset[int]) -> list[Example]:
        return [example for example in self._examples if example.fold not in without]

    def _matrix(self, example: Example, without: frozenset[int]) -> features.Matrix:
        return features.matrix(example.blocks, *self._tables(without))

    def _fit_first(self, without: frozenset[int]) -> Forest:
        seen = self._seen(without)
        matrices = [self._matrix(example, without | {example.fold}) for example in seen]
        return self._fit(seen, matrices, SETTINGS, TREES[0], f"first forest, {_spell(without)}")

    def _fit(
        self, examples: list[Example], matrices: list[features.Matrix], settings: dict[str, Any], trees: int, name: str
    ) -> Forest:
        rows = [_sample(example) for example in examples]
        booster = lightgbm().train(
            settings,
            lightgbm().Dataset(
                np.concatenate([x[row] for x, row in zip(matrices, rows, strict=True)]),
                np.concatenate([each.target[row] for each, row in zip(examples, rows, strict=True)]),
                weight=np.concatenate(
                    [each.weight[row] * (len(each.weight) / len(row)) for each, row in zip(examples, rows, strict=True)]
                ),
            ),
            trees,
        )
        self._report(f"{name}: {sum(map(len, rows)):,} blocks of {len(examples):,} pages")
        return forest(booster.dump_model())


def _spell(without: frozenset[int]) -> str:
    return f"without folds {', '.join(map(str, sorted(without)))}" if without else "of all folds"


def _sample(example: Example) -> npt.NDArray[np.int64]:
    """The blocks of a page that are learned from."""
    blocks = len(example.target)
    if blocks <= _PAGE_BLOCKS:
        return np.arange(blocks)
    generator = np.random.default_rng(int(example.id[:8], 16))
    return np.sort(generator.choice(blocks, _PAGE_BLOCKS, replace=False))


def forest(dumped: dict[str, Any]) -> Forest:
    """LightGBM's trees as arrays. A threshold is rounded down to float32, which decides alike for float32 values."""
    roots, depths = [], []
    nodes: list[tuple[int, float, int, int]] = []  # feature, threshold, child, leaf

    def fill(at: int, node: dict[str, Any]) -> int:
        """Writes a node to its place and its children behind all others; returns its height."""
        if "leaf_value" in node:
            nodes[at] = (0, np.inf, at, round(node["leaf_value"] * LEAF))
            return 0
        if node["decision_type"] != "<=":
            raise ValueError(f"a tree decides by {node['decision_type']}")
        threshold = np.float32(node["threshold"])
        if threshold > node["threshold"]:
            threshold = np.nextafter(threshold, np.float32(-np.inf))
        child = len(nodes)
        nodes.extend([(0, 0.0, 0, 0)] * 2)
        nodes[at] = (node["split_feature"], float(threshold), child, 0)
        return 1 + max(fill(child, node["left_child"]), fill(child + 1, node["right_child"]))

    for tree in dumped["tree_info"]:
        roots.append(len(nodes))
        nodes.append((0, 0.0, 0, 0))
        depths.append(fill(roots[-1], tree["tree_structure"]))
    feature, threshold, child, leaf = zip(*nodes, strict=True)
    return Forest(
        np.array(roots, np.int32),
        np.array(depths, np.int32),
        np.array(feature, np.int16),
        np.array(threshold, np.float32),
        np.array(child, np.int32),
        np.array(leaf, np.int32),
    )
