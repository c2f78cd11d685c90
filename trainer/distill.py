"""Knowledge distillation: a teacher reads the same batches, and the student's predictions, and its hidden states where
asked for, are drawn towards the teacher's.

The loss is (1 - weight) · what it is without a teacher + weight · T² Σ KL(teacher at temperature T ‖ student at T),
over the places with a target (Hinton, Vinyals and Dean 2015, section 2), + hidden.weight · the mean squared difference
of hidden states (Jiao et al. 2020, TinyBERT, equations 8 and 9). What is logged stays the cross entropy alone.

Shape suffixes: N sequences, T places, P places of all of them, C width of the student, K of the teacher, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import RecipeError
from pipeline.shards import Corpus
from trainer.batch import IGNORED, NO_DOCUMENT
from trainer.compress_settings import PROJECTION, DistillConfig
from trainer.config import TrainConfig
from trainer.hugging_face import checkpoint_in, in_their_format, same_tokenizer, stored_model
from trainer.model import Inputs, Model
from trainer.model_parts import Learned
from trainer.numbers import wide


class Teacher:
    """A frozen model, and how a student learns from it. Is made before the student's optimiser: it may add a matrix."""

    def __init__(self, model: Model, student: Model, settings: DistillConfig, seed: int) -> None:
        self.model = model.eval().requires_grad_(False)
        self._student, self._settings = student, settings
        self._pairs: tuple[tuple[int, int], ...] = ()
        if settings.hidden is not None:
            self._pairs = settings.hidden.layers or as_deep(len(student.blocks), len(model.blocks))
            _check_layers(self._pairs, len(student.blocks), len(model.blocks))
            narrow, broad = student.config.width, model.config.width
            if narrow != broad:
                matrix = nn.Linear(narrow, broad, bias=False, device="meta").to_empty(device="cpu")
                nn.init.xavier_uniform_(matrix.weight, generator=torch.Generator().manual_seed(seed))
                student.add_module(PROJECTION, matrix.to(next(student.parameters())))

    def beside(
        self, forward: Callable[[Inputs], tuple[Tensor, Tensor | None]], inputs: Inputs
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """What the student gives by `forward`, with what hidden states add to its term of the mean loss; and the last
        hidden states (N, T, K) of the teacher."""
        ours, theirs = zip(*self._pairs, strict=True) if self._pairs else ((), ())
        with torch.no_grad(), kept(self.model, theirs) as taught:
            hidden_NTK, _ = self.model(inputs)
        with kept(self._student, ours) as learned:
            hidden_NTC, auxiliary = forward(inputs)
        if self._settings.hidden is not None:
            apart = self._settings.hidden.weight * self._apart(learned, taught, inputs.documents_BT != NO_DOCUMENT)
            auxiliary = apart if auxiliary is None else auxiliary + apart
        return hidden_NTC, auxiliary, hidden_NTK

    def _apart(self, learned: dict[int, Tensor], taught: dict[int, Tensor], real_NT: Tensor) -> Tensor:
        """Scalar: the mean squared difference over places and width, of each sequence by itself, so that it does not
        matter how a batch is divided; of that the mean over pairs of layers and sequences."""
        turned = getattr(self._student, PROJECTION, nn.Identity())
        places_N = real_NT.sum(1).clamp(min=1)
        found = []
        for ours, theirs in self._pairs:
            difference_NTK = wide(turned(learned[ours])) - wide(taught[theirs])
            found.append((difference_NTK.square().mean(-1) * real_NT).sum(1) / places_N)
        return torch.stack(found).mean()

    def mixed(self, minimised: Tensor, logits_PV: Tensor, targets_P: Tensor, hidden_PK: Tensor) -> Tensor:
        """Scalar: the loss of some places, of which `minimised` is the part without a teacher, as a sum over them."""
        with torch.no_grad():
            taught_PV = self.model.logits(hidden_PK)
        divergence = softened(logits_PV, taught_PV, targets_P, self._settings.temperature)
        return (1 - self._settings.weight) * minimised + self._settings.weight * divergence


def softened(logits_PV: Tensor, taught_PV: Tensor, targets_P: Tensor, temperature: float) -> Tensor:
    """Scalar: T² Σ KL(softmax(taught / T) ‖ softmax(logits / T)) in nats, over the places with a target.

    The square keeps its gradient as large as that of the cross entropy at any temperature (Hinton et al. 2015).
    """
    ours_PV = F.log_softmax(wide(logits_PV) / temperature, -1)
    theirs_PV = F.log_softmax(wide(taught_PV) / temperature, -1)
    divergence_P = F.kl_div(ours_PV, theirs_PV, reduction="none", log_target=True).sum(-1)
    return divergence_P.masked_fill(targets_P == IGNORED, 0.0).sum() * temperature**2


def as_deep(ours: int, theirs: int) -> tuple[tuple[int, int], ...]:
    """Each layer of the student's and the teacher's as deep in proportion: what goes into the first beside the same,
    the last beside the last."""
    return tuple((layer, (2 * layer * theirs + ours) // (2 * ours)) for layer in range(ours + 1))


def _check_layers(pairs: tuple[tuple[int, int], ...], ours: int, theirs: int) -> None:
    for pair in pairs:
        for layer, most, whose in zip(pair, (ours, theirs), ("student", "teacher"), strict=True):
            if layer > most:
                raise RecipeError(
                    f"distill.hidden.layers names layer {layer} of the {whose}, which has {most}; lower it to one of "
                    f"0 to {most}"
                )


@contextmanager
def kept(model: Model, layers: tuple[int, ...]) -> Iterator[dict[int, Tensor]]:
    """(B, T, width) by layer, of a forward pass inside: what each layer gives, counted from 1; 0: what the first is
    given."""
    found: dict[int, Tensor] = {}
    hooks = []
    for layer in set(layers):
        # a block that is recomputed gives its output again, which is not asked for
        def behind(module: nn.Module, given: Any, output: Any, layer: int = layer) -> None:
            found.setdefault(layer, output[0])

        def before(module: nn.Module, given: Any) -> None:
            found.setdefault(0, given[0])

        block = model.blocks[max(0, layer - 1)]
        hooks.append(block.register_forward_hook(behind) if layer else block.register_forward_pre_hook(before))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def teacher_of(student: Model, config: TrainConfig, device: torch.device) -> Teacher | None:
    """The teacher that the configuration names, on the device; None where it names none.

    Raises RecipeError where the student cannot learn from it.
    """
    settings = config.distill
    if settings is None:
        return None
    shape, weights = stored_model(settings.teacher, "distill.teacher", lambda line: None)
    vocabulary = len(weights["embedding.weight"])
    if vocabulary != student.embedding.num_embeddings:
        raise RecipeError(
            f"distill.teacher: {settings.teacher} has a vocabulary of {vocabulary}, the student of "
            f"{student.embedding.num_embeddings}. Where both are of one tokenizer set model.vocabulary to "
            f"{vocabulary}; else take another teacher"
        )
    if shape.arrangement != config.model.arrangement:
        raise RecipeError(
            f"distill.teacher: {settings.teacher} is of arrangement {shape.arrangement}, the student of "
            f"{config.model.arrangement}; take a teacher of the same"
        )
    limit = shape.positions.limit if isinstance(shape.positions, Learned) else None
    if limit is not None and limit < config.sequence_length:
        raise RecipeError(
            f"distill.teacher: {settings.teacher} knows {limit} positions, fewer than the sequence_length of "
            f"{config.sequence_length}; lower that, or take another teacher"
        )
    with torch.random.fork_rng(devices=[]):  # values that are replaced at once
        model = Model(shape.model_copy(update={"recompute": "none"}), vocabulary)
    assert not model.load_state_dict(weights, strict=False).unexpected_keys  # a tied head has no weights of its own
    return Teacher(model.to(device, next(student.parameters()).dtype), student, settings, config.seed)


def check_tokenizer(config: TrainConfig, corpus: Corpus) -> None:
    """Raises RecipeError where the teacher is of another tokenizer. A folder in a Hugging Face format may not say which
    it was trained with: there the vocabulary alone is compared, when the teacher is loaded."""
    if config.distill is None:
        return
    folder, key = config.distill.teacher, "distill.teacher"
    meta = None if in_their_format(folder, key) else checkpoint_in(folder, lambda line: None)[1]
    same_tokenizer(folder, key, corpus, meta)
