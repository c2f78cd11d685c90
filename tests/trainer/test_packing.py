"""The packing plan: nothing lost, nothing cut without need, little padding, computed once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards import Corpus
from trainer import packing
from trainer.packing import pack, plan


@given(st.lists(st.integers(0, 70), max_size=60), st.integers(2, 33))
def test_every_token_has_one_place(lengths: list[int], sequence_length: int) -> None:
    """Else tokens would be lost to training or seen twice an epoch, and short documents cut for no reason."""
    pieces = pack(np.array(lengths, np.int64), sequence_length)
    starts = np.cumsum([0, *lengths])
    covered = np.zeros(sum(lengths), int)
    for document, start, length in zip(pieces.document, pieces.start, pieces.length, strict=True):
        assert starts[document] <= start
        assert start + length <= starts[document + 1]
        covered[start : start + length] += 1
    assert (covered == 1).all()
    counts = np.bincount(pieces.document, minlength=len(lengths))
    assert counts.tolist() == [-(-length // sequence_length) for length in lengths]
    ends = pieces.start + pieces.length
    assert (pieces.goes_on == (ends < starts[pieces.document + 1])).all()
    for first, last in zip(pieces.first, pieces.first[1:], strict=False):
        assert 0 < pieces.length[first:last].sum() <= sequence_length


def test_best_fit_takes_the_fullest_bin() -> None:
    """Else sequences would carry more padding than the plan promises."""
    # first come 7 and 6; 4 fits only beside 6, 3 fills the sequence of 7
    pieces = pack(np.array([3, 7, 4, 6]), 10)
    assert pieces.first.tolist() == [0, 2, 4]
    assert pieces.document.tolist() == [1, 0, 3, 2]


def test_padding_is_small_on_web_lengths() -> None:
    """Else a large share of the computation would go into padding."""
    lengths = np.random.default_rng(1).lognormal(6.2, 1.1, 5_000).astype(np.int64) + 1
    pieces = pack(lengths, 2048)
    assert 1 - lengths.sum() / (pieces.sequences * 2048) < 0.005


def test_plan_is_kept_and_believed_only_where_whole(corpus_folder: Path, tmp_path: Path) -> None:
    """Else every start would pack again, or train on a plan that a full disk cut off."""
    folder = shutil.copytree(corpus_folder, tmp_path / "copy", ignore=shutil.ignore_patterns("plans"))
    first = plan(Corpus.open(folder), "train", 32)
    files = sorted((folder / "shards" / "plans").iterdir())
    assert len(files) == 2
    assert not [file for file in files if file.suffix != ".npz"]
    written = [file.stat().st_mtime_ns for file in files]
    again = plan(Corpus.open(folder), "train", 32)
    assert [file.stat().st_mtime_ns for file in files] == written
    files[0].write_bytes(files[0].read_bytes()[:-100])
    files[1].write_bytes(b"")
    mended = plan(Corpus.open(folder), "train", 32)
    for other in (again, mended):
        assert other.fingerprint == first.fingerprint
        for one, two in zip(first.windows, other.windows, strict=True):
            assert all((vars(one.pieces)[name] == vars(two.pieces)[name]).all() for name in vars(one.pieces))
    assert plan(Corpus.open(folder), "train", 16).fingerprint != first.fingerprint


def test_plan_without_a_place_to_keep_it(corpus_folder: Path, tmp_path: Path) -> None:
    """Else a corpus on a read-only disk could not be trained on."""
    folder = shutil.copytree(corpus_folder, tmp_path / "copy", ignore=shutil.ignore_patterns("plans"))
    (folder / "shards" / "plans").write_text("a file where the folder would be, which stops root as well")
    assert plan(Corpus.open(folder), "train", 32).sequences > 0
    assert packing.plan(Corpus.open(folder), "train", 32).padding < 0.2
