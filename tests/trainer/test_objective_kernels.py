"""What each objective makes of a packed batch, against plain loops and the properties that its paper states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import EOT, PAD, SPECIAL, VOCABULARY, Piece, batches, is_learned, packed, pieces, same

from trainer.batch import IGNORED, NO_DOCUMENT, Batch
from trainer.corruption import SpanCorruption, decoder_length, most_spans, noise, segments
from trainer.denoising import Denoising
from trainer.draws import Draws, below, happens
from trainer.masking import Masking
from trainer.mixing import Mixing, Transform
from trainer.objectives import CAUSAL
from trainer.pieces import Pieces
from trainer.reordering import FillInTheMiddle, PrefixSplit
from trainer.vocabulary import Tokens
from trainer.words import Words

T = 64
MASK, PRE, SUF, MID, SENTINEL = (VOCABULARY + n for n in range(5))
LETTERS = Tokens(
    {n: (" " * (n % 3 == 0) + "ab"[n % 2] + "." * (n % 5 == 0)).encode() for n in range(2, VOCABULARY)}, {"</s>": 0}
)
WORDS = Words.of(LETTERS, VOCABULARY)


def span(density: float = 0.15, mean: float = 3.0, length: int = T, seed: int = 0) -> SpanCorruption:
    sentinels = SENTINEL + np.arange(most_spans(length, density, mean) + 1)
    return SpanCorruption(seed, density, mean, sentinels, PAD, PAD, SPECIAL)


def denoising(seed: int = 0, rate: float = 0.3, shares: tuple[float, float, float] = (1, 0, 0),
              permutation: float = 0.0, rotation: float = 0.0) -> Denoising:  # fmt: skip
    return Denoising(seed, rate, 3.0, *shares, permutation, rotation, MASK, PAD, PAD, SPECIAL, WORDS)


KINDS: dict[str, Callable[[int], Transform]] = {
    "masked": lambda seed: Masking(seed, 0.3, 0.8, 0.1, MASK, SPECIAL, None),
    "words": lambda seed: Masking(seed, 0.3, 0.8, 0.1, MASK, SPECIAL, WORDS),
    "prefix": PrefixSplit,
    "fim": lambda seed: FillInTheMiddle(seed, 0.7, 0.5, PRE, SUF, MID, EOT, SPECIAL),
    "span": lambda seed: span(seed=seed),
    "dense": lambda seed: span(0.5, 2.0, seed=seed),
    "denoising": lambda seed: denoising(seed, shares=(1, 1, 1), permutation=0.5, rotation=0.5),
}
KINDS["mix"] = lambda seed: Mixing(
    seed, (1.0, 2.0, 1.0), tuple(KINDS[k](seed) for k in ("span", "dense", "denoising")), PAD
)
every = pytest.mark.parametrize("kind", KINDS)


def numbers(batch: Batch, first: int = 5) -> np.ndarray:
    return np.arange(first, first + len(batch.tokens_BT))


@every
@settings(max_examples=40, deadline=None)
@given(batch=batches(), seed=st.integers(0, 5))
def test_a_sequence_is_made_ready_by_itself(kind: str, batch: Batch, seed: int) -> None:
    """Else a batch would hang on its micro-batches, on the machines that share it, or on the day."""
    whole, numbers_B = KINDS[kind](seed).apply(batch, numbers(batch)), numbers(batch)
    for row in range(len(batch.tokens_BT)):
        one = slice(row, row + 1)
        alone = replace(batch, **{name: getattr(batch, name)[one] for name in ARRAYS}, groups_B=batch.groups_B[one])
        alone = KINDS[kind](seed).apply(alone, numbers_B[one])
        side = whole.encoder
        same(
            replace(
                whole,
                **{name: getattr(whole, name)[one] for name in ARRAYS},
                prefix_BT=None if whole.prefix_BT is None else whole.prefix_BT[one],
                encoder=None if side is None else replace(side, **{n: a[one] for n, a in vars(side).items()}),
            ),
            alone,
        )


ARRAYS = ("tokens_BT", "targets_BT", "positions_BT", "documents_BT")


@every
@settings(max_examples=40, deadline=None)
@given(batch=batches(), data=st.data())
def test_a_document_left_out_moves_no_other(kind: str, batch: Batch, data: st.DataObject) -> None:
    """Else leaving one document out would change what is learned from all that it is packed with."""
    found = list(pieces(batch))
    if not found:
        return
    gone = data.draw(st.sampled_from(found))
    here = gone.row, slice(gone.start, gone.end)
    arrays = {name: getattr(batch, name).copy() for name in ARRAYS}
    arrays["tokens_BT"][here], arrays["targets_BT"][here], arrays["positions_BT"][here] = PAD, IGNORED, 0
    document = batch.documents_BT[gone.row, gone.start]
    arrays["documents_BT"][here] = NO_DOCUMENT
    transform = KINDS[kind](1)
    before, after = transform.apply(batch, numbers(batch)), transform.apply(replace(batch, **arrays), numbers(batch))
    hole, side = before.documents_BT == document, before.encoder
    expected = {"tokens_BT": PAD, "targets_BT": IGNORED, "positions_BT": 0, "documents_BT": NO_DOCUMENT}
    same(
        replace(
            before,
            **{name: np.where(hole, fill, getattr(before, name)) for name, fill in expected.items()},
            prefix_BT=None if before.prefix_BT is None else before.prefix_BT & ~hole,
            encoder=side and replace(
                side,
                **{
                    name: np.where(side.documents_BS == document, expected[name[:-1] + "T"], array)
                    for name, array in vars(side).items()
                },
            ),
        ),
        after,
    )  # fmt: skip


@every
def test_another_number_or_seed_draws_otherwise(kind: str) -> None:
    """Else every epoch would hide the same tokens, and a seed would change nothing."""
    batch = packed([[(T, "open", 0)]] * 4, T)
    make = KINDS[kind]
    first = make(0).apply(batch, numbers(batch))
    for other in (make(0).apply(batch, numbers(batch, 50)), make(1).apply(batch, numbers(batch))):
        one, two = ((b.prefix_BT if kind == "prefix" else b.tokens_BT) for b in (first, other))
        if kind in ("denoising", "mix"):
            assert first.encoder is not None
            assert other.encoder is not None
            one, two = first.encoder.tokens_BS, other.encoder.tokens_BS
        assert one is not None
        assert two is not None
        assert (one != two).any()


@settings(max_examples=100, deadline=None)
@given(batch=batches(), whole_words=st.booleans())
def test_masking_against_a_loop(batch: Batch, whole_words: bool) -> None:
    """Else specials, padding or prompts would be masked, or a word by half."""
    made = Masking(0, 0.3, 0.8, 0.1, MASK, SPECIAL, WORDS if whole_words else None).apply(batch, numbers(batch))
    choose, how, which = (Draws.of(0, name, numbers(batch)) for name in ("masked", "masked/how", "masked/which"))
    tokens, targets = batch.tokens_BT.copy(), np.full_like(batch.targets_BT, IGNORED)
    for row, start, end, *_ in pieces(batch):
        word = start
        for place in range(start, end):
            token = int(batch.tokens_BT[row, place])
            if place > start and whole_words:
                text, before = (LETTERS.bytes_by_id.get(int(t), b".") for t in (token, batch.tokens_BT[row, place - 1]))
                word = place if text[:1] in b" ." or before[-1:] == b"." else word
            at = np.array([row]), np.array([word if whole_words else place])
            here = np.array([row]), np.array([place])
            if happens(choose.at(*at), 0.3)[0] and token > 1 and is_learned(batch, row, place, start, end):
                targets[row, place] = token
                if happens(how.at(*here), 0.8)[0]:
                    tokens[row, place] = MASK
                elif happens(how.at(*here), 0.8 + 0.1)[0]:
                    tokens[row, place] = 2 + below(which.at(*here), VOCABULARY - 2)[0]
    same(replace(batch, tokens_BT=tokens, targets_BT=targets), made)


def test_masking_keeps_its_shares() -> None:
    """Else it would not be BERT's 15 % in 80/10/10."""
    batch = packed([[(2048, "open", 0)]] * 64, 2048)
    made = Masking(3, 0.15, 0.8, 0.1, MASK, SPECIAL, None).apply(batch, numbers(batch))
    chosen, n = made.targets_BT != IGNORED, 64 * 2048

    def near(count: int, of: int, share: float) -> None:
        assert abs(count - of * share) < 5 * np.sqrt(of * share * (1 - share))

    near(int(chosen.sum()), n, 0.15)
    hidden, kept = (made.tokens_BT == MASK) & chosen, (made.tokens_BT == batch.tokens_BT) & chosen
    near(int(hidden.sum()), int(chosen.sum()), 0.8)
    near(int(kept.sum()), int(chosen.sum()), 0.1 + 0.1 / (VOCABULARY - 2))  # a random one may be the same
    other = made.tokens_BT[chosen & ~hidden & ~kept]
    assert np.abs(np.bincount(other, minlength=VOCABULARY)[2:] / len(other) * (VOCABULARY - 2) - 1).max() < 0.35
    assert (made.tokens_BT == batch.tokens_BT)[~chosen].all()


