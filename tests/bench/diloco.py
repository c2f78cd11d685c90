"""Loosely coupled workers against synchronous data parallelism over the same batches: final losses, and bytes sent.

    python -m tests.bench.diloco CORPUS

CORPUS is a folder that `corpusmill run` made. Workers are processes of one thread each (gloo, this machine); each reads
its own rows of every batch. The synchronous run is one process over the whole batch: data parallelism over the same
rows gives the same steps, up to rounding, and each of its processes would send 2 (W - 1) / W times the gradient's bytes
in fp32 a step, which is what a ring all-reduce sends. Bytes of the loose run are those that its coupling counted.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pydantic import TypeAdapter

from trainer import unigram
from trainer.batch import Batch
from trainer.config import TrainConfig
from trainer.data import Splits
from trainer.evaluation import Validation
from trainer.learning import Learner
from trainer.loose.coupling import make_coupling
from trainer.loose_settings import AnyLoose
from trainer.model import Model
from trainer.order import Order
from trainer.resume import start
from trainer.run import checked

MODEL = {"heads": 4, "tied": False}
HELD_OUT = 600
"""Sequences of the validation split that are read, evenly spread."""


def config_of(options: argparse.Namespace, folder: str) -> TrainConfig:
    """A small decoder, AdamW, warm-up and cosine."""
    values = {
        "data": {"corpus": str(options.corpus)},
        "model": MODEL | {"layers": options.layers, "width": options.width},
        "sequence_length": options.length,
        "global_batch": options.batch,
        "steps": options.steps,
        "optimizer": {"learning_rate": options.learning_rate},
        "schedule": {"warmup": max(1, options.steps // 20), "floor": 0.1},
        "noise_scale": None,
        "checkpoint": {"folder": folder},
        "device": "cpu",
        "seed": options.seed,
    }
    return TrainConfig.model_validate(values)


class Run:
    """A model on the way, over some rows of every batch."""

    def __init__(self, options: argparse.Namespace, splits: Splits, folder: str, rows: slice) -> None:
        self.config, self.splits, self._rows = config_of(options, folder), splits, rows
        torch.manual_seed(options.seed)
        model = Model(self.config.model, splits.train.corpus.vocabulary)
        self.learner = Learner(model, self.config, torch.device("cpu"))
        self._order, self._history = Order(splits.train.plan, self.config.seed), start(self.config).history

    def step(self, step: int) -> tuple[float, int]:
        """Trains one; returns its loss and targets."""
        batch: Batch = self.splits.train.batch(self._order.batch(self._history, step)[self._rows])
        return self.learner.learn(batch, self.config.rate(step), step).loss, batch.targets

    def validation_loss(self) -> float:
        """Nats per target."""
        assert self.splits.held_out is not None
        return Validation(self.splits.held_out).cost(self.learner, HELD_OUT).loss


def loose_worker(rank: int, options: argparse.Namespace, folder: str) -> None:
    """One worker; the first writes down what came of it."""
    torch.set_num_threads(1)
    options.learning_rate = options.loose_rate or options.learning_rate * options.workers**0.5
    store = dist.FileStore(f"{folder}/store", options.workers)
    group = dist.ProcessGroupGloo(store, rank, options.workers, timeout=timedelta(minutes=10))
    share = options.batch // options.workers
    run = Run(options, checked(config_of(options, folder)), folder, slice(rank * share, (rank + 1) * share))
    coupling = make_coupling(settings_of(options), options.seed, group)
    coupling.begin(run.learner.weights)
    began = time.perf_counter()
    for step in range(1, options.steps + 1):
        loss, targets = run.step(step)
        coupling.after_step(step, targets)
        if rank == 0 and step % options.tell == 0:
            print(f"  loose, step {step}: {loss:.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    coupling.finish(options.steps)
    if rank == 0:
        found = {"loss": run.validation_loss(), "bytes": coupling.bytes_sent}
        Path(folder, "loose.json").write_text(json.dumps(found))


def settings_of(options: argparse.Namespace) -> Any:
    """The coupling, from the command line."""
    values = {"kind": options.kind, "every": options.every, "coding": options.coding}
    if options.kind == "diloco":
        values |= {"learning_rate": options.outer_rate, "momentum": options.outer_momentum}
        values |= {"fragments": options.fragments}
    return TypeAdapter(AnyLoose).validate_python(values)


def main(arguments: Sequence[str] | None = None) -> None:
    """Both runs, and a table of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    for name, value in (("steps", 1000), ("workers", 4), ("batch", 32), ("length", 128), ("layers", 4), ("width", 168)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--kind", default="diloco", choices=["diloco", "local_sgd", "async"])
    parser.add_argument("--every", type=int, default=13)
    parser.add_argument("--coding", default="int8", choices=["none", "bf16", "int8", "fp4"])
    parser.add_argument("--fragments", type=int, default=1)
    parser.add_argument("--outer-rate", type=float, default=1.0)
    parser.add_argument("--outer-momentum", type=float, default=0.0)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--loose-rate", type=float, help="of the loose run; else the root of the workers as high")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tell", type=int, default=100, help="steps between lines of progress")
    parser.add_argument("--only", choices=["synchronous", "loose"], help="one of both runs")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(os.cpu_count() or 1)
        run = Run(options, checked(config_of(options, folder)), folder, slice(None))
        source, held_out = run.splits.train, run.splits.held_out
        assert held_out is not None
        trained = unigram.counts(source.corpus, "train")
        of_unigram = unigram.cross_entropy(trained, unigram.targets(held_out))
        weights = run.learner.model.parameter_count
        print(
            f"{weights:,} weights, {options.steps} steps of {options.batch} x {options.length} tokens; unigram entropy "
            f"{unigram.entropy(trained):.4f}, of the validation split under it {of_unigram:.4f} nats",
            flush=True,
        )
        ring = round(2 * (options.workers - 1) / options.workers * 4 * weights * options.steps)
        whole = None
        if options.only != "loose":
            began = time.perf_counter()
            for step in range(1, options.steps + 1):
                loss, _ = run.step(step)
                if step % options.tell == 0:
                    print(f"  synchronous, step {step}: {loss:.3f}, {time.perf_counter() - began:.0f} s", flush=True)
            whole = run.validation_loss()
            print(
                f"synchronous: {whole:.4f} nats, {of_unigram - whole:.3f} under unigram; {ring:,} bytes a worker",
                flush=True,
            )
        if options.only != "synchronous":
            mp.spawn(loose_worker, (options, folder), options.workers)
            found = json.loads(Path(folder, "loose.json").read_text())
            print(
                f"{options.kind}, {options.workers} workers, every {options.every} steps, {options.coding}: "
                f"{found['loss']:.4f} nats, {of_unigram - found['loss']:.3f} under unigram; {found['bytes']:,} bytes "
                f"a worker, 1/{ring / found['bytes']:.1f}",
                flush=True,
            )
            if whole is not None:
                print(f"loss of the loose run against the synchronous: {100 * (found['loss'] / whole - 1):+.2f} %")


if __name__ == "__main__":
    main()
