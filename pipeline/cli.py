"""The command line. Each command is a few lines here or in `commands`; what it does lives in other modules."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pipeline import __version__
from pipeline.app import AsJson, RecipePath, RunFolder, Set, app, command, console, near
from pipeline.errors import RecipeError, UserError


def _version(wanted: bool) -> None:
    if wanted:
        print(f"corpusmill {__version__}")
        raise typer.Exit(0)


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@command("run", works=True)
def run(
    recipe: RecipePath,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[-- RUNNER OPTIONS]", help="Options for another runner, behind --.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The run folder, or an s3:// or gs:// address. [default: runs/NAME, or runs/NAME-trial]",
        ),
    ] = None,
    set_: Set = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Worker processes. [default: all cores, or a cluster's slots]"
        ),
    ] = None,
    runner: Annotated[
        str, typer.Option("--runner", metavar="NAME", help="Where the work is done: local, flink, spark or dataflow.")
    ] = "local",
    runner_config: Annotated[
        Path | None,
        typer.Option(
            "--runner-config", metavar="FILE", help="Options for the runner in YAML; those behind -- come on top."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Read at most N records of each source.")
    ] = None,
    sample: Annotated[
        str | None, typer.Option("--sample", metavar="SHARE", help="Keep this share of the records, as 0.1% or 0.001.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done, on which files, and about how long; write nothing."),
    ] = False,
    stall: Annotated[
        float, typer.Option("--stall", metavar="S", help="End a run in which nothing moves for S seconds.")
    ] = 600,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port", metavar="N", min=0, max=65535, help="Serve figures to Prometheus; 0: a free port."
        ),
    ] = None,
    metrics_host: Annotated[
        str | None, typer.Option("--metrics-host", metavar="ADDRESS", help="Where from. [default: 127.0.0.1]")
    ] = None,
    metrics_file: Annotated[
        Path | None,
        typer.Option("--metrics-file", metavar="FILE", help="Keep the figures in a file for a node exporter (*.prom)."),
    ] = None,
) -> None:
    """Run a recipe: from its inputs to documents, tokens and shards.

    Run it again to go on after a kill, or after changing a setting: only what depends on the change is redone. A
    worker that dies is replaced, three times in each phase at most; then the run ends and names the unit at fault.

    Example: corpusmill run configs/demo.yaml --out runs/demo --workers 2
    Example: corpusmill run configs/demo.yaml --out runs/demo --runner flink --runner-config configs/cluster/flink.yaml
    """
    from pipeline import driver
    from pipeline.exposition import Wanted, exposed
    from pipeline.look.overview import overview
    from pipeline.look.overviewview import print_funnel, print_summary
    from pipeline.recipe import read_recipe
    from pipeline.runners.flags import read as read_flags
    from pipeline.show import Display
    from pipeline.sources import input_files
    from pipeline.store import place
    from pipeline.work import Context, Trial

    flags = [*(read_flags(runner_config) if runner_config else []), *(options or [])]
    request = driver.RunRequest(workers, runner, flags, stall, str(recipe))
    checked = read_recipe(recipe, set_, bind=dry_run or not request.forks)
    input_files(checked)
    folder = recipe.parent.resolve()
    trial = Trial(limit, _share(sample))
    target = place(out or Path("runs") / (f"{checked.name}-trial" if trial.given else checked.name))
    context = Context(target, folder, checked, trial)
    driver.check_request(request)
    screen = console()
    if dry_run:
        from pipeline.look import estimate  # brings the phases, which here only the working process needs

        request.beam.check_out(str(target))
        estimate.dry_run(context, request.beam.workers(request.workers), screen)
        if said := request.beam.rehearse():
            screen.print(said, highlight=False, soft_wrap=True)
        return
    try:
        wanted = Wanted(metrics_port, metrics_host, metrics_file)
        with exposed(wanted, context, runner, screen) as metrics, Display(screen, metrics) as display:
            done = driver.run(context, request, display)
    except UserError as error:
        if trial.given and error.exit_code == 1 and context.ledger.keys("clean"):
            print_funnel(overview(near(target)), screen)
            error.args = (f"{error}\nThis was a trial over a few records; --set changes a setting for this time.",)
        raise
    print_summary(near(target), done, screen)


def _share(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise RecipeError(f"--sample {text}: give a share such as 0.1% or 0.001")
    return share


@command("inspect", looks_at=("tokenizer",))
def inspect(
    folder: RunFolder,
    rules: Annotated[
        bool, typer.Option("--rules", help="The limits of quality stages, beside how the documents' values spread.")
    ] = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option("--what-if", metavar="STAGE.SETTING=VALUE", help="What another limit would keep, without a run."),
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="How the columns that stages wrote are spread over the documents left.")
    ] = False,
    topics: Annotated[
        bool, typer.Option("--topics", help="By label of `classify`: coverage, hosts, gaps, by source and language.")
    ] = False,
    bias: Annotated[
        bool, typer.Option("--bias", help="By identity term of `bias`: balance, and whom filters drop more often.")
    ] = False,
    contamination: Annotated[
        bool, typer.Option("--contamination", help="By benchmark item of `decontaminate`: documents that hold it.")
    ] = False,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="Duplicates: sizes and reasons, the largest clusters with their texts.")
    ] = False,
    most: Annotated[
        int, typer.Option("-n", metavar="N", min=0, help="With --clusters: so many of the largest, and chains.")
    ] = 5,
    hosts: Annotated[
        bool, typer.Option("--hosts", help="Count hosts of more than two million documents too: 15 s for ten million.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a run: the funnel with its reasons, sources, languages, hosts, lengths, gaps, duplicates, tokens, mixture,
    shards.

    One view at a time; each option has its own.

    Example: corpusmill inspect runs/demo
    Example: corpusmill inspect runs/demo --rules
    Example: corpusmill inspect runs/demo --what-if gopher_quality.min_words=80
    Example: corpusmill inspect runs/demo --contamination
    Example: corpusmill inspect runs/demo --clusters -n 3
    """
    views = {
        "--rules": rules, "--what-if": what_if, "--scores": scores, "--topics": topics, "--bias": bias,
        "--contamination": contamination, "--clusters": clusters,
    }  # fmt: skip
    chosen = [name for name, wanted in views.items() if wanted]
    if len(chosen) > 1:
        raise RecipeError(f"{' and '.join(chosen)} are views of their own; give one")
    facts, show = _view(chosen[0] if chosen else "", folder, what_if or [], most, hosts=hosts)
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        show(facts, console())