@settings(max_examples=100, deadline=None)
@given(batch=batches())
def test_prefix_against_a_loop(batch: Batch) -> None:
    """Else a model would predict what it sees, or nothing of a document."""
    made = PrefixSplit(0).apply(batch, numbers(batch))
    draws = Draws.of(0, "prefix", numbers(batch))
    prefix, targets = np.zeros(batch.tokens_BT.shape, bool), batch.targets_BT.copy()
    for row, start, end, *_ in pieces(batch):
        if end - start > 1:
            length = 1 + int(below(draws.at(np.array([row]), np.array([start])), end - start - 1)[0])
            assert 1 <= length < end - start
            prefix[row, start : start + length] = True
            targets[row, start : start + length - 1] = IGNORED
    same(replace(batch, prefix_BT=prefix, targets_BT=targets), made)


@settings(max_examples=150, deadline=None)
@given(batch=batches(), rate=st.sampled_from([0.5, 1.0]))
def test_fill_in_the_middle_gives_the_text_back(batch: Batch, rate: float) -> None:
    """Else a model would learn to fill gaps with what does not belong there, or never to stop."""
    made = FillInTheMiddle(0, rate, 0.5, PRE, SUF, MID, EOT, SPECIAL).apply(batch, numbers(batch))
    for name in ("documents_BT", "positions_BT"):
        assert (getattr(made, name) == getattr(batch, name)).all()
    for row, start, end, first, last in pieces(batch):
        plain, new = batch.tokens_BT[row, start:end].tolist(), made.tokens_BT[row, start:end].tolist()
        targets = made.targets_BT[row, start:end].tolist()
        if PRE not in new:
            assert rate < 1 or last - first < 8
            assert (new, targets) == (plain, batch.targets_BT[row, start:end].tolist())
            continue
        head, tail = first - start, end - last
        assert (new[:head], new[len(new) - tail :]) == (plain[:head], plain[len(plain) - tail :])
        body = new[head : len(new) - tail]
        assert body[0] == PRE
        suf, mid = body.index(SUF), body.index(MID)
        prefix, suffix, middle = body[1:suf], body[suf + 1 : mid], body[mid + 1 :]
        text = plain[head : len(plain) - tail]
        assert prefix + middle + suffix == text[:-3]  # suffix first: prefix and middle stand together behind <MID>
        for place in range(end - start - 1):
            learned = place + 1 >= head
            assert targets[place] == (new[place + 1] if learned else IGNORED)
        assert targets[-1] == (IGNORED if tail else EOT)


