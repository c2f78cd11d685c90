"""What a model learns to predict: settings by kind, and how each is made ready for a corpus.

A transform is a function of a batch and of one number for each of its sequences, which all its randomness is drawn
from (`trainer.draws`): so batch d is the same on every machine, at every resume, and however it is divided. All of them
work on each document of a packed sequence by itself, and where a document begins does not hang on its neighbours.
Read in this order: `pieces`, `draws`, then the kernels in `masking`, `reordering`, `corruption`, `denoising`, `mixing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field, model_validator

from pipeline.errors import RecipeError, UserError
from pipeline.shards import Corpus
from trainer.batch import Batch
from trainer.corruption import SpanCorruption, most_spans
from trainer.denoising import Denoising
from trainer.draws import Ints
from trainer.masking import Masking
from trainer.mixing import Mixing, Transform
from trainer.pieces import Flags
from trainer.reordering import FillInTheMiddle, PrefixSplit
from trainer.section import Section, Share, Weight, unless_said
from trainer.vocabulary import SENTINEL, Tokens, ids_of, tokens_of
from trainer.words import Words

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.model_settings import ModelConfig

Rate = Annotated[float, Field(gt=0, lt=1)]
Span = Annotated[float, Field(ge=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class Facts:
    """What an objective must know of a run."""

    corpus: Corpus
    seed: int
    sequence_length: int
    roles: tuple[str, ...]
    """The special tokens that the objective needs, of which the corpus's tokenizer may lack some."""

    @cached_property
    def tokens(self) -> Tokens:
        """What the tokenizer file says. Opened where it is asked for."""
        return tokens_of(self.corpus)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The token id of each role."""
        return ids_of(self.corpus, self.roles, self.tokens.special) if self.roles else {}

    @cached_property
    def special_V(self) -> Flags:
        """(vocabulary of the corpus,) which tokens are special: never text, never masked."""
        found = np.zeros(self.corpus.vocabulary, bool)
        found[[*self.corpus.special.values(), *self.tokens.special.values()]] = True
        return found

    @property
    def eot(self) -> int:
        """The end-of-text token, which every tokenizer of a corpus has."""
        return self.corpus.special["eot"]

    @property
    def pad(self) -> int:
        """What stands in padding; and, as in T5, what a decoder reads first."""
        return self.corpus.special.get("pad", self.eot)

    def words(self, setting: str) -> Words:
        """Where words and sentences begin. Raises RecipeError, naming the setting that asks, where the corpus has no
        tokenizer file."""
        if not self.tokens.bytes_by_id:
            raise RecipeError(
                f"{setting}: {self.corpus.folder} has no tokenizer file, which says where words and sentences begin; "
                "copy the folder `tokenizer` beside its corpus.json, or change the setting"
            )
        return Words.of(self.tokens, self.corpus.vocabulary)


class Objective(Section):
    """What all objectives say of themselves."""

    arrangements: ClassVar[tuple[str, ...]]
    """Values of model.arrangement that it can train."""
    kind: str
    """Kind of objective."""

    def roles(self, sequence_length: int) -> tuple[str, ...]:
        """Special tokens that it needs beside those that every tokenizer has."""
        return ()

    def transform(self, facts: Facts) -> Transform:
        """What makes batches ready for it. Raises RecipeError where the corpus cannot serve."""
        raise NotImplementedError


class Causal(Objective):
    """Each token from those before it in its document."""

    arrangements = ("decoder",)
    kind: Literal["causal"]
    """Kind of objective."""

    def transform(self, facts: Facts) -> Transform:
        """Itself."""
        return self

    def apply(self, batch: Batch, numbers_B: Ints) -> Batch:
        """The batch as it is packed."""
        return batch


class Prefix(Objective):
    """Prefix language model (Raffel et al. 2020, section 3.2.1): a random part of each document, from its beginning, is
    seen in both directions and not predicted, the rest as in causal."""

    arrangements = ("decoder",)
    kind: Literal["prefix"]
    """Kind of objective."""

    def transform(self, facts: Facts) -> Transform:
        """The split."""
        return PrefixSplit(facts.seed)


class FIM(Objective):
    """Fill-in-the-middle (Bavarian et al. 2022): some documents are cut in three, and the middle is predicted last.
    Sequences being full, the last three tokens of such a document's text give way to the three special tokens.
    Documents under 8 tokens stay as they are."""

    arrangements = ("decoder",)
    kind: Literal["fim"]
    """Kind of objective."""
    rate: Share = 0.5
    """Share of documents that are cut; the others are causal."""
    suffix_first: Share = 0.5
    """Share of these in the order suffix, prefix, middle (SPM); the others have prefix, suffix, middle (PSM)."""

    def roles(self, sequence_length: int) -> tuple[str, ...]:
        """What stands before each of the three parts."""
        return ("fim_prefix", "fim_suffix", "fim_middle")

    def transform(self, facts: Facts) -> Transform:
        """The cut."""
        prefix, suffix, middle = (facts.ids[role] for role in self.roles(0))
        return FillInTheMiddle(
            facts.seed, self.rate, self.suffix_first, prefix, suffix, middle, facts.eot, facts.special_V
        )


class Masked(Objective):
    """Masked language model (Devlin et al. 2019, BERT, section 3.1): tokens chosen at random, from all others. Special
    tokens, and what is left out of the loss, are never chosen."""

    arrangements = ("encoder",)
    kind: Literal["masked"]
    """Kind of objective."""
    rate: Rate = 0.15
    """Share of tokens that are chosen, each by itself."""
    masked: Share = 0.8
    """Share of the chosen ones that are hidden behind the mask."""
    random: Share = 0.1
    """Share of the chosen ones that are replaced by any token; the rest stays as it is."""
    whole_words: bool = False
    """Whether all tokens of a word are chosen together. Words are parted by blanks and punctuation; in scripts without
    blanks between words every token is one, unless a character is spread over several."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Masked:
        if self.masked + self.random > 1:
            raise ValueError(f"masked {self.masked:g} and random {self.random:g} are more than 1 together; lower one")
        return self

    def roles(self, sequence_length: int) -> tuple[str, ...]:
        """The mask."""
        return ("mask",)

    def transform(self, facts: Facts) -> Transform:
        """The masking."""
        words = facts.words("objective.whole_words") if self.whole_words else None
        return Masking(facts.seed, self.rate, self.masked, self.random, facts.ids["mask"], facts.special_V, words)


