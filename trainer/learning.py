"""One step of learning: from a batch to moved weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer import offload, precision
from trainer.average import Average
from trainer.batch import IGNORED, Batch
from trainer.clipping import clip, penalise, squared_norm
from trainer.config import TrainConfig
from trainer.devices import nothing_drawn
from trainer.distill import teacher_of
from trainer.guard import Guard
from trainer.lora import adapt
from trainer.losses import LossOf, place_losses
from trainer.model import Model
from trainer.noise_scale import NoiseScale
from trainer.optim import Optimizing, decaying, groups, make_optimizer, matrices, set_rate
from trainer.parallel.divide import Divided
from trainer.parallel.state import buffers_of, moments_of, set_buffers, set_moments, set_weights, weights_of
from trainer.parallel.world import ALONE, Floats, World
from trainer.prune import Pruner
from trainer.steps import take_step

SAMPLED = 256
"""Numbers of a weight, from its middle, that the size of a move is told by: all of them would cost a copy."""
SAMPLED_WEIGHTS = 32
"""Weights, evenly spread, that are looked at so: each costs the loop's thread most of a microsecond."""


@dataclass(frozen=True)
class Learned:
    """What a step found."""

    loss: float
    """Nats per target."""
    norm: float
    """Of the gradient, before clipping."""
    losses_B: npt.NDArray[np.float32]
    """Of each sequence that is here, summed over its targets."""
    moved: bool
    """Whether the weights moved: not where loss or gradient are not finite, or a guard finds trouble."""
    targets: int
    """Of the batch, in all processes, as are tokens."""
    tokens: int
    loss_scale: float | None = None
    """Of fp16, that the step was made with."""

    @property
    def skipped(self) -> bool:
        """Whether it did not move because fp16's loss scale was too high, which is lower now."""
        infinite = math.isfinite(self.loss) and not math.isfinite(self.norm)
        return not self.moved and infinite and (self.loss_scale or 0) > 1


class Update(NamedTuple):
    """The last move of the weights."""

    squared: Tensor
    """Scalar: the squared norm of what moved, of a sample of the weights; still where it was made."""
    rate: float
    """The learning rate."""


def _cut(figures: Tensor, *sizes: int) -> tuple[list[float], npt.NDArray[np.float32], Floats]:
    """The scalars, each sequence's figure, each document's."""
    scalars, losses_B, sums_P = np.split(figures.numpy(), np.cumsum(sizes))
    return scalars.tolist(), losses_B.astype(np.float32), sums_P.astype(np.float64)