def test_fill_in_the_middle_keeps_its_shares() -> None:
    """Else the rate and the order that were asked for would not be those that are trained."""
    batch = packed([[(32, "end", 0)] * 32] * 32, 1024)
    made = FillInTheMiddle(0, 0.9, 0.3, PRE, SUF, MID, EOT, SPECIAL).apply(batch, numbers(batch))
    documents = made.tokens_BT.reshape(-1, 32)
    cut = (documents == PRE).any(1)
    assert abs(cut.mean() - 0.9) < 0.05
    swapped = documents[cut][:, 1] == SUF  # or an empty prefix, one in some thirty
    assert 0.25 < swapped.mean() < 0.42
    middles = Counter((31 - np.argmax(documents[cut & (documents[:, 1] != SUF)] == MID, axis=1)).tolist())
    assert set(middles) >= set(range(1, 24))  # none is left out, and short ones are likelier
    assert middles[1] > middles[20]


def noise_mask(
    length: int, amount: int, spans: int, seed: int, numbers_B: np.ndarray, row: int, column: int
) -> list[bool]:
    """T5's `random_spans_noise_mask` for one text: segments of noise and of none, each division by sorted draws."""

    def divided(items: int, purpose: str) -> list[int]:
        bits = Draws.of(seed, purpose, numbers_B).at(np.full(items, row), column + np.arange(items))
        cuts = sorted(sorted(range(1, items), key=lambda item: int(bits[item]))[: spans - 1])
        return np.diff([0, *cuts, items]).tolist()

    mask: list[bool] = []
    for plain, noisy in zip(divided(length - amount, "span/plain"), divided(amount, "span/noise"), strict=True):
        mask += [False] * plain + [True] * noisy
    return mask


