"""Corpora in layout `by_source`: weighed by the loader, weighed anew in mid-run, nothing repeated or lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import grouped_lengths, write_corpus, write_mixture

from pipeline.errors import RecipeError
from pipeline.shards import Corpus
from trainer import checkpoint
from trainer.blend import WHOLE, Blend, parts
from trainer.checkpoint import newest
from trainer.config import load_config
from trainer.data import Loader, Source
from trainer.history import GlobalBatch, History, Start, Weights
from trainer.metrics import read
from trainer.mixture import check_epochs, weights_of
from trainer.order import Order
from trainer.packing import plan
from trainer.run import checked, train
from trainer.trace import documents_of_step, steps_of_document

LENGTH = 32
RELEASED = [95, 150, 94, 48, 21, 95]
SHARES = {"web": 0.5, "books": 0.3, "code": 0.2}


@pytest.fixture(scope="module")
def grouped_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("grouped") / "corpus", grouped_lengths(), shares=SHARES)


@pytest.fixture(scope="module")
def source(grouped_folder: Path) -> Source:
    corpus = Corpus.open(grouped_folder)
    return Source(corpus, plan(corpus, "train", LENGTH))


def begin(batch: int = 7) -> History:
    start = Start(data_step=1, global_batch=batch, sequence_length=LENGTH, seed=3)
    return History(events=(start, Weights(data_step=1, weights=SHARES)))


def quiet(line: str) -> None:
    pass


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1.0)), min_size=1, max_size=9).filter(any), st.integers(0, 4000)
)
def test_blend_is_a_partition_near_its_shares(weights: list[float], n: int) -> None:
    """Else samples of a group would be read twice or never, or a mixture would miss its shares."""
    blend = Blend(parts(weights), "key")
    assert sum(blend.parts) == WHOLE
    assert [part > 0 for part in blend.parts] == [weight > 0 for weight in weights]
    groups, numbers = blend.split(np.arange(n))
    for group, part in enumerate(blend.parts):
        own = groups == group
        assert numbers[own].tolist() == list(range(int(own.sum())))
        assert blend.counts(n)[group] == own.sum()
        assert abs(own.sum() - n * part / WHOLE) < 1 + np.log2(len(weights))
        if own.any():
            assert blend.samples(group, numbers[own]).tolist() == np.flatnonzero(own).tolist()


def test_blend_far_out() -> None:
    """Else a run of billions of samples would overflow, or a seek would have to count from the beginning."""
    blend = Blend(parts([0.7, 0.2, 0.1]), "key")
    samples = np.arange(10) + (1 << 42)
    groups, numbers = blend.split(samples)
    for group, number, sample in zip(groups.tolist(), numbers, samples.tolist(), strict=True):
        assert blend.samples(group, np.array([number])).tolist() == [sample]
        assert blend.counts(sample)[group] == number


def test_nothing_is_repeated_or_lost_when_weights_change(source: Source) -> None:
    """Else a mixture changed half-way would read some documents twice and others never (Megatron-LM#457, #725)."""
    history = begin()
    changes = {9: {"web": 0.1, "books": 0.2, "code": 0.7}, 17: {"web": 0.2, "books": 0.8, "code": 0.0},
               31: {"web": 0.6, "books": 0.0, "code": 0.4}}  # fmt: skip
    for data_step, weights in changes.items():
        if data_step == 17:
            history = history.then(GlobalBatch(data_step=15, global_batch=5))
        history = history.then(Weights(data_step=data_step, weights=weights))
    order = Order(source.plan, 3)
    read = [sequence for step in range(1, 61) for sequence in order.batch(history, step).tolist()]
    positions = {}
    for number, group in enumerate(source.plan.groups):
        own = [s for s in read if group.first <= s < group.first + group.sequences]
        assert order.counts(history, len(read))[number] == len(own)
        # what a run on this group alone would have read, in this order
        assert own == order._given(np.full(len(own), number), np.arange(len(own))).tolist()
        for epoch in range(len(own) // group.sequences):
            whole = own[epoch * group.sequences : (epoch + 1) * group.sequences]
            assert sorted(whole) == list(range(group.first, group.first + group.sequences))
        times = Counter(own)
        assert max(times.values()) - min(times[s] for s in range(group.first, group.first + group.sequences)) <= 1
        positions[number] = len(own) / group.sequences
    assert max(positions.values()) > 2  # two epochs and more of one, less of others
    assert min(positions.values()) < 2
    found = order.positions(history, np.arange(source.plan.sequences), len(read))
    assert found.tolist() == list(range(len(read)))
    for sequence in read[::17]:
        expected = [position for position, s in enumerate(read) if s == sequence]
        assert order.positions(history, np.array([sequence]), len(read)).tolist() == expected


def test_documents_are_counted_alike(source: Source) -> None:
    """Else tokens would be lost inside the sequences: every document of a group is read as often as its group, ± 1."""
    history = begin().then(Weights(data_step=6, weights={"web": 0.2, "books": 0.3, "code": 0.5}))
    order = Order(source.plan, 3)
    tokens: Counter[tuple[int, int]] = Counter()
    for step in range(1, 41):
        for piece in source.placed(order.batch(history, step)):
            tokens[piece.window, piece.document] += piece.length
    end = history.at(40).cursor + 7
    for number, group in enumerate(source.plan.groups):
        epochs = order.counts(history, end)[number] / group.sequences
        for window, part in enumerate(source.plan.windows):
            if part.shard.group == group.name:
                for document, length in enumerate(source.corpus.lengths(part.shard).tolist()):
                    # a document longer than a sequence may be read in part at the beginning of an epoch
                    assert int(epochs) * length <= tokens[window, document] <= -(-epochs // 1) * length


def test_shares_are_of_tokens(source: Source) -> None:
    """Else a group whose sequences hold more padding would get less than its share."""
    order, history = Order(source.plan, 3), begin(400)
    batch = source.placed(order.batch(history, 1))
    tokens: Counter[str] = Counter()
    for piece in batch:
        tokens[source.plan.windows[piece.window].shard.group or ""] += piece.length
    for name, share in SHARES.items():
        assert tokens[name] / tokens.total() == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("look_ahead", [0, 5])
def test_batches_by_source_do_not_depend_on_look_ahead_or_start(source: Source, look_ahead: int) -> None:
    """Else a resumed run, or one on a faster machine, would train on other data."""
    order, history = Order(source.plan, 3), begin().then(Weights(data_step=9, weights=dict.fromkeys(SHARES, 1.0)))
    straight = [order.batch(history, step).tolist() for step in range(1, 21)]
    with Loader(source, order, history, look_ahead) as loader:
        for step, _, _, batch in loader.from_step(7, 20):
            assert (batch.tokens_BT == source.batch(np.array(straight[step - 1])).tokens_BT).all()


def test_mixed_order_is_the_one_that_was_released(corpus: Corpus) -> None:
    """Else a run on mixed shards that is going on would read other data after an update."""
    start = Start(data_step=1, global_batch=6, sequence_length=LENGTH, seed=3)
    found = Order(plan(corpus, "train", LENGTH), 3).batch(History(events=(start,)), 29)
    assert found.tolist() == RELEASED


def test_a_run_weighed_anew_at_a_resume(config_file: Callable[..., Path], grouped_folder: Path, tmp_path: Path) -> None:
    """Else a by_source corpus could not be trained on, re-weighed, resumed or traced."""
    other = "data.weights={web: 1, books: 1, code: 8}"
    path = config_file(
        data={"corpus": str(grouped_folder)},
        steps=16,
        checkpoint={"folder": str(tmp_path / "a"), "every": 4, "keep": 9},
    )
    assert train(path, ["steps=8", "schedule.floor=1", "schedule.warmup=1"], quiet) == 0
    said: list[str] = []
    assert train(path, ["schedule.floor=1", "schedule.warmup=1", other], said.append) == 0
    assert "other weights from step 9 on: books 0.1, code 0.8, web 0.1" in said
    assert not any(line.startswith("packed by") for line in said)  # it was said when the run began
    assert train(path, ["steps=20", "schedule.floor=1", "schedule.warmup=1", other, "data.look_ahead=0"], quiet) == 0
    found = newest(tmp_path / "a", quiet)
    assert found is not None
    history = found[1].history
    assert [event.what for event in history.events] == ["start", "weights", "weights"]
    assert history.at(8).weights == SHARES
    for row in (row for row in read(tmp_path / "a" / "metrics.jsonl") if row["kind"] == "step"):
        least, most = min(row["loss_by_group"].values()), max(row["loss_by_group"].values())
        assert least - 1e-5 <= row["loss"] <= most + 1e-5
        assert row["loss_by_group"].keys() <= SHARES.keys()
    uses = {step: documents_of_step(tmp_path / "a", step) for step in range(1, 21)}
    early, late = ([use.source for step in steps for use in uses[step]] for steps in (range(1, 9), range(9, 21)))
    assert set(early) == set(SHARES)
    assert late.count("code") / len(late) > early.count("code") / len(early)
    for document in sorted({use.document for use in uses[3] + uses[12]})[::6]:
        expected = [use for step in uses for use in uses[step] if use.document == document]
        expected.sort(key=lambda use: (use.step, use.row, use.column))
        assert steps_of_document(tmp_path / "a", None, document) == expected

    # killed before the resume was told of the weights, and gone on with from an older checkpoint
    again = tmp_path / "b"
    path = config_file("again", data={"corpus": str(grouped_folder)}, checkpoint={"folder": str(again), "every": 4})
    assert train(path, ["steps=8", "schedule.floor=1", "schedule.warmup=1"], quiet) == 0
    assert train(path, ["steps=20", "schedule.floor=1", "schedule.warmup=1", other], quiet) == 0
    assert losses(again) == losses(tmp_path / "a")

    # planned beforehand, as one of the settings that change in mid-run
    planned = {"step": 9, "set": {"data.weights": {"web": 1, "books": 1, "code": 8}}}
    path = config_file(
        "planned",
        data={"corpus": str(grouped_folder)},
        changes=[planned],
        checkpoint={"folder": str(tmp_path / "c"), "every": 4},
    )
    assert train(path, ["steps=20", "schedule.floor=1", "schedule.warmup=1"], quiet) == 0
    assert losses(tmp_path / "c") == losses(tmp_path / "a")


def test_weights_to_come_are_checked_at_the_beginning(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a mixture that uses a source up would end a run at the step where that happens, or one would be refused
    that does not."""
    corpus = write_corpus(tmp_path / "corpus", grouped_lengths(), shares=SHARES, max_epochs=2)
    for code, message in ("code", "group 'code' ends at step"), ("cod", "no group 'cod'"):
        later = {"step": 3, "set": {"data.weights": {"web": 0.1, "books": 0.1, code: 0.8}}}
        path = config_file(data={"corpus": str(corpus)}, steps=30, changes=[later])
        with pytest.raises(RecipeError, match=message):
            train(path)
    # the weights of the beginning alone would use code up
    earlier = {"step": 2, "set": {"data.weights": {"web": 0.7, "books": 0.3, "code": 0}}}
    assert train(config_file("fine", data={"corpus": str(corpus)}, steps=60, changes=[earlier]), say=quiet) == 0


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read(folder / "metrics.jsonl") if row["kind"] == "step"]


def test_weights_come_from_the_corpus_or_the_configuration(corpus_folder: Path, source: Source) -> None:
    """Else a misspelt group would be left out of training in silence."""
    corpus = source.corpus

    def weights(**asked: float) -> dict[str, float] | None:
        return weights_of(asked or None, corpus, source.plan, "train")

    def refused(**asked: float) -> str:
        with pytest.raises(RecipeError) as caught:
            weights(**asked)
        return str(caught.value)

    assert weights() == SHARES
    assert weights(web=2, books=0, code=2) == {"web": 0.5, "books": 0.0, "code": 0.5}
    assert "data.weights: " in (text := refused(web=1, book=1, code=1))
    assert "no group 'book'. Did you mean 'books'?" in text
    assert "no weight for books, code" in refused(web=1)
    assert "all weights are 0" in refused(web=0, books=0, code=0)
    assert "the weight of 'books' is -1; give it 0 or more" in refused(web=1, books=-1, code=1)
    mixed = Corpus.open(corpus_folder)
    assert weights_of(None, mixed, plan(mixed, "train", LENGTH), "train") is None
    with pytest.raises(RecipeError, match=r"shards\.layout: by_source"):
        weights_of({"web": 1}, mixed, plan(mixed, "train", LENGTH), "train")


def test_an_epoch_is_of_the_groups_that_are_read(
    config_file: Callable[..., Path], grouped_folder: Path, corpusmill: Callable[..., Any]
) -> None:
    """Else a group would be read several times where one epoch was asked for, since others have no weight."""
    data = {"corpus": str(grouped_folder), "weights": {"web": 1, "books": 0, "code": 0}}
    path, said = config_file(data=data, steps=None, epochs=1), list[str]()
    assert train(path, say=said.append) == 0
    web = next(group for group in checked(load_config(path)).train.plan.groups if group.name == "web")
    steps = -(-web.sequences // 4)
    assert any(line.startswith(f"{steps} steps = ") for line in said), said
    assert len(json.loads(corpusmill("plot-schedule", path, "--json").stdout)) == steps


def test_a_group_without_documents_in_the_split(tmp_path: Path) -> None:
    """Else a run would divide by nothing where all of a source went to validation."""
    lengths = {"train": {"web": [[9] * 20]}, "validation": {"web": [[9] * 3], "books": [[9] * 3]}}
    corpus = Corpus.open(write_corpus(tmp_path / "c", lengths, shares={"web": 0.5, "books": 0.5}))
    of_train = plan(corpus, "train", LENGTH)
    with pytest.raises(RecipeError, match="group 'books' has no documents in split 'train'"):
        weights_of(None, corpus, of_train, "train")
    assert weights_of({"web": 1, "books": 0}, corpus, of_train, "train") == {"web": 1}


def test_epochs_beyond_the_limit_are_refused_before_the_run(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a small source would be read dozens of times where its owner allowed four."""
    corpus = write_corpus(tmp_path / "corpus", grouped_lengths(), shares=SHARES, max_epochs=2)
    path = config_file(data={"corpus": str(corpus)}, steps=60)
    with pytest.raises(RecipeError, match="too little data") as caught:
        train(path, say=quiet)
    text = str(caught.value)
    config, source = load_config(path), checked(load_config(path)).train
    order = Order(source.plan, config.seed)
    history = History(events=(
        Start(data_step=1, global_batch=4, sequence_length=LENGTH, seed=3), Weights(data_step=1, weights=SHARES)
    ))  # fmt: skip
    code = [group.name for group in source.plan.groups].index("code")
    most = 2 * source.plan.groups[code].sequences
    step = next(step for step in range(1, 99) if order.counts(history, 4 * step)[code] > most)
    # each group once, and each way out that it names is one
    assert f"group 'code' ends at step {step} of 60, read 2 times; possible are steps: {step - 1}, a weight" in text
    assert len(text.splitlines()) == 2
    check_epochs(order, history, step - 1, [2, 2, 2])
    epochs = float(text.rpartition("data.max_epochs: ")[2])
    check_epochs(order, history, 60, [None, None, epochs])
    weight = float(text.partition("a weight of about ")[2].split()[0]) * 0.97
    rest = (1 - weight) / (SHARES["web"] + SHARES["books"])
    weights = {"web": SHARES["web"] * rest, "books": SHARES["books"] * rest, "code": weight}
    check_epochs(order, history.then(Weights(data_step=1, weights=weights)), 60, [None, None, 2])
    with pytest.raises(RecipeError, match="all together last for about") as caught:
        train(path, ["steps=6000"], quiet)
    assert "a weight" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 + 3 + 1


def test_another_mixture_file_is_taken_up(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else changing the shares in the recipe, which redoes the last phase alone, would have no effect on a run."""
    corpus = write_corpus(tmp_path / "corpus", grouped_lengths(), shares=SHARES)
    path = config_file(data={"corpus": str(corpus)}, steps=4, checkpoint={"folder": str(tmp_path / "m")})
    assert train(path, ["steps=3"], quiet) == 0
    write_mixture(corpus, {"web": 0.2, "books": 0.2, "code": 0.6})
    assert train(path, say=quiet) == 0
    found = checkpoint.newest(tmp_path / "m", quiet)
    assert found is not None
    assert found[1].history.at(4).weights == {"books": 0.2, "code": 0.6, "web": 0.2}
    assert found[1].history.at(3).weights == SHARES


def test_a_batch_larger_than_what_is_read(
    config_file: Callable[..., Path], grouped_folder: Path, source: Source
) -> None:
    """Else every batch would hold each of a few sequences many times."""
    sizes = {group.name: group.sequences for group in source.plan.groups}
    batch = 2 * (sizes["code"] // 2 + 1)
    assert sizes["code"] < batch < sizes["books"]
    path = config_file(data={"corpus": str(grouped_folder)}, global_batch=batch)
    checked(load_config(path, ["data.weights={web: 0, books: 1, code: 9}"]))  # code is read in several epochs
    message = rf"its groups of weight 0 left out, packs into {sizes['code']} sequences of 32 tokens, fewer than one "
    with pytest.raises(RecipeError, match=rf"{message}global_batch of {batch};"):
        checked(load_config(path, ["data.weights={web: 0, books: 0, code: 1}"]))
    with pytest.raises(RecipeError, match=message):
        checked(load_config(path, ["changes=[{step: 5, set: {data.weights: {web: 0, books: 0, code: 1}}}]"]))
    config = load_config(path, ["changes=[{step: 5, set: {global_batch: 4000}}]"])
    with pytest.raises(
        RecipeError, match=r"packs into \d+ sequences of 32 tokens, fewer than one global_batch of 4000;"
    ):
        checked(config)


def test_a_limit_is_lifted(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else the one who wants no limit would see an OverflowError, or have to reckon how often each group is read."""
    corpus = write_corpus(tmp_path / "corpus", grouped_lengths(), shares=SHARES, max_epochs=2)
    path = config_file(data={"corpus": str(corpus)}, steps=60)
    assert train(path, ["data.max_epochs=.inf", "schedule.warmup=1", "model.layers=1"], quiet) == 0