class Learner:
    """A model, its optimiser, and all else that moves from step to step, as the configuration wants them; of many
    processes, what is in this one."""

    def __init__(
        self,
        model: Model,
        config: TrainConfig,
        device: torch.device,
        world: World = ALONE,
        measure: Callable[[nn.Module], float] | None = None,
    ) -> None:
        """`model`: whole, and alike in all processes. `measure` as in `ranges_of`."""
        precision.check(config.precision, device)
        self.config, self.device, self.world = config, device, world
        model = model.to(device, torch.float64 if config.precision == "fp64" else None)
        if config.precision == "fp8":
            precision.to_fp8(model, config.micro * config.sequence_length)
        if config.lora is not None:
            adapt(model, config.lora, config.seed)
        teacher = teacher_of(model, config, device)
        stages: list[range] = []
        if world.config.pp > 1:
            from trainer.parallel.pipeline import ranges_of  # takes a second

            stages = ranges_of(model, world, measure)
        self.average = Average(model, config.average.decay, world, stages) if config.average is not None else None
        of = {id(weight): name for name, weight in model.named_parameters()}
        made = [group | {"params": [of[id(w)] for w in group["params"]]} for group in groups(model, config.optimizer)]
        penalised = {of[id(weight)] for weight in decaying(model, config.optimizer)}
        if config.precision == "bf16-stochastic":  # takes the place of the model's weights
            self.optimizer: Optimizing = precision.Rounded(model, lambda m: make_optimizer(m, config.optimizer))
            self.divided = Divided(model, world)
        else:
            inner = matrices(model)
            self.divided = Divided(model, world, stages, half=config.precision == "bf16")
            own = self.divided.weights.groups(made)
            in_blocks = {id(one.here) for one in self.divided.weights.all if one.name in inner}
            if offload.wanted(config.offload, device):
                here = {one.name: one.here for one in self.divided.weights.all}
                self.optimizer = offload.Offloaded(here, own, lambda m, g: make_optimizer(m, config.optimizer, g))
            else:
                self.optimizer = make_optimizer(model, config.optimizer, own, in_blocks)
        self.model = self.divided.models[-1]
        self.pruner = Pruner(self.model, config.prune) if config.prune is not None else None
        self.weights = [one.here for one in self.divided.weights.all if one.here.requires_grad]
        self._sampled = [
            weight.detach().view(-1).narrow(0, max(0, weight.numel() - SAMPLED) // 2, min(SAMPLED, weight.numel()))
            for weight in self.weights[:: -(-len(self.weights) // SAMPLED_WEIGHTS) or 1]
        ]
        self._numbers = sum(len(some) for some in self._sampled)
        head = "embedding.weight" if self.model.config.tied else "head.weight"
        self._outputs = {id(one.here) for one in self.divided.weights.all if one.name in (head, "head.bias")}
        self._penalised = [one.here for one in self.divided.weights.all if one.name in penalised]
        amp = precision.autocast(config.precision, device)
        forward = self.divided.forwards[-1]
        self.losses = self._plain = LossOf(self.model, config.loss, amp, forward)
        if config.compile:
            self.losses = replace(self._plain, forward=torch.compile(forward), of_places=torch.compile(place_losses))
        self.losses = replace(self.losses, teacher=teacher, documents=config.names_documents)
        self._keeping = offload.activations(config.offload, device, self.model)
        self.scaler = precision.scaler(config.precision, device)
        self.noise = NoiseScale()
        self.update: Update | None = None
        self._stood: Tensor | None = None  # the sample of the weights behind the last move
        # what the forward pass changes and no bad step may: running means of norms, loads of experts, which no
        # checkpoint has
        self._buffers = [buffer for model in self.divided.models for buffer in model.buffers()]
        self._cold = isinstance(forward, DistributedDataParallel)

    def learn(
        self,
        batch: Batch,
        rate: float,
        step: int,
        parts: int = 1,
        sequences: int | None = None,
        guard: Guard | None = None,
    ) -> Learned:
        """One optimiser step over a batch, in micro-batches. Each sequence is read in so many parts, a row each.

        `batch` is what this process reads of `sequences`, or all of them. Each micro-batch's loss is a sum over its
        targets, divided by the targets of the whole batch: so how the batch is divided does not weigh one token above
        another. Where a guard finds trouble, nothing moves.
        """
        config, world, weights = self.config, self.world, self.divided.weights
        micro, rows = config.micro * parts, (sequences or len(batch.tokens_BT) // parts) * parts
        read, tokens = (int(number) for number in world.summed(np.array([batch.targets, batch.tokens], np.float64)))
        targets = max(1, read)
        if self._cold:
            self._warm_up(batch, micro)
        weights.forget_gradients()
        self.optimizer.zero_grad(set_to_none=True)
        measured = self._measures(len(batch.tokens_BT) // micro, step)
        norms: list[Tensor] = []  # squared, of the first micro-batch and of all, where the noise scale is measured
        kept = [buffer.clone() for buffer in self._buffers] if guard is not None or self.scaler is not None else []
        losses_N, of_documents = self._backward(batch, micro, targets, rows, norms if measured else None)
        weights.take_gradients()
        scale = None
        if self.scaler is not None:
            scale = self.scaler.get_scale()
            self.scaler.unscale_(self.optimizer)  # type: ignore[arg-type]
        if measured:
            norms.append(squared_norm(self.weights))
        if self.pruner is not None:
            self.pruner.mask_gradients()
        if config.loss.l1 or config.loss.l2:
            penalise(self._penalised, config.loss.l1, config.loss.l2)
        settings = config.optimizer
        norm = clip(
            self.weights,
            settings.clip,
            settings.clip_value,
            settings.clip_adaptive,
            weights.squared_norm if world.size > 1 else None,
            self._outputs,
        )
        last = self.update if guard is not None else None
        made = [losses_N.sum(), norm, *norms, *([] if last is None else [last.squared])]
        figures = torch.stack([figure.to(norm.dtype) for figure in made])
        figures = torch.cat([figures, losses_N.to(norm.dtype), of_documents.to(norm.dtype)]).cpu()  # the one wait
        (loss, norm_value, *squares), losses_B, sums_P = _cut(figures, len(made), len(losses_N))
        move = 0.0 if last is None else squares.pop()
        documents = guard.of_documents(batch, sums_P) if guard is not None and config.names_documents else np.zeros(0)
        found = np.array([move, self._numbers, loss, *documents], np.float64)
        move, numbers, loss, *of_all = world.summed(found, parts=True, everywhere=2).tolist()
        loss /= targets
        moved = math.isfinite(loss + norm_value)
        learned = Learned(loss, norm_value, losses_B, moved, read, tokens, scale)
        if guard is not None and not learned.skipped:
            size = None if last is None else math.sqrt(move / numbers) / last.rate
            moved = guard.passes(step, loss, norm_value, size, np.array(of_all))
        if moved:
            set_rate(self.optimizer, rate)
            if guard is not None and self._stood is None:
                self._stood = self._sample()
            take_step(self.optimizer, self.losses, batch, config, step, micro, parts)
            if guard is not None:
                self._note_move(rate)
            if self.average is not None:
                self.average.update(self.divided)
            if measured:
                self._note_noise(batch, parts, squares[0] / (scale or 1.0) ** 2, squares[1])
        else:
            for buffer, before in zip(self._buffers, kept, strict=False):
                buffer.copy_(before)
        if self.pruner is not None:
            mean = self.average.divided.models[-1] if self.average is not None else None
            self.pruner.after_step(step, self.optimizer, mean)
            self._stood = None
        if moved:
            for model in self.divided.models:
                model.after_step()
        if self.scaler is not None:
            self.scaler.update()
        return replace(learned, moved=moved)

    def _warm_up(self, batch: Batch, micro: int) -> None:
        """A pass over nothing: DDP rebuilds its buckets behind the first one it makes, and would sum in another order
        from then on, so that a run that goes on would not be equal to the bit to one that never stopped."""
        with nothing_drawn(self.device):
            self._backward(batch.first(0, micro), micro, 1, micro, None)
        self._cold = False

    def _sample(self) -> Tensor:
        """Some numbers of some weights, as they are now."""
        return torch.cat(self._sampled)

    def _note_move(self, rate: float) -> None:
        """Notes how far the weights went from where they stood at the last sample."""
        assert self._stood is not None
        before, self._stood = self._stood, self._sample()
        moved = (self._stood - before).float()
        self.update = Update(moved.dot(moved), rate) if rate else None

    def _backward(
        self, batch: Batch, micro: int, targets: int, rows: int, norms: list[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Makes the gradients of the mean loss over `targets` targets in so many rows; the cross entropy of each row
        that is here (N,), or 0 where a later pipeline stage has it, and of each document where it is wanted (P,), else
        nothing. The squared norm of the first micro-batch's gradient goes to `norms`."""
        nothing = torch.zeros(0, device=self.device)
        if self.divided.pipeline is not None:
            found = self.divided.pipeline.run(self.losses, batch, micro, lambda made: made.share_of(targets, rows))
            return torch.zeros(len(batch.tokens_BT), device=self.device) if found is None else found, nothing
        losses, of_documents = [], nothing
        for first in range(0, len(batch.tokens_BT), micro):
            with self.divided.micro_batch(last=first + micro >= len(batch.tokens_BT)):
                with self._keeping:
                    made = self.losses(batch, slice(first, first + micro))
                losses.append(made.cross_entropy_N.detach())
                if made.cross_entropy_P is not None:
                    some = made.cross_entropy_P.detach()
                    of_documents = some if of_documents is nothing else of_documents + some
                loss = made.share_of(targets, rows)
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
            if norms is not None and first == 0:
                norms.append(squared_norm(self.weights))
        return torch.cat(losses), of_documents

    def _measures(self, micro_batches: int, step: int) -> bool:
        how = self.config.noise_scale
        return how is not None and self.world.size == 1 and step % how.every == 0 and micro_batches >= 2

    def _note_noise(self, batch: Batch, parts: int, small: float, big: float) -> None:
        assert self.config.noise_scale is not None
        first = int((batch.targets_BT[: self.config.micro * parts] != IGNORED).sum())
        if not 0 < first < batch.targets:  # one of both is empty
            return
        sequences, targets = len(batch.tokens_BT) / parts, batch.targets
        # by targets, since sequences may hold unlike numbers of them
        self.noise = self.noise.with_step(
            small * (targets / first) ** 2, sequences * first / targets, big, sequences, self.config.noise_scale.decay
        )

    def measure(self, batch: Batch, average: bool = False) -> float:
        """The summed cross entropy, in nats, of the weights or of their average, over what all processes read: of a
        batch, what this one does. As many rows in all of them, a multiple of the micro-batch with pipelines."""
        return float(self.measure_by(batch, np.zeros(batch.targets_BT.shape, np.int64), 1, average)[0])

    @torch.no_grad()
    def measure_by(self, batch: Batch, labels_BT: npt.NDArray[np.int64], labels: int, average: bool = False) -> Floats:
        """(labels,): the same, of the places of each label."""
        divided, losses = self.divided, replace(self._plain, by_place=True)
        if average and self.average is not None:
            divided = self.average.divided
            losses = replace(losses, model=divided.models[-1], forward=divided.forwards[-1])
        for model in divided.models:
            model.eval()
        if divided.pipeline is not None:
            found = divided.pipeline.run(losses, batch, self.config.micro, None)
        else:
            found = losses(batch, slice(None)).cross_entropy_N
        for model in divided.models:
            model.train()
        here: Floats = np.zeros(labels)
        cp = self.model.division.cp
        if found is not None:
            labels_NT = labels_BT if cp is None else np.split(labels_BT, cp.size(), 1)[cp.rank()]
            here = np.bincount(labels_NT.reshape(-1), found.cpu().numpy().reshape(-1), labels).astype(np.float64)
        return self.world.summed(here, parts=True)

    def state_dict(self) -> dict[str, Any]:
        """All that a resume needs of it, tensors and numbers; of many processes, what those of one kind have together:
        all must ask for it."""
        state = {
            "model": weights_of(self.divided.weights) | buffers_of(self.divided.models),
            "optimizer": moments_of(self.optimizer, self.divided.weights),
            "noise": self.noise.model_dump(),
        }
        if self.scaler is not None:
            state["scaler"] = self.scaler.state_dict()
        if self.average is not None:
            state["average"] = self.average.state_dict()
        if self.pruner is not None:
            state["pruning"] = self.pruner.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it up again, however it was divided. What the checkpoint has not, begins anew; settings stay the
        configuration's."""
        set_weights(self.divided.weights, state["model"])
        set_buffers(self.divided.models, state["model"])
        set_moments(self.optimizer, self.divided.weights, state["optimizer"])
        self.divided.let_go()
        self.update = self._stood = None
        self.noise = NoiseScale.model_validate(state.get("noise", {}))
        if self.scaler is not None and "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])
        if self.pruner is not None and "pruning" in state:
            self.pruner.load_state_dict(state["pruning"])
        if self.average is not None:
            self.average.load_state_dict(state.get("average", {"model": state["model"], "steps": 0}))