@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.5, 1.0), (0.5, 8.0), (0.05, 20.0)])
@settings(max_examples=60, deadline=None)
@given(batch=batches())
def test_span_corruption_against_a_loop(density: float, mean: float, batch: Batch) -> None:
    """Else what the encoder lacks would not be what the decoder writes."""
    transform = span(density, mean)
    made = transform.apply(batch, numbers(batch))
    D = decoder_length(T, density, mean)
    assert made.tokens_BT.shape == (len(batch.tokens_BT), D)
    shape = batch.tokens_BT.shape
    seen, positions, documents = np.full(shape, PAD), np.zeros(shape, np.int64), np.full(shape, NO_DOCUMENT)
    decoder = {"tokens_BT": PAD, "targets_BT": IGNORED, "positions_BT": 0, "documents_BT": NO_DOCUMENT}
    arrays = {name: np.full((shape[0], D), fill) for name, fill in decoder.items()}
    for row, start, end, first, last in pieces(batch):
        text, length = batch.tokens_BT[row].tolist(), last - first
        place, room = start * D // T, end * D // T - start * D // T
        amount = max(0, min(max(round(length * density), 1), length - 1))
        while amount and amount + min(max(1, round(amount / mean)), length) + 1 > room:
            amount -= 1
        spans = min(max(1, round(amount / mean)), length - amount) if amount else 0
        mask = [False] * length
        if amount:
            mask = noise_mask(length, amount, spans, 0, numbers(batch), row, start)
        read, written = text[start:first], []
        number = -1
        for offset, noisy in enumerate(mask):
            if noisy and not mask[offset - 1]:
                number += 1
                read.append(SENTINEL + number)
                written.append(SENTINEL + number)
            (written if noisy else read).append(text[first + offset])
        read += text[last:end]
        assert number + 1 == spans
        assert sum(mask) == amount
        document = batch.documents_BT[row, start]
        seen[row, start : start + len(read)] = read
        positions[row, start : start + len(read)] = np.arange(len(read))
        documents[row, start : start + len(read)] = document
        if written:
            written.append(SENTINEL + spans)
            here = row, slice(place, place + len(written))
            assert len(written) <= room
            arrays["targets_BT"][here], arrays["tokens_BT"][here] = written, [PAD, *written[:-1]]
            arrays["positions_BT"][here], arrays["documents_BT"][here] = np.arange(len(written)), document
            assert restored(read, written) == text[start:end]
    assert made.encoder is not None
    side = replace(made.encoder, tokens_BS=seen, positions_BS=positions, documents_BS=documents)
    same(replace(batch, **arrays, encoder=side), made)


def restored(read: list[int], written: list[int]) -> list[int]:
    """The document of both sides: each sentinel gives way to what stands behind it in what was written."""
    spans: dict[int, list[int]] = {}
    for token in written:
        if token >= SENTINEL:
            spans[token] = last = []
        else:
            last.append(token)
    return [token for one in read for token in (spans[one] if one >= SENTINEL else [one])]


def test_span_lengths_of_the_paper() -> None:
    """Else a sequence of 568 tokens would not become T5's 512 and 114, as its `random_spans_helper` computes them."""
    amount, spans = noise(np.array([568]), 0.15, 3.0)
    assert (568 - amount[0] + spans[0] + 1, amount[0] + spans[0] + 1) == (512, 114)


