"""What a user may set for a training run: one YAML file, checked in full before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from pipeline.errors import RecipeError, nearest
from pipeline.settings import apply_change, explain, listed, load_yaml
from trainer.batch_ramp import AnyRamp
from trainer.change_settings import CHANGEABLE, ChangeConfig, changed
from trainer.checkpoint_settings import CheckpointConfig
from trainer.compress_settings import AnyPruning, DistillConfig, LoraConfig, OffloadConfig
from trainer.compress_settings import problem as compress_problem
from trainer.data_settings import DataConfig
from trainer.evaluation_settings import EvaluationConfig
from trainer.guard_settings import GuardConfig
from trainer.learning_settings import (
    AverageConfig,
    EarlyStopConfig,
    LossConfig,
    NoiseConfig,
    PlateauConfig,
    Precision,
)
from trainer.log_settings import LogConfig
from trainer.loose_settings import AnyLoose
from trainer.model_settings import ModelConfig
from trainer.objectives import CAUSAL, AnyObjective, misfit
from trainer.optimizers import AdamW, AnyOptimizer, Positive
from trainer.parallel_settings import PROCESSES, ParallelConfig, started_size
from trainer.schedule import AnySchedule, Cosine
from trainer.section import Count, Natural, Section, is_stored


class TrainConfig(Section):
    """A training run."""

    data: DataConfig
    """Where tokens come from."""
    model: ModelConfig
    """The model's shape."""
    objective: AnyObjective = CAUSAL
    """What the model learns to predict."""
    sequence_length: Annotated[int, Field(strict=True, ge=2)]
    """Tokens of a sequence."""
    global_batch: Count
    """Sequences of one optimiser step."""
    batch_ramp: AnyRamp | None = None
    """How the batch grows up to global_batch; null: it is that from the first step."""
    micro_batch: Count | Literal["auto"] | None = None
    """Sequences of one forward pass; must divide the global batch. auto: the most that fit into the device's memory,
    found at the beginning of a run. null: as many as each process has of a batch, at once."""
    steps: Count | None = None
    """Optimiser steps of the whole run. Its length is given in steps, tokens or epochs."""
    tokens: Count | None = None
    """Tokens of the whole run, padding counted, in place of steps."""
    epochs: Positive | None = None
    """How often the training split is read, in place of steps: with a mixture, as many tokens as its groups have, those
    of weight 0 aside."""
    optimizer: AnyOptimizer = AdamW(kind="adamw")
    """How a gradient moves the weights."""
    schedule: AnySchedule = Cosine(kind="cosine")
    """How the learning rate moves."""
    plateau: PlateauConfig | None = None
    """Whether the learning rate falls where the validation loss no longer does."""
    early_stop: EarlyStopConfig | None = None
    """Whether the run ends where the validation loss no longer falls."""
    loss: LossConfig = LossConfig()
    """What is minimised beside the objective's cross entropy, and how that is computed."""
    noise_scale: NoiseConfig | None = NoiseConfig()
    """How the gradient noise scale is measured, in steps of two micro-batches or more; null: not."""
    average: AverageConfig | None = None
    """Whether a running mean of the weights is kept, and evaluated beside them."""
    loose: AnyLoose | None = None
    """How workers are coupled that train by themselves and exchange weights now and then; null: every step is one of
    all. Each worker's batch is a part of the whole: with W workers, a rate of AdamW up to √W times as high makes up for
    that."""
    precision: Precision = "fp32"
    """Numbers of forward and backward pass. fp64; fp32; tf32: matrix products with 10 bits of mantissa; bf16 or fp16:
    under autocast, weights, moments and loss in fp32, for fp16 with a loss scale that adapts; fp8: bf16, and matrix
    products of blocks in fp8 (torchao); bf16-stochastic: weights in bf16 too, rounded at random so that small steps
    count, gradients and moments in fp32."""
    distill: DistillConfig | None = None
    """Whether a teacher's predictions are learned from beside the data; null: not."""
    prune: AnyPruning | None = None
    """Whether weights are taken away on the way, by kind; null: not."""
    lora: LoraConfig | None = None
    """Whether low-rank adapters are trained in place of the weights; null: all weights are."""
    offload: OffloadConfig | None = None
    """What the CPU keeps while an accelerator computes; null: nothing."""
    compile: bool = False
    """Whether torch.compile makes kernels for the model; the first steps take longer."""
    device: Annotated[str, Field(pattern="^[a-z]+$")] = "auto"
    """cpu, or the kind of accelerator, such as cuda or xpu. auto: the accelerator where there is one, else the CPU."""
    threads: Count | None = None
    """CPU threads of torch; null: torch's own choice. A resume is equal to the bit for an equal number."""
    changes: tuple[ChangeConfig, ...] = ()
    """Settings that change in mid-run, in the order of their steps."""
    seed: Natural = 0
    """Seed of the initial weights and of the order of samples."""
    guard: GuardConfig | None = None
    """Whether bad steps and documents are found and left out; null: the run ends at a loss that is not finite."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """When the validation split is read."""
    checkpoint: CheckpointConfig
    """Where and when the run is saved."""
    parallel: ParallelConfig = ParallelConfig()
    """How the run is divided among processes, which `--nproc` or torchrun start."""
    log: LogConfig = LogConfig()
    """Where and when figures are written."""
    require_below_unigram: Annotated[float, Field(ge=0)] | None = None
    """Nats per token that the final validation loss must lie under the corpus's unigram entropy, else exit code 1."""

    @property
    def stages(self) -> list[tuple[int, int]]:
        """(first step, batch) of what is known of the batch beforehand."""
        return [(1, self.global_batch)] if self.batch_ramp is None else self.batch_ramp.stages(self.global_batch)

    @property
    def micro(self) -> int:
        """Sequences of one forward pass, once it is found."""
        assert self.micro_batch != "auto"
        if self.micro_batch is not None:
            return self.micro_batch
        batches = [batch for _, batch in self.stages]
        most = max(1, min(batches) // self.parallel.least_micro_batches)
        return next(size for size in range(most, 0, -1) if not any(batch % size for batch in batches))

    @property
    def last_step(self) -> int:
        """Steps of the whole run, once it is settled (`trainer.length`)."""
        assert self.steps is not None
        return self.steps

    def rate(self, step: int, batch: int | None = None) -> float:
        """The learning rate of a step over `batch` sequences, or as many as are planned for it."""
        share = self.schedule.share(step, self.last_step)
        if self.batch_ramp is not None:
            batch = batch or [planned for first, planned in self.stages if first <= step][-1]
            share *= self.batch_ramp.rate_share(batch, self.global_batch)
        return self.optimizer.learning_rate * share

    def at(self, step: int) -> TrainConfig:
        """The configuration of a step. Raises ValidationError where a change does not fit, KeyError where it may not
        be."""
        acting = [change for change in self.changes if change.step <= step]
        if not acting:
            return self
        return TrainConfig.model_validate(changed(self.model_dump(), acting), context={PROCESSES: self.parallel.size})

    def stretch(self, step: int) -> int:
        """The last of the steps from this one on that have the same settings."""
        return min([change.step - 1 for change in self.changes if change.step > step] + [self.last_step])

    @property
    def names_documents(self) -> bool:
        """Whether the guard can tell a step's documents apart: where each is read by itself, in one process."""
        together = self.parallel.pp == self.parallel.cp == 1 and self.data.documents == "separate"
        return self.guard is not None and together

    @property
    def log_file(self) -> Path:
        """Where the metrics go."""
        return self.log.file or self.checkpoint.folder / "metrics.jsonl"

    @model_validator(mode="after")
    def _parts_fit(self, info: ValidationInfo) -> TrainConfig:
        if is_stored(info):
            return self
        given = [name for name in ("steps", "tokens", "epochs") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"the length of the run is given {'by ' + ' and '.join(given) if given else 'nowhere'}; "
                "give one of steps, tokens, epochs"
            )
        if self.batch_ramp is not None and self.batch_ramp.kind == "noise" and self.steps is None:
            raise ValueError(f"{given[0]}: with batch_ramp noise nobody knows how many steps that is; give steps")
        micro = 1 if self.micro_batch == "auto" else self.micro
        if self.batch_ramp is not None and (problem := self.batch_ramp.problem(self.global_batch, micro)):
            raise ValueError(problem)
        if self.global_batch % micro:
            raise ValueError(
                f"global_batch {self.global_batch} does not divide into micro-batches of {micro}; "
                "make micro_batch one of its divisors"
            )
        if self.batch_ramp is not None and self.batch_ramp.kind == "noise" and self.noise_scale is None:
            raise ValueError("batch_ramp noise needs the measurement that noise_scale: null takes out")
        if self.steps is not None and (problem := self.schedule.problem(self.steps)):
            raise ValueError(problem)
        if self.batch_ramp is not None and self.batch_ramp.kind == "steps" and self.steps is not None:
            late = [stage.step for stage in self.batch_ramp.at if stage.step > self.steps]
            if late:
                raise ValueError(
                    f"batch_ramp.at has a stage at step {late[0]}, behind the last of {self.steps} steps; leave it "
                    "out, and make global_batch that of the stage before it"
                )
        for key in ("plateau", "early_stop"):
            if getattr(self, key) is not None and not self.evaluation.every:
                raise ValueError(f"{key} needs evaluations on the way; set evaluation.every")
        for key, told in (("plateau", self.plateau), ("early_stop", self.early_stop), ("batch_ramp", self.batch_ramp)):
            if self.loose is not None and told is not None and getattr(told, "kind", "noise") == "noise":
                raise ValueError(f"{key} measures, and with loose each worker would find something else; leave it out")
        if self.changes and self.loose is not None:
            raise ValueError("changes: workers of loose would change at steps of their own; leave one of them out")
        steps = [change.step for change in self.changes]
        if steps != sorted(set(steps)):
            raise ValueError(f"changes: the steps {', '.join(map(str, steps))} do not rise; give each step one change")
        if self.steps is None and any(key == "global_batch" for change in self.changes for key in change.set):
            raise ValueError("changes: another global_batch needs the length of the run in steps; give steps")
        if self.guard is not None and self.loose is not None:
            raise ValueError("guard decides for all processes, and with loose each worker is by itself; leave one out")
        if self.guard is not None and self.guard.documents is not None and not self.names_documents:
            raise ValueError(
                "guard.documents needs the loss of each document, which data.documents: joined and the parallel "
                "dimensions pp and cp do not give; leave it out, or those"
            )
        if self.optimizer.needs != "gradient" and self.precision not in ("fp64", "fp32", "tf32", "bf16"):
            raise ValueError(
                f"optimizer.kind {self.optimizer.kind} measures more than the gradient, for which precision "
                f"{self.precision} is too coarse; take fp32, tf32 or bf16"
            )
        if problem := compress_problem(self):
            raise ValueError(problem)
        if problem := self.model.problem(self.sequence_length, self.optimizer, self.loss):
            raise ValueError(problem)
        for one in self.data.curriculum:
            if self.sequence_length % one.length:
                raise ValueError(
                    f"data.curriculum: a length of {one.length} does not divide the sequence_length of "
                    f"{self.sequence_length}; make it one of its divisors"
                )
        if self.data.documents == "joined" and self.objective.kind not in ("causal", "masked"):
            raise ValueError(
                f"objective.kind {self.objective.kind} is drawn for each document, and data.documents: joined reads a "
                "sequence as one; set it to separate"
            )
        if problem := misfit(self.objective, self.model):
            raise ValueError(problem)
        if problem := next(self.parallel.problems(self), None):
            raise ValueError(problem)
        if problem := self.checkpoint.problem(self.evaluation.every):
            raise ValueError(problem)
        parts = self.parallel
        if self.evaluation.samples is not None and parts.pp * parts.dp_shard * parts.cp * parts.ep * parts.tp > 1:
            raise ValueError(
                "evaluation.samples are written by one process, which with parallel.pp, dp_shard, cp, ep or tp has a "
                "part of the model alone; leave them out, and write with `corpusmill generate` from a checkpoint"
            )
        if self.data.validation is None and (self.evaluation.every or self.require_below_unigram is not None):
            raise ValueError(
                "data.validation is null, but evaluation.every or require_below_unigram needs it; "
                "name a split or take them out"
            )
        return self


def load_config(path: Path, overrides: Sequence[str] = (), processes: int | None = None) -> TrainConfig:
    """The configuration in the YAML file `path`, with overrides such as `model.layers=4` put in, for so many processes;
    None: as many as were started with this one.

    Raises RecipeError with every fault found, each with its key, before anything else is done.
    """
    values = load_yaml(path, "configuration")
    if not isinstance(values, dict):
        raise RecipeError(f"{path} holds no settings; it must be a YAML mapping with keys such as data, model, steps")
    for override in overrides:
        apply_change(values, override)
    try:
        config = TrainConfig.model_validate(values, context={PROCESSES: processes or started_size()})
    except ValidationError as error:
        raise RecipeError(listed(str(path), explain(error, TrainConfig))) from error
    check_changes(config, str(path))
    return config


def check_changes(config: TrainConfig, where: str) -> None:
    """Raises RecipeError where a change in mid-run does not fit the settings that hold then."""
    for number, change in enumerate(config.changes):
        if config.steps is not None and change.step > config.steps:
            raise RecipeError(
                f"{where}: changes.{number}.step {change.step} lies behind the last step of the run, {config.steps}; "
                "make the run longer or leave the change out"
            )
        try:
            then = config.at(change.step)
        except ValidationError as error:
            raise RecipeError(listed(f"{where}, changes.{number}.set", explain(error, TrainConfig))) from error
        except KeyError as error:
            key = str(error.args[0])
            raise RecipeError(
                f"{where}: changes.{number}.set.{key} cannot change in mid-run{nearest(key, sorted(CHANGEABLE))}"
            ) from error
        if then.model.gated != config.model.gated:
            raise RecipeError(
                f"{where}: changes.{number}.set.model.activation {then.model.activation} in place of "
                f"{config.model.activation} makes a model of another shape: only one of them is gated"
            )