def _view(
    name: str, folder: Path, what_if: list[str], most: int, *, hosts: bool
) -> tuple[Any, Callable[[Any, Console], None]]:
    """What a view of `inspect` shows, and what prints it. Each imports what it needs itself: some bring every stage."""
    from pipeline.look.runfolder import RunFolder as Run

    if name == "--rules":
        from pipeline.look import rules

        return rules.overview(folder), rules.print_rules
    if name == "--what-if":
        from pipeline.look import rules

        return rules.what_if(folder, what_if), rules.print_what_if
    if name == "--scores":
        from pipeline.look import scores

        return scores.report(Run(folder)), scores.print_report
    if name == "--topics":
        from pipeline.look import topics

        return topics.report(Run(folder)), topics.print_report
    if name == "--bias":
        from pipeline.look import balance

        return balance.report(Run(folder)), balance.print_report
    if name == "--contamination":
        from pipeline.look import contamination

        return contamination.report(Run(folder)), contamination.print_report
    if name == "--clusters":
        from pipeline.look import clusters, clusterview

        return clusters.report(Run(folder), most), clusterview.print_report
    from pipeline.look import overview, overviewview

    return overview.inspection(folder, hosts=hosts), overviewview.print_overview


@command("stages")
def stages(name: Annotated[str | None, typer.Argument(metavar="[STAGE]", help="Only this stage.")] = None) -> None:
    """List every stage with every setting: its type, unit, default and source.

    Example: corpusmill stages gopher_quality
    """
    from pipeline.look.stagesview import print_stages

    print_stages(name, console())


from pipeline import commands  # noqa: E402, F401 - registers the others, to be listed behind these


def main() -> None:
    """The entry point of `corpusmill`."""
    with suppress(OSError):  # a user's own stages may lie in the working folder; last, so that they shadow nothing
        sys.path.append(os.getcwd())
    app()


if __name__ == "__main__":
    main()
