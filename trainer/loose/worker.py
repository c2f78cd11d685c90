"""A loosely coupled worker in the training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.shards import Corpus
from trainer.checkpoint import CorpusFacts
from trainer.config import TrainConfig
from trainer.data import Loader
from trainer.learning import Learner
from trainer.loose.coupling import Coupling, make_coupling
from trainer.loose_settings import Federated
from trainer.metrics import Log
from trainer.model_settings import RUNNING
from trainer.parallel.saving import together
from trainer.parallel.world import World
from trainer.resume import Standing

Say = Callable[[str], None]


def as_worker(world: World, config: TrainConfig, corpus: Corpus) -> tuple[World, TrainConfig]:
    """What of a run is this worker's, where workers are loosely coupled: each has weights, checkpoints and a log of its
    own, in the folder of the first one or in `worker-1` and so on within it. Workers of one corpus read a part of each
    batch; those whose corpora differ, whole batches."""
    loose = config.loose
    if loose is None or world.size == 1:
        call = getattr(loose, "roll_call", None)
        if call is None or isinstance(loose, Federated):  # sites have sequences of their own
            return world, config
        return replace(world, worker=call.worker, workers=call.workers), config
    corpora = together(world, lambda: CorpusFacts.of(corpus, config.data.split).model_dump_json())
    world = replace(world.loosened(config.parallel.dp_replicate), sites=len(set(corpora)) > 1)
    if world.worker == 0:
        return world, config
    folder = config.checkpoint.folder / f"worker-{world.worker}"
    saved = config.checkpoint.model_copy(update={"folder": folder})
    log = config.log.model_copy(update={"file": None})
    return world, config.model_copy(update={"checkpoint": saved, "log": log})


def couple(config: TrainConfig, corpus: Corpus, learner: Learner) -> Coupling | None:
    """What couples this worker to others, if anything."""
    if config.loose is None:
        return None
    shape = config.model.model_dump_json(exclude=RUNNING)
    facts = f"{shape}/{corpus.meta['tokenizer']['digest']}"
    return make_coupling(config.loose, config.seed, learner.world.coupled, learner.world.own, facts)


def exchanged(coupling: Coupling, at: Standing, tokens: int, last: int, log: Log, loader: Loader, say: Say) -> None:
    """Exchanges weights behind a step where it is time to, and logs it. The step may be a later one then."""
    report = coupling.finish(at.step) if at.step == last else coupling.after_step(at.step, tokens)
    if report is None:
        return
    log.write("exchange", **at.place() | vars(report))
    for names, what in ((report.lost, "no longer there"), (report.joined, "there again")):
        if names:
            say(f"step {at.step}: {what}: worker {', '.join(map(str, names))}")
    if report.step > at.step:
        say(f"the others are at step {report.step} already; going on from there")
        at.step = report.step
        loader.jump(report.step)
