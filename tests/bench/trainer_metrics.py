"""What a step pays beside the model: the guard, metrics, the log, TensorBoard, and by choice MLflow and W&B.

    python -m tests.bench.trainer_metrics [--steps 500] [--trackers wandb,mlflow]

A small model learns on the CPU under a guard, told and logged as the training loop does it; what the loader's thread
reckons of a batch ahead of the loop is there already. The time is that of the loop's own thread, in the guard's calls
and for the figures. It is measured behind a step of the model, which has emptied the caches of the core, and again
without, as where another device does the model's work. The median, and the mean, which holds what other threads and
processes take from it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from trainer import devices
from trainer.batch import Batch
from trainer.config import TrainConfig
from trainer.gauge import Gauge
from trainer.guard import Guard
from trainer.labels import Labels
from trainer.learning import Learner
from trainer.model import Model
from trainer.parallel.world import ALONE
from trainer.telling import figures
from trainer.text_bytes import TextBytes
from trainer.tracking import journal

VOCABULARY = 32_000
WARM = 10
"""First steps that are not counted: in them kernels are compiled."""


def configuration(folder: Path, trackers: list[str], tensorboard: bool) -> TrainConfig:
    """Of a run in the folder, of 110 tensors of weights; its corpus is not read."""
    log: dict[str, Any] = {"tensorboard": tensorboard, "device": "h100"}
    log |= {"wandb": {"project": "bench"}} if "wandb" in trackers else {}
    log |= {"mlflow": {}} if "mlflow" in trackers else {}
    return TrainConfig.model_validate(
        {
            "data": {"corpus": "none"}, "model": {"layers": 12, "width": 64, "heads": 2},
            "sequence_length": 256, "global_batch": 4, "steps": 10_000, "checkpoint": {"folder": str(folder)},
            "log": log, "guard": {"documents": {}}, "device": "cpu", "noise_scale": None,
        }
    )  # fmt: skip


def batch_of(sequences: int, length: int, vocabulary: int) -> Batch:
    """Random tokens, in documents of 100."""
    tokens_BT = np.random.default_rng(0).integers(1, vocabulary, (sequences, length + 1))
    documents_BT = np.arange(sequences * length).reshape(sequences, length) // 100
    nothing_B = np.zeros(sequences, np.int64)
    return Batch(tokens_BT[:, :-1].copy(), tokens_BT[:, 1:].copy(), documents_BT, documents_BT, nothing_B)


@contextmanager
def timed(seconds: list[float], *calls: tuple[type, str]) -> Iterator[None]:
    """Adds what these methods take to the last of the seconds."""
    held = [getattr(kind, name) for kind, name in calls]

    def around(method: Any) -> Any:
        def measured(*given: Any) -> Any:
            began = time.perf_counter()
            result = method(*given)
            seconds[-1] += time.perf_counter() - began
            return result

        return measured

    for (kind, name), method in zip(calls, held, strict=True):
        setattr(kind, name, around(method))
    try:
        yield
    finally:
        for (kind, name), method in zip(calls, held, strict=True):
            setattr(kind, name, method)


def of_steps(steps: int, trackers: list[str], tensorboard: bool, alone: bool) -> None:
    """Prints what each pays; `alone`: the core does nothing else."""
    batch = batch_of(4, 256, 1000).counted(by_document=True)
    with tempfile.TemporaryDirectory() as folder:
        config = configuration(Path(folder), trackers, tensorboard)
        assert config.guard is not None
        learner, guard = Learner(Model(config.model, 1000), config, torch.device("cpu")), Guard(config.guard, 1)
        corpus: Any = SimpleNamespace(folder=Path(folder), meta={"tokenizer": {}}, tokenizer_file=lambda: None)
        gauge = Gauge(config, learner, corpus, ALONE, print)
        of_guard, of_figures, of_log = (list[float](), list[float](), list[float]())
        calls = ((Guard, "of_documents"), (Guard, "passes"), (Learner, "_note_move"))
        with closing(journal(config, 0, 0, True, print)) as log, timed(of_guard, *calls):
            for step, one in enumerate(gauge.waiting(batch for _ in range(steps)), 1):
                of_guard.append(0.0)
                if alone and step > WARM:
                    assert guard.passes(step, 7.0, 1.0, 1.0, guard.of_documents(one, 7.0 * one.by_document[0]))
                    learner._note_move(1e-5)
                else:
                    learned = learner.learn(one, 1e-5, step, guard=guard)
                    assert learned.moved
                began = time.perf_counter()
                row = {"step": step, "attempt": 0, "data_step": step} | figures(learned, learner, 4, 1e-5)
                row |= {"tokens": step * learned.tokens} | gauge.of_step(learned, one, None)
                middle = time.perf_counter()
                log.write("step", **row)
                of_figures.append(middle - began)
                of_log.append(time.perf_counter() - middle)
    told = "JSON lines" + (", TensorBoard" if tensorboard else "") + "".join(f", {name}" for name in trackers)
    print(f"{told}{', without the model' if alone else ''}: µs a step over {steps} steps")
    of_all = [sum(parts) for parts in zip(of_guard, of_figures, of_log, strict=True)]
    found = {"guard": of_guard, "figures": of_figures, "log and trackers": of_log, "all": of_all}
    for name, values in found.items():
        values = [value * 1e6 for value in values[WARM:]]
        print(f"  {name}: median {statistics.median(values):.0f}, mean {statistics.mean(values):.0f}")


def of_evaluation() -> None:
    """Prints what a batch of an evaluation pays for its figures by source, language and byte."""
    batch = batch_of(64, 1024, VOCABULARY)
    pieces = int(batch.documents_BT.max()) + 1
    names = tuple((f"source-{n % 5}", f"language-{n}") for n in range(100))
    labels = Labels(names, np.arange(pieces) % 100, np.full(pieces, 100), np.array([0, *[pieces] * 64]), False)
    size_V = np.ones(VOCABULARY, np.int64)
    text = TextBytes(size_V, size_V > 0, size_V == 0)
    found = []
    for _ in range(20):
        began = time.perf_counter()
        labels_BT = labels.of_batch(np.arange(64), batch)
        np.bincount(labels_BT.reshape(-1), text.of_targets(batch).reshape(-1), len(names))
        found.append(time.perf_counter() - began)
    print(f"an evaluation's batch of 64 × 1024 tokens: labels and bytes {min(found) * 1e3:.1f} ms")


def main() -> None:
    """Prints all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--trackers", default="")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for alone in (False, True):
        of_steps(chosen.steps, [], False, alone)
        of_steps(chosen.steps, [], True, alone)
    for name in filter(None, chosen.trackers.split(",")):
        of_steps(chosen.steps, [name], False, False)
    of_evaluation()
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is not None:
        torch.zeros(1, device=device)
        began = time.perf_counter()
        for _ in range(1000):
            devices.memory(device)
        print(f"memory figures on {device}: {(time.perf_counter() - began) * 1e3:.0f} µs")


if __name__ == "__main__":
    main()
