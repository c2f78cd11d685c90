"""A trained model and its tokenizer, ready to be asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import torch

from pipeline.errors import UserError
from pipeline.shards import Corpus
from trainer import devices
from trainer.checkpoint import load_state
from trainer.generate import generate, text_behind
from trainer.hugging_face import checkpoint_in, in_their_format, read_config, read_weights, trained_weights
from trainer.model import Model
from trainer.objectives import facts_of, same_sentinels
from trainer.remote import opened

if TYPE_CHECKING:
    from pipeline.tokenizers import Tokenizer

Say = Callable[[str], None]

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model")
"""Names of a tokenizer's file in a folder of a Hugging Face format."""


@dataclass(frozen=True)
class Subject:
    """A model that can be asked in words."""

    model: Model
    name: str
    """What it is called in results."""
    longest: int
    """Tokens of the sequences that it was trained on."""
    tokenizer: Tokenizer
    first: tuple[int, ...] = ()
    """Tokens that every document began with in training."""
    prefix: bool = False
    """Whether it was trained to see a prompt in both directions."""
    asked: tuple[int, ...] = ()
    """Tokens behind a prompt that ask an encoder-decoder for what comes there."""
    begin: tuple[int, ...] = (0,)
    """What its decoder reads first."""
    corpus: Corpus | None = field(default=None, repr=False)
    """Where it was trained, if that is here."""
    split: str = "train"
    """The split of the corpus."""

    @property
    def stop(self) -> frozenset[int]:
        """Tokens that end a text."""
        special = self.tokenizer.special
        return frozenset(special[role] for role in ("eot", "bos", "pad") if role in special)

    @property
    def boundary(self) -> int:
        """The token that stands between documents: what there is to read before the first token of a text."""
        return self.first[0] if self.first else self.tokenizer.special["eot"]

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, without boundaries."""
        made: list[list[int]] = self.tokenizer.encode(pa.array(texts, pa.string())).to_pylist()
        return made

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens that the model reads of each text; those of an empty one are a boundary."""
        return [[*self.first, *tokens] or [self.boundary] for tokens in self.encode(texts)]

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        most: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        ended: Callable[[int, list[int]], bool] | None = None,
        stop: frozenset[int] | None = None,
    ) -> list[list[int]]:
        """The tokens that the model writes behind each prompt: see `trainer.generate.generate`."""
        return generate(
            self.model,
            [[*prompt, *self.asked] for prompt in prompts],
            most,
            temperature,
            top_k,
            top_p,
            self.stop if stop is None else stop,
            seed,
            prefix=self.prefix,
            begin=self.begin,
            vocabulary=min(self.tokenizer.vocabulary, self.model.vocabulary),
            ended=ended,
        )

    def text(self, prompt: Sequence[int], made: Sequence[int]) -> str:
        """The text of what was written behind a prompt, to its last whole character."""
        if self.model.encoder is not None:
            prompt = ()
        return text_behind(self.tokenizer.decode, [one for one in prompt if one not in self.stop], made)


def open_subject(folder: Path, device: str, say: Say, tokenizer: Path | None = None, average: bool = False) -> Subject:
    """The model of a checkpoint, of the newest one in a folder, or in a Hugging Face format.

    `tokenizer`: a tokenizer's file, or a folder of a corpus that has one; None: that of the corpus the checkpoint was
    trained on, or the one in the folder. `average`: with the running mean of the weights. Raises UserError where
    something of it is missing.
    """
    given = None if tokenizer is None else _tokenizer(tokenizer)
    if in_their_format(folder, "CHECKPOINT"):
        if average:
            raise UserError(f"{folder} is of a Hugging Face format and holds no running mean; leave --average out")
        return _theirs(folder, device, given)
    step, meta = checkpoint_in(folder, say)
    config = meta.config
    if config.model.arrangement == "encoder":
        raise UserError(f"{step} holds an encoder, which fills in words and writes no text; a decoder can be asked")
    corpus = None
    try:
        corpus = opened(config.data.corpus, config.data.cache)
    except UserError as error:
        if given is None:
            raise UserError(
                f"{step} was trained on a corpus that cannot be read ({error}); --tokenizer names the tokenizer "
                "elsewhere"
            ) from error
    if given is None:
        assert corpus is not None
        given = tokenizer_of(corpus)
    model = Model(config.model, meta.vocabulary)
    _fill(model, trained_weights(meta, load_state(step), average), step)
    special = given.special
    asked: tuple[int, ...] = ()
    begin: tuple[int, ...] = (special.get("pad", special["eot"]),)
    if config.objective.kind == "span" and corpus is not None:
        facts = facts_of(config, corpus)
        same_sentinels(step, meta.format_version, facts)
        asked = (facts.ids["sentinel_0"],)
        begin += asked
    first = (special["bos"],) if corpus is not None and corpus.boundary == "bos-first" else ()
    return Subject(
        model.to(devices.choose(device)).eval(),
        f"{step} (average)" if average else str(step),
        config.sequence_length,
        given,
        first,
        config.objective.kind == "prefix",
        asked,
        begin,
        corpus,
        config.data.split,
    )


def tokenizer_of(corpus: Corpus) -> Tokenizer:
    """The tokenizer of a corpus. Raises UserError where its file is not beside it."""
    from pipeline.tokenizers import opened as open_tokenizer

    facts = corpus.meta["tokenizer"]
    if "kind" not in facts or corpus.tokenizer_file() is None:
        raise UserError(
            f"{corpus.folder} has no tokenizer file, without which tokens are numbers only; copy the folder "
            "`tokenizer` beside its corpus.json"
        )
    return open_tokenizer(corpus.folder, facts)


def _tokenizer(path: Path) -> Tokenizer:
    from pipeline.tokenizers import open_file

    return tokenizer_of(Corpus.open(path)) if path.is_dir() else open_file(path)


def _theirs(folder: Path, device: str, tokenizer: Tokenizer | None) -> Subject:
    form, config = read_config(folder)
    if config.arrangement != "decoder":
        raise UserError(f"{folder} holds a {form.architecture}; of other tools' models only decoders can be asked")
    if tokenizer is None:
        found = next((folder / name for name in TOKENIZERS if (folder / name).is_file()), None)
        if found is None:
            raise UserError(f"{folder} holds none of {', '.join(TOKENIZERS)}; --tokenizer names a tokenizer elsewhere")
        tokenizer = _tokenizer(found)
    model = Model(config, config.vocabulary or 0)
    _fill(model, read_weights(folder, form, config), folder)
    values = json.loads((folder / "config.json").read_text("utf-8"))
    longest = values.get("max_position_embeddings") or values.get("n_positions") or 1024
    return Subject(model.to(devices.choose(device)).eval(), str(folder), int(longest), tokenizer)


def _fill(model: Model, weights: dict[str, torch.Tensor], source: Path) -> None:
    unset = model.load_state_dict(weights, strict=False)
    missing = [name for name in unset.missing_keys if not (name == "head.weight" and model.config.tied)]
    if missing or unset.unexpected_keys:
        raise UserError(f"{source} holds other weights than its settings say: {[*missing, *unset.unexpected_keys][0]}")
