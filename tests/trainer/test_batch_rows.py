"""The compiled loop that fills a batch, against a plain one over pieces and tokens."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import VOCABULARY, write_corpus
from test_prefix_loss import with_prefix

from pipeline.errors import DamageError, RecipeError
from pipeline.shards import Corpus, Shard
from trainer.batch import IGNORED, NO_DOCUMENT
from trainer.config import load_config
from trainer.data import Source
from trainer.history import History, Start
from trainer.metrics import read
from trainer.order import Order
from trainer.packing import Packing, plan
from trainer.run import checked, train

LENGTH = 32
PARTS = [None, 32, 16, 8, 2]

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module", params=["eot-last", "bos-first"])
def prefixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Its first shard has prompts too; of some documents nothing is said, as where corpora are merged."""
    corpus = with_prefix(tmp_path_factory.mktemp("prefixed") / "corpus", request.param)
    return with_prompts(corpus, corpus.shards("train")[:1])


def with_prompts(corpus: Corpus, shards: list[Shard]) -> Corpus:
    """The corpus with prompts in two thirds of the documents of these shards; those of the others have 0 or null
    tokens."""
    meta = json.loads((corpus.folder / "corpus.json").read_text())
    for shard in shards:
        path = shard.path(".docs.parquet")
        table = pq.read_table(path)
        room = np.subtract(np.subtract(table["token_end"], table["token_start"]), table["prefix_tokens"]) - 1
        prompt = [
            [None, 0, min(20, many), min(3, many), many, 1 if many else 0][n % 6]
            for n, many in enumerate(room.tolist())
        ]
        pq.write_table(table.append_column("prompt_tokens", pa.array(prompt, pa.int32())), path)
        (facts,) = (one for one in meta["splits"][shard.split]["shards"] if one["stem"].endswith(shard.name))
        facts["files"][".docs.parquet"]["bytes"] = path.stat().st_size
    (corpus.folder / "corpus.json").write_text(json.dumps(meta))
    return Corpus.open(corpus.folder)


