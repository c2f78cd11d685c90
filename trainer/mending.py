"""What is done where the guard finds trouble: the incident is written down, then the run goes on by another history."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import DamageError, UserError, counted
from trainer import checkpoint
from trainer.config import TrainConfig
from trainer.data import Loader, Splits
from trainer.guard import Guard
from trainer.guard_settings import INCIDENTS
from trainer.history import AnyEvent, Cool, Jump, LeaveOut
from trainer.learning import Learner
from trainer.metrics import Log, MetricsLog, NoLog, finite
from trainer.parallel.saving import Saver, newest, set_random, together
from trainer.parallel.world import World
from trainer.plateau import Watch
from trainer.resume import Standing, taken_up, with_wishes
from trainer.snapshot import Snapshots
from trainer.trace import uses_of

Say = Callable[[str], None]

LISTED = 32
"""Documents of a bad step that an incident lists of each process, those that cost most, beside all that stand out."""
DISTANCE = 10
"""Steps before the first bad one in which a copy of the weights is not thought good, if there is an older one."""


class Mending:
    """A guard in a run."""

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        splits: Splits,
        learner: Learner,
        watch: Watch,
        guard: Guard,
        saver: Saver,
        save: Callable[[], None],
        at: Standing,
        since: int,
        say: Say,
    ) -> None:
        """`save` begins to write a checkpoint of where the run stands, by `saver`; `since`: the step behind which the
        settings are these, which is as far as the run may go back."""
        assert config.guard is not None
        self.guard = guard
        self._settings, self._config, self._world, self._splits = config.guard, config, world, splits
        self._learner, self._watch, self._saver, self._save, self._say = learner, watch, saver, save, say
        self._since, self._snapshots = since, Snapshots()
        if config.guard.snapshot_every is not None:
            self._snapshots.take(at, learner, watch)
        attempt, _ = at.history.data_step(at.step + 1)
        folder = config.checkpoint.folder
        self._log = MetricsLog(folder / INCIDENTS, attempt, at.step) if world.first else NoLog()

    def close(self) -> None:
        """Ends the list of incidents."""
        self._log.close()

    def after_step(self, at: Standing) -> None:
        """Copies weights and moments where it is time to."""
        every = self._settings.snapshot_every
        if every is not None and at.step % every == 0:
            self._snapshots.take(at, self._learner, self._watch)

    def mend(self, at: Standing, before: Standing, loader: Loader, log: Log) -> None:
        """Makes the run go on behind trouble. `at`: the step that was bad, which did not move the weights; `before`:
        where the run stood before it. Raises UserError where the guard gives up."""
        guard, trouble = self.guard, self.guard.trouble
        assert trouble is not None
        step, data_step = at.step, at.data_step
        action = asked = guard.remedy(data_step, self._config.names_documents)
        documents = self._documents(at, loader)
        named = sorted({row["document"] for row in documents if row["stands_out"]}) if action == "documents" else []
        events: list[AnyEvent] = []
        back_to = before.step
        if action == "rollback":
            if self._go_back(before, guard.first_bad - trouble.harmed):
                back_to = before.step
            else:
                action = "end"
        if action == "documents":
            events = [LeaveOut(data_step=data_step, documents=tuple(named))]
        elif action != "end":
            cool = self._settings.cool
            if action == "rollback" and cool is not None:
                events = [Cool(data_step=data_step + 1, share=cool.share, steps=cool.steps)]
            events.append(Jump(data_step=data_step + 1, step=back_to + 1))
        row: dict[str, Any] = at.place() | {"why": list(trouble.why), "action": action}
        if action == "rollback":
            row["back_to"] = back_to
        row["figures"] = finite({name: figure.told() for name, figure in trouble.figures.items()})
        row |= {"outliers": trouble.outliers, "left_out": named}
        self._log.write("incident", **row, documents=documents)
        self._log.sync()  # it must not be lost where the run dies of what comes next
        log.write("incident", **row)
        self._say(told(row, documents))
        if action == "end":
            raise UserError(self._end(at, asked))
        at.step, at.attempt, at.data_step, at.tokens = before.step, before.attempt, before.data_step, before.tokens
        at.validation_loss = before.validation_loss
        at.history = at.history.planned(events)
        if action != "documents":
            at.history = with_wishes(at.history, data_step + 1, self._config, self._splits.weights)
        if action == "rollback":
            guard.bad = 0
            at.attempt, _ = at.history.data_step(at.step + 1)
            self._forget_later(at)
        loader.again(at.step + 1, at.history)
        assert step > at.step

    def _documents(self, at: Standing, loader: Loader) -> list[dict[str, Any]]:
        """The documents of the bad step that stand out, and others that cost most, in all processes; by their cost."""
        guard, world = self.guard, self._world
        here = []
        reads = all(world.at(name) == 0 for name in ("tp", "cp", "pp"))
        if guard.documents is not None and reads:
            found = guard.documents
            order = sorted(range(len(found.loss_P)), key=lambda p: (~found.outliers_P[p], -found.loss_P[p], p))
            chosen = order[: LISTED + int(found.outliers_P.sum())]
            placed = loader.placed(at.data_step)
            uses = uses_of(self._splits.train, [placed[p] for p in chosen], at.step, at.attempt, at.data_step)
            for p, use in zip(chosen, uses, strict=True):
                loss, group = float(found.loss_P[p]), found.group_P[p]
                sigmas = float((loss - found.mean_G[group]) / found.sd_G[group])
                what = vars(use) | {"targets": int(found.targets_P[p]), "loss": loss, "sigmas": sigmas}
                here.append(finite(what | {"stands_out": bool(found.outliers_P[p])}))
        everywhere = [row for rows in together(world, lambda: here) for row in rows]
        return sorted(everywhere, key=lambda row: -(row["loss"] if row["loss"] is not None else float("inf")))

    def _go_back(self, at: Standing, first_bad: int) -> bool:
        """Takes weights and all that goes with them from the newest copy or checkpoint of before a step, if there is
        one; the run then stands behind that."""
        self._saver.wait()
        for limit in (first_bad - DISTANCE, first_bad):
            snapshot = self._snapshots.before(limit)
            first = self._since if snapshot is None else snapshot.at.step + 1
            found = self._saved(first, limit) if first < limit else None
            if found is not None:
                self._load(at, *found)
            elif snapshot is not None:
                snapshot.restore(at, self._learner, self._watch)
            else:
                continue
            self._snapshots.forget(at.step)
            return True
        return False

    def _saved(self, first: int, before: int) -> tuple[Path, checkpoint.Meta] | None:
        """The newest whole checkpoint from a step on and of before another, of this run."""
        try:
            return newest(self._world, self._config.checkpoint.folder, self._say, first, before)
        except DamageError:
            return None

    def _load(self, at: Standing, path: Path, meta: checkpoint.Meta) -> None:
        state = taken_up(path, meta, self._config, self._learner, self._watch)
        set_random(self._world, state["random"], meta.processes)
        at.step, at.tokens, at.validation_loss = meta.step, meta.tokens, meta.validation_loss

    def _forget_later(self, at: Standing) -> None:
        """Removes the checkpoints of what was taken back, which a restart would go on from."""
        folder, name = self._config.checkpoint.folder, checkpoint.name_of(at.step)

        def later() -> list[Path]:
            return [path for path in checkpoint.saved(folder) if path.name > name]

        some, *_ = together(self._world, lambda: bool(later()) if self._world.first else None)
        if not some:
            return
        self._save()  # first, so that there is one at every moment
        self._saver.wait()
        if self._world.first:
            for path in later():
                shutil.rmtree(path, ignore_errors=True)

    def _end(self, at: Standing, asked: str) -> str:
        folder, settings = self._config.checkpoint.folder, self._settings
        why = f"weights were taken back {settings.rollbacks} times of late, and it is bad again"
        if asked == "rollback":
            why = "there is neither a copy of the weights nor a checkpoint of before it to go back to"
        return (
            f"the guard gives up at step {at.step} (data step {at.data_step}): {why}. `corpusmill incidents {folder}` "
            "says what was found. Lower optimizer.learning_rate, clip gradients (optimizer.clip), or leave out what it "
            "names (data.leave_out)."
        )


def told(row: dict[str, Any], documents: list[dict[str, Any]]) -> str:
    """One line that says what was found and done."""
    found = []
    for why in row["why"]:
        figure = row["figures"].get(why)
        if why == "documents":
            found.append(f"{counted(row['outliers'], 'document')} far dearer than others")
        elif figure is None:
            found.append("loss or gradient is not finite")
        elif figure["sigmas"] is None:
            found.append(f"{why.replace('_', ' ')} is not finite")
        else:
            found.append(f"{why.replace('_', ' ')} {figure['sigmas']:.0f} standard deviations too high")
    done = {
        "documents": f"left out {counted(len(row['left_out']), 'document')}",
        "step": "left out the step",
        "rollback": f"back to step {row.get('back_to')}",
        "end": "gave up",
    }[row["action"]]
    worst = next((d for d in documents if d["stands_out"]), None)
    whose = f" ({worst['url'] or worst['document']}{', ...' if len(row['left_out']) > 1 else ''})" if worst else ""
    return f"step {row['step']}: {', '.join(found)}; {done}{whose if row['left_out'] else ''}"
