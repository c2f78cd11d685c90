"""Decoder, encoder and both out of one set of blocks: who sees what, and what a resume takes up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_inputs import V, config_of, inputs_of, logits_of, made, packed
from torch import nn

from pipeline.errors import UserError
from trainer import checkpoint, optimizers
from trainer.batch import IGNORED, Batch
from trainer.blocks import Block, make_norm
from trainer.config import load_config
from trainer.feed_forward import FeedForward
from trainer.learning import Learner
from trainer.learning_settings import LossConfig
from trainer.masking import Masking
from trainer.model import Inputs, Model
from trainer.optim import groups
from trainer.run import train

EXPERTS = {"number": 3, "top_k": 2, "shared": 1}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"positions": {"kind": "learned", "limit": 12}, "norm": "layer", "bias": True, "activation": "gelu"},
    {"positions": {"kind": "sinusoidal"}, "norm_place": "post", "embedding_norm": True, "activation": "relu2"},
    {"positions": {"kind": "alibi"}, "norm_place": "sandwich", "kv_heads": 1, "activation": "geglu"},
    {"positions": {"kind": "relative", "buckets": 8, "max_distance": 9}, "head_size": 6, "qk_norm": True},
    {"window": 3, "full_every": 2, "experts": EXPERTS, "kv_heads": None},
    {"initialisation": {"kind": "mup", "base_width": 8}, "experts": EXPERTS | {"balance": {"kind": "bias"}}},
    {"norm": "none", "initialisation": {"kind": "t-fixup"}, "activation": "relu"},
    {"positions": {"kind": "rope", "base": 50.0, "scaling": {"kind": "dynamic", "factor": 2.0, "original": 4}}},
]
ARRANGEMENTS = ["decoder", "encoder", "encoder-decoder"]


def moved(model: Model, inputs: Inputs, at: int, encoder: bool = False) -> torch.Tensor:
    """(T,): which places of the first row another token at a place moves."""
    side = inputs.encoder if encoder else inputs
    assert side is not None
    tokens = side.tokens_BT.clone()
    tokens[0, at] = (tokens[0, at] + 7) % V
    other = side._replace(tokens_BT=tokens)
    changed = inputs._replace(encoder=other) if encoder else other
    with torch.no_grad():
        return (logits_of(model, changed) - logits_of(model, inputs))[0].abs().amax(-1) > 1e-6


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("variant", VARIANTS, ids=range(len(VARIANTS)))
def test_each_place_sees_what_the_arrangement_says(arrangement: str, variant: dict[str, Any]) -> None:
    """Else a model would be trained on its own targets, on other documents, or blind."""
    config = config_of(arrangement=arrangement, **variant)
    model, inputs = made(config), inputs_of(config)
    documents_T = inputs.documents_BT[0]
    second, places = documents_T == 1, torch.arange(12)
    expected = second if arrangement == "encoder" else second & (places >= 9)
    found = moved(model, inputs, 9)
    assert not found[~expected].any()
    assert found[9]
    if config.window is None or arrangement != "encoder":
        assert found.equal(expected)
    if arrangement == "encoder-decoder":
        assert moved(model, inputs, 2, encoder=True).equal(documents_T == 0)
        assert moved(model, inputs, 5, encoder=True).equal(second)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("variant", VARIANTS, ids=range(len(VARIANTS)))
def test_a_document_alone_gives_the_same_logits(arrangement: str, variant: dict[str, Any]) -> None:
    """Else what a document teaches would depend on what it is packed with."""
    config = config_of(arrangement=arrangement, **variant)
    model, inputs = made(config), inputs_of(config)

    def alone(side: Inputs, row: int, number: int) -> Inputs:
        here = side.documents_BT[row] == number
        return Inputs(side.tokens_BT[row, here][None], side.positions_BT[row, here][None], torch.zeros(1, here.sum()))

    with torch.no_grad():
        together = logits_of(model, inputs)
        for row, number in ((0, 0), (0, 1), (1, 2)):
            one = alone(inputs, row, number)
            if inputs.encoder is not None:
                one = one._replace(encoder=alone(inputs.encoder, row, number))
            there = together[row, inputs.documents_BT[row] == number]
            assert torch.allclose(logits_of(model, one)[0], there, atol=2e-5)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("variant", VARIANTS, ids=range(len(VARIANTS)))
def test_bf16_is_near_fp32_and_every_weight_learns(arrangement: str, variant: dict[str, Any]) -> None:
    """Else a part would fail under autocast, or stand outside of what is trained."""
    config = config_of(arrangement=arrangement, **variant)
    torch.manual_seed(0)
    model, inputs = Model(config, V), inputs_of(config)
    expected = logits_of(model, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        hidden_BTC, auxiliary = model(inputs)
        found = model.logits(hidden_BTC)
    assert (found - expected).norm() < 0.1 * expected.norm()
    loss = found.float().square().sum()
    (loss if auxiliary is None else loss + auxiliary).backward()
    unmoved = {name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert not {name for name in unmoved if ".experts." not in name}  # few tokens may choose few of those
    assert all(weight.dtype == torch.float32 for weight in model.parameters())


def test_a_prefix_is_seen_by_all_of_its_document() -> None:
    """Else prefix-LM would be a plain decoder, or look at its targets."""
    config = config_of()
    inputs = inputs_of(config)
    prefix = inputs._replace(prefix_BT=inputs.positions_BT < 3)
    model, first = made(config), inputs.documents_BT[0] == 0
    assert moved(model, prefix, 2).equal(first)
    assert moved(model, prefix, 4).equal(first & (torch.arange(12) >= 4))


def test_a_prefix_of_a_document_that_fills_its_row_is_seen_by_all() -> None:
    """Else a row that needs no mask for its documents would lose that of its prefix."""
    inputs = packed([[12]], 12)
    inputs = inputs._replace(whole=True, prefix_BT=inputs.positions_BT < 3)
    model = made(config_of())
    assert moved(model, inputs, 2).all()
    assert moved(model, inputs, 4).equal(torch.arange(12) >= 4)
    assert logits_of(model, inputs).equal(logits_of(model, inputs._replace(whole=False)))


def test_windows_reach_as_far_as_they_say() -> None:
    """Else memory and time would be saved at the cost of another reach than was asked for."""
    inputs = Inputs(torch.arange(12)[None], torch.arange(12)[None], torch.zeros(1, 12, dtype=torch.int64))
    reach = [(0, 3), (1, 3), (1, 12)]
    for layers, (extra, expected) in zip((1, 2, 2), reach, strict=True):
        full_every = 2 if expected == 12 else None
        model = made(config_of(layers=layers, window=3, full_every=full_every))
        last = moved(model, inputs, 0).nonzero().max().item()
        assert last == (11 if expected == 12 else 2 * (1 + extra))


@pytest.mark.parametrize("place", ["pre", "post", "sandwich"])
def test_norms_stand_where_they_should(place: str) -> None:
    """Else a published recipe would train another model."""
    torch.manual_seed(0)
    config = config_of(norm_place=place, norm="layer", bias=True, layers=1)
    model = made(config)
    inputs = inputs_of(config)
    block = model.blocks[0]
    assert isinstance(block, Block)
    scene = model._scene(model, inputs, True, None)

    def look(x: torch.Tensor) -> torch.Tensor:
        return block.attention(x, x, scene.sights[None], scene.turn)

    one, two, think = block.attention_norm, block.feed_forward_norm, block.feed_forward
    x = model.embedding(inputs.tokens_BT)
    if place == "pre":
        x = x + look(one(x))
        expected = model.norm(x + think(two(x)))
    elif place == "post":
        x = one(x + look(x))
        expected = two(x + think(x))
    else:
        x = x + block.out_norms["attention"](look(one(x)))
        expected = model.norm(x + block.out_norms["feed_forward"](think(two(x))))
    assert torch.allclose(model(inputs)[0], expected, atol=1e-6)


PLAIN = {
    "relu": torch.relu,
    "relu2": lambda x: torch.relu(x) ** 2,
    "gelu": nn.GELU(),
    "gelu-tanh": nn.GELU("tanh"),
    "silu": nn.SiLU(),
}
GATES = {
    "glu": torch.sigmoid,
    "bilinear": lambda x: x,
    "reglu": torch.relu,
    "geglu": nn.GELU(),
    "geglu-tanh": nn.GELU("tanh"),
    "swiglu": nn.SiLU(),
}


@pytest.mark.parametrize("name", [*PLAIN, *GATES])
def test_activations(name: str) -> None:
    """Else a name would stand for another function than everywhere else."""
    torch.manual_seed(0)
    layer, x = FeedForward(config_of(activation=name, bias=True)), torch.randn(5, 16)
    up = x @ layer.up.weight.T + layer.up.bias
    if name in GATES:
        assert layer.gate is not None
        hidden = GATES[name](x @ layer.gate.weight.T + layer.gate.bias) * up
        assert hidden.shape[1] == 64  # 8/3 of 16, rounded up to a multiple of 32
    else:
        hidden = PLAIN[name](up)
        assert hidden.shape[1] == 64  # 4 times 16
    assert torch.allclose(layer(x), hidden @ layer.output.weight.T + layer.output.bias, atol=1e-6)


def test_batch_norm_is_over_all_places() -> None:
    """Else it would norm something else, or evaluation would depend on the batch."""
    norm = make_norm(config_of(norm="batch", arrangement="encoder"))
    x_BTC = torch.randn(3, 5, 16) * 3 + 1
    flat = norm(x_BTC).flatten(0, 1)
    assert torch.allclose(flat.mean(0), torch.zeros(16), atol=1e-5)
    assert torch.allclose(flat.var(0, unbiased=False), torch.ones(16), atol=1e-3)
    norm.eval()
    assert torch.allclose(norm(x_BTC)[:1], norm(x_BTC[:1]))


def test_an_encoder_learns_with_batch_norm(config_file: Callable[..., Path], batch: Batch) -> None:
    """Else statistics would count places twice, be made of a few targets, or end the run at a batch with one."""
    shape = {"layers": 2, "width": 16, "heads": 2, "arrangement": "encoder", "norm": "batch", "masked_head": True}
    config = load_config(config_file(model=shape, objective={"kind": "masked"}, global_batch=8, micro_batch=8))
    torch.manual_seed(0)
    chunked = config.model_copy(update={"loss": LossConfig(chunk=4)})
    learner = Learner(Model(config.model, 65), chunked, torch.device("cpu"))
    made = Masking(0, 0.15, 0.8, 0.1, 64, np.arange(64) < 2, None).apply(batch, np.arange(8))
    losses = [learner.learn(made, 1e-2, step).loss for step in range(1, 41)]
    assert losses[-1] < losses[0] - 1
    counted = {int(value) for name, value in learner.model.state_dict().items() if "num_batches" in name}
    assert counted == {40}
    targets_BT = np.full_like(made.targets_BT, IGNORED)
    targets_BT[0, 3] = made.tokens_BT[0, 3]
    assert learner.learn(dataclasses.replace(made, targets_BT=targets_BT), 1e-2, 41).moved


def test_stochastic_depth_rises_and_keeps_the_mean() -> None:
    """Else deep layers would be left out as seldom as the first, or evaluation see another scale than training."""
    config = config_of(layers=4, dropout={"layers": 0.5})
    model = Model(config, V)
    assert [block.passed_by for block in model.blocks] == [0.125, 0.25, 0.375, 0.5]
    model.train()
    torch.manual_seed(0)
    kept = model.blocks[3]._kept(torch.zeros(4000, 2, 16))
    assert kept.unique().tolist() == [0, 2]
    assert kept.mean().item() == pytest.approx(1, abs=0.05)
    assert model.eval().blocks[3]._kept(torch.zeros(2, 2, 16)) is None


def test_a_sequence_passes_all_of_a_block_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else stochastic depth would leave attention out alone, or train a sequence on half of a block."""
    model = made(config_of(arrangement="encoder-decoder", dropout={"layers": 0.5})).train()
    inputs, block = inputs_of(model.config), model.blocks[1]
    assert inputs.encoder is not None
    encoded_BSC = torch.randn(2, 10, 16)
    scene = model._scene(model, inputs, True, encoded_BSC)
    x_BTC, keep_B11 = torch.randn(2, 12, 16), torch.tensor([0.0, 2.0])[:, None, None]
    monkeypatch.setattr(block, "_kept", lambda x_BTC: keep_B11)
    found = block(x_BTC, scene)[0]
    y_BTC = block.attention_norm(x_BTC)
    expected = x_BTC + 2 * block.attention(y_BTC, y_BTC, scene.sights[None], scene.turn)
    expected = expected + 2 * block.across(block.across_norm(expected), encoded_BSC, scene.across, None)
    expected = expected + 2 * block.feed_forward(block.feed_forward_norm(expected))
    assert found[0].equal(x_BTC[0])
    assert torch.allclose(found[1], expected[1], atol=1e-5)


