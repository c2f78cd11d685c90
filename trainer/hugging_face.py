"""Models from and to folders in Hugging Face's formats: `config.json` and safetensors. Needs no `transformers`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.settings import explain
from pipeline.shards import Corpus
from trainer import checkpoint
from trainer.attention import score_scale
from trainer.checkpoint import Meta
from trainer.compress_settings import PROJECTION
from trainer.formats import FORMATS
from trainer.formats.base import Format, Unreadable, Values
from trainer.initialise import readout_scale
from trainer.lora import merged
from trainer.model import Model
from trainer.model_settings import RUNNING, ModelConfig
from trainer.objectives import facts_of, same_sentinels
from trainer.quantise import Quantise, dequantised, quantised
from trainer.vocabulary import tokens_beside, tokens_of

Say = Callable[[str], None]
Weights = dict[str, Tensor]

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def read_config(folder: Path) -> tuple[Format, ModelConfig]:
    """Which format the model in a folder has, and its settings, vocabulary among them.

    Raises UserError where it is none that can be read, and says why.
    """
    try:
        values = json.loads((folder / "config.json").read_text("utf-8"))
        kind = str(values["model_type"])
    except OSError as error:
        raise UserError(f"{folder} holds no config.json that can be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'} says no model_type; is it of a Hugging Face model?") from error
    if kind not in FORMATS:
        raise UserError(f"{folder} holds a model of type {kind}; {', '.join(FORMATS)} can be read")
    try:
        return FORMATS[kind], _settings(FORMATS[kind], values)
    except Unreadable as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from error
    except KeyError as error:
        raise UserError(f"{folder / 'config.json'}: {error.args[0]} is missing") from error
    except ValidationError as error:
        raise UserError(f"{folder / 'config.json'}: {'; '.join(explain(error, ModelConfig))}") from error


def _settings(form: Format, values: Values) -> ModelConfig:
    return ModelConfig.model_validate(form.read(values) | {"vocabulary": values["vocab_size"]})


def read_weights(folder: Path, form: Format, config: ModelConfig) -> Weights:
    """Our weights by name, in fp32, out of the folder's file or files.

    Raises UserError where some are missing or unknown.
    """
    found = {_full_name(form, name): weight for name, weight in _stored(folder).items()}
    weights: Weights = {}
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in Model(config, config.vocabulary or 0).named_parameters()}
    used: set[str] = set()
    for pair in form.pairs(config):
        missing = [name for name in pair.theirs if name not in found]
        if missing:
            raise UserError(f"{folder} holds no weight {missing[0]}, which a {form.architecture} has")
        used.update(pair.theirs)
        parts = [found[name].float() for name in pair.theirs]
        joined = torch.cat([part.T if pair.transposed else part for part in parts])
        rows = [shapes[name][0] for name in pair.ours]
        if len(joined) != sum(rows) or joined.shape[1:] != shapes[pair.ours[0]][1:]:
            raise UserError(f"{folder}: {pair.theirs[0]} has the shape {tuple(found[pair.theirs[0]].shape)}, which is "
                            "not what config.json says")  # fmt: skip
        weights |= dict(zip(pair.ours, torch.split(joined, rows), strict=True))
    unknown = [name for name in found.keys() - used if not any(part in f".{name}" for part in form.ignored)]
    if config.tied and "lm_head.weight" in unknown:
        if not found["lm_head.weight"].equal(found[next(form.pairs(config)).theirs[0]]):
            raise UserError(f"{folder} ties the output projection to the embedding, but holds another lm_head.weight")
        unknown.remove("lm_head.weight")
    if unknown:
        raise UserError(f"{folder} holds weights that a {form.architecture} has not: {', '.join(sorted(unknown)[:5])}")
    return weights


def _full_name(form: Format, name: str) -> str:
    """With the prefix that files of a model without its head leave out; norms by their names of today."""
    name = name.removesuffix(".gamma") + ".weight" if name.endswith(".gamma") else name
    name = name.removesuffix(".beta") + ".bias" if name.endswith(".beta") else name
    return name if name.startswith((form.prefix, *form.head)) else form.prefix + name


def _stored(folder: Path) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        if (folder / INDEX).exists():
            names = sorted(set(json.loads((folder / INDEX).read_text("utf-8"))["weight_map"].values()))
        else:
            names = [WEIGHTS]
        if not (folder / names[0]).exists():
            raise UserError(
                f"{folder} holds no {names[0]}; weights in other files (pytorch_model.bin) must be made safetensors of "
                "first: load and save the model with transformers"
            )
        found: Weights = {}
        for file in names:
            with safe_open(folder / file, "pt") as opened:
                stored = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                found |= dequantised(stored, opened.metadata())
        return found
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise DamageError(f"the weights in {folder} cannot be read: {error}") from error


def begin_from(model: Model, folder: Path, say: Say, corpus: Corpus | None = None) -> None:
    """Fills a new model with the weights in `folder`: of a Hugging Face format, or a checkpoint.

    A larger vocabulary keeps its further rows as they are. Raises RecipeError where the shape is another, or the
    tokenizer than that of the corpus.
    """
    key = "model.init_from"
    _, weights = stored_model(folder, key, say, lambda there: _same_shape(folder, there, model.config), corpus)
    _fill(model, weights, folder, say)
    say(f"beginning with the weights of {folder}")


def in_their_format(folder: Path, key: str) -> bool:
    """Whether a folder is of a Hugging Face format. Raises RecipeError, naming the setting, where there is none."""
    folder = checkpoint.named(folder)
    if not folder.is_dir():
        raise RecipeError(f"{key}: there is no folder {folder}")
    return (folder / "config.json").exists()


def stored_model(
    folder: Path,
    key: str,
    say: Say,
    check: Callable[[ModelConfig], None] = lambda config: None,
    corpus: Corpus | None = None,
) -> tuple[ModelConfig, Weights]:
    """Shape and weights of the model in a folder of a Hugging Face format, a checkpoint or a folder of checkpoints.

    `key` is the setting that names it; `check` looks at the shape before the weights are read. Raises RecipeError where
    it is not of the tokenizer of a corpus that is given.
    """
    if in_their_format(folder, key):
        form, config = read_config(folder)
        check(config)
        if corpus is not None:
            same_tokenizer(folder, key, corpus)
        return config, read_weights(folder, form, config)
    step, meta = checkpoint_in(folder, say)
    check(meta.config.model)
    if corpus is not None:
        same_tokenizer(folder, key, corpus, meta)
    return meta.config.model, trained_weights(meta, checkpoint.load_state(step))


def same_tokenizer(folder: Path, key: str, corpus: Corpus, meta: Meta | None = None) -> None:
    """Raises RecipeError, naming the setting, where the model in a folder is of another tokenizer than the corpus: by
    its digest in a checkpoint's `meta`, else by the pieces of the file beside the weights, where there is one."""
    if meta is not None:
        here = str(corpus.meta["tokenizer"]["digest"])
        if meta.corpus.tokenizer != here:
            raise RecipeError(
                f"{key}: {folder} was trained on tokens of another tokenizer ({meta.corpus.tokenizer[:12]}, "
                f"{corpus.folder} has {here[:12]}); take a model or a corpus of the same"
            )
        same_sentinels(folder, meta.format_version, facts_of(meta.config, corpus))
        return
    name, theirs = tokens_beside(folder)
    there, ours = theirs.bytes_by_id, tokens_of(corpus).bytes_by_id if name else {}
    # Special tokens may have other names, and either may have more tokens than the other.
    token = next((token for token in sorted(there.keys() & ours.keys()) if there[token] != ours[token]), None)
    if token is not None:
        raise RecipeError(
            f"{key}: {folder / name} is another tokenizer than that of {corpus.folder}: token {token} is "
            f"{there[token].decode(errors='replace')!r} there, {ours[token].decode(errors='replace')!r} here; take a "
            f"model of the same, or make the corpus with `tokenizer: {{file: {folder / name}}}`"
        )


