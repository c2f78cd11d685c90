"""The commands that say beforehand what training will take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pipeline.app import AsJson, Set, app, command, console
from pipeline.errors import RecipeError

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.plan.devices import Device
    from trainer.plan.job import Job
    from trainer.plan.layouts import Plan

group = typer.Typer(help="Say beforehand what a training run will take.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(group, name="plan")

ROWS = 8
"""Layouts that a search shows."""


def number_of(name: str, text: str) -> Any:
    """An option that is a whole number of at least 1."""
    return typer.Option(f"--{name}", metavar="N", min=1, help=text)


@command("layout", group=group)
def layout(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A configuration: a YAML file, see configs/.")
    ] = None,
    device: Annotated[
        str,
        typer.Option("--device", metavar="NAME", help="A device of the table (--list), or a YAML file of your own."),
    ] = "h100",
    devices: Annotated[int | None, number_of("devices", "How many; dp_shard is what other dimensions leave.")] = None,
    pp: Annotated[int | None, number_of("pp", "Pipeline stages.")] = None,
    dp_replicate: Annotated[int | None, number_of("dp-replicate", "Copies of the weights.")] = None,
    dp_shard: Annotated[int | None, number_of("dp-shard", "Parts of weights, gradients and moments.")] = None,
    cp: Annotated[int | None, number_of("cp", "Parts of each sequence.")] = None,
    ep: Annotated[int | None, number_of("ep", "Parts of the experts.")] = None,
    tp: Annotated[int | None, number_of("tp", "Parts of each matrix.")] = None,
    zero: Annotated[int | None, typer.Option("--zero", min=1, max=3, help="What dp_shard divides.")] = None,
    set_: Set = None,
    search: Annotated[
        bool, typer.Option("--search", help="Show the fastest layouts that fit, all modes tried.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the table of devices, with its sources.")] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Show what is expected of runs that others measured.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a layout of devices will take: memory by part, traffic by dimension, time of a step.

    No device is needed, and no torch. Every sequence is taken to be full and one document, and every token to have a
    target; with many short documents attention takes less time. An encoder is given as many places as the decoder.
    Expect errors of up to a quarter in time: --published shows them for runs that others measured.

    Examples:
    corpusmill plan layout configs/train-gpt2-124m.yaml --device h100 --devices 8;
    corpusmill plan layout configs/train-gpt2-124m.yaml --device a100-80 --devices 64 --tp 2 --set model.recompute=full;
    corpusmill plan layout configs/train-gpt2-124m.yaml --devices 16 --search;
    corpusmill plan layout --list
    """
    if list_:
        _show_devices(as_json)
        return
    if published:
        _show_published(as_json)
        return
    if config is None:
        raise RecipeError("corpusmill plan layout: give a CONFIG, or one of --list and --published")
    from trainer.plan import devices as table
    from trainer.plan import layouts
    from trainer.plan.job import check
    from trainer.plan.reading import read
    from trainer.plan.step import constants

    sizes = {"pp": pp, "dp_replicate": dp_replicate, "dp_shard": dp_shard, "cp": cp, "ep": ep, "tp": tp, "zero": zero}
    settings, chosen = read(config, set_ or [], sizes, devices)
    job, on, known = job_of(settings), table.device(device), constants()
    on.peak(job.numbers.peak)  # refused before anything is counted
    if search:
        micros = [settings.micro_batch] if isinstance(settings.micro_batch, int) else None
        found = layouts.search(job, chosen.devices, on, known, micros)
        _show_search(found[:ROWS], job, chosen.devices, on, as_json)
        return
    if settings.micro_batch == "auto":
        job = job.with_micro(layouts.largest_micro(job, chosen, on))
    check(job, chosen)
    _show_plan(layouts.plan(job, chosen, on, known), as_json)