class SpanObjective(Objective):
    """Span corruption (Raffel et al. 2020, T5, section 3.1.4): the encoder reads a document in which sentinels stand
    for spans of tokens, the decoder writes each sentinel and what was there. The encoder's side is sequence_length
    long, the decoder's a quarter longer than one document of that length needs; documents too short for it have less
    noise."""

    arrangements = ("encoder-decoder",)
    kind: Literal["span"]
    """Kind of objective."""
    density: Rate = 0.15
    """Share of tokens that are noise, in each document to the nearest whole number."""
    mean_span: Span = 3.0
    """Mean length of a span, in tokens."""

    def roles(self, sequence_length: int) -> tuple[str, ...]:
        """A sentinel for each span of the longest document, and one for the end."""
        count = most_spans(sequence_length, self.density, self.mean_span) + 1
        return tuple(f"{SENTINEL}{number}" for number in range(count))

    def transform(self, facts: Facts) -> Transform:
        """The corruption."""
        length = facts.sequence_length
        sentinels = np.array([facts.ids[role] for role in self.roles(length)])
        return SpanCorruption(
            facts.seed, self.density, self.mean_span, sentinels, facts.pad, facts.pad, facts.special_V
        )


class DenoisingObjective(Objective):
    """Denoising (Lewis et al. 2020, BART, section 2.2): the encoder reads a damaged document, the decoder writes it
    whole. Both sides are sequence_length long. Defaults are the paper's large model: text infilling and sentence
    permutation."""

    arrangements = ("encoder-decoder",)
    kind: Literal["denoising"]
    """Kind of objective."""
    rate: Rate = 0.3
    """Share of tokens that are hidden or taken out."""
    mean_span: Annotated[float, Field(ge=1, le=100)] = 3.0
    """Mean of the Poisson-distributed span lengths of text infilling, in tokens; a span may be empty."""
    infilling: Weight = 1.0
    """Share of documents in which one mask stands for each span; shares of this and the next two on any scale."""
    masking: Weight = 0.0
    """Share of documents in which each token by itself is hidden behind a mask."""
    deletion: Weight = 0.0
    """Share of documents in which tokens are taken out without a trace."""
    permutation: Share = 1.0
    """Share of documents whose sentences stand in a random order. They end with a line, or with a full stop or its like
    in any script, behind which a blank stands where it is one of `.`, `!`, `?`."""
    rotation: Share = 0.0
    """Share of documents that begin at a random token, with what stood before it at their end."""

    @model_validator(mode="after")
    def _some_noise(self) -> DenoisingObjective:
        if self.infilling + self.masking + self.deletion == 0:
            raise ValueError("infilling, masking and deletion are all 0, so no document is damaged; raise one")
        return self

    def roles(self, sequence_length: int) -> tuple[str, ...]:
        """The mask."""
        return ("mask",)

    def transform(self, facts: Facts) -> Transform:
        """The noise."""
        return Denoising(
            facts.seed,
            self.rate,
            self.mean_span,
            self.infilling,
            self.masking,
            self.deletion,
            self.permutation,
            self.rotation,
            facts.ids["mask"],
            facts.pad,
            facts.pad,
            facts.special_V,
            facts.words("objective.permutation") if self.permutation else None,
        )