def slow_batch(
    source: Source, sequences: list[int], left_out: set[tuple[int, int]], part: int | None, joined: bool
) -> Arrays:
    """Tokens, targets, positions and documents, made one token at a time."""
    shape, most = (len(sequences), LENGTH), part or LENGTH
    tokens_BT, targets_BT = np.full(shape, 1), np.full(shape, IGNORED)  # 1 is the corpus's pad
    positions_BT, documents_BT = np.zeros(shape, int), np.full(shape, NO_DOCUMENT)
    number = 0
    shards = [source.corpus.tokens(window.shard).tolist() for window in source.plan.windows]
    tables = [source.corpus.documents(window.shard).to_pylist() for window in source.plan.windows]

    def asked(window: int, document: int, place: int) -> bool:
        """Whether the token at a place of a shard is a target, if any place is to predict it."""
        row = tables[window][document]
        without = 0 if source.prefix_loss else row["prefix_tokens"]
        if not source.prompt_loss and row.get("prompt_tokens"):
            without = row["prefix_tokens"] + row["prompt_tokens"]
        begin = row["token_start"] + (source.corpus.boundary == "bos-first")
        return not without or place >= begin + without

    for row, sequence in enumerate(sequences):
        window, inside = source.plan.locate(sequence)
        pieces = source.plan.windows[window].pieces
        mine = range(pieces.first[inside], pieces.first[inside + 1])
        column = 0
        for piece in mine:
            document, start, many = int(pieces.document[piece]), int(pieces.start[piece]), int(pieces.length[piece])
            if (window, document) in left_out:
                column += many
                continue
            for place in range(start, start + many):
                tokens_BT[row, column] = shards[window][place]
                documents_BT[row, column] = row * (LENGTH // most) + column // most if joined else number
                if joined:
                    positions_BT[row, column] = column % most
                elif place > start and column % most:
                    positions_BT[row, column] = positions_BT[row, column - 1] + 1
                follows: tuple[int, int] | None = document, place + 1
                if place + 1 == tables[window][document]["token_end"]:
                    # joined documents: the first token of the next piece, which a later sequence may begin with
                    behind = piece + 1
                    there = behind < len(pieces.start) and (behind in mine or source.plan.packing == "concatenate")
                    follows = (int(pieces.document[behind]), int(pieces.start[behind])) if joined and there else None
                    if there and behind not in mine and column < LENGTH - 1:
                        follows = None
                if follows and (window, follows[0]) not in left_out and asked(window, *follows):
                    targets_BT[row, column] = shards[window][follows[1]]
                column += 1
                if column % most == 0 or place == start + many - 1:
                    number += 1
    return tuple(a.reshape(-1, most) for a in (tokens_BT, targets_BT, positions_BT, documents_BT))  # type: ignore[return-value]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@given(data=st.data())
def test_rows_equal_the_plain_loop(prefixed: Corpus, data: st.DataObject) -> None:
    """Else tokens, targets, positions or masks would be wrong in some packing, however rarely."""
    packing: Packing = data.draw(st.sampled_from(["best-fit", "concatenate"]))
    remainder = data.draw(st.sampled_from([None, "drop"])) if packing == "concatenate" else None
    packed = plan(prefixed, "train", LENGTH, packing, remainder)
    joined, prefix_loss, prompt_loss = (data.draw(st.booleans()) for _ in range(3))
    part = data.draw(st.sampled_from(PARTS))
    source = Source(prefixed, packed, prefix_loss, joined=joined, prompt_loss=prompt_loss)
    sequences = data.draw(st.lists(st.integers(0, packed.sequences - 1), min_size=1, max_size=9))
    ids = data.draw(st.frozensets(st.sampled_from(identities(prefixed)), max_size=12))
    batch = source.batch(np.array(sequences), ids, part=part)
    expected = slow_batch(source, sequences, set(source.numbers(ids)), part, joined)
    for array, wanted in zip(
        (batch.tokens_BT, batch.targets_BT, batch.positions_BT, batch.documents_BT), expected, strict=True
    ):
        assert array.tolist() == wanted.tolist()
    assert len(batch.groups_B) == len(batch.tokens_BT)


def identities(corpus: Corpus) -> list[str]:
    shards = corpus.shards("train")
    return [id_.hex() for shard in shards for id_ in corpus.documents(shard, ["id"])["id"].to_pylist()]


def test_parts_are_the_same_tokens_in_the_same_order(corpus: Corpus) -> None:
    """Else a curriculum of lengths would lose tokens or targets, or let a place look over a cut."""
    source = Source(corpus, plan(corpus, "train", LENGTH))
    chosen = np.arange(20)
    whole, parts = source.batch(chosen), source.batch(chosen, part=8)
    assert parts.tokens_BT.shape == (80, 8)
    assert (parts.tokens_BT.reshape(-1, LENGTH) == whole.tokens_BT).all()
    assert (parts.targets_BT.reshape(-1, LENGTH) == whole.targets_BT).all()
    assert (parts.targets, parts.tokens) == (whole.targets, whole.tokens)
    assert parts.positions_BT.max() == 7
    rows = [set(row[row != NO_DOCUMENT].tolist()) for row in parts.documents_BT]
    assert sum(map(len, rows)) == len(set().union(*rows))  # no number stands in two rows
    placed = source.placed(chosen, part=8)
    assert {(p.row, p.column) for p in placed} == {
        (row, column)
        for row, column in np.argwhere((parts.positions_BT == 0) & (parts.documents_BT != NO_DOCUMENT)).tolist()
    }


def test_joined_documents_of_the_concatenated_corpus_are_one_stream(corpus: Corpus) -> None:
    """Else `concatenate` and `joined` would not be what GPT-2 and nanoGPT train on: windows of one long text."""
    packed = plan(corpus, "train", LENGTH, "concatenate", "drop")
    batch = Source(corpus, packed, joined=True).batch(np.arange(packed.windows[0].pieces.sequences))
    stream = corpus.tokens(packed.windows[0].shard)
    assert batch.tokens_BT.reshape(-1).tolist() == stream[: batch.tokens_BT.size].tolist()
    last = batch.targets_BT.size - 1
    assert batch.targets_BT.reshape(-1)[:last].tolist() == stream[1 : last + 1].tolist()
    assert (batch.positions_BT == np.arange(LENGTH)).all()
    assert (batch.documents_BT == np.arange(len(batch.documents_BT))[:, None]).all()


@pytest.mark.parametrize("vocabulary", [VOCABULARY, 70_000])
def test_a_token_beyond_the_vocabulary_is_found(tmp_path: Path, vocabulary: int) -> None:
    """Else damaged shards would end in an index error of the GPU, or train a model on noise."""
    corpus = Corpus.open(write_corpus(tmp_path / "c", {"train": [[20, 31, 9]]}, vocabulary=vocabulary))
    source = Source(corpus, plan(corpus, "train", LENGTH))
    assert source.batch(np.arange(2)).tokens == 60
    for wrong in (vocabulary, -1) if corpus.dtype.itemsize == 4 else (vocabulary,):
        tokens = np.memmap(corpus.shards("train")[0].path(".bin"), corpus.dtype, "r+")
        tokens[25] = wrong
        tokens.flush()
        with pytest.raises(DamageError, match="hold a token beyond the vocabulary"):
            Source(corpus, source.plan).batch(np.arange(2))


def test_a_source_travels_to_another_process(corpus: Corpus) -> None:
    """Else a DataLoader's worker would read at addresses of its parent."""
    source = Source(corpus, plan(corpus, "train", LENGTH))
    before = source.batch(np.arange(5))
    there = pickle.loads(pickle.dumps(source))
    assert "_rows" not in vars(there)
    assert (there.batch(np.arange(5)).tokens_BT == before.tokens_BT).all()
    assert replace(source, joined=True)._held is not source._held


def test_training_without_prompts(config_file: Callable[..., Path], prefixed: Corpus, tmp_path: Path) -> None:
    """Else the setting would change nothing in a run, or a corpus would be refused that has prompts in some shards
    alone, as where one of a template and one without were merged."""
    folder = tmp_path / "run"
    path = config_file(data={"corpus": str(prefixed.folder)}, steps=3, checkpoint={"folder": str(folder)})
    source = checked(load_config(path, ["data.prompt_loss=false"])).train
    assert train(path, ["data.prompt_loss=false"], lambda line: None) == 0
    rows = [row for row in read(folder / "metrics.jsonl") if row["kind"] == "step"]
    order, history = (
        Order(source.plan, 3),
        History(events=(Start(data_step=1, global_batch=4, sequence_length=LENGTH, seed=3),)),
    )
    batches = [source.batch(order.batch(history, step)) for step in (1, 2, 3)]
    assert rows[-1]["tokens"] == sum(batch.targets for batch in batches)
    whole = replace(source, prompt_loss=True)
    assert rows[-1]["tokens"] < sum(whole.batch(order.batch(history, step)).targets for step in (1, 2, 3))


def test_documents_left_out_are_looked_up_in_one_go(
    config_file: Callable[..., Path], prefixed: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the tables of all shards would be read again for each of a thousand ids."""
    ids = identities(prefixed)[:20]
    config = load_config(config_file(data={"corpus": str(prefixed.folder), "leave_out": ids}))
    asked: list[str] = []
    documents = Corpus.documents

    def counted(corpus: Corpus, shard: Shard, columns: list[str] | None = None) -> pa.Table:
        asked.append(shard.name)
        return documents(corpus, shard, columns)

    monkeypatch.setattr(Corpus, "documents", counted)
    assert len(checked(config).train.numbers(frozenset(ids))) == 20
    assert len(asked) == len(prefixed.shards("train"))
    with pytest.raises(RecipeError, match=f"has no document {'0' * 32}"):
        checked(load_config(config_file(data={"corpus": str(prefixed.folder), "leave_out": [*ids, "0" * 32]})))


def test_validation_without_the_ends_of_prefixes(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else the first evaluation would end in a traceback of the reader of tables, hours after the run began."""
    corpus = with_prefix(tmp_path / "corpus", "eot-last")
    path = corpus.shards("validation")[0].path(".docs.parquet")
    pq.write_table(pq.read_table(path).drop_columns("prefix_tokens"), path)
    meta = json.loads((corpus.folder / "corpus.json").read_text())
    meta["splits"]["validation"]["shards"][0]["files"][".docs.parquet"]["bytes"] = path.stat().st_size
    (corpus.folder / "corpus.json").write_text(json.dumps(meta))
    config = config_file(data={"corpus": str(corpus.folder), "prefix_loss": False})
    with pytest.raises(RecipeError, match=r"data\.prefix_loss: .* does not say where its prefixes end"):
        checked(load_config(config))
    checked(load_config(config, ["data.validation=null"]))


def test_a_seed_that_no_generator_takes(config_file: Callable[..., Path]) -> None:
    """Else it would end in a traceback of torch."""
    with pytest.raises(RecipeError, match=r"seed: 18446744073709551616 is more than 64 bits hold"):
        checked(load_config(config_file(seed=1 << 64)))
    checked(load_config(config_file(seed=(1 << 64) - 1)))