def job_of(settings: TrainConfig) -> Job:
    """What a configuration plans; says what of it is not reckoned with. Raises RecipeError as the trainer's."""
    from trainer.plan.reading import job_of as reckoned

    beside = [name for name in ("lora", "distill", "prune", "offload", "loose") if getattr(settings, name) is not None]
    if beside:
        console(stderr=True).print(
            f"not reckoned with: {', '.join(beside)}; this is a run that trains all weights, all on the device",
            highlight=False,
        )
    return reckoned(settings)


PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "moments": "optimiser states",
    "average": "running mean of the weights",
    "copies": "copies of weights (autocast)",
    "activations": "activations",
    "peak": "logits, or a block made anew",
    "buffers": "weights and gradients of a block, gathered",
}


def _show_plan(found: Plan, as_json: bool) -> None:
    facts = _facts(found)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    screen = console()
    job, memory, step = found.job, found.memory, found.step
    number = job.micro_batches(found.layout)
    screen.print(
        f"{job.shape.weights:,} weights on {found.layout.devices} {found.device.name} ({found.layout.told}): "
        f"{number} micro-batches of {job.micro(found.layout)} sequences for each of {found.layout.readers} readers, "
        f"recompute {job.recompute}, {job.precision}",
        highlight=False,
    )
    table = table_of("memory of a device", "GB")
    for name, text in PARTS.items():
        if getattr(memory, name):
            table.add_row(text, f"{getattr(memory, name) / 1e9:,.2f}")
    table.add_row("all", f"{memory.total / 1e9:,.2f}")
    table.add_row("may be filled", f"{found.room / 1e9:,.2f}")
    screen.print(table)
    if found.flows:
        table = table_of("traffic of a device, a step", "GB in the node", "GB to other nodes", "")
        for flow in found.flows:
            when = "behind computation" if flow.behind else "waited for"
            table.add_row(
                f"{flow.dimension}: {flow.what}", f"{flow.inside / 1e9:,.2f}", f"{flow.outside / 1e9:,.2f}", when
            )
        screen.print(table)
    table = table_of("time of a step", "ms", "share")
    for text, seconds in _times(found).items():
        table.add_row(text, f"{seconds * 1e3:,.1f}", f"{seconds / step.seconds:.0%}")
    screen.print(table)
    screen.print(
        f"{step.tokens_per_second:,.0f} tokens/s a device, {step.tokens_per_second * found.layout.devices:,.0f} in "
        f"all; {step.flops_per_second / 1e12:,.0f} TFLOP/s a device, MFU {step.mfu:.1%}",
        highlight=False,
    )
    if not found.fits:
        screen.print(
            f"does not fit: {memory.total / 1e9:,.1f} GB of the {found.device.memory:g} GB of a device; try --search, "
            "more devices, a smaller micro_batch, or model.recompute",
            highlight=False,
        )


def _times(found: Plan) -> dict[str, float]:
    step = found.step
    waited = {f"waiting: {name}": seconds for name, seconds in step.exposed.items()}
    rest = {"pipeline idle": step.bubble, "optimiser": step.optimizer}
    all_of = {"products and attention": step.compute, "other work in memory": step.memory} | waited | rest
    return {text: seconds for text, seconds in all_of.items() if seconds} | {"all": step.seconds}


def _facts(found: Plan) -> dict[str, Any]:
    step, layout = found.step, found.layout
    return {
        "device": found.device.name,
        "devices": layout.devices,
        "layout": vars(layout),
        "micro_batch": found.job.micro(layout),
        "micro_batches": found.job.micro_batches(layout),
        "recompute": found.job.recompute,
        "precision": found.job.precision,
        "weights": found.job.shape.weights,
        "memory_bytes": found.memory.parts | {"total": found.memory.total, "room": found.room},
        "memory_when": found.memory.when,
        "fits": found.fits,
        "traffic_bytes": [vars(flow) for flow in found.flows],
        "seconds": _times(found),
        "tokens_per_second_per_device": step.tokens_per_second,
        "flops_per_second_per_device": step.flops_per_second,
        "mfu": step.mfu,
    }


