"""A trained model as other tools read it: all of it, in fewer bits, without what was pruned, or its adapters alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import UserError
from pipeline.shards import Corpus
from trainer import checkpoint
from trainer.compress_settings import StructuredPruning
from trainer.formats.base import Format
from trainer.hugging_face import checkpoint_in, learned_weights, nearest_format, trained_weights, write
from trainer.lora import write_adapter
from trainer.model_settings import ModelConfig
from trainer.quantise import Quantise
from trainer.remote import opened
from trainer.shrink import shrunk

Say = Callable[[str], None]


def export(
    source: Path, out: Path, say: Say, quantise: Quantise | None = None, adapter: bool = False, average: bool = False
) -> None:
    """Writes the model of a checkpoint, or of the newest one in a folder, to `out` in a Hugging Face format, and its
    tokenizer beside it where the corpus has it in a form that is at hand. Adapters are merged into the weights; pruned
    heads and hidden units are left out where all layers lost as many.

    `quantise`: matrices in fewer bits. `adapter`: what lora learned alone, as the library peft reads it. `average`: the
    running mean of the weights.
    Raises UserError where `out` holds something, or no format can hold the model.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not an empty folder; name another, or remove it")
    if quantise is not None and adapter:
        raise UserError("--quantise is for whole models, --adapter for what is added to one; leave one of them out")
    step, meta = checkpoint_in(source, say)
    form, config, lora = nearest_format(meta.config.model), meta.config.model, meta.config.lora
    if adapter and lora is None:
        raise UserError(f"{step} was trained without adapters (lora), which --adapter would write alone; leave it out")
    state = checkpoint.load_state(step)
    of = f"of step {meta.step}" + (", the running mean of its weights" if average else "")
    try:
        if adapter and lora is not None:
            numbers = write_adapter(out, form, config, learned_weights(meta, state, average), lora)
            say(f"made: {out}, an adapter of {numbers:,} weights for a {form.architecture}, {of}")
            return
        weights = trained_weights(meta, state, average)
        if isinstance(meta.config.prune, StructuredPruning):
            config, weights = shrunk(config, weights, state["pruning"]["masks"], _fits, say)
        try:
            corpus = opened(meta.config.data.corpus, meta.config.data.cache)
            special = {name: int(value) for name, value in corpus.special.items()}
        except UserError as error:
            corpus, special = None, {}
            say(f"without a tokenizer: {error}")
        form = write(out, config, weights, special, meta.config.sequence_length, quantise)
        say(f"made: {out}, a {form.architecture} {of}")
        if quantise is not None:
            say(_told(quantise))
        if corpus is not None:
            say(_copy_tokenizer(corpus, out, form))
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from error


def _told(quantise: Quantise) -> str:
    where = "on any device" if quantise == "int8" else "and computed with on a CUDA device with torchao and mslk"
    return f"matrices of blocks in {quantise}, the rest in bf16; to be loaded by transformers with torchao, {where}"


def _fits(config: ModelConfig) -> bool:
    try:
        nearest_format(config)
    except UserError:
        return False
    return True


def _copy_tokenizer(corpus: Corpus, out: Path, form: Format) -> str:
    """Puts the corpus's tokenizer where `transformers` looks for it; says what it did."""
    kind = corpus.meta["tokenizer"].get("kind")
    names = {
        "huggingface": "tokenizer.json",
        "sentencepiece": "spiece.model" if form.name == "t5" else "tokenizer.model",
    }
    if kind not in names:
        return f"without a tokenizer: that of {corpus.folder} is of a kind ({kind}) it cannot read"
    try:
        file = corpus.tokenizer_file()
    except UserError as error:
        return f"without a tokenizer: {error}"
    if file is None:
        return f"without a tokenizer: {corpus.folder} names none"
    shutil.copyfile(file, out / names[kind])
    return f"tokenizer: {out / names[kind]}"
