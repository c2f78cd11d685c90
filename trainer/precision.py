"""The numbers of a run: what forward and backward pass compute in, and what the weights are kept in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import RecipeError, UserError
from trainer.learning_settings import Precision
from trainer.model import Model
from trainer.optim import Optimizing

TF32_NEEDS = (8, 0)
"""CUDA compute capability from which on matrix units take tf32."""
FP8_NEEDS = (8, 9)
"""The same of fp8."""


def check(precision: Precision, device: torch.device) -> None:
    """Raises RecipeError where the device cannot compute so."""
    if precision == "tf32" and device.type != "cuda":
        raise RecipeError(f"precision: tf32 is of CUDA devices, and this run is on {device.type}; take fp32 or bf16")
    if precision == "tf32" and (found := torch.cuda.get_device_capability(device)) < TF32_NEEDS:
        raise RecipeError(
            f"precision: tf32 needs a CUDA device of capability {TF32_NEEDS[0]}.{TF32_NEEDS[1]} or higher, and this "
            f"run's has {found[0]}.{found[1]}, which would compute in fp32; take fp32 or fp16"
        )
    if precision == "fp8" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < FP8_NEEDS):
        raise RecipeError(
            f"precision: fp8 needs a CUDA device of capability {FP8_NEEDS[0]}.{FP8_NEEDS[1]} or higher, "
            f"and this run is on {device.type}; take bf16"
        )


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """The context of a forward pass. May be entered again and again.

    It also sets how this process multiplies fp32 matrices: as tf32, or not.
    """
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    if precision in ("fp64", "fp32", "tf32"):
        return nullcontext()
    return torch.autocast(device.type, torch.float16 if precision == "fp16" else torch.bfloat16)


def scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler | None:
    """What holds fp16's small gradients above zero (Micikevicius et al. 2018, section 3.2): PyTorch's own."""
    return torch.amp.GradScaler(device.type) if precision == "fp16" else None


def to_fp8(model: Model, places: int, emulate: bool = False) -> None:
    """Turns the matrix products of the blocks to fp8, by torchao, but for those of single experts, whose tokens are
    now more, now fewer. `places`: of a micro-batch; `emulate` computes the same on any device.

    Raises RecipeError where no matrix can be turned.
    """
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ModuleNotFoundError as error:
        raise UserError("precision fp8 needs torchao; install it with `pip install 'corpusmill[fp8]'`") from error

    # A weight's gradient is a product over the places, and those must be a multiple of 16 too: else torchao fills them
    # up, which copies what is multiplied, and so is not done elsewhere. Objectives of two sides make sides of any size.
    uneven = places % 16 != 0 or model.encoder is not None
    config = Float8LinearConfig(emulate=emulate, pad_inner_dim=uneven)
    matrices = matrices_of(model)
    left = [name for name in matrices if ".experts." in name or name.endswith(".router")]  # which computes in fp32
    turned = [name for name in matrices if name not in left and not any(s % 16 for s in matrices[name].weight.shape)]
    if not turned:
        raise RecipeError(
            f"precision: fp8 takes matrices whose sides are multiples of 16, and none of the {len(matrices)} of the "
            "blocks is one, experts and routers left out; change model.width and the sizes of heads and hidden "
            "layers, or take bf16"
        )
    convert_to_float8_training(model, config=config, module_filter_fn=lambda module, name: name in turned)


def matrices_of(model: nn.Module) -> dict[str, nn.Linear]:
    """The matrices of the blocks by name; those in fp8 are torchao's."""
    return {n: m for n, m in model.named_modules() if "blocks." in n and isinstance(m, nn.Linear)}


def fp8_told(model: nn.Module) -> str:
    """How many of them compute in fp8, as a line."""
    kinds = [type(matrix).__name__ for matrix in matrices_of(model).values()]
    return f"fp8: {kinds.count('Float8Linear')} of {len(kinds)} matrices of the blocks, the others in bf16"


class Rounded:
    """An optimiser over bf16 weights, which rounds them up or down at random, so that on average nothing is lost.

    Its arithmetic is that of the optimiser inside, in fp32, on copies that exist during a step alone; moments and
    gradients are in fp32. To be made of a model in fp32, whose weights it replaces. (Gupta et al. 2015, "Deep Learning
    with Limited Numerical Precision", section 3.)
    """

    def __init__(self, model: nn.Module, make: Callable[[nn.Module], Optimizing]) -> None:
        self.inner = make(model)
        halves: dict[nn.Parameter, nn.Parameter] = {}
        for module in model.modules():
            for name, weight in list(module.named_parameters(recurse=False)):
                if weight not in halves:
                    halves[weight] = nn.Parameter(weight.detach().bfloat16(), weight.requires_grad)
                setattr(module, name, halves[weight])
        self.pairs = [(whole, half) for whole, half in halves.items() if half.requires_grad]
        for _, half in self.pairs:
            half.grad_dtype = torch.float32  # in bf16 a sum loses all but its first few hundred micro-batches
        self._sizes = [whole.untyped_storage().nbytes() for whole, _ in self.pairs]
        self._let_go()

    def _let_go(self) -> None:
        for whole, _ in self.pairs:
            whole.grad = None
            whole.untyped_storage().resize_(0)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Of the optimiser inside."""
        return self.inner.param_groups

    @torch.no_grad()
    def step(self) -> None:
        """Moves the weights."""
        for (whole, half), size in zip(self.pairs, self._sizes, strict=True):
            whole.untyped_storage().resize_(size)
            whole.copy_(half)
            whole.grad = half.grad
        self.inner.step()
        for whole, half in self.pairs:
            half.copy_(rounded(whole))
        self._let_go()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Of the bf16 weights."""
        for _, half in self.pairs:
            half.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Of the optimiser inside."""
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Into the optimiser inside."""
        self.inner.load_state_dict(state_dict)


def rounded(x: Tensor) -> Tensor:
    """fp32 numbers as bf16 ones, each one of the two neighbours, by chance in proportion to its nearness."""
    bits = x.view(torch.int32)
    random = torch.randint(0, 1 << 16, x.shape, dtype=torch.int32, device=x.device)
    # bf16 is the upper half: what is added to the lower half carries as often as that half is large
    up = torch.where(torch.isfinite(x), bits + random, bits) & -(1 << 16)
    return up.view(torch.float32).bfloat16()
