"""The commands that carry models from and to other tools' formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml

from pipeline.app import command, console, needs_torch
from pipeline.aside import write_whole
from pipeline.errors import RecipeError, UserError
from pipeline.settings import load_yaml


def _say(line: str) -> None:
    console().print(line, highlight=False, soft_wrap=True)


@command("export-model")
def export_model(
    source: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint, or the folder of a run's checkpoints.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    quantise: Annotated[
        Literal["int8", "int4"] | None,
        typer.Option("--quantise", help="Matrices of blocks in fewer bits, by torchao; not of GPT-2."),
    ] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="What lora learned alone, as peft reads it; without it they are merged.")
    ] = False,
    average: Annotated[
        bool, typer.Option("--average", help="The running mean of the weights, where the run kept one (`average`).")
    ] = False,
) -> None:
    """Write a trained model as Hugging Face transformers reads it: config.json, safetensors and the tokenizer.

    Models of the shape of GPT-2, Llama, BERT or T5 can be written; another is refused with what differs. Heads and
    hidden units that were pruned are left out where all layers lost as many.

    Example: corpusmill export-model runs/demo-model runs/demo-transformers
    """
    needs_torch()
    from trainer.export import export

    export(source, out, _say, quantise, adapter, average)


@command("import-model")
def import_model(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="config.json and safetensors of a GPT-2, Llama, BERT or T5.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.yaml", help="Configuration to write.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG", help="A configuration whose model is replaced; all else is kept."),
    ] = None,
) -> None:
    """Write the model section of a configuration that begins with the weights of a Hugging Face model.

    All weights are read once, so that a run does not fail on them later. The corpus must be of the model's tokenizer.

    Example: corpusmill import-model models/gpt2 gpt2.yaml --config configs/train-gpt2-124m.yaml
    """
    needs_torch()
    from trainer.hugging_face import read_config, read_weights

    form, found = read_config(folder)
    weights = read_weights(folder, form, found)
    model = found.model_dump(mode="json", exclude_defaults=True) | {"init_from": str(folder.resolve())}
    values: Any = load_yaml(config, "configuration") if config else {}
    if not isinstance(values, dict):
        raise RecipeError(f"{config} holds no settings; it must be a YAML mapping with keys such as data, model, steps")
    try:
        write_whole(out, yaml.safe_dump(values | {"model": model}, sort_keys=False).encode())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from error
    _say(f"made: {out}, for a {form.architecture} of {sum(weight.numel() for weight in weights.values()):,} weights")
    if config is None:
        _say(
            "it has a model section alone: add data, sequence_length, global_batch, steps and checkpoint, see configs/"
        )
