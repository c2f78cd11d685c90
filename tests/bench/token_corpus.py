"""Parts of tokens as phase tokenise leaves them, made up: documents of some 700 tokens with URLs like a crawl's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import token_parts
from pipeline.ledger import Part, file_digest
from stages.schema import ORIGIN

SOURCES = ("web", "books", "wiki")
WEIGHTS = (0.8, 0.05, 0.15)
WORDS = ("news", "local", "the-day-in-pictures", "how-to", "review", "archive", "topics", "city-council", "index", "en")
VOCABULARY = 32_000


def make(folder: Path, millions: int, parts: int = 64) -> list[tuple[Part, Part]]:
    """Writes so many million tokens in so many parts: table and tokens of each, as the ledger would name them."""
    folder.mkdir(parents=True)
    return [_part(folder, number, millions * 1_000_000 // parts) for number in range(parts)]


def _part(folder: Path, number: int, tokens: int) -> tuple[Part, Part]:
    rng = np.random.default_rng(number)
    lengths = rng.lognormal(np.log(700) - 0.5, 1.0, tokens // 700).astype(np.int64) + 1
    count = len(lengths)
    hosts = np.minimum(rng.zipf(1.3, count), 20_000)
    words = rng.integers(0, len(WORDS), (count, 3))
    pages = zip(hosts.tolist(), words.tolist(), rng.integers(0, 10**6, count).tolist(), strict=True)
    urls = [
        f"https://www.site-{host}.com/{WORDS[a]}/{WORDS[b]}/{WORDS[c]}-{page}.html" for host, (a, b, c), page in pages
    ]
    places = np.cumsum(rng.integers(5_000, 50_000, count))
    origin = {
        "file": pa.array([f"crawl/CC-MAIN-20240101-{number:05d}.warc.gz"] * count),
        "offset": pa.array(places),
        "length": pa.array(rng.integers(5_000, 50_000, count)),
        "inner_offset": pa.nulls(count, pa.int64()),
        "inner_length": pa.nulls(count, pa.int64()),
    }
    columns = {
        "id": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(rng.bytes(16 * count))]),
        "source": pa.array(np.array(SOURCES)[rng.choice(3, count, p=WEIGHTS)].tolist()),
        "url": pa.array(urls),
        "date": pa.array(1_700_000_000_000 + places, pa.timestamp("ms", tz="UTC")),
        "origin": pa.StructArray.from_arrays([origin[field.name].cast(field.type) for field in ORIGIN], fields=ORIGIN),
        "language": pa.array(["en"] * count),
        "extraction_score": pa.array(rng.random(count).round(3)),
        "toxicity": pa.array(rng.random(count).round(3).astype(np.float32)),
        "cluster_size": pa.array(np.minimum(rng.zipf(2.0, count), 1000).astype(np.int32)),
        "characters": pa.array((lengths * 4).astype(np.int32)),
        "prefix_tokens": pa.array(np.zeros(count, np.int32)),
        "n_tokens": pa.array(lengths),
    }
    values = rng.integers(0, VOCABULARY, int(lengths.sum()), np.uint16)
    digests = token_parts.write(folder / f"{number:05d}", pa.table(columns), [values], seed=0)
    found = []
    for ending in (".arrow", ".bin"):
        path = folder / f"{number:05d}{ending}"
        stat = path.stat()
        digest = digests.get(ending) or file_digest(path)
        found.append(Part(f"{folder.name}/{path.name}", stat.st_size, digest, (stat.st_mtime_ns, stat.st_ino)))
    return found[0], found[1]
