"""`corpusmill plan size`, `plan memory` and `plan time`: what to train, and what that takes of a device."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from pipeline.app import AsJson, Set, command, console
from pipeline.errors import RecipeError
from pipeline.plan_commands import PARTS, group, job_of, number_of, table_of

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.config import TrainConfig
    from trainer.plan.devices import Device
    from trainer.plan.layouts import Plan
    from trainer.plan.memory import Memory

UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


def amount(text: str) -> float:
    """A number above 0 such as 1e21, 20B (10⁹), 1.5T or 300M."""
    found = re.fullmatch(r"([0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([KMBTkmbt]?)", text.strip())
    value = float(found[1].replace("_", "")) * UNITS[found[2].upper()] if found else 0.0
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{text!r} is no amount; write it as 1e21, 20B (20 × 10⁹), 1.5T or 300M")
    return value


def _amount(name: str, text: str) -> Any:
    return typer.Option(f"--{name}", metavar="N", parser=amount, help=text)


def _share(name: str, text: str) -> Any:
    return typer.Option(f"--{name}", metavar="SHARE", min=0.01, max=1.0, help=text)


DEVICE = typer.Option("--device", metavar="NAME", help="A device of `plan layout --list`, or a YAML file of your own.")


@command("size", group=group)
def size(
    flops: Annotated[float | None, _amount("flops", "FLOPs of the whole training.")] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", min=0.001, help="Or hours on the devices, at the --mfu.")
    ] = None,
    mfu: Annotated[float, _share("mfu", "Share of the devices' peak in bf16 that --hours are taken at.")] = 0.4,
    tokens: Annotated[float | None, _amount("tokens", "Tokens at hand, such as 20B.")] = None,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", metavar="DIR", help="Or a corpus: its train split, and its vocabulary.")
    ] = None,
    epochs: Annotated[
        float | None, typer.Option("--epochs", min=0.01, help="How often the tokens are read, without a budget.")
    ] = None,
    inference_tokens: Annotated[
        float | None, _amount("inference-tokens", "Tokens that the model will read and write in its life.")
    ] = None,
    latency: Annotated[
        float | None, typer.Option("--latency", metavar="MS", min=0.01, help="Most milliseconds of a token served.")
    ] = None,
    serve_on: Annotated[
        str | None, typer.Option("--serve-on", metavar="NAME", help="The device that serves. [default: --device]")
    ] = None,
    serve_bytes: Annotated[
        float, typer.Option("--serve-bytes", min=0.1, max=8, help="Bytes of a weight that is served.")
    ] = 2.0,
    device: Annotated[str, DEVICE] = "h100",
    devices: Annotated[int, number_of("devices", "How many train.")] = 1,
    fit: Annotated[
        str, typer.Option("--fit", metavar="NAME", help="The fit that chooses; all are shown.")
    ] = "besiroglu",
    rule: Annotated[
        str, typer.Option("--rule", metavar="NAME", help="The rule that sets batch and rate; all are shown.")
    ] = "deepseek",
    vocabulary: Annotated[int | None, number_of("vocabulary", "Token ids. [default: the corpus's, or 50304]")] = None,
    sequence_length: Annotated[int, number_of("sequence-length", "Tokens of a sequence.")] = 2048,
    as_json: AsJson = False,
) -> None:
    """Say how large a model to train on how many tokens, with batch, rate, time and memory.

    From a budget of compute (--flops, or --hours), from the tokens at hand (--tokens, --corpus; read several times
    where the budget asks for more), and under what serving allows (--latency) or will cost (--inference-tokens). Each
    figure names its source. Fits of others' runs are extrapolated: they disagree by several times at large budgets, and
    losses are of their data and tokenizers, not yours.

    Examples:
    corpusmill plan size --flops 1e21;
    corpusmill plan size --hours 24 --device h100 --devices 8 --tokens 20B;
    corpusmill plan size --tokens 2B --epochs 4;
    corpusmill plan size --flops 1e22 --inference-tokens 2T --latency 10 --serve-on l40s
    """
    from trainer.plan import rules
    from trainer.plan.choosing import Asked, choose
    from trainer.plan.devices import device as device_of
    from trainer.plan.layouts import search
    from trainer.plan.sizing import Serving, batch_of, job_for, model_of, run_of, settings_of
    from trainer.plan.step import constants

    on = device_of(device)
    if None not in (flops, hours) or None not in (tokens, corpus):
        raise RecipeError("give one of --flops and --hours, and one of --tokens and --corpus")
    if rule not in rules.RULES:
        from pipeline.errors import nearest

        raise RecipeError(f"--rule {rule}: there is no such rule.{nearest(rule, rules.RULES)}")
    if hours is not None:
        flops = hours * 3600 * devices * on.peak("bf16") * mfu
    if corpus is not None:
        tokens, found = _of_corpus(corpus)
        vocabulary = vocabulary or found
    serving = Serving(device_of(serve_on or device), serve_bytes)
    served_on = latency is not None or serve_on is not None
    most = serving.largest(None if latency is None else latency / 1e3) if served_on else None
    asked = Asked(flops, tokens, epochs, inference_tokens, most, fit)
    choice = choose(asked)
    model = model_of(choice.split.weights, vocabulary or 50304)
    shape = job_for(model, sequence_length, 1).shape
    run = run_of(shape, choice.split.tokens, sequence_length, choice.loss)
    chosen = rules.RULES[rule]
    batch = batch_of(chosen.batch(run) or rules.RULES["deepseek"].batch(run) or 0.5e6, sequence_length)
    settings = settings_of(model, run.tokens, sequence_length, batch, chosen.rate(run))
    plans = search(job_for(model, sequence_length, batch), devices, on, constants())
    facts = _size_facts(asked, choice, run, settings) | {"training": _training(plans, settings, on, devices)}
    facts["serving"] = {
        "device": serving.device.name,
        "bytes_per_weight": serve_bytes,
        "milliseconds_per_token": serving.seconds(run.weights) * 1e3,
        "fits": run.weights <= serving.largest(None),
    }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    _show_size(console(), facts, rule, mfu if hours is not None else None)


def _of_corpus(folder: Path, split: str = "train") -> tuple[float, int]:
    """Tokens of a split, and the vocabulary."""
    from pipeline.errors import nearest
    from pipeline.shards import Corpus

    found = Corpus.open(folder)
    if split not in found.meta["splits"]:
        raise RecipeError(f"the corpus {folder} has no split {split!r}.{nearest(split, found.meta['splits'])}")
    return float(found.meta["splits"][split]["tokens"]), found.vocabulary


def _size_facts(asked: Any, choice: Any, run: Any, settings: dict[str, Any]) -> dict[str, Any]:
    from trainer.plan.choosing import extrapolated
    from trainer.plan.rules import RULES
    from trainer.plan.scaling import FITS

    def fits() -> Any:
        for name, one in FITS.items():
            best = (
                one.best(asked.flops) if asked.flops is not None else one.of_tokens(asked.unique * (asked.epochs or 1))
            )
            yield {
                "name": name,
                "source": one.source,
                "weights": best.weights,
                "tokens": best.tokens,
                "flops": best.flops,
                "loss": one.loss(*best),
                "loss_of_choice": one.loss(*choice.split),
                "extrapolated": extrapolated(one, best.flops),
            }

    return {
        "flops": asked.flops,
        "unique_tokens": asked.unique,
        "fits": list(fits()),
        "choice": {
            "weights": choice.split.weights,
            "tokens": choice.split.tokens,
            "flops": choice.split.flops,
            "epochs": choice.epochs,
            "loss": choice.loss,
            "fit": asked.fit,
            "why": choice.why,
        },
        "settings": settings,
        "weights": run.weights,
        "rules": [
            {
                "name": name,
                "source": one.source,
                "domain": one.domain,
                "learning_rate": one.rate(run),
                "batch_tokens": one.batch(run),
                "within": one.within(run),
            }
            for name, one in RULES.items()
        ],
    }


def _training(plans: list[Plan], settings: dict[str, Any], on: Device, devices: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"device": on.name, "devices": devices, "fits": bool(plans)}
    if not plans:
        return facts
    best = plans[0]
    return facts | {
        "layout": best.layout.told,
        "micro_batch": best.job.micro(best.layout),
        "recompute": best.job.recompute,
        "memory_bytes": best.memory.total,
        "mfu": best.step.mfu,
        "hours": best.step.seconds * settings["steps"] / 3600,
    }


def _show_size(screen: Console, facts: dict[str, Any], rule: str, mfu: float | None) -> None:
    from trainer.plan.rules import MUP
    from trainer.plan.sizing import SOURCE

    def say(text: str) -> None:
        screen.print(text, highlight=False, markup=False)

    if facts["flops"] is not None:
        assumed = f" (at an MFU of {mfu:.0%}, which is assumed)" if mfu is not None else ""
        say(f"a budget of {facts['flops']:.3g} FLOPs{assumed}")
    table = table_of("fit", "weights", "tokens", "tokens a weight", "FLOPs", "loss", "budget")
    for one in facts["fits"]:
        table.add_row(
            one["name"],
            _short(one["weights"]),
            _short(one["tokens"]),
            f"{one['tokens'] / one['weights']:.1f}",
            f"{one['flops']:.2e}",
            "" if one["loss"] is None else f"{one['loss']:.3f}",
            one["extrapolated"],
        )
    screen.print(table)
    for one in facts["fits"]:
        say(f"{one['name']}: {one['source']}")
    choice = facts["choice"]
    epochs = "" if choice["epochs"] is None else f" ({choice['epochs']:.2g} epochs)"
    say(
        f"\nchosen: {_short(choice['weights'])} weights, {_short(choice['tokens'])} tokens{epochs}, "
        f"{choice['flops']:.3g} FLOPs" + ("" if choice["loss"] is None else f", loss {choice['loss']:.3f}")
    )
    for reason in choice["why"]:
        say(f"  - {reason}")
    say(
        "losses are nats a token of the fits' own data and tokenizers: they compare plans, and foretell no run of yours"
    )
    table = table_of("rule", "learning rate", "tokens of a batch", "the run lies")
    for one in facts["rules"]:
        rate, batch = one["learning_rate"], one["batch_tokens"]
        table.add_row(
            one["name"] + (" (taken)" if one["name"] == rule else ""),
            "" if rate is None else f"{rate:.2e}",
            "" if batch is None else _short(batch),
            "within its domain" if one["within"] else "outside",
        )
    screen.print(table)
    for one in facts["rules"]:
        say(f"{one['name']}: {one['source']}; {one['domain']}")
    rates = [one["learning_rate"] for one in facts["rules"] if one["learning_rate"]]
    batches = [one["batch_tokens"] for one in facts["rules"] if one["batch_tokens"]]
    say(
        f"they differ {max(rates) / min(rates):.1f} times in rate and {max(batches) / min(batches):.1f} times in "
        f"batch: try around the one you take, {MUP}"
    )
    say("\n" + yaml.safe_dump(facts["settings"], sort_keys=False, default_flow_style=None, width=100).rstrip())
    say(f"# {facts['weights']:,.0f} weights; {SOURCE}\n")
    _show_training(say, facts)


def _show_training(say: Any, facts: dict[str, Any]) -> None:
    run = facts["training"]
    on = f"{run['devices']} {run['device']}"
    if not run["fits"]:
        say(f"no layout of {on} has room for that; give more --devices")
    else:
        say(
            f"on {on} ({run['layout']}, micro_batch {run['micro_batch']}, recompute {run['recompute']}): "
            f"{run['hours']:,.1f} hours at an MFU of {run['mfu']:.0%}, {run['memory_bytes'] / 1e9:.1f} GB a device "
            "(see `plan layout`)"
        )
    served = facts["serving"]
    say(
        f"served on one {served['device']} at {served['bytes_per_weight']:g} bytes a weight: at least "
        f"{served['milliseconds_per_token']:.2g} ms a token, as memory's bandwidth has it (Pope et al. 2022)"
        + ("" if served["fits"] else "; it does not fit into its memory")
    )


def _short(number: float) -> str:
    for unit, size_ in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if number >= size_:
            return f"{number / size_:.3g}{unit}"
    return f"{number:.3g}"


CONFIG = typer.Argument(metavar="CONFIG", help="A configuration: a YAML file, see configs/.")


@command("memory", group=group)
def memory(
    config: Annotated[Path, CONFIG],
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="As of `plan layout`; cpu: this machine's allocator.")
    ] = "h100",
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Say what a step takes of a device's memory, by part, for each mode of recomputation.

    Each column is the moment of the step that needs most: loss (between forward and backward), forward, backward, or
    optimiser; parts that are not there then are empty. Held against PyTorch's allocator on the CPU, within 10 %. On
    an accelerator its allocator's gaps and libraries take some percent more.

    Example: corpusmill plan memory configs/train-gpt2-124m.yaml --device a100-40 --set micro_batch=8
    """
    from dataclasses import replace

    from trainer.plan.devices import device as device_of
    from trainer.plan.job import check
    from trainer.plan.layouts import MODES, ROOM, largest_micro
    from trainer.plan.memory import memory as memory_of
    from trainer.plan.reading import read

    settings, layout = read(config, set_ or [], {}, None)
    on = None if device == "cpu" else device_of(device)
    job = job_of(settings)
    if settings.micro_batch == "auto":
        if on is None:
            raise RecipeError(
                "micro_batch auto is found for a device of the table; give --device, or --set micro_batch=N"
            )
        job = job.with_micro(largest_micro(job, layout, on))
    check(job, layout)
    cpu = on is None or on.cpu
    found = {mode: memory_of(replace(job, recompute=mode), layout, cpu) for mode in MODES}
    room = None if on is None else on.memory * 1e9 * ROOM
    if as_json:
        facts = {mode: one.parts | {"total": one.total, "when": one.when} for mode, one in found.items()}
        print(json.dumps({"device": device, "room": room, "recompute": job.recompute, "modes": facts}, indent=1))
        return
    _show_memory(console(), found, job.recompute, room)
    console().print(
        f"{job.shape.weights:,} weights, micro-batches of {job.micro(layout)} × {job.sequence_length} tokens, "
        f"{job.precision}, {job.optimizer.kind}; a layout of {layout.told}",
        highlight=False,
    )


