"""First weights of every kind, and muP's promise: what is best for a narrow model is best for a wide one."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from model_inputs import V, config_of, inputs_of, logits_of
from torch import nn

from pipeline.errors import RecipeError
from trainer.config import load_config
from trainer.initialise import initialise
from trainer.model import Inputs, Model
from trainer.model_settings import ModelConfig
from trainer.optim import groups, make_optimizer, set_rate
from trainer.optimizers import AdamW, AnyOptimizer, Lion, NAdam

KINDS: list[dict[str, Any]] = [
    {"kind": "normal"},
    {"kind": "scaled"},
    {"kind": "xavier"},
    {"kind": "kaiming"},
    {"kind": "t-fixup"},
    {"kind": "mup", "base_width": 8},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["kind"])
@pytest.mark.parametrize("arrangement", ["decoder", "encoder", "encoder-decoder"])
def test_no_weight_is_left_uninitialised(kind: dict[str, Any], arrangement: str) -> None:
    """Else a weight would hold what happened to stand in memory."""
    for positions, rest in itertools.product(
        ({"kind": "learned", "limit": 12}, {"kind": "relative"}, {"kind": "rope"}),
        (
            {"tied": False, "bias": True, "token_types": 2, "masked_head": arrangement == "encoder"},
            {"qk_norm": True, "norm_place": "sandwich", "embedding_norm": True},
            {"experts": {"number": 2, "shared": 1}, "bias": True, "norm": "layer"},
            {"norm": "batch" if arrangement == "encoder" else "rms"},
        ),
    ):
        if kind["kind"] == "t-fixup":
            rest = {key: value for key, value in rest.items() if "norm" not in key} | {"norm": "none"}
        config = config_of(arrangement=arrangement, positions=positions, initialisation=kind, **rest)
        model = Model(config, V)
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(math.nan)
        initialise(model, config)
        assert all(weight.isfinite().all() for weight in model.parameters())
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                assert weight.std() > 0, name
            else:
                assert weight.unique().tolist() == [0.0 if name.endswith("bias") else 1.0], name
        assert logits_of(model, inputs_of(config)).isfinite().all()


def std_of(config: ModelConfig) -> Callable[[str], float]:
    torch.manual_seed(0)
    model = Model(config, 400)
    return lambda name: model.get_parameter(name).std().item()


def test_deviations_are_the_papers() -> None:
    """Else deep or wide models would start with too large or too small values."""
    shape = {"width": 64, "heads": 4, "kv_heads": None, "layers": 8, "hidden": 160}
    near = {"rel": 0.08}
    std = std_of(config_of(**shape, initialisation={"kind": "normal", "std": 0.03}))
    assert std("blocks.0.feed_forward.output.weight") == pytest.approx(0.03, **near)
    std = std_of(config_of(**shape, initialisation={"kind": "xavier"}))
    assert std("blocks.0.feed_forward.up.weight") == pytest.approx(math.sqrt(2 / (64 + 160)), **near)
    assert std("blocks.0.attention.key.weight") == pytest.approx(math.sqrt(2 / (64 + 64)), **near)
    assert std("embedding.weight") == pytest.approx(0.02, **near)
    # of one deviation, a uniform one ends at √3 times it, a normal one far beyond
    for kind, low, high in (("xavier", 1.7, 3**0.5 + 0.02), ("kaiming", 3.0, 6.0)):
        weight = Model(config_of(**shape, initialisation={"kind": kind}), V).blocks[0].feed_forward.up.weight
        assert low < (weight.abs().max() / weight.std()).item() < high, kind
    std = std_of(config_of(**shape, initialisation={"kind": "kaiming"}))
    assert std("blocks.0.feed_forward.output.weight") == pytest.approx(math.sqrt(2 / 160), **near)
    both = config_of(**shape, arrangement="encoder-decoder", encoder_layers=3)
    std = std_of(both)
    assert std("blocks.0.across.output.weight") == pytest.approx(0.02 / math.sqrt(3 * 8), **near)
    assert std("encoder.blocks.0.attention.output.weight") == pytest.approx(0.02 / math.sqrt(2 * 3), **near)


def test_t_fixup_scales_as_the_paper_says() -> None:
    """Else it would not train without norms and warm-up."""
    shape = {"width": 64, "heads": 4, "kv_heads": None, "layers": 6, "hidden": 160, "norm": "none"}
    config = config_of(
        **shape, arrangement="encoder-decoder", encoder_layers=3, tied=False, initialisation={"kind": "t-fixup"}
    )
    torch.manual_seed(0)
    model = Model(config, 400)
    xavier, far = math.sqrt(2 / 128), math.sqrt(2 / (64 + 160))
    encoder, decoder = 0.67 * 3**-0.25, (9 * 6) ** -0.25
    for prefix, factor, names in (
        ("encoder.", encoder, ("attention",)),
        ("", decoder, ("attention", "across")),
    ):
        block = model.get_submodule(f"{prefix}blocks.1")
        for name in names:
            attention = block.get_submodule(name)
            found = [getattr(attention, part).weight.std() for part in ("query", "key", "value", "output")]
            expected = [xavier, xavier, factor * xavier, factor * xavier]
            assert [one.item() for one in found] == pytest.approx(expected, rel=0.06)
        for layer in (block.feed_forward.gate, block.feed_forward.up, block.feed_forward.output):
            assert layer.weight.std().item() == pytest.approx(factor * far, rel=0.06)
    assert model.embedding.weight.std().item() == pytest.approx(decoder * 64**-0.5, rel=0.06)
    assert model.head.weight.std().item() == pytest.approx(math.sqrt(2 / (400 + 64)), rel=0.06)
    assert not any("Norm" in type(module).__name__ for module in model.modules())


def learned_text(B: int = 8, T: int = 16) -> tuple[Inputs, torch.Tensor]:
    """Tokens of which each tells the next."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, V, (B, 1), generator=generator) + torch.arange(T + 1) * 3
    tokens_BT = tokens % V
    here = torch.arange(T).expand(B, T)
    return Inputs(tokens_BT[:, :-1], here, torch.zeros(B, T, dtype=torch.int64)), tokens_BT[:, 1:]


