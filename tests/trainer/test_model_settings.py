"""Shapes that are refused, and those that are known by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_inputs import V, config_of

from pipeline.errors import RecipeError
from trainer.config import load_config
from trainer.model import Model
from trainer.model_settings import ModelConfig
from trainer.run import train


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["norm=batch"], "norm: batch cannot be used in an arrangement of decoder"),
        (["norm=batch", "arrangement=encoder-decoder"], "norm: batch cannot be used in an arrangement of encoder-dec"),
        (["norm=batch", "arrangement=encoder", "recompute=full"], "recompute would count it twice"),
        (["encoder_layers=2"], "encoder_layers is for arrangement: encoder-decoder"),
        (["initialisation.kind=t-fixup"], "set norm: none (it is rms)"),
        (["norm=none", "norm_place=post"], "norm: none leaves nothing that norm_place"),
        (["full_every=2"], "full_every says which layers are without a window"),
        (["window=4", "full_every=1"], "model.full_every: input should be greater than or equal to 2"),
        (["experts.number=2", "experts.every=3"], "experts.every 3 is more than there are layers"),
        (["experts.number=2", "experts.top_k=3"], "top_k 3 of 2 experts cannot be chosen"),
        (["masked_head=true"], "masked_head is for arrangement: encoder, not decoder"),
        (["attention=flex", "positions.kind=relative"], "attention: flex has no learned terms"),
        (["attention=flex", "dropout.attention=0.1"], "attention: flex has no dropout.attention"),
        (
            ["initialisation.kind=mup", "initialisation.base_width=8", "attention_scale=1"],
            "leave attention_scale out",
        ),
        (["arrangement=encoder", "positions.kind=none"], "leaves an encoder blind to order"),
        (["arrangement=encoder-decoder", "positions.kind=none"], "leaves an encoder blind to order"),
        (["head_size=7"], "head_size 7 must be even for rotary positions"),
        (["positions.kind=relative", "heads=3", "kv_heads=3"], "width 16 over 3 heads gives no whole head size"),
        (["positions.kind=sinusoidal", "width=15", "heads=3", "kv_heads=3"], "width 15 must be even"),
        (["positions.kind=relative", "positions.max_distance=16"], "max_distance 16 must lie over half of buckets"),
        (["positions.scaling.kind=linear"], "positions.scaling.factor: is missing"),
        (["positions.kind=learned"], "positions.limit: is missing"),
        (["preset=gpt3"], "model.preset: input should be 'gpt2'"),
        (["activation=swish"], "model.activation: input should be 'relu'"),
        (["dropout.residual=1"], "model.dropout.residual: input should be less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused(config_file: Callable[..., Path], overrides: list[str], message: str) -> None:
    """Else a run would fail in its middle, or train something else than was meant."""
    with pytest.raises(RecipeError) as caught:
        load_config(config_file(), [f"model.{override}" for override in overrides])
    assert message in str(caught.value)


def test_flex_on_the_cpu_is_refused(config_file: Callable[..., Path]) -> None:
    """Else the first backward pass would end in a traceback."""
    with pytest.raises(RecipeError, match=r"model\.attention: flex cannot be trained with on the CPU"):
        train(config_file(), ["model.attention=flex"])


COUNTS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "bert-base": 109_514_298,
    "bert-large": 335_174_458,
    "t5-small": 60_506_624,
    "t5-base": 222_903_552,
    "t5-large": 737_668_096,
}
"""As published with the models' files (BERT's with its masked-LM head, without the pooler)."""


@pytest.mark.parametrize("name", COUNTS)
def test_presets_have_the_published_number_of_weights(name: str) -> None:
    """Else a preset would be another model than its name says."""
    config = ModelConfig.model_validate({"preset": name})
    with torch.device("meta"):
        assert Model(config, config.vocabulary or 0).parameter_count == COUNTS[name]


def test_keys_stand_over_a_preset(config_file: Callable[..., Path]) -> None:
    """Else a preset could not be adapted, or a changed section would lose its other values."""
    path = config_file(model={"preset": "llama-3.2-1b", "layers": 2})
    config = load_config(path, ["model.positions.scaling.factor=4", "model.tied=false"]).model
    assert (config.layers, config.width, config.tied) == (2, 2048, False)
    assert config.positions.model_dump()["scaling"] == {
        "kind": "llama3", "factor": 4.0, "original": 8192, "low": 1.0, "high": 4.0,
    }  # fmt: skip
    assert load_config(path, ["model.positions.kind=alibi"]).model.positions.kind == "alibi"
    # what a checkpoint writes down is read back as it was
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_hidden_sizes() -> None:
    """Else a gated layer would have half as many weights again as a plain one."""
    assert config_of(width=48, activation="gelu").size_of_hidden == 192
    assert config_of(width=48).size_of_hidden == 128
    assert config_of(width=48, hidden=7).size_of_hidden == 7


def test_existing_configurations_keep_their_shape() -> None:
    """Else a run of an earlier version would not be the same model."""
    for name, count in (("train-demo", None), ("train-gpt2-124m", 124_000_000)):
        path = Path(__file__).resolve().parents[2] / "configs" / f"{name}.yaml"
        config: Any = load_config(path).model
        assert (config.positions.kind, config.norm, config.activation, config.bias) == ("rope", "rms", "swiglu", False)
        if count:
            with torch.device("meta"):
                assert Model(config, config.vocabulary).parameter_count == pytest.approx(count, rel=0.01)


def test_the_default_model_is_known() -> None:
    """Else a change of these files would silently change what every configuration trains."""
    names = [name for name, _ in Model(config_of(layers=1, tied=False), V).named_parameters()]
    assert names == [
        "embedding.weight",
        "blocks.0.attention_norm.weight",
        "blocks.0.attention.query.weight",
        "blocks.0.attention.key.weight",
        "blocks.0.attention.value.weight",
        "blocks.0.attention.output.weight",
        "blocks.0.feed_forward_norm.weight",
        "blocks.0.feed_forward.gate.weight",
        "blocks.0.feed_forward.up.weight",
        "blocks.0.feed_forward.output.weight",
        "norm.weight",
        "head.weight",
    ]
