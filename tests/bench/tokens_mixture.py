"""Mixture and shards: what a change of weights costs, its memory, and whether the shares are met.

`python -m tests.bench.tokens_mixture` makes up parts of 50 and of 500 million tokens (1.4 GB in a temporary folder),
changes the weights over both, each in a process of its own, and prints CPU and peak memory of the phases plan and
shard, beside the CPU of phase tokenise, encoding alone and reading real text on the same machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.ledger import Part
from pipeline.processes import peak_memory
from tests.bench.token_corpus import VOCABULARY, make

RECIPE = """
name: mixing
inputs: [{source: web, path: x.jsonl}, {source: books, path: x.jsonl}, {source: wiki, path: x.jsonl}]
tokenizer: {train: {}}
mixture: {tokens: TOKENS, shares: {web: 0.6, books: 0.15, wiki: 0.25}}
shards: {layout: LAYOUT}
"""
ENDS = ("mixed", "by_source")


def mixed(folder: Path, parts: list[tuple[Part, Part]], layout: str, tokens: int) -> dict[str, Any]:
    """Does the phases plan and shard over these parts, as a run would: CPU and wall seconds of each, peak memory."""
    from pipeline.engine import do_unit
    from pipeline.phases import plan, shard, tokenise, tokenizer
    from pipeline.progress import Reporter
    from pipeline.recipe import read_recipe
    from pipeline.work import Context

    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("TOKENS", str(tokens)).replace("LAYOUT", layout))
    context = Context(folder, folder, read_recipe(recipe))
    body = {"special": {"eot": 0, "bos": 1}, "vocabulary": VOCABULARY, "digest": "", "file": "", "kind": ""}
    tokenise.parts = lambda _: parts
    tokenizer.committed = lambda _: SimpleNamespace(body=body)  # type: ignore[assignment,return-value]
    (context.ledger.folder / "rows").mkdir(parents=True, exist_ok=True)
    context.ledger.scratch.mkdir(exist_ok=True)
    reporter = Reporter(folder / "ledger")
    found: dict[str, Any] = {"start_bytes": peak_memory()}
    for name, phase in (("plan", plan), ("shard", shard)):
        cpu, wall = time.process_time(), time.perf_counter()
        for task in phase.tasks(context):
            do_unit(task, context, reporter)
        found[f"{name}_cpu_s"] = time.process_time() - cpu
        found[f"{name}_wall_s"] = time.perf_counter() - wall
        found[f"{name}_peak_bytes"] = peak_memory()
        context.known.clear()
    row = plan.committed(context)
    assert row is not None
    found["mixture"] = row.body["mixture"]
    found["tokens"] = sum(one["tokens"] for one in row.body["shards"])
    return found


def measured(folder: Path, layout: str, tokens: int) -> dict[str, Any]:
    """`mixed` in a process of its own, whose memory is its own."""
    command = [sys.executable, "-m", "tests.bench.tokens_mixture", str(folder), layout, str(tokens)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Prints the figures."""
    with tempfile.TemporaryDirectory() as place:
        for millions in (50, 500):
            folder = Path(place) / str(millions)
            begun = time.process_time()
            parts = make(folder / "tokens", millions)
            print(f"{millions} M tokens made up in {time.process_time() - begun:.0f} s of CPU", flush=True)
            (folder / "parts.json").write_text(json.dumps([[vars(part) for part in both] for both in parts]))
            for layout in ENDS:
                found = measured(folder, layout, millions * 1_000_000)
                _print(millions, layout, found)


def _print(millions: int, layout: str, found: dict[str, Any]) -> None:
    cpu = found["plan_cpu_s"] + found["shard_cpu_s"]
    speed = found["tokens"] / cpu / 1e6
    print(
        f"{millions:4} M tokens, {layout:9}: plan {found['plan_cpu_s']:.2f} s CPU ({found['plan_wall_s']:.2f} s), "
        f"shard {found['shard_cpu_s']:.2f} s ({found['shard_wall_s']:.2f} s): {speed:.0f} M tokens a second "
        f"of CPU; peak {found['plan_peak_bytes'] / 1e6:.0f} and {found['shard_peak_bytes'] / 1e6:.0f} MB, "
        f"{found['start_bytes'] / 1e6:.0f} MB at the start",
        flush=True,
    )
    for name, one in found["mixture"].items():
        line = f"     {name}: asked {one['tokens_asked']:,}"
        if layout == "mixed":
            over = one["tokens_reached"] - one["tokens_asked"]
            print(f"{line}, reached {one['tokens_reached']:,} ({over:+,}), {one['epochs']} epochs")
        else:
            epochs = one["tokens_asked"] / one["tokens"]
            print(f"{line}, which the loader reaches with {epochs:.6f} epochs of the shards")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        parts = [
            (Part(**both[0]), Part(**both[1])) for both in json.loads((Path(sys.argv[1]) / "parts.json").read_text())
        ]
        print(json.dumps(mixed(Path(sys.argv[1]), parts, sys.argv[2], int(sys.argv[3]))))
    else:
        main()