@pytest.mark.parametrize("name", ["embedding", "residual", "hidden", "layers", "last"])
def test_dropout_is_of_training_alone(name: str) -> None:
    """Else evaluation would be noisy, or training without the dropout that was asked for."""
    config = config_of(dropout={name: 0.5})
    model, inputs = made(config), inputs_of(config)
    assert logits_of(model, inputs).equal(logits_of(model, inputs))
    model.train()
    assert not logits_of(model, inputs).equal(logits_of(model, inputs))


def test_a_resume_takes_up_dropout_and_balance(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a run that was stopped would end with other weights than one that was not."""
    model = {
        "layers": 2, "width": 16, "heads": 2, "experts": EXPERTS | {"balance": {"kind": "bias"}},
        "dropout": {"embedding": 0.1, "residual": 0.1, "attention": 0.1, "hidden": 0.1, "layers": 0.2},
    }  # fmt: skip
    states = []
    for name, stops in (("whole", [6]), ("halves", [3, 6])):
        path = config_file(name, model=model, schedule={"kind": "constant", "warmup": 0})
        for steps in stops:
            assert train(path, [f"steps={steps}"], say=lambda line: None) == 0
        found = checkpoint.newest(tmp_path / name / "checkpoints", print)
        assert found is not None
        states.append(checkpoint.load_state(found[0])["model"])
    assert all(states[0][key].equal(states[1][key]) for key in states[0])
    assert states[0]["blocks.1.feed_forward.preference_E"].any()
    with pytest.raises(UserError, match=r"model.experts.top_k 2 -> 1"):
        train(path, ["steps=9", "model.experts.top_k=1"], say=lambda line: None)
    assert train(path, ["steps=7", "model.recompute=full", "model.dropout.layers=0"], say=lambda line: None) == 0


def test_layer_rates_count_an_encoders_blocks_as_deeper() -> None:
    """Else an encoder would learn at the rates of the decoder's layers."""
    config = config_of(arrangement="encoder-decoder", encoder_layers=3, positions={"kind": "relative"})
    model = Model(config, V)
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {
        names[id(weight)]: group["scale"]
        for group in groups(model, optimizers.AdamW(kind="adamw", layer_rates=0.5))
        for weight in group["params"]
    }
    assert found["norm.weight"] == 1
    assert found["blocks.1.attention.query.weight"] == found["blocks.1.across.output.weight"] == 0.5
    assert found["blocks.0.feed_forward.up.weight"] == 0.5**2
    assert found["encoder.blocks.2.attention.query.weight"] == found["encoder.norm.weight"] == 0.5**3
    assert found["encoder.blocks.0.attention.query.weight"] == 0.5**5
    assert found["embedding.weight"] == found["encoder.positions.embedding.weight"] == 0.5**6
