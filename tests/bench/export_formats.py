"""CPU and memory of `corpusmill export`: `python -m tests.bench.export_formats [MILLIONS OF TOKENS ...]`.

Documents of 1,000 tokens. Each format and size in a process of its own; memory is the most that it held, mapped pages of
shards among them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.export import datatrove, exporting, huggingface, mds
from pipeline.shards import Corpus
from tests.trainer.small_corpus import write_corpus

WRITERS = {"mds": mds.write, "datatrove": datatrove.write, "huggingface": huggingface.write}


def measure(folder: str, name: str) -> None:
    """Exports once, and prints seconds of CPU and MiB."""
    corpus = Corpus.open(folder)
    began = time.process_time()
    exporting.export(corpus, Path(folder) / name, "train", WRITERS[name])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": time.process_time() - began, "MiB": peak}))


def main(millions: list[int]) -> None:
    for size in millions:
        with tempfile.TemporaryDirectory() as folder:
            shards = [np.full(5_000, 1_000).tolist() for _ in range(max(1, size // 5))]
            write_corpus(Path(folder) / "corpus", {"train": shards})
            for name in WRITERS:
                found = json.loads(
                    subprocess.run(
                        [sys.executable, "-m", "tests.bench.export_formats", "--one", f"{folder}/corpus", name],
                        check=True, capture_output=True, text=True,
                    ).stdout
                )  # fmt: skip
                speed = size / found["seconds"]
                print(
                    f"{size:5} M tokens, {name:12} {speed:7.0f} M tokens/s of CPU, {found['MiB']:5.0f} MiB", flush=True
                )


if __name__ == "__main__":
    if "--one" in sys.argv:
        measure(*sys.argv[2:4])
    else:
        main([int(word) for word in sys.argv[1:]] or [20, 200])
