"""The guard against planted documents: 30 in 3,000 of 128 tokens, which a run should find, name and leave out.

    python -m tests.bench.poison CORPUS --seeds 3

CORPUS is a folder that `corpusmill run` made; its shards are cut into documents of 128 tokens. Planted are random
bytes, one token repeated, and shuffled text of other alphabets, ten of each. For each seed (of weights, order and
planting) three runs of one configuration: over the clean corpus, over the spoilt one without a guard, and with it.

Truth is fixed before the guard runs: a planted document counts where its loss in the unguarded run, at any step behind
the guard's first, lies 6 standard deviations above the mean of the clean documents of the 100 steps around.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from pipeline.shards import FORMAT, FORMAT_VERSION, Corpus, shard_name, token_dtype, write_shard
from pipeline.tokenizers.files import open_folder
from trainer.batch import Batch
from trainer.guard import Guard
from trainer.metrics import read
from trainer.run import train

DOCUMENTS, PLANTED, LENGTH, HELD_OUT = 3000, 30, 128, 300
ALPHABETS = (
    "αβγδεζηθικλμνξοπρστυφχψω",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "กขคงจฉชซฌญฎฐฑฒณดตถทธน",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "कखगघङचछजझञटठडढणतथदधनपफबभम",
    "աբգդեզէըթժիլխծկհձղճմյնշոչպջռ",
    "აბგდევზთიკლმნოპჟრსტუფქღყშჩ",
    "கஙசஞடணதநபமயரலவழளறன",
    "ሀለሐመሠረሰሸቀበተቸኀነኘአከኸወዐዘዠየደጀገ",
)
KINDS = ("random bytes", "one token repeated", "another alphabet")


def poison(encode: Any, vocabulary: int, number: int, rng: np.random.Generator) -> list[int]:
    """A document of the kind that its number says."""
    kind = KINDS[number % len(KINDS)]
    if kind == "one token repeated":
        return [int(rng.integers(vocabulary // 2, vocabulary))] * LENGTH
    if kind == "random bytes":
        text = rng.bytes(4 * LENGTH).decode("latin-1")
    else:
        alphabet = list(ALPHABETS[number // len(KINDS) % len(ALPHABETS)])
        text = "".join(rng.choice(alphabet, 4 * LENGTH))
    return encode(text)[:LENGTH]


def documents_of(corpus: Corpus, split: str, number: int) -> list[np.ndarray[Any, Any]]:
    """So many stretches of LENGTH tokens, evenly spread."""
    tokens = np.concatenate([corpus.tokens(shard) for shard in corpus.shards(split)])
    starts = np.linspace(0, len(tokens) - LENGTH, number).astype(np.int64)
    return [tokens[start : start + LENGTH] for start in starts]


def write(folder: Path, meta: dict[str, Any], splits: dict[str, list[tuple[str, Any]]]) -> Path:
    """A corpus of these documents, each with its URL."""
    names = [("copy", pa.int32()), ("source", pa.string()), ("url", pa.string()), ("language", pa.string())]
    schema = pa.schema([("id", pa.binary(16)), *names])
    (folder / "shards").mkdir(parents=True)
    described = {}
    for split, documents in splits.items():
        stem = folder / "shards" / shard_name(split, 0, 1)
        rows = [
            (np.append(tokens[: LENGTH - 1], meta["tokenizer"]["special"]["eot"]),
             {"id": hashlib.md5(url.encode()).digest(), "copy": 0, "source": "text", "url": url, "language": "en"})
            for url, tokens in documents
        ]  # fmt: skip
        facts = {"stem": f"shards/{stem.name}", **write_shard(stem, rows, token_dtype(meta["vocabulary"]), schema)}
        described[split] = {"documents": facts["documents"], "tokens": facts["tokens"], "shards": [facts]}
    kept = {key: meta[key] for key in ("dtype", "vocabulary", "boundary", "tokenizer")}
    about = {"format": FORMAT, "format_version": FORMAT_VERSION, "name": folder.name, "layout": "mixed"}
    (folder / "corpus.json").write_text(json.dumps(about | kept | {"splits": described, "sources": {}, "mixture": {}}))
    return folder


class Recorder:
    """What each document cost, at each step that read it."""

    def __init__(self) -> None:
        self.found: list[tuple[int, int, float]] = []  # step, number in the step's batch, loss
        self._step = 0

    def __enter__(self) -> Recorder:
        self._of, self._passes = Guard.of_documents, Guard.passes

        def of_documents(guard: Guard, batch: Batch, sums_P: Any) -> Any:
            result = self._of(guard, batch, sums_P)
            assert guard.documents is not None
            self._step += 1
            self.found += [(self._step, p, loss) for p, loss in enumerate(guard.documents.loss_P.tolist())]
            return result

        def passes(guard: Guard, *facts: Any) -> bool:
            self._passes(guard, *facts)
            return math.isfinite(facts[1]) and math.isfinite(facts[2])  # it is watched, and nothing is done

        Guard.of_documents, Guard.passes = of_documents, passes  # type: ignore[method-assign]
        return self

    def __exit__(self, *why: object) -> None:
        Guard.of_documents, Guard.passes = self._of, self._passes  # type: ignore[method-assign]


def truth(recorder: Recorder, folder: Path, corpus: Path, after: int) -> set[str]:
    """URLs of the planted documents that cost far more than clean ones."""
    from trainer.trace import documents_of_step

    steps, uses = {}, {}
    for step, p, loss in recorder.found:
        if step > after:
            if step not in uses:
                uses[step] = [use.url for use in documents_of_step(folder, step, corpus)]
            steps.setdefault(step, []).append((uses[step][p], loss))
    found = set()
    for step, rows in steps.items():
        around = [loss for near in range(step - 50, step + 51) for url, loss in steps.get(near, []) if "clean" in url]
        mean, sd = np.mean(around), np.std(around)
        found |= {url for url, loss in rows if "planted" in url and loss > mean + 6 * sd}
    return found


def config(options: argparse.Namespace, folder: Path, corpus: Path, seed: int, guard: dict[str, Any] | None) -> Path:
    """A small decoder without clipping, as those have that meet spikes."""
    values = {
        "data": {"corpus": str(corpus)},
        "model": {"layers": options.layers, "width": options.width, "heads": 4, "tied": False},
        "sequence_length": LENGTH,
        "global_batch": options.batch,
        "steps": options.steps,
        "optimizer": {"learning_rate": options.learning_rate, "clip": None, "beta2": 0.95},
        "schedule": {"warmup": options.steps // 20, "floor": 0.1},
        "noise_scale": None,
        "checkpoint": {"folder": str(folder), "every": options.steps // 4},
        "device": "cpu",
        "threads": options.threads,
        "seed": seed,
        "guard": guard,
        "log": {"every": 100},
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(values))
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """All runs, and what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--after", type=int, default=50, help="first steps, which the guard only watches")
    for name, value in (("seeds", 3), ("steps", 800), ("batch", 8), ("layers", 4), ("width", 128), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument(
        "--sigmas", type=float, default=5.0, help="of the guard: less than truth's 6, which it estimates"
    )
    options = parser.parse_args(arguments)
    tokenizer, source = open_folder(options.corpus), Corpus.open(options.corpus)
    clean = documents_of(source, "train", DOCUMENTS)
    held_out = [(f"held-out/{n}", tokens) for n, tokens in enumerate(documents_of(source, "validation", HELD_OUT))]

    def encode(text: str) -> list[int]:
        return tokenizer.encode(pa.array([text]))[0].as_py()

    results: dict[str, list[float]] = {"clean": [], "without a guard": [], "with it": []}
    with tempfile.TemporaryDirectory() as base:
        for seed in range(options.seeds):
            rng, folder = np.random.default_rng(seed), Path(base, str(seed))
            rows = [(f"clean/{n}", tokens) for n, tokens in enumerate(clean)]
            planted = [(f"planted/{n}", np.array(poison(encode, tokenizer.vocabulary, n, rng))) for n in range(PLANTED)]
            corpora = {
                "clean": write(folder / "clean", source.meta, {"train": rows, "validation": held_out}),
                "spoilt": write(
                    folder / "spoilt", source.meta, {"train": rows[PLANTED:] + planted, "validation": held_out}
                ),
            }
            watching = {"after": options.after, "documents": {"sigmas": options.sigmas}, "snapshot_every": None}
            true: set[str] = set()
            for name, corpus, guard in (
                ("clean", "clean", None), ("without a guard", "spoilt", watching), ("with it", "spoilt", watching),
            ):  # fmt: skip
                out, began = folder / name.replace(" ", "-"), time.perf_counter()
                path = config(options, out, corpora[corpus], seed, guard)
                if name == "without a guard":
                    with Recorder() as recorder:
                        train(path, say=lambda line: None)
                    true = truth(recorder, out, corpora["spoilt"], options.after)
                else:
                    train(path, say=lambda line: None)
                loss = next(row for row in read(out / "metrics.jsonl") if row["kind"] == "result")["validation_loss"]
                results[name].append(loss)
                print(f"seed {seed}, {name}: {loss:.4f} nats, {time.perf_counter() - began:.0f} s", flush=True)
            incidents = [row for row in read(out / "incidents.jsonl") if row["kind"] == "incident"]
            named = {one["url"] for row in incidents for one in row["documents"] if one["document"] in row["left_out"]}
            wrong = {url for url in named if "clean" in url}
            print(
                f"seed {seed}: {len(true)} of {PLANTED} planted documents count; {len(incidents)} incidents name "
                f"{len(named & true)} of them ({100 * len(named & true) / max(1, len(true)):.0f} %), "
                f"{len(named) - len(wrong)} planted ones in all, and {len(wrong)} clean ones "
                f"({100 * len(wrong) / DOCUMENTS:.2f} %)",
                flush=True,
            )
    for name, losses in results.items():
        print(f"{name}: {np.mean(losses):.4f} nats, standard deviation over seeds {np.std(losses, ddof=1):.4f}"
              if len(losses) > 1 else f"{name}: {losses}")  # fmt: skip
    for name in ("without a guard", "with it"):
        apart = np.subtract(results[name], results["clean"])
        print(f"{name} against clean, seed by seed: {', '.join(f'{value:+.4f}' for value in apart)}")


if __name__ == "__main__":
    main()