def test_t_fixup_learns_without_norms_and_warm_up() -> None:
    """Else the kind would be one in name only."""
    torch.manual_seed(0)
    config = config_of(layers=8, width=32, norm="none", activation="relu", initialisation={"kind": "t-fixup"})
    model = Model(config, V)
    optimizer = make_optimizer(model, AdamW(kind="adamw"))
    set_rate(optimizer, 3e-3)
    inputs, targets_BT = learned_text()
    losses = []
    for _ in range(60):
        loss = F.cross_entropy(logits_of(model, inputs).flatten(0, 1), targets_BT.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(V), rel=0.25)
    assert losses[-1] < 1


def changes_by_width(initialisation: dict[str, Any], steps: int = 4, decay: float = 0.0) -> dict[str, list[float]]:
    """Root mean square of how far a few steps of Adam move activations, for widths 64 to 512."""
    inputs, targets_BT = learned_text(4, 8)
    found: dict[str, list[float]] = {"hidden": [], "logits": [], "scores": []}
    for width in (64, 128, 256, 512):
        torch.manual_seed(1)
        config = ModelConfig.model_validate({"layers": 2, "width": width, "heads": 4, "initialisation": initialisation})
        model = Model(config, V)
        optimizer = make_optimizer(model, AdamW(kind="adamw", weight_decay=decay))
        set_rate(optimizer, 3e-3)

        def activations() -> dict[str, torch.Tensor]:
            seen = {}
            blocks = model.blocks  # noqa: B023
            attention = blocks[1].attention
            attention.query.register_forward_hook(lambda m, i, y: seen.update(query=y))
            attention.key.register_forward_hook(lambda m, i, y: seen.update(key=y))
            blocks[1].register_forward_hook(lambda m, i, y: seen.update(hidden=y[0]))
            with torch.no_grad():
                logits = logits_of(model, inputs)  # noqa: B023
            q, k = (seen[name].unflatten(-1, (4, -1)).transpose(1, 2) for name in ("query", "key"))
            return {"hidden": seen["hidden"], "logits": logits, "scores": q @ k.transpose(2, 3) * attention.scale}

        before = activations()
        for _ in range(steps):
            loss = F.cross_entropy(logits_of(model, inputs).flatten(0, 1), targets_BT.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        after = activations()
        for name, values in found.items():
            values.append((after[name] - before[name]).square().mean().sqrt().item())
    return found


def test_mup_passes_its_coordinate_check() -> None:
    """Else the best learning rate of a narrow model would be wrong for a wide one (Yang et al. 2022, appendix D.1)."""
    mup = {"kind": "mup", "base_width": 64, "base_head_size": 16}
    flat, decayed = changes_by_width(mup), changes_by_width(mup, decay=20.0)
    grows = changes_by_width({"kind": "scaled"})
    for found, name in itertools.product((flat, decayed), flat):
        assert 0.5 < found[name][-1] / found[name][0] < 2, (name, found[name])
    for name in ("logits", "scores"):
        assert grows[name][-1] / grows[name][0] > 3, (name, grows[name])
        assert all(one < two for one, two in itertools.pairwise(grows[name]))


def test_mup_is_the_usual_model_at_its_base_width() -> None:
    """Else the narrow model's learning rate would have been found for another model."""
    models = []
    for initialisation in ({"kind": "scaled"}, {"kind": "mup", "base_width": 16, "base_head_size": 4}):
        torch.manual_seed(0)
        models.append(Model(config_of(initialisation=initialisation), V))
    inputs = inputs_of(config_of())
    assert logits_of(models[0], inputs).equal(logits_of(models[1], inputs))
    assert set(models[1].rate_scales().values()) == {1.0}


def test_mup_rates_are_those_of_matrices_in_blocks() -> None:
    """Else embeddings or norms would learn too slowly in a wide model."""
    config = config_of(
        width=32, tied=False, experts={"number": 2}, initialisation={"kind": "mup", "base_width": 8}, norm="layer",
        bias=True,
    )  # fmt: skip
    model = Model(config, V)
    names = {id(weight): name for name, weight in model.named_parameters()}
    found = {
        names[id(weight)]: group["scale"] for group in groups(model, AdamW(kind="adamw")) for weight in group["params"]
    }
    slow = {name for name, scale in found.items() if scale == 0.25}
    assert slow == {name for name in found if "blocks." in name and model.get_parameter(name).ndim == 2}
    assert {scale for name, scale in found.items() if name not in slow} == {1.0}
    std = {name: weight.std().item() for name, weight in model.named_parameters() if weight.ndim == 2}
    assert std["blocks.0.attention.query.weight"] == pytest.approx(0.02 / 2, rel=0.1)
    assert std["blocks.0.feed_forward.router.weight"] == pytest.approx(0.02 / 4, rel=0.3)
    assert std["head.weight"] == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    "kind", [AdamW(kind="adamw"), NAdam(kind="nadam"), Lion(kind="lion")], ids=lambda one: one.kind
)
def test_weights_fade_as_fast_at_every_width(kind: AnyOptimizer) -> None:
    """Else a decay that was found for a narrow model would hardly be one for a wide one."""
    for width in (16, 64):
        torch.manual_seed(0)
        model = Model(config_of(width=width, tied=False, initialisation={"kind": "mup", "base_width": 16}), V)
        optimizer = make_optimizer(model, kind.model_copy(update={"weight_decay": 0.5}))
        set_rate(optimizer, 0.1)
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        optimizer.step()
        for name, weight in model.named_parameters():
            faded = 1.0 if "norm" in name or "embedding" in name else 1 - 0.1 * 0.5
            assert torch.allclose(weight, faded * before[name], rtol=1e-5), (width, name)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.kind=sgd"], "not for optimizer.kind sgd"),
        (["optimizer.kind=adam", "optimizer.weight_decay=0.1"], "optimizer.weight_decay is a part of the gradient"),
        (["loss.l1=1e-4"], "loss.l1 is a part of the gradient"),
        (["optimizer.kind=adagrad", "loss.l2=1e-4"], "loss.l2 is a part of the gradient"),
    ],
)
def test_mup_is_refused_for_what_it_has_no_rule_for(
    config_file: Callable[..., Path], overrides: list[str], message: str
) -> None:
    """Else rates or penalties would be too small for a wide model, without a word."""
    mup = ["model.initialisation.kind=mup", "model.initialisation.base_width=8"]
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_config(config_file(), [*mup, *overrides])
    assert load_config(config_file(), overrides)
    assert load_config(config_file(), mup)
    assert load_config(config_file(), [*mup, "optimizer.kind=adam"])


def test_a_norm_none_is_nothing() -> None:
    """Else t-fixup's models would have norms all the same."""
    assert isinstance(Model(config_of(norm="none"), V).norm, nn.Identity)