def trained_weights(meta: Meta, state: dict[str, Any], average: bool = False) -> Weights:
    """The weights of a checkpoint as its model alone has them: adapters are added to them, and what only training needs
    is left out. `average`: as in `learned_weights`."""
    learned = learned_weights(meta, state, average)
    weights: Weights = {k: w for k, w in learned.items() if not k.startswith(f"{PROJECTION}.")}
    return weights if meta.config.lora is None else merged(weights, meta.config.lora)


def learned_weights(meta: Meta, state: dict[str, Any], average: bool) -> Weights:
    """The weights of a checkpoint as they were trained; `average`: their running mean. Raises UserError where it has
    none."""
    if average and "average" not in state:
        raise UserError(
            f"the checkpoint of step {meta.step} in {meta.config.checkpoint.folder} has no running mean of the "
            "weights, which a run keeps with `average: {decay: 0.999}`; leave --average out"
        )
    weights: Weights = state["average"]["model"] if average else state["model"]
    return weights


@torch.no_grad()
def _fill(model: nn.Module, weights: Weights, folder: Path, say: Say) -> None:
    state = model.state_dict()
    for name, weight in weights.items():
        into = state[name]
        if not weight.ndim:  # a count of a norm's batches
            into.copy_(weight)
            continue
        if len(weight) > len(into):
            raise RecipeError(
                f"model.init_from: {folder} has a vocabulary of {len(weight)}, the model of {len(into)}; raise "
                "model.vocabulary to that"
            )
        if len(weight) < len(into) and name == "embedding.weight":
            say(f"{len(into) - len(weight)} token ids above the {len(weight)} of {folder} keep random vectors")
        into[: len(weight)].copy_(weight)


