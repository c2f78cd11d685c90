"""Parts of tokens, and shards written from them a block at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import token_parts
from pipeline.ledger import file_digest
from pipeline.shards import ShardWriter, file_sha256, group_labels, read_index, shard_name
from pipeline.shuffle import shuffle_hashes

U2 = np.dtype("<u2")


def part(folder: Path, name: str, lengths: list[int], cuts: list[int]) -> tuple[Path, dict[bytes, list[int]]]:
    """Writes a part of documents of these lengths, whose tokens come in arrays cut at these documents: the tokens of
    each document."""
    rng = np.random.default_rng(len(lengths))
    texts = [rng.integers(0, 60_000, length).astype(U2) for length in lengths]
    names = [name.encode() + bytes([number]) + bytes(15 - len(name)) for number in range(len(lengths))]
    table = pa.table(
        {
            "id": pa.array(names, pa.binary(16)),
            "url": pa.array([f"https://{number}.com/" if number % 2 else None for number in range(len(lengths))]),
            "prefix_tokens": pa.array([0] * len(lengths), pa.int32()),
            "n_tokens": pa.array(lengths, pa.int64()),
        }
    )
    arrays = [np.concatenate([np.zeros(0, U2), *texts[a:b]]) for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    digests = token_parts.write(folder / name, table, arrays, seed=3)
    assert digests[".bin"] == file_digest(folder / f"{name}.bin")
    return folder / f"{name}.arrow", dict(zip(names, (text.tolist() for text in texts), strict=True))


def test_a_part_holds_its_documents_in_shuffled_order(tmp_path: Path) -> None:
    """Otherwise a document would train under the name of another."""
    path, texts = part(tmp_path, "a", [3, 0, 5, 1, 0, 4], [2, 2, 5])
    rows, tokens = token_parts.opened(path).to_pylist(), token_parts.tokens_of(path, U2)
    assert {row["id"]: tokens[row["start"] :][: row["n_tokens"]].tolist() for row in rows} == texts
    hashes = shuffle_hashes([row["id"] for row in rows], 3)
    assert (np.diff(hashes.astype(object)) > 0).all()
    none, _ = part(tmp_path, "none", [], [])
    assert token_parts.opened(none).num_rows == 0
    assert token_parts.opened(none).schema.names == token_parts.opened(path).schema.names


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from([None, 7]))
def test_gathered_tokens_are_those_of_the_documents(data: st.DataObject, last: bool, edge: int | None) -> None:
    """Otherwise documents would be cut, joined or swapped in a shard."""
    sources = [np.arange(100 * number, 100 * number + size, dtype=U2) for number, size in enumerate((9, 0, 30))]
    spans = data.draw(st.lists(st.tuples(st.sampled_from([0, 2]), st.integers(0, 9), st.integers(0, 9))))
    spans = [(number, start, min(length, len(sources[number]) - start)) for number, start, length in spans]
    columns = [np.array([span[place] for span in spans], np.int64) for place in range(3)]
    out = token_parts.gathered(sources.__getitem__, *columns, U2, edge, edge_last=last)
    expected: list[int] = []
    for number, start, length in spans:
        own = sources[number][start : start + length].tolist()
        expected += own if edge is None else [*own, edge] if last else [edge, *own]
    assert out.tolist() == expected


def test_rows_of_several_parts_come_in_the_order_asked_for(tmp_path: Path) -> None:
    """Otherwise the table of a shard would name other documents than the tokens beside it are of."""
    paths = [part(tmp_path, name, [1] * 5, [])[0] for name in ("a", "b")]
    source, row = np.array([1, 0, 1, 0, 0]), np.array([4, 2, 0, 2, 1])
    found = token_parts.taken(paths, source, row).column("id").to_pylist()
    assert found == [token_parts.opened(paths[s]).column("id")[r].as_py() for s, r in zip(source, row, strict=True)]


@given(st.lists(st.integers(0, 40), max_size=30))
def test_blocks_tile_the_documents(lengths: list[int]) -> None:
    """Otherwise a document would be left out between blocks, or memory grow with the shard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_parts, "BLOCK", 50)
        found = list(token_parts.blocks(np.array(lengths, np.int64)))
    assert [row for here in found for row in range(here.start, here.stop)] == list(range(len(lengths)))
    assert all(sum(lengths[here]) <= 50 for here in found)


def test_a_shard_is_the_same_in_any_blocks(tmp_path: Path) -> None:
    """Otherwise a shard's digest would hang on how it was cut while it was written."""
    lengths = np.arange(1, 40_001) % 5
    tokens = np.arange(lengths.sum(), dtype=U2)
    rows = pa.table({"id": pa.array([bytes(16)] * 40_000, pa.binary(16)), "source": ["web"] * 40_000})
    facts = []
    for name, cuts in (("one", []), ("many", [5, 17_000, 17_000, 39_999])):
        with ShardWriter(tmp_path / name, U2, rows.schema) as out:
            ends = np.append(0, np.cumsum(lengths))
            for a, b in zip([0, *cuts], [*cuts, 40_000], strict=True):
                out.append(tokens[ends[a] : ends[b]], lengths[a:b], rows.slice(a, b - a))
            facts.append(out.close())
        for ending, path in out.paths.items():
            assert facts[-1]["files"][ending] == {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
            assert out.digests[ending] == file_digest(path)
    assert facts[0] == facts[1]
    assert (facts[0]["documents"], facts[0]["tokens"]) == (40_000, len(tokens))
    assert read_index(tmp_path / "one.idx")[1].tolist() == lengths.tolist()
    with ShardWriter(tmp_path / "none", U2, rows.schema) as out:
        assert out.close()["documents"] == 0
    with ShardWriter(tmp_path / "bad", U2, rows.schema) as out, pytest.raises(ValueError, match="3 tokens and 1 rows"):
        out.append(tokens[:3], lengths[:2], rows.slice(0, 1))


def test_groups_have_file_names_of_their_own() -> None:
    """Otherwise two sources would write to one file, or a host's name leave the folder."""
    labels = group_labels(["web", "Web", "en/web", "en_web", "../x", "..", ">=0.6", "x" * 300])
    assert labels == {
        "web": "web", "Web": "Web_2", "en/web": "en_web", "en_web": "en_web_2", "../x": "_._x", "..": "_.",
        ">=0.6": "__0.6", "x" * 300: "x" * 80,
    }  # fmt: skip
    assert shard_name("train", 0, 2, labels[">=0.6"]) == "train-__0.6-00000-of-00002"
    assert shard_name("train", 0, 2) == "train-00000-of-00002"