def test_segments_are_equally_likely() -> None:
    """Else some places of a document would be hidden more often than others."""
    one = np.zeros(1, np.int64)
    found: Counter[tuple[int, ...]] = Counter()
    for number in range(3000):
        draws = Draws.of(0, "test", np.array([number]))
        found[tuple(segments(np.array([6]), np.array([3]), draws, Pieces(one, one, one, one + 6)).tolist())] += 1
    assert len(found) == 10  # of 5 places, 2 begin a segment
    assert min(found.values()) > 240
    assert max(found.values()) < 360


@settings(max_examples=100, deadline=None)
@given(batch=batches(), rate=st.sampled_from([0.1, 0.3, 0.9]))
def test_infilling_hides_spans_behind_a_mask_each(batch: Batch, rate: float) -> None:
    """Else the decoder would be asked for what the encoder sees, or a document would lose its order."""
    transform = denoising(rate=rate)
    made = transform.apply(batch, numbers(batch))
    assert made.encoder is not None
    for piece in pieces(batch):
        text, read = whole_and_read(batch, made, piece)
        hidden = round((piece.last - piece.first) * rate)
        kept = [token for token in read if token != MASK]
        assert len(text) - len(kept) == hidden
        assert len(read) <= len(text)
        head, tail = piece.first - piece.start, piece.end - piece.last
        assert read[:head] == text[:head]
        assert read[len(read) - tail :] == text[len(text) - tail :]
        assert is_subsequence(kept, text)
        assert (MASK in read) is (hidden > 0)


def whole_and_read(batch: Batch, made: Batch, piece: Piece) -> tuple[list[int], list[int]]:
    """A document, and what the encoder reads of it; asserts that the decoder writes it in full."""
    row, start, end, *_ = piece
    assert made.encoder is not None
    text = batch.tokens_BT[row, start:end].tolist()
    assert made.tokens_BT[row, start:end].tolist() == [PAD, *text[:-1]]
    for place in range(start, end):
        learned = is_learned(batch, row, place, start, end)
        assert made.targets_BT[row, place] == (batch.tokens_BT[row, place] if learned else IGNORED)
    mine = made.encoder.documents_BS[row] == batch.documents_BT[row, start]
    places = np.flatnonzero(mine)
    assert places.tolist() == list(range(start, start + len(places)))
    assert made.encoder.positions_BS[row, mine].tolist() == list(range(len(places)))
    return text, made.encoder.tokens_BS[row, mine].tolist()


def is_subsequence(short: list[int], long: list[int]) -> bool:
    rest = iter(long)
    return all(token in rest for token in short)


@settings(max_examples=60, deadline=None)
@given(batch=batches(), rate=st.sampled_from([0.1, 0.3, 0.9]))
def test_infilling_against_a_loop(batch: Batch, rate: float) -> None:
    """Else masks would stand where nothing is missing, or crowd where spans are cut off at the end."""
    transform = denoising(rate=rate)
    made = transform.apply(batch, numbers(batch))
    lengths, places = (Draws.of(0, f"infilling/{name}", numbers(batch)) for name in ("length", "place"))
    for piece in pieces(batch):
        text, read = whole_and_read(batch, made, piece)
        body = text[piece.first - piece.start : piece.last - piece.start]
        budget = min(round(len(body) * rate), len(body))
        stays, left, spans = len(body) - budget, budget, []
        for number in range(budget + 8):
            if not left:
                break
            at = np.array([piece.row]), np.array([piece.start * 9 + number])
            size = left if number == budget + 7 else min(int(transform.span_lengths(lengths.at(*at))[0]), left)
            left -= size
            drawn = places.at(*at)
            spans.append((int(below(drawn, stays + 1)[0]), int(drawn[0]), size))
        room = budget - sum(size > 0 for *_, size in spans)  # for masks that stand for nothing
        empty = [span for span in spans if not span[2]][:room]
        expected, place = text[: piece.first - piece.start], 0
        behind = sorted([span for span in spans if span[2]] + empty)
        for gap in range(stays + 1):
            for *_, size in (span for span in behind if span[0] == gap):
                expected.append(MASK)
                place += size
            expected += body[place : place + 1]
            place += 1
        assert read == expected + text[piece.last - piece.start :]