def _show_memory(screen: Console, found: dict[str, Memory], recompute: str, room: float | None) -> None:
    table = table_of("GB", *(f"{mode} (set)" if mode == recompute else mode for mode in found))
    for part, text in (PARTS | {"peak": "for a moment: logits, a block, or the optimiser's"}).items():
        values = [one.parts[part] for one in found.values()]
        if any(values):
            table.add_row(text, *(f"{value / 1e9:,.3f}" if value else "" for value in values))
    table.add_row("all", *(f"{one.total / 1e9:,.3f}" for one in found.values()))
    table.add_row("when", *(one.when for one in found.values()))
    if room is not None:
        table.add_row("may be filled", *(f"{room / 1e9:,.3f}" for _ in found))
        table.add_row("", *("fits" if one.total <= room else "does not fit" for one in found.values()))
    screen.print(table)


@command("time", group=group)
def time(
    config: Annotated[Path, CONFIG],
    device: Annotated[str, DEVICE] = "h100",
    devices: Annotated[int | None, number_of("devices", "How many; as of `plan layout`.")] = None,
    mfu: Annotated[
        float | None, _share("mfu", "Take this share of the peak instead of what the model of a step expects.")
    ] = None,
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Say how long a configuration trains: steps, tokens, tokens a second, hours.

    Evaluations, checkpoints and stops are left out. Expect errors of up to a quarter, see `plan layout --published`.

    Example: corpusmill plan time configs/train-gpt2-124m.yaml --device h100 --devices 8
    """
    from trainer.plan import layouts
    from trainer.plan.devices import device as device_of
    from trainer.plan.job import check
    from trainer.plan.reading import read
    from trainer.plan.step import constants

    settings, layout = read(config, set_ or [], {}, devices)
    on, job = device_of(device), job_of(settings)
    on.peak(job.numbers.peak)
    if settings.micro_batch == "auto":
        job = job.with_micro(layouts.largest_micro(job, layout, on))
    check(job, layout)
    found = layouts.plan(job, layout, on, constants())
    steps, tokens = _length(settings)
    expected = found.step.mfu
    speed = found.step.tokens_per_second * layout.devices * (1.0 if mfu is None else mfu / expected)
    facts = {
        "device": on.name,
        "devices": layout.devices,
        "steps": steps,
        "tokens": tokens,
        "flops": tokens / job.sequence_length * job.shape.model_flops(job.sequence_length),
        "tokens_per_second": speed,
        "mfu": expected if mfu is None else mfu,
        "mfu_from": "the model of a step" if mfu is None else "--mfu",
        "hours": tokens / speed / 3600,
        "fits": found.fits,
    }
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    screen = console()
    screen.print(
        f"{steps:,} steps, {tokens:,} tokens, {facts['flops']:.3g} FLOPs on {layout.devices} {on.name} "
        f"({layout.told}): {speed:,.0f} tokens/s at an MFU of {facts['mfu']:.1%} (from {facts['mfu_from']}), "
        f"{facts['hours']:,.2f} hours",
        highlight=False,
    )
    if not found.fits:
        screen.print("it does not fit into the memory of a device: see `plan memory`", highlight=False)


def _length(settings: TrainConfig) -> tuple[int, int]:
    """Steps and tokens of the run, padding counted; a ramp of the batch as far as it is known beforehand."""
    from trainer.batch_ramp import sequences_in, steps_for

    steps, each = settings.steps, settings.sequence_length
    if steps is None:
        tokens = float(settings.tokens or 0)
        if settings.epochs is not None:  # as if nothing were padded, which packing makes nearly true
            tokens = settings.epochs * _of_corpus(Path(settings.data.corpus), settings.data.split)[0]
        steps = max(1, steps_for(tokens / each, settings.stages))
    return steps, round(sequences_in(steps, settings.stages)) * each