Single = Annotated[Causal | Prefix | FIM | Masked | SpanObjective | DenoisingObjective, Field(discriminator="kind")]


class Part(Section):
    """One objective of a mixture."""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """Share of sequences; any scale."""
    objective: Single
    """The objective, of any kind but mix."""


class Mix(Objective):
    """A mixture (Tay et al. 2022, UL2, section 3.1): each sequence is prepared for one of several objectives, which
    must fit the same model.arrangement."""

    arrangements = ("decoder", "encoder", "encoder-decoder")
    kind: Literal["mix"]
    """Kind of objective."""
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    """Objectives (`objective: {kind: ...}`), each with its `weight`, the share of sequences that it gets."""

    def roles(self, sequence_length: int) -> tuple[str, ...]:
        """Those of all parts, each once."""
        return tuple(dict.fromkeys(role for part in self.parts for role in part.objective.roles(sequence_length)))

    def transform(self, facts: Facts) -> Transform:
        """The mixture."""
        transforms = tuple(part.objective.transform(facts) for part in self.parts)
        return Mixing(facts.seed, tuple(part.weight for part in self.parts), transforms, facts.pad)


AnyObjective = Annotated[
    Annotated[Causal | Prefix | FIM | Masked | SpanObjective | DenoisingObjective | Mix, Field(discriminator="kind")],
    unless_said("causal"),
]
"""An objective of any kind."""

CAUSAL = Causal(kind="causal")


def misfit(objective: Objective, model: ModelConfig) -> str | None:
    """What is wrong where such a model cannot be trained by the objective, and what to do."""
    arrangement = model.arrangement
    for one in [part.objective for part in objective.parts] if isinstance(objective, Mix) else [objective]:
        if arrangement not in one.arrangements:
            fits = (
                get_args(each.model_fields["kind"].annotation)[0] for each in _KINDS if arrangement in each.arrangements
            )
            named = ", ".join(fits)
            return (
                f"objective.kind {one.kind} trains a model.arrangement of {' or '.join(one.arrangements)}, not "
                f"{arrangement}; change one of them. For {arrangement} there are: {named}"
            )
        if isinstance(one, Prefix) and model.positions.kind == "relative":
            return (
                "objective.kind prefix lets places see ahead, where model.positions.kind relative tells a decoder no "
                "distance; take another kind of positions"
            )
    return None


_KINDS: tuple[type[Objective], ...] = (Causal, Prefix, FIM, Masked, SpanObjective, DenoisingObjective, Mix)


def facts_of(config: TrainConfig, corpus: Corpus) -> Facts:
    """What the run's objective must know."""
    return Facts(corpus, config.seed, config.sequence_length, config.objective.roles(config.sequence_length))


def same_sentinels(folder: Path, version: int, facts: Facts) -> None:
    """Raises UserError where a checkpoint of that format version was trained with sentinels of other ids."""
    added = [
        role for role, token in facts.ids.items() if role.startswith(SENTINEL) and token >= facts.corpus.vocabulary
    ]
    if version < 6 and added:
        raise UserError(
            f"{folder} has format version {version}, in which the sentinels that the tokenizer of "
            f"{facts.corpus.folder} lacks had other ids. Go on with the version that wrote it, or choose another "
            "checkpoint.folder to begin a new run"
        )


def vocabulary_of(config: TrainConfig, corpus: Corpus) -> int:
    """Token ids of the model: what is set, else the corpus's and those that the objective adds above them.

    Raises RecipeError where what is set is too small.
    """
    needed = 1 + max([corpus.vocabulary - 1, *facts_of(config, corpus).ids.values()])
    asked = config.model.vocabulary
    if asked is not None and asked < needed:
        extra = needed - corpus.vocabulary
        why = f", to which objective.kind {config.objective.kind} adds {extra}" if extra else ""
        raise RecipeError(
            f"the corpus in {corpus.folder} has a vocabulary of {corpus.vocabulary}{why}, the model of {asked}; "
            f"raise model.vocabulary to {needed} or more, or leave it out"
        )
    return asked or needed
