"""The packing plan: nothing lost, nothing cut without need, little padding, computed once."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_corpus import write_corpus

from pipeline.errors import UserError
from pipeline.shards import Corpus
from trainer import packing
from trainer.kernels import best_fit
from trainer.packing import Window, concatenate, pack, plan
from trainer.packings import Figures, side_by_side


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


@given(st.lists(st.integers(1, 150), max_size=300), st.sampled_from([2, 33, 64, 150]))
def test_best_fit_equals_a_search_over_all_bins(lengths: list[int], capacity: int) -> None:
    """Else the compiled search would miss a fuller bin, and plans on disk would differ from new ones."""
    rooms: list[tuple[int, int, int]] = []  # (room, minus the turn at which it came to be so, bin)
    expected, opened = [], 0
    given = sorted((min(length, capacity) for length in lengths), reverse=True)
    for turn, length in enumerate(given):
        fitting = [bin_ for bin_ in rooms if bin_[0] >= length]
        if fitting:
            room, _, chosen = bin_ = min(fitting)
            rooms.remove(bin_)
        else:
            room, chosen, opened = capacity, opened, opened + 1
        expected.append(chosen)
        rooms.append((room - length, -turn, chosen))
    assert best_fit(np.array(given, np.int64), capacity).tolist() == expected


def test_best_fit_in_a_long_sequence() -> None:
    """Else a room far from the length that is looked for would be missed: 5 fits only where 100,000 left 31,072."""
    assert best_fit(np.array([131_072, 100_000, 5, 5]), 131_072).tolist() == [0, 1, 1, 1]


@given(st.lists(st.integers(0, 70), max_size=40), st.integers(2, 33), st.sampled_from([None, "pad", "drop"]))
def test_concatenation_is_cut_at_every_t_tokens(lengths: list[int], sequence_length: int, remainder: Any) -> None:
    """Else tokens would be lost, or the comparison with other trainers would not be one of equal data."""
    pieces = concatenate(np.array(lengths, np.int64), sequence_length, remainder)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    whole, rest = divmod(len(owner), sequence_length)
    assert pieces.sequences == whole + bool(rest and remainder != "drop")
    ends = np.cumsum(lengths)
    place = 0
    for sequence in range(pieces.sequences):
        found = range(pieces.first[sequence], pieces.first[sequence + 1])
        assert sum(int(pieces.length[piece]) for piece in found) == min(sequence_length, len(owner) - place)
        for piece in found:
            assert pieces.start[piece] == place
            behind = place + int(pieces.length[piece])
            assert set(owner[place:behind].tolist()) == {int(pieces.document[piece])}
            assert pieces.goes_on[piece] == (behind < ends[pieces.document[piece]])
            place = behind
    assert len(pieces.length) == pieces.first[-1]


def test_figures_of_both_packings(tmp_path: Path) -> None:
    """Else a user would choose a packing by figures that are wrong."""
    corpus = Corpus.open(write_corpus(tmp_path / "c", {"train": [[6, 9, 25, 3], [4]]}))
    plans = plan(corpus, "train", 10), plan(corpus, "train", 10, "concatenate")
    dropping = plan(corpus, "train", 10, "concatenate", "drop")
    # 10 | 10 | 9 | 6 3 | 5 and 4: 25 is cut twice
    best = Figures("best-fit", 5, 47, 6, 1 - 47 / 60, 2, 1, 0, 0)
    # 6 4 | 5 5 | 10 | 10 | 3 and 4: 25 is cut twice, 9 once although it fits
    cut = Figures("concatenate", 5, 47, 6, 1 - 47 / 60, 3, 2, 1, 0)
    assert list(side_by_side(corpus, "train", 10)) == [best, cut]
    assert list(side_by_side(corpus, "train", 10, "drop", dropping)) == [
        Figures("concatenate", 5, 47, 4, 0.0, 3, 2, 1, 7),
        best,
    ]
    assert len({packed.fingerprint for packed in (*plans, dropping)}) == 3
    with pytest.raises(UserError, match="no packing 'worst'"):
        plan(corpus, "train", 10, "worst")  # type: ignore[arg-type]


@given(st.integers(0, 99), st.floats(5.5, 7.0), st.floats(0.8, 1.3), st.sampled_from([512, 1024, 2048, 4096, 8192]))
@settings(deadline=None, max_examples=30)
def test_padding_is_small_on_web_lengths(seed: int, middle: float, spread: float, sequence_length: int) -> None:
    """Else a large share of the computation would go into padding."""
    lengths = np.random.default_rng(seed).lognormal(middle, spread, 20_000).astype(np.int64) + 1
    pieces = pack(lengths, sequence_length)
    assert 1 - lengths.sum() / (pieces.sequences * sequence_length) < 0.005


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


def test_a_damaged_plan_is_made_anew(tmp_path: Path) -> None:
    """Else one bit that a disk lost would end every later start in a traceback of the zip reader."""
    corpus = Corpus.open(write_corpus(tmp_path / "c", {"train": [[6, 9, 25, 3]]}))
    (window,) = plan(corpus, "train", 10).windows
    (file,) = (tmp_path / "c" / "shards" / "plans").iterdir()
    data = file.read_bytes()
    for place in range(data.index(b"PK\x01\x02"), len(data)):  # the list of the arrays
        for bit in (1, 8):  # among them "is encrypted", and another way of compression
            file.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            found = packing._read(file, window.shard)
            assert found is None or all(
                (array == vars(found)[name]).all() for name, array in vars(window.pieces).items()
            )


def test_packings_are_compared_a_shard_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the lines that a run begins with would take twice the memory of its plan."""
    corpus = Corpus.open(write_corpus(tmp_path / "c", {"train": [[6, 9, 25, 3]] * 5}))
    made: list[weakref.ref[Window]] = []
    most, cut = 0, packing._cut

    def watched(*asked: Any) -> Window:
        nonlocal most
        window = cut(*asked)
        made.append(weakref.ref(window))
        most = max(most, sum(one() is not None for one in made))
        return window

    monkeypatch.setattr(packing, "_cut", watched)
    assert len(list(side_by_side(corpus, "train", 10, known=plan(corpus, "train", 10)))) == 2
    assert len(made) == 5
    assert most <= 2
