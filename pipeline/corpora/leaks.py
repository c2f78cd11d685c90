"""What a merge must not bring together: sites that one corpus holds out and another trains on, and documents that were
taken out of one and lie in another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.corpora.removal import LIST
from pipeline.errors import UserError
from pipeline.parts import read_batches
from pipeline.prefix import hosts_of
from pipeline.shards import Corpus
from pipeline.splits import TRAIN, registered_domain
from stages.takedown import Matcher, read


@dataclass
class Leaks:
    """Documents for training whose registered domain another corpus holds out."""

    documents: int = 0
    tokens: int = 0
    domains: set[str] = field(default_factory=set)

    def text(self) -> str:
        """A line for people."""
        some = ", ".join(sorted(self.domains)[:5]) + (" ..." if len(self.domains) > 5 else "")
        return (
            f"{self.documents:,} documents for training ({self.tokens:,} tokens) are of {len(self.domains):,} domains "
            f"that another of the corpora holds out: {some}"
        )


def find(corpora: Sequence[Corpus]) -> Leaks:
    """Documents of a `train` split whose domain stands in another split of another corpus. Memory: the held domains."""
    held = [
        {domain for split in corpus.splits if split != TRAIN for batch in _rows(corpus, split)
         for domain in _domains(batch.column("url"))[1]} - {""}
        for corpus in corpora
    ]  # fmt: skip
    found = Leaks()
    for number, corpus in enumerate(corpora):
        others = set().union(*(domains for place, domains in enumerate(held) if place != number))
        if not others or TRAIN not in corpus.splits:
            continue
        for batch in _rows(corpus, TRAIN):
            place, domains = _domains(batch.column("url"))
            bad = np.array([domain in others for domain in domains] + [False])
            hit = bad[place]
            if hit.any():
                found.documents += int(hit.sum())
                found.domains.update(domains[one] for one in np.unique(place[hit]).tolist())
                sizes = pa.compute.subtract(batch.column("token_end"), batch.column("token_start"))
                found.tokens += int(sizes.to_numpy()[hit].sum())
    return found


def check_takedowns(corpora: Sequence[Corpus]) -> list[str]:
    """The lines of all lists of what was taken out of these corpora. Raises UserError where a document that was taken
    out of one lies in another."""
    lines: dict[str, None] = {}
    for number, corpus in enumerate(corpora):
        path = corpus.folder / LIST
        if not path.is_file():
            continue
        try:
            matcher = Matcher(read(path.read_bytes(), str(path)))
        except ValueError as error:
            raise UserError(str(error)) from error
        lines |= dict.fromkeys(request.line for request in matcher.requests)
        for other in (one for place, one in enumerate(corpora) if place != number):
            hits = sum(
                int((matcher.match(batch.column("id"), batch.column("url")) >= 0).sum())
                for split in other.splits
                for batch in _rows(other, split)
            )
            if hits:
                raise UserError(
                    f"{hits:,} documents in {other.folder} are among what was taken out of {corpus.folder}; take them "
                    f"out first: `corpusmill remove {other.folder} --list {path} --missing-ok --out NEW`"
                )
    return list(lines)


def _domains(urls: pa.Array) -> tuple[npt.NDArray[np.int64], list[str]]:
    """For each URL the place of its registered domain in the list; the place behind its end where it has no host."""
    hosts = hosts_of(urls).dictionary_encode()
    domains = [registered_domain(host) for host in hosts.dictionary.to_pylist()]
    return hosts.indices.fill_null(len(domains)).to_numpy(zero_copy_only=False).astype(np.int64), domains


def _rows(corpus: Corpus, split: str) -> Iterator[pa.RecordBatch]:
    for shard in corpus.shards(split):
        yield from read_batches(shard.path(".docs.parquet"), ["id", "url", "token_start", "token_end"])
