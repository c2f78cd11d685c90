"""What a user may set for the checkpoints of a run."""

from __future__ import annotations

from pathlib import Path

from trainer.section import Count, Section


class CheckpointConfig(Section):
    """What survives a kill."""

    folder: Path
    """Folder of the checkpoints. A run whose folder holds one resumes from it."""
    every: Count | None = None
    """Steps between checkpoints; null: only at the end or when told to stop."""
    keep: Count = 2
    """Newest checkpoints that are kept. With 1, a damaged one leaves nothing to fall back to."""
    keep_every: Count | None = None
    """Checkpoints whose step is a multiple of this stay for ever; null: none does."""
    best: Count | None = None
    """As many checkpoints of the least validation loss are kept too, and `best` names the first of them; it is that of
    the weights themselves, also where their `average` is kept. checkpoint.every must then be a multiple of
    evaluation.every. null: the validation loss keeps none."""
    asynchronous: bool = True
    """Whether training goes on while a checkpoint is written: it waits for a copy in the CPU's memory alone, which
    takes as much of that as weights and moments do. false: it waits until the checkpoint is on the disk."""

    def problem(self, evaluated: int | None) -> str | None:
        """What is wrong with it where an evaluation is made every so many steps."""
        if self.best is None:
            return None
        if not evaluated:
            return "checkpoint.best compares validation losses on the way; set evaluation.every"
        if self.every is None or self.every % evaluated:
            return (
                f"checkpoint.best needs a validation loss at each checkpoint, and checkpoint.every {self.every} is no "
                f"multiple of evaluation.every {evaluated}; make it one"
            )
        return None
