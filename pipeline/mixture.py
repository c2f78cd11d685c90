"""How many copies of each document the training split takes, in which order, and where shards end.

Sampling is exact to the document: 2.37 epochs of a source are two copies of every document and a third
of those that come first by sample hash, up to the token target.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pipeline.errors import RecipeError, nearest
from pipeline.ids import AnyIds, ascending, matrix, rows
from stages.hashing import keyed_all

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SourcePlan:
    """What the mixture takes of one source."""

    copies: npt.NDArray[np.int32]
    """(documents,) copies of each document, 0 where it is left out."""
    share: float
    """Share of the tokens that was asked; where none was, that of its tokens in all."""
    available: int
    """Tokens of one epoch."""
    asked: int
    """Tokens asked."""
    reached: int
    """Tokens of all copies; from `asked` it is less than one document away."""

    @property
    def epochs(self) -> float:
        """How often the source is read: tokens reached over tokens of one epoch."""
        return self.reached / self.available if self.available else 0.0


def plan(
    sources: Mapping[str, tuple[AnyIds, npt.NDArray[np.integer]]],
    shares: Mapping[str, float] | None,
    tokens: int | None,
    max_epochs: float,
    seed: int,
) -> dict[str, SourcePlan]:
    """The copies of each document, by source in the order of `sources`.

    `sources` maps a name to ids and token counts of its documents (training split alone, the boundary token
    included if it should count); `shares` a name to its share of the tokens, adding up to 1 within 10^-6 and
    0 for a source to be left out; `tokens` is the budget in all.

    - Without shares, all sources are taken as they come: once, or, with a budget, each the same number of epochs.
    - Without a budget but with shares, the budget is as many tokens as the sources with a share hold once,
      or the most that these shares allow with no source above `max_epochs`, if that is less.

    A source's target is met by full copies of all its documents and a prefix in sample-hash order that
    reaches the rest, so it is overshot by less than one document; where the overshoot would break
    `max_epochs`, it is undershot by less than one.

    Raises RecipeError where shares and sources do not fit, and where the budget cannot be met, saying what can.
    """
    available = {name: int(np.sum(counts, dtype=np.int64)) for name, (_, counts) in sources.items()}
    asked_shares = _exact_shares(available, shares)
    caps = {name: int(Fraction(repr(max_epochs)) * amount) for name, amount in available.items()}
    most = min((int(caps[name] / share) for name, share in asked_shares.items() if share), default=0)
    if tokens is None:
        once = sum(amount for name, amount in available.items() if asked_shares[name])
        tokens = once if not shares else min(once, most)
        if not shares and max_epochs < 1:
            tokens = most
    targets = _rounded(tokens, asked_shares)
    _check_caps(tokens, targets, available, caps, most, max_epochs)
    result = {}
    for name, (ids, counts) in sources.items():
        copies = _copies(matrix(ids), np.asarray(counts, np.int64), targets[name], caps[name], seed)
        reached = int((copies * np.asarray(counts, np.int64)).sum())
        result[name] = SourcePlan(copies, float(asked_shares[name]), available[name], targets[name], reached)
    return result


def _exact_shares(available: Mapping[str, int], shares: Mapping[str, float] | None) -> dict[str, Fraction]:
    """The share of each source as a fraction; they add up to 1 (or all are 0 where there is no token)."""
    if not shares:
        total = max(1, sum(available.values()))
        return {name: Fraction(amount, total) for name, amount in available.items()}
    for name, share in shares.items():
        if name not in available:
            raise RecipeError(f"mixture.shares: there is no source '{name}'.{nearest(name, available)}")
        if not 0 <= share <= 1:
            raise RecipeError(f"mixture.shares: the share of '{name}' is {share}; a share lies between 0 and 1")
        if share > 0 and not available[name]:
            raise RecipeError(
                f"mixture.shares asks for a share of {share} from '{name}', which has no tokens for training: all its "
                "documents were dropped or went into the validation split. Give it 0, or see where they went with "
                "`corpusmill inspect`."
            )
    if missing := sorted(available.keys() - shares.keys()):
        raise RecipeError(f"mixture.shares does not name the source '{missing[0]}'; give it 0 to leave it out")
    exact = {name: Fraction(repr(float(share))) for name, share in shares.items()}  # 0.7 is 7/10, as it was written
    whole = sum(exact.values(), Fraction(0))
    if abs(whole - 1) > Fraction(1, 10**6):
        raise RecipeError(f"mixture.shares add up to {float(whole):g}, not to 1")
    return {name: exact[name] / whole for name in available}


def _rounded(tokens: int, shares: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole targets that add up to `tokens`: what rounding down leaves goes to the largest remainders."""
    targets = {name: int(tokens * share) for name, share in shares.items()}
    left = tokens - sum(targets.values()) if any(shares.values()) else 0
    by_remainder = sorted(shares, key=lambda name: (targets[name] - tokens * shares[name], name))
    for name in by_remainder[:left]:
        targets[name] += 1
    return targets


