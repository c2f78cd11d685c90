"""fp8 by torchao: what takes it, what does not, and batches of any size. No machine of the tests has such units."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import RecipeError
from trainer import precision
from trainer.model import Inputs, Model
from trainer.model_parts import ExpertsConfig
from trainer.model_settings import ModelConfig

pytest.importorskip("torchao")

V = 64
SHAPE = ModelConfig(layers=2, width=64, heads=4, hidden=128)


def turned(model: Model) -> list[str]:
    return [name for name, module in model.named_modules() if "Float8" in type(module).__name__]


@pytest.mark.parametrize("places", [256, 250])
def test_fp8_takes_any_number_of_places(places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the first backward pass over 2 x 125 tokens would end the run; or all runs would pay for filling up."""
    model, checked = Model(SHAPE, V), []

    def product(a: Tensor, b: Tensor, **more: Any) -> Tensor:
        checked.append((a.shape[1] % 16, *(size % 16 for size in b.shape)))
        return (a.float() @ b.float() * more["scale_a"] * more["scale_b"]).to(more["out_dtype"])

    monkeypatch.setattr(torch, "_scaled_mm", product)  # which of CUDA wants multiples of 16, and CPUs have another
    precision.to_fp8(model, places)
    assert precision.fp8_told(model) == "fp8: 14 of 14 matrices of the blocks, the others in bf16"
    assert {model.get_submodule(name).config.pad_inner_dim for name in turned(model)} == {places % 16 != 0}
    tokens_BT = torch.zeros(2, places // 2, dtype=torch.long)
    inputs = Inputs(tokens_BT, torch.arange(places // 2).expand(2, -1), tokens_BT)
    model(inputs)[0].sum().backward()
    assert set(checked) == {(0, 0, 0)}
    assert len(checked) == 3 * len(turned(model))


def test_what_fp8_leaves_as_it_is() -> None:
    """Else products over as many tokens as an expert happens to get would end a run, and a model that has nothing to
    turn would train in bf16 under the name of fp8."""
    experts = Model(SHAPE.model_copy(update={"experts": ExpertsConfig(number=4, shared=1)}), V)
    precision.to_fp8(experts, 256, emulate=True)
    assert not any(".experts." in name or "router" in name for name in turned(experts))
    assert sum(".shared." in name for name in turned(experts)) == 6
    with pytest.raises(RecipeError, match="none of the 14 of the blocks is one"):
        precision.to_fp8(Model(ModelConfig(layers=2, width=24, heads=3, hidden=40), V), 256, emulate=True)
