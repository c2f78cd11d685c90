"""Token lists in Parquet, as `datasets.load_dataset(OUT)` and the Hub read them: `tokens`, `id`, `source`, `url`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipeline.export.exporting import Part, blocks
from pipeline.shards import Corpus


def write(corpus: Corpus, part: Part, folder: Path) -> None:
    """Writes each shard of a part as one file, a document a row."""
    kind = pa.from_numpy_dtype(corpus.dtype)
    texts = [pa.field(name, pa.string()) for name in ("id", "source", "url")]
    schema = pa.schema([*texts, pa.field("tokens", pa.list_(kind))])
    for shard in part.shards:
        with pq.ParquetWriter(folder / f"{shard.name}.parquet", schema, compression="zstd") as file:
            for block in blocks(corpus, shard, ["id", "source", "url"]):
                tokens = pa.ListArray.from_arrays(pa.array(block.ends, pa.int32()), pa.array(block.tokens, kind))
                ids = pa.array([id_.hex() for id_ in block.rows["id"].to_pylist()])
                file.write_table(pa.table([ids, block.rows["source"], block.rows["url"], tokens], schema=schema))


def card(corpus: Corpus, parts: list[Part]) -> str:
    """The `README.md` that tells `datasets` which files are which split, and of which group."""
    configs: dict[str, list[dict[str, str]]] = {}
    for part in parts:
        name = "default" if part.group is None else part.folder.parts[0]
        configs.setdefault(name, []).append({"split": part.split, "path": f"{part.folder.as_posix()}/*.parquet"})
    listed = [{"config_name": name, "data_files": files} for name, files in configs.items()]
    head = yaml.safe_dump({"configs": listed}, sort_keys=False, allow_unicode=True)
    tokenizer = corpus.meta["tokenizer"]["digest"]
    return (
        f"---\n{head}---\n\nDocuments of the corpus {corpus.meta['name']} as token ids below {corpus.vocabulary}, "
        f"boundary token included ({corpus.boundary}); tokenizer {tokenizer}.\n"
    )