def _check_caps(
    tokens: int,
    targets: Mapping[str, int],
    available: Mapping[str, int],
    caps: Mapping[str, int],
    most: int,
    max_epochs: float,
) -> None:
    """Raises RecipeError where a source would be read more than `max_epochs` times."""
    over = [name for name in targets if targets[name] > caps[name]]
    if not over:
        return
    worst = max(over, key=lambda name: (targets[name] / available[name], name))
    wants = "; ".join(
        f"'{name}' would give {targets[name]:,} tokens and has {available[name]:,}, {caps[name]:,} with every copy"
        for name in over
    )
    epochs = -(-targets[worst] * 100 // available[worst]) / 100
    lower = f", or a share of '{worst}' of at most {int(caps[worst] / tokens * 10_000) / 10_000:g}"
    raise RecipeError(
        f"mixture: {tokens:,} tokens cannot be reached with max_epochs {max_epochs:g}: {wants}. Possible at these "
        f"shares: mixture.tokens up to {most:,}. Possible at this budget: max_epochs from {epochs:g}"
        f"{lower if len(over) == 1 and len(targets) > 1 else ''}."
    )


def _copies(ids: npt.NDArray[np.uint8], counts: Counts, target: int, cap: int, seed: int) -> npt.NDArray[np.int32]:
    total = int(counts.sum())
    if target == 0 or total == 0:
        return np.zeros(len(counts), np.int32)
    full, rest = divmod(target, total)
    copies = np.full(len(counts), full, np.int32)
    if rest:
        order = ascending(ids)
        order = order[np.argsort(keyed_all("sample", seed, rows(ids[order])), kind="stable")]
        reached = np.cumsum(counts[order])
        prefix = int(np.searchsorted(reached, rest)) + 1
        if full * total + int(reached[prefix - 1]) > cap:
            prefix -= 1
        copies[order[:prefix]] += 1
    return copies


def shuffle_hashes(
    ids: AnyIds, seed: int, copies: int | Sequence[int] | npt.NDArray[np.integer] = 0
) -> npt.NDArray[np.uint64]:
    """(n,) the shuffle key of (id, copy): keyed hash of the id and the copy's number as 4 bytes, little-endian."""
    numbers = np.broadcast_to(np.asarray(copies, np.int64), len(ids)).tolist()
    pack = struct.Struct("<I").pack
    pairs = zip(rows(matrix(ids)), numbers, strict=True)
    return keyed_all("shuffle", seed, (document + pack(number) for document, number in pairs))


def shuffle_order(
    ids: AnyIds, copies: npt.NDArray[np.integer], seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """All copies of all documents in shuffled order: (row of the document, number of the copy), each (Σ copies,).

    Sorted by (shuffle hash, id, copy), so the order of the rows does not matter. Memory: about 40 bytes a
    copy while it works, 12 in the result.
    """
    table = matrix(ids)
    by_id = ascending(table)
    times = np.asarray(copies, np.int64)[by_id]
    document = np.repeat(by_id, times)
    number = (np.arange(len(document)) - np.repeat(np.cumsum(times) - times, times)).astype(np.int32)
    order = np.argsort(shuffle_hashes(table[document], seed, number), kind="stable")
    return document[order], number[order]


def assign_shards(lengths: npt.NDArray[np.integer], tokens_per_shard: int) -> Counts:
    """Where shards begin: (shards + 1,) positions in the order, from 0 to the number of documents.

    A shard holds at most `tokens_per_shard` tokens, unless a single document is longer: it is a shard alone.
    There are as few shards as that allows, of nearly equal size: cut at the document nearest to an even
    share where that fits, else so that the largest is as small as can be. No documents make no shard: [0].
    """
    reached = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    fewest = _filled(reached, tokens_per_shard)
    shards = len(fewest) - 1
    if shards < 1:
        return fewest
    total = int(reached[-1])
    even = [total * part // shards for part in range(shards + 1)]
    cuts = np.searchsorted(reached, even)
    before = np.maximum(cuts - 1, 0)
    cuts = np.where(np.asarray(even) - reached[before] < reached[cuts] - even, before, cuts)
    cuts[0], cuts[-1] = 0, len(lengths)
    sizes, documents = np.diff(reached[cuts]), np.diff(cuts)
    if (documents > 0).all() and ((sizes <= tokens_per_shard) | (documents == 1)).all():
        return cuts
    low, high = -(-total // shards), tokens_per_shard
    while low < high:
        middle = (low + high) // 2
        if len(_filled(reached, middle)) - 1 <= shards:
            high = middle
        else:
            low = middle + 1
    return _filled(reached, high)


def _filled(reached: Counts, limit: int) -> Counts:
    """The cuts of shards that are each filled up to `limit` in turn."""
    cuts = [0]
    while cuts[-1] < len(reached) - 1:
        end = int(np.searchsorted(reached, reached[cuts[-1]] + limit, side="right")) - 1
        cuts.append(max(end, cuts[-1] + 1))
    return np.array(cuts, np.int64)
