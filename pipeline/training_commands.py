"""The commands beside `train`: what a configuration of a training run means, before it begins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from pipeline.app import AsJson, Set, command, console
from pipeline.aside import write_whole
from pipeline.errors import UserError
from pipeline.look.extra import look_extra

if TYPE_CHECKING:
    from trainer.config import TrainConfig

ROWS, POINTS = 12, 5000
"""Most steps that are printed, and drawn."""


@command("plot-schedule")
def plot_schedule(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A configuration: a YAML file, see configs/.")],
    set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help="A page with the curve.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every step and its rate, as one JSON list.")] = False,
) -> None:
    """Draw the learning rate of a training run, step by step.

    Prints it at some steps; with --out it writes a page with the whole curve, which needs nothing but a browser.

    Example: corpusmill plot-schedule configs/train-demo.yaml --set schedule.kind=wsd --out schedule.html
    """
    from trainer.config import load_config
    from trainer.length import settled
    from trainer.mixture import weights_of
    from trainer.remote import opened
    from trainer.run import packed_as

    read = load_config(config, set_ or [])
    packed = weights = None
    if read.epochs is not None:  # how long they are the corpus says
        corpus = opened(read.data.corpus, read.data.cache)
        packed = packed_as(read, corpus, read.data.split)
        weights = weights_of(read.data.weights, corpus, packed, read.data.split)
    read = settled(read, packed, weights)
    rates: list[float] = []
    kinds: list[str] = []
    notes: list[str] = []
    while len(rates) < read.last_step:
        first = len(rates) + 1
        then = read.at(first)
        rates += [then.rate(step) for step in range(first, read.stretch(first) + 1)]
        kinds += [then.schedule.kind] if then.schedule.kind not in kinds[-1:] else []
        notes += [note for note in _not_drawn(then) if note not in notes]
    called = ", then ".join(kinds)
    if out is not None:
        _draw(rates, f"{config.name}: {called}", "<br>".join(["step", *notes]), out)
    if as_json:
        print(json.dumps(list(enumerate(rates, 1))))
        return
    table = Table(title=f"Learning rate, {called}", title_justify="left")
    table.add_column("step", justify="right")
    table.add_column("rate", justify="right")
    for step in marks(read.last_step, ROWS):
        table.add_row(f"{step:,}", f"{rates[step - 1]:.3e}")
    console().print(table)
    for note in notes:
        console().print(note, highlight=False, soft_wrap=True)
    if out is not None:
        console().print(f"made: {out}", highlight=False)


def _not_drawn(config: TrainConfig) -> Iterator[str]:
    """What else moves the rate, and is measured in the run."""
    ramp, full = config.batch_ramp, config.global_batch
    if ramp is not None and ramp.kind == "noise" and ramp.couple != "none":
        times = ramp.rate_share(full, full) / ramp.rate_share(ramp.first, full)
        yield (
            f"drawn for batches of {ramp.first}: with batch_ramp.couple {ramp.couple} the rate rises as the batch "
            f"does, to {times:.3g} times as much at {full}, and when that is the noise scale says"
        )
    if config.plateau is not None:
        yield "falls by plateau are not drawn: when they come the validation loss says"


@command("packing")
def packing(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help="A run folder, a folder with corpus.json, or its address.")
    ],
    sequence_length: Annotated[
        int, typer.Option("--sequence-length", metavar="T", min=2, help="Tokens of a sequence.")
    ] = 2048,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="The split.")] = "train",
    drop: Annotated[
        bool, typer.Option("--drop", help="Concatenated, drop what fills no sequence, instead of padding it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare how documents share sequences: by best fit, and one behind another, cut at every T tokens.

    Shows padding, how often documents are cut, and how many of those would fit; `data.packing` chooses.

    Example: corpusmill packing runs/demo --sequence-length 1024
    """
    from trainer.packings import side_by_side
    from trainer.remote import opened

    rows = list(side_by_side(opened(corpus), split, sequence_length, "drop" if drop else None))
    if as_json:
        print(json.dumps([vars(row) for row in rows], indent=1))
        return
    first = rows[0]
    table = Table(
        title=f"{first.documents:,} documents, {first.tokens:,} tokens in sequences of {sequence_length:,}",
        title_justify="left",
    )
    table.add_column("packing")
    for name in ("sequences", "padding", "cuts", "documents cut", "that would fit", "tokens dropped"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = (row.cuts, row.documents_cut, row.fitting_cut, row.dropped)
        table.add_row(row.packing, f"{row.sequences:,}", f"{row.padding:.3%}", *(f"{count:,}" for count in counts))
    console().print(table)


def marks(steps: int, most: int) -> list[int]:
    """Steps from the first to the last, evenly spread."""
    number = min(most, steps)
    return [1 + round(n * (steps - 1) / max(1, number - 1)) for n in range(number)]


def _draw(rates: list[float], title: str, below: str, out: Path) -> None:
    with look_extra("corpusmill plot-schedule --out"):
        import plotly.graph_objects as go
    steps = marks(len(rates), POINTS)
    figure = go.Figure(go.Scatter(x=steps, y=[rates[step - 1] for step in steps], mode="lines", name="learning rate"))
    figure.update_layout(title=title, xaxis_title=below, yaxis_title="learning rate", template="plotly_white")
    try:
        write_whole(out, figure.to_html(include_plotlyjs=True).encode())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from error
