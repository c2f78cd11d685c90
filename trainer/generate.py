"""Text from a model, token by token.

Shape suffixes as in `trainer.model`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from trainer.batch import NO_DOCUMENT
from trainer.key_values import Cache, can_keep
from trainer.model import Inputs, Model
from trainer.positions import Learned


class Reader(Protocol):
    """Reads what was written so far."""

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """(B, V) of the token behind the next places, whose tokens these are."""


@torch.no_grad()
def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    most: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Collection[int] = (),
    seed: int = 0,
    *,
    prefix: bool = False,
    begin: Sequence[int] = (0,),
    vocabulary: int | None = None,
    ended: Callable[[int, list[int]], bool] | None = None,
    cache: bool = True,
) -> list[list[int]]:
    """What the model writes behind each prompt: at most so many tokens, up to a token of `stop`, which is left out, or
    until `ended` says so of the row and its tokens.

    temperature 0 takes the likeliest token; else tokens are drawn after `filtered`, for each row from a generator of
    its own, so that what is drawn for a prompt does not hang on the others, and torch's own generator does not move.
    prefix: places of a prompt see each other in both directions (prefix-LM). An encoder-decoder's encoder reads the
    prompt, and its decoder begins with the tokens `begin`. Ids from `vocabulary` on are never written: the model may
    have more than its tokenizer.
    cache: whether keys and values are kept where that can be; else all is read again for each token.

    Raises UserError for an encoder, and where there are more places than learned positions.
    """
    check(model, max(map(len, prompts), default=0), most)
    if not prompts or most < 1:
        return [[] for _ in prompts]
    if not all(prompts):
        raise ValueError("a prompt of no tokens: put the token of a boundary there")
    generators = [_generator(seed, row) for row in range(len(prompts))]
    made: list[list[int]] = [[] for _ in prompts]
    going = [True] * len(prompts)
    with _evaluating(model):
        read, tokens_BT = _reader(model, prompts, most, prefix, begin, cache)
        for _ in range(most):
            logits_BV = read.logits(tokens_BT).float()
            if vocabulary is not None:
                logits_BV[:, vocabulary:] = -torch.inf
            chosen_B = _chosen(logits_BV, temperature, top_k, top_p, generators)
            for row, token in enumerate(chosen_B.tolist()):
                if not going[row]:
                    continue
                if token in stop:
                    going[row] = False
                    continue
                made[row].append(token)
                if ended is not None and ended(row, made[row]):
                    going[row] = False
            if not any(going):
                break
            tokens_BT = chosen_B[:, None].to(tokens_BT.device)
    return made


def check(model: Model, longest: int, most: int) -> None:
    """Raises UserError where the model cannot write so many tokens behind a prompt of so many."""
    if model.config.arrangement == "encoder":
        raise UserError("an encoder fills in words and writes no text; take a decoder or an encoder-decoder")
    places = max(longest, most) if model.config.arrangement == "encoder-decoder" else longest + most - 1
    if isinstance(model.positions, Learned) and places > model.positions.embedding.num_embeddings:
        limit = model.positions.embedding.num_embeddings
        raise UserError(
            f"a prompt of {longest} tokens and {most} to be written are more places than the {limit} learned positions "
            "of the model; make one of them shorter"
        )


def filtered(logits_BV: Tensor, temperature: float, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """(B, V), divided by the temperature (above 0), -inf for tokens that are not to be drawn: all but the k likeliest
    (Fan et al. 2018, section 5.1), then all but the fewest whose probabilities sum to p (Holtzman et al. 2020, section
    3.1)."""
    logits_BV = logits_BV / temperature
    if top_k is not None and top_k < logits_BV.shape[1]:
        least_B1 = logits_BV.topk(top_k).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    if top_p is not None and top_p < 1:
        sorted_BV, order_BV = logits_BV.sort(descending=True, stable=True)
        shares_BV = sorted_BV.softmax(-1)
        left_out_BV = shares_BV.cumsum(-1) - shares_BV >= top_p
        left_out_BV[:, 0] = False
        logits_BV = logits_BV.masked_fill(left_out_BV.scatter(1, order_BV, left_out_BV), -torch.inf)
    return logits_BV


def _chosen(
    logits_BV: Tensor, temperature: float, top_k: int | None, top_p: float | None, generators: list[torch.Generator]
) -> Tensor:
    if temperature == 0:
        return logits_BV.argmax(-1)
    sums_BV = filtered(logits_BV, temperature, top_k, top_p).double().softmax(-1).cumsum(-1).cpu()
    drawn_B = torch.stack([torch.rand((), dtype=torch.float64, generator=one) for one in generators])
    # a share of the sum, so that rounding leaves no token behind the last one
    return torch.searchsorted(sums_BV, (drawn_B * sums_BV[:, -1])[:, None], right=True)[:, 0]


def _generator(seed: int, row: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


@contextmanager
def _evaluating(model: Model) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _reader(
    model: Model, prompts: Sequence[Sequence[int]], most: int, prefix: bool, begin: Sequence[int], cache: bool
) -> tuple[Reader, Tensor]:
    """What reads, and the first tokens that it is to read (B, T)."""
    device = next(model.parameters()).device
    side = padded(prompts, device)
    tokens_BT, documents_BT = side.tokens_BT, side.documents_BT
    if model.encoder is not None:
        begins_BT = torch.tensor([list(begin)] * len(prompts), device=device)
        return _Again(model, torch.zeros_like(begins_BT), side), begins_BT
    if can_keep(model.config) and cache:
        return _Kept(model, documents_BT, most, prefix), tokens_BT
    return _Again(model, documents_BT, None, prefix), tokens_BT


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Inputs:
    """What a model reads of rows of unlike lengths, which all end at the last place."""
    longest = max(map(len, rows))
    tokens = [[0] * (longest - len(row)) + list(row) for row in rows]
    documents = [[NO_DOCUMENT] * (longest - len(row)) + [0] * len(row) for row in rows]
    documents_BT = torch.tensor(documents, device=device)
    return Inputs(torch.tensor(tokens, device=device), _positions(documents_BT), documents_BT)


def _positions(documents_BT: Tensor) -> Tensor:
    return ((documents_BT != NO_DOCUMENT).cumsum(1) - 1).clamp(min=0)


class _Kept:
    """Reads each place once, and keeps its keys and values."""

    def __init__(self, model: Model, documents_BT: Tensor, most: int, prefix: bool) -> None:
        self._model, self._prefix = model, prefix
        self._cache = Cache(model, len(documents_BT), documents_BT.shape[1] + most)
        self._documents_BT, self._next_B1 = documents_BT, _positions(documents_BT)[:, -1:] + 1

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """See `Reader`."""
        if self._cache.size == 0:
            documents_BT, positions_BT = self._documents_BT, _positions(self._documents_BT)
            prefix_BT = documents_BT != NO_DOCUMENT if self._prefix else None
        else:
            documents_BT, positions_BT, prefix_BT = torch.zeros_like(tokens_BT), self._next_B1, None
            self._next_B1 = self._next_B1 + 1
        hidden_BTC = self._model.read_on(Inputs(tokens_BT, positions_BT, documents_BT, prefix_BT), self._cache)
        return self._model.logits(hidden_BTC[:, -1])


class _Again:
    """Reads everything again for each token."""

    def __init__(self, model: Model, documents_BT: Tensor, side: Inputs | None, prefix: bool = False) -> None:
        self._model, self._side, self._documents_BT = model, side, documents_BT
        self._prefix_BT = documents_BT != NO_DOCUMENT if prefix else None
        self._tokens_BT = documents_BT[:, :0]

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """See `Reader`."""
        if self._tokens_BT.shape[1]:
            new = torch.zeros_like(tokens_BT)
            self._documents_BT = torch.cat([self._documents_BT, new], 1)
            if self._prefix_BT is not None:
                self._prefix_BT = torch.cat([self._prefix_BT, new.bool()], 1)
        self._tokens_BT = torch.cat([self._tokens_BT, tokens_BT], 1)
        documents_BT = self._documents_BT
        inputs = Inputs(self._tokens_BT, _positions(documents_BT), documents_BT, self._prefix_BT, self._side)
        return self._model.logits(self._model(inputs)[0][:, -1])


def text_behind(decode: Callable[[Sequence[int]], str], prompt: Sequence[int], made: Sequence[int]) -> str:
    """The text of what was written behind a prompt, without a character that it ends in the middle of.

    Decoded together with the prompt, since the first token of a text may lose its space.
    """
    before, whole = decode(prompt), decode([*prompt, *made])
    text = whole.removeprefix(before) if whole.startswith(before) else decode(made)
    return text.rstrip("�")
