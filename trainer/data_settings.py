"""What may be set for the data of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from pipeline.storage.address import is_remote, local_path
from trainer.packing import Packing, Remainder
from trainer.section import Count, Natural, Section, Weight, is_stored

DocumentId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


def _place(value: Any) -> Any:
    """A folder as a path, an address as it is."""
    if isinstance(value, str):
        return value if is_remote(value) else Path(local_path(value))
    return value


class Lengthening(Section):
    """From a step on, sequences are read in parts."""

    from_step: Count
    """The first training step that it acts on."""
    length: Annotated[int, Field(strict=True, ge=2)]
    """Tokens of a part; divides sequence_length. A batch then has so many times more sequences."""


class CacheConfig(Section):
    """Where what is read of a corpus at an address lies on this machine. Many runs and processes may share it."""

    folder: Path | None = None
    """null: `corpusmill/blocks` in the user's folder for caches (`XDG_CACHE_HOME`)."""
    gigabytes: Annotated[float, Field(gt=0)] = 64.0
    """10^9 bytes of blocks that are kept at most; those not read for the longest time go first. A cache smaller than
    the split fetches blocks again, many times in shuffled order. Indexes and tables come on top, and go when their
    corpus was not opened for a month."""
    block_kilobytes: Annotated[int, Field(strict=True, ge=4)] = 1024
    """2^10 bytes of a block, which is fetched by one request. Smaller ones waste less where the cache is too small."""
    threads: Count = 8
    """Blocks that are fetched at once."""
    read_ahead: Natural = 64
    """Batches of which blocks are fetched in advance."""

    @model_validator(mode="after")
    def _holds_blocks(self, info: ValidationInfo) -> CacheConfig:
        if not is_stored(info) and self.gigabytes * 1e9 < 2 * (self.block_kilobytes << 10):
            raise ValueError(
                f"gigabytes: {self.gigabytes:g} is less than two blocks of {self.block_kilobytes} kilobytes; "
                "raise it, or make block_kilobytes smaller"
            )
        return self


class DataConfig(Section):
    """Where tokens come from."""

    corpus: Annotated[Path | str, AfterValidator(_place)]
    """Folder of the corpus (the one that holds `corpus.json`), or its address, such as s3://bucket/corpus."""
    split: str = "train"
    """Split to train on."""
    validation: str | None = "validation"
    """Split to evaluate on; null: no evaluation."""
    weights: dict[str, Weight] | None = None
    """Shares of tokens by group, for a corpus in layout `by_source`; any scale, and 0 leaves a group out. null: the
    shares of its `mixture.json`. Other weights before a resume act from there on: each group is read on where it stood.
    """
    max_epochs: Annotated[float, Field(gt=0, allow_inf_nan=True)] | None = None
    """How often any group may be read, .inf: without limit; null: as `mixture.json` has it for each, without limit in
    layout `mixed`."""
    prefix_loss: bool = True
    """Whether the model learns to predict the metadata before a text (`tokenizer.prefix` in the recipe); false: it
    reads it as context alone."""
    prompt_loss: bool = True
    """Whether the model learns to predict the prompts of records that come from a template (`{|}` in the recipe);
    false: it reads them, and metadata before them, as context alone."""
    leave_out: tuple[DocumentId, ...] = ()
    """Ids (32 hex digits) of documents to leave out. Their places stay empty, so no other sample moves.
    Documents added before a resume are left out from there on; what was left out once stays out."""
    skip_to: Count | None = None
    """Data step to go on with. A run that resumes before it jumps there: the batches between are never read."""
    packing: Packing = "best-fit"
    """best-fit: no document that fits a sequence is cut, and little is padded. concatenate: the documents of a shard
    are cut at every sequence_length tokens, one behind another. `corpusmill packing` shows both."""
    remainder: Remainder | None = None
    """Under `concatenate`, the last tokens of a shard that fill no sequence: pad (as null), or drop them."""
    documents: Literal["separate", "joined"] = "separate"
    """separate: a place looks at its own document alone, positions begin anew in each, and no target crosses. joined:
    a sequence is read as one text, as by GPT-2."""
    curriculum: tuple[Lengthening, ...] = ()
    """Shorter sequences at first: each of them read as several, which begin anew. Nothing is lost or repeated."""
    cache: CacheConfig = CacheConfig()
    """Of a corpus at an address, what is kept on this machine."""
    look_ahead: Annotated[int, Field(strict=True, ge=0, le=32)] = 4
    """Batches that are made ready in advance. Has no effect on what is in them."""

    @model_validator(mode="after")
    def _parts_fit(self) -> DataConfig:
        if self.remainder is not None and self.packing != "concatenate":
            raise ValueError(f"remainder: {self.remainder} has no meaning under packing {self.packing}; take it out")
        steps = [one.from_step for one in self.curriculum]
        if steps != sorted(set(steps)):
            raise ValueError(f"curriculum: from_step must rise, but is {', '.join(map(str, steps))}")
        return self
