"""What phases tokenise, plan and shard cost beside encoding alone, on real text.

`python -m tests.bench.tokens_phases` runs a recipe without stages over the shared texts, repeated four times (some 50 M
tokens), with a byte-level BPE that tiktoken runs and with SentencePiece unigram, and does the three phases again in a
process of its own: CPU of each as a whole, the commit of its files included, and of `encode` over the same documents,
all of whose words it has met before in both. Each is the least of three rounds that take turns, for on a shared machine
the same work takes up to half as long again.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from pipeline.parts import read_batches
from pipeline.processes import peak_memory
from tests.bench.clean_phase import ROOT, corpusmill

TEXTS = ROOT.parent / "shared" / "data" / "text"
TIMES = 4
ROUNDS = 3
PHASES = ("tokenise", "plan", "shard")


def prepare(folder: Path, kind: str) -> None:
    """A finished run over the texts, each repeat of which has URLs of its own and is a source."""
    for number in range(TIMES):
        with gzip.open(folder / f"{number}.jsonl.gz", "wt", encoding="utf-8", compresslevel=1) as out:
            for path in sorted(TEXTS.glob("*.jsonl.gz")):
                for line in gzip.decompress(path.read_bytes()).decode().splitlines():
                    row = json.loads(line)
                    url = f"https://{path.name.split('.')[0]}-{len(row['text']) % 97}.org/{number}/{row['id']}"
                    out.write(json.dumps({"text": row["text"], "url": url}) + "\n")
    recipe = {
        "inputs": [{"source": f"s{number}", "path": f"{number}.jsonl.gz"} for number in range(TIMES)],
        "tokenizer": {"train": {"type": kind, "vocabulary": 32_000, "sample_bytes": 4_000_000}},
        "mixture": {"shares": {"s0": 0.3, "*": 0.7}},
        "shards": {"validation": 0.02},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    corpusmill("run", str(folder / "recipe.yaml"), "--out", str(folder / "run"), "--workers", "1")


def again(folder: Path) -> dict[str, Any]:
    """CPU seconds of encoding alone and of each phase, in this process, by turns."""
    from pipeline.engine import do_unit
    from pipeline.phases import PHASES as ALL
    from pipeline.phases import documents, tokenizer
    from pipeline.progress import Reporter
    from pipeline.recipe import read_recipe
    from pipeline.tokenizers.files import opened
    from pipeline.work import Context

    context = Context(folder / "run", folder, read_recipe(folder / "recipe.yaml"))
    model = opened(context.out, tokenizer.committed(context).body)
    parts = [context.out / part.path for part in documents.parts(context)]
    found: dict[str, Any] = {}
    for turn in range(1 + ROUNDS):
        tokens, seconds = 0, 0.0
        for path in parts:
            for batch in read_batches(path, ["text"]):
                begun = time.process_time()
                made = model.encode(batch.column("text"))
                seconds += time.process_time() - begun
                tokens += len(made.flatten())
        if not turn:
            continue  # its table of words was empty; phase tokenise, too, will find it filled
        found["tokens"] = tokens
        found["encode"] = min(seconds, found.get("encode", seconds))
        for name in PHASES:
            tasks = ALL[name].tasks(context)
            context.ledger.keep_only(name, [])
            begun = time.process_time()
            for task in tasks:
                do_unit(task, context, Reporter(folder))
            seconds = time.process_time() - begun
            found[name] = min(seconds, found.get(name, seconds))
            context.known.clear()
    return found | {"peak": peak_memory()}


def main(kinds: tuple[str, ...] = ("byte_bpe", "unigram")) -> None:
    """Prints the figures of these tokenizers."""
    for kind in kinds:
        with tempfile.TemporaryDirectory() as place:
            prepare(Path(place), kind)
            command = [sys.executable, "-m", "tests.bench.tokens_phases", place]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
        whole = sum(found[name] for name in PHASES)
        print(
            f"{kind}: {found['tokens']:,} tokens, encode {found['encode']:.2f} s of CPU ("
            f"{found['tokens'] / found['encode'] / 1e6:.2f} M tokens/s), "
            + ", ".join(f"{name} {found[name]:.2f}" for name in PHASES)
            + f": {whole / found['encode']:.2f} of encoding alone; plan + shard "
            f"{(found['plan'] + found['shard']) / found['tokenise']:.3f} of tokenise; "
            f"peak {found['peak'] / 1e6:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(json.dumps(again(Path(sys.argv[1]))))
    else:
        main()