def _show_search(found: list[Plan], job: Job, devices: int, device: Device, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_facts(one) for one in found], indent=1))
        return
    screen = console()
    if not found:
        screen.print(
            f"no layout of {devices} {device.name} fits a global batch of {job.global_batch} sequences of "
            f"{job.sequence_length} tokens; take more devices",
            highlight=False,
        )
        return
    table = table_of(
        f"{devices} {device.name}",
        "zero",
        "schedule",
        "micro-batch",
        "recompute",
        "GB",
        "ms",
        "tokens/s a device",
        "MFU",
    )
    for one in found:
        layout = one.layout
        table.add_row(
            layout.told,
            str(layout.zero) if layout.shards > 1 else "",
            layout.schedule if layout.pp > 1 else "",
            f"{one.job.micro(layout)} × {one.job.micro_batches(layout)}",
            one.job.recompute,
            f"{one.memory.total / 1e9:,.1f}",
            f"{one.step.seconds * 1e3:,.1f}",
            f"{one.step.tokens_per_second:,.0f}",
            f"{one.step.mfu:.1%}",
        )
    screen.print(table)


def _show_devices(as_json: bool) -> None:
    from trainer.plan.devices import devices

    known = devices()
    if as_json:
        print(json.dumps({name: one.model_dump() for name, one in known.items()}, indent=1))
        return
    table = table_of("device", "bf16 TFLOP/s", "fp8", "GB", "TB/s", "GB/s in a node", "GB/s between", "in a node")
    for name, one in known.items():
        figures = (one.bf16, one.fp8, one.memory, one.bandwidth, one.intra_node, one.inter_node, one.node)
        table.add_row(name, *("" if figure is None else f"{figure:g}" for figure in figures))
    screen = console()
    screen.print(table)
    for name, one in known.items():
        screen.print(f"{name}: {one.source}", highlight=False)


def _show_published(as_json: bool) -> None:
    from trainer.plan.published import fitness, runs, sources
    from trainer.plan.step import constants

    all_of, known, of = runs(), constants(), sources()
    if as_json:
        rows = [
            {
                "name": run.name,
                "source": run.source,
                "held_out": run.held_out,
                "measured": run.tokens_per_second,
                "expected": run.step(known).tokens_per_second,
                "error": run.error(known),
                "memory_error": run.memory_error(),
            }
            for run in all_of
        ]
        print(json.dumps(rows, indent=1))
        return
    table = table_of("run", "source", "for", "measured", "expected", "error", "GiB", "expected", "error")
    for run in all_of:
        memory = run.memory_error()
        table.add_row(
            run.name,
            run.source,
            "test" if run.held_out else "fit",
            f"{run.tokens_per_second:,.0f}",
            f"{run.step(known).tokens_per_second:,.0f}",
            f"{run.error(known):+.0%}",
            *(
                ("", "", "")
                if memory is None or run.memory_gib is None
                else (f"{run.memory_gib:g}", f"{run.memory_gib * (1 + memory):.1f}", f"{memory:+.0%}")
            ),
        )
    screen = console()
    screen.print(table)
    for text, held_out in (("fitted to", False), ("tested on", True)):
        found = fitness([run for run in all_of if run.held_out is held_out], known)
        screen.print(
            f"{text} {found.number} runs: {found.near} within 25 %, half of them within {found.median:.1%}, the "
            f"furthest {found.largest:+.1%} ({found.worst})",
            highlight=False,
        )
    shares = ", ".join(f"{name} {value:.3f}" for name, value in vars(known).items())
    screen.print(f"tokens/s are of a device; shares that are reached: {shares}", highlight=False)
    for name, source in of.items():
        assumed = f"; assumed: {source.assumed}" if source.assumed else ""
        screen.print(f"{name}: {source.title}, {source.url} at {source.version}{assumed}", highlight=False)


def table_of(first: str, *others: str) -> Table:
    """An empty table; figures stand on the right."""
    table = Table()
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