def checkpoint_in(folder: Path, say: Say) -> tuple[Path, Meta]:
    """The checkpoint that a folder is, or the newest whole one in it. Raises UserError where there is none."""
    folder = checkpoint.named(folder)
    if (folder / "checkpoint.json").exists():
        return folder, checkpoint.read_meta(folder, check_state=True)
    found = checkpoint.newest(folder, say, check_state=True) if folder.is_dir() else None
    if found is None:
        raise UserError(f"{folder} holds neither a checkpoint nor a config.json of a Hugging Face model")
    return found


def shape_of(config: ModelConfig) -> Values:
    """What decides on the values that weights give: settings with all that follows from others filled in."""
    known = config.model_dump(mode="json", exclude=RUNNING | {"initialisation", "vocabulary"})
    return known | {
        "kv_heads": config.kv_heads or config.heads,
        "head_size": config.size_of_head,
        "hidden": config.size_of_hidden,
        "encoder_layers": config.encoder_blocks,
        "attention_scale": score_scale(config),
        "logit_scale": readout_scale(config),
    }


def differences(one: ModelConfig, other: ModelConfig) -> list[tuple[str, Any, Any]]:
    """(key, value of one, value of the other) where their shapes differ."""
    left, right = shape_of(one), shape_of(other)
    return [(key, left[key], right[key]) for key in left if left[key] != right[key]]


def _same_shape(folder: Path, there: ModelConfig, here: ModelConfig) -> None:
    if found := differences(there, here):
        told = ", ".join(f"model.{key} {one} there, {other} here" for key, one, other in found)
        raise RecipeError(f"model.init_from: {folder} holds a model of another shape: {told}")


def nearest_format(config: ModelConfig) -> Format:
    """The format that says all of the settings.

    Raises UserError where there is none, with what differs from the one that comes nearest.
    """
    found = {name: differences(config, _written(form, config)) for name, form in FORMATS.items()}
    name = min(found, key=lambda name: len(found[name]))
    if found[name]:
        told = ", ".join(f"model.{key} is {ours}, there {theirs}" for key, ours, theirs in found[name])
        raise UserError(f"no format of {', '.join(found)} can hold this model. Nearest is {name}, but: {told}")
    return FORMATS[name]


def _written(form: Format, config: ModelConfig) -> ModelConfig:
    """What is left of settings that were written in a format and read again."""
    return _settings(form, form.write(config) | {"vocab_size": config.vocabulary or 1})


def write(
    folder: Path,
    config: ModelConfig,
    weights: Weights,
    special: dict[str, int],
    longest: int,
    quantise: Quantise | None = None,
) -> Format:
    """Writes `config.json` and weights in the format that the model fits; `special` are token ids by role (eot, bos,
    pad), `longest` the sequences that it was trained on; matrices of blocks in fewer bits where `quantise` says so.
    Raises UserError where it fits none."""
    from safetensors.torch import save_file

    form = nearest_format(config)
    values: Values = {"model_type": form.name, "architectures": [form.architecture], "dtype": "float32"}
    values |= {"vocab_size": len(weights["embedding.weight"])} | form.write(config)
    if form.name == "llama":
        values.setdefault("max_position_embeddings", longest)
    pad, eot = special.get("pad"), special.get("eot")
    values |= {"pad_token_id": pad, "eos_token_id": eot, "bos_token_id": special.get("bos", eot)}
    if form.name == "t5":
        values["decoder_start_token_id"] = special.get("pad", eot)
    stored: Weights = {}
    matrices: set[str] = set()
    for pair in form.pairs(config):
        joined = torch.cat([weights[name] for name in pair.ours])
        for name, part in zip(pair.theirs, joined.chunk(len(pair.theirs)), strict=True):
            stored[name] = (part.T if pair.transposed else part).contiguous()
            if "blocks." in pair.ours[0] and part.ndim == 2:
                matrices.add(name)
    metadata = {"format": "pt"}
    if quantise is not None:
        stored, metadata, values["quantization_config"] = quantised(stored, matrices, quantise, form)
        values["dtype"] = "bfloat16"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored, folder / WEIGHTS, metadata)
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    return form