def test_a_mixture_keeps_its_shares() -> None:
    """Else objectives would be trained in other shares than were asked for, or one at certain sequences alone."""
    parts = tuple(KINDS[kind](0) for kind in ("prefix", "fim"))
    batch = packed([[(16, "end", 0)]] * 6000, 16)
    made = Mixing(0, (3.0, 1.0, 2.0), (*parts, CAUSAL), PAD).apply(batch, numbers(batch))
    assert made.prefix_BT is not None
    prefix, cut = made.prefix_BT.any(1).mean(), (made.tokens_BT == PRE).any(1).mean()
    plain = (~made.prefix_BT.any(1) & (made.tokens_BT == batch.tokens_BT).all(1)).mean()
    # fill-in-the-middle cuts 7 of 10 documents
    np.testing.assert_allclose([prefix, cut, plain], [3 / 6, 0.7 / 6, (2 + 0.3) / 6], atol=0.025)


def test_spans_of_infilling_are_poisson() -> None:
    """Else spans would be longer or shorter than the paper's, and never empty."""
    lengths = denoising().span_lengths(Draws.of(0, "test", np.arange(1)).grid(200_000))
    found = np.bincount(lengths, minlength=9)[:9] / len(lengths)
    expected = [np.exp(-3) * 3**n / np.prod(np.arange(1, n + 1)) for n in range(9)]
    np.testing.assert_allclose(found, expected, atol=0.005)
    batch = packed([[(1024, "open", 0)]] * 16, 1024)
    side = denoising().apply(batch, numbers(batch)).encoder
    assert side is not None
    masks = (side.tokens_BS == MASK).sum() / 16
    assert abs(masks - 307 / 3) < 6  # 307 tokens are hidden in each


@settings(max_examples=60, deadline=None)
@given(batch=batches())
def test_masking_and_deletion_of_tokens(batch: Batch) -> None:
    """Else the two would hide other tokens than they are said to."""
    for shares, masks in (((0.0, 1.0, 0.0), True), ((0.0, 0.0, 1.0), False)):
        made = denoising(shares=shares).apply(batch, numbers(batch))
        for piece in pieces(batch):
            text, read = whole_and_read(batch, made, piece)
            draws = Draws.of(0, "noise/token", numbers(batch))
            places = np.arange(piece.start, piece.end)
            noisy = happens(draws.at(np.full(len(places), piece.row), places), 0.3)
            noisy &= (places >= piece.first) & (places < piece.last)
            expected = [MASK if no else token for token, no in zip(text, noisy, strict=True) if masks or not no]
            assert read == expected


@settings(max_examples=60, deadline=None)
@given(batch=batches())
def test_sentences_are_permuted_and_documents_turned(batch: Batch) -> None:
    """Else sentences would be torn, or lost."""
    permuted = denoising(rate=1e-9, permutation=1.0).apply(batch, numbers(batch))
    turned = denoising(rate=1e-9, rotation=1.0).apply(batch, numbers(batch))
    draws = Draws.of(0, "permuted/how", numbers(batch))
    for piece in pieces(batch):
        head, tail = piece.first - piece.start, piece.end - piece.last
        text, read = whole_and_read(batch, permuted, piece)
        sentences: list[tuple[int, list[int]]] = []
        for place in range(piece.first, piece.last):
            before, token = batch.tokens_BT[piece.row, place - 1 : place + 1] if place > piece.first else (0, 0)
            # in LETTERS a dot ends each fifth token, and a blank begins each third
            if place == piece.first or (before % 5 == 0 and token % 3 == 0):
                sentences.append((int(draws.at(np.array([piece.row]), np.array([place]))[0]), []))
            sentences[-1][1].append(int(batch.tokens_BT[piece.row, place]))
        body = [token for _, sentence in sorted(sentences) for token in sentence]
        assert read == text[:head] + body + text[len(text) - tail :]
        text, read = whole_and_read(batch, turned, piece)
        body, shown = text[head : len(text) - tail], read[head : len(read) - tail]
        assert any(shown == body[turn:] + body[:turn] for turn in range(max(1, len(body))))
