"""Positions of every kind, against the papers' formulas and `transformers`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_inputs import V, config_of, made, packed

from pipeline.errors import RecipeError
from trainer import model_parts, positions
from trainer.config import load_config
from trainer.model import Inputs


def test_sinusoidal() -> None:
    """Else positions would not be those of the paper."""
    found = positions.Sinusoidal(model_parts.Sinusoidal(kind="sinusoidal"), 6)(torch.tensor([[0, 3]]))
    for at, p in ((0, 0), (1, 3)):
        for i in range(3):
            angle = p / 10_000 ** (2 * i / 6)
            assert found[0, at, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[0, at, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


ROPE = "rope_parameters"


@pytest.mark.parametrize(
    ("scaling", "theirs", "T"),
    [
        ({}, {"rope_type": "default"}, 64),
        ({"kind": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}, 64),
        ({"kind": "dynamic", "factor": 2.0, "original": 32}, {"rope_type": "dynamic", "factor": 2.0}, 64),
        ({"kind": "dynamic", "factor": 2.0, "original": 32}, {"rope_type": "dynamic", "factor": 2.0}, 20),
        (
            {"kind": "yarn", "factor": 4.0, "original": 32},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
            64,
        ),
        (
            {"kind": "llama3", "factor": 8.0, "original": 32},
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
            64,
        ),
    ],
)
def test_scaled_rope_is_that_of_transformers(scaling: dict[str, Any], theirs: dict[str, Any], T: int) -> None:
    """Else a model that was stretched elsewhere would not be read rightly here."""
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = llama.LlamaConfig(
        hidden_size=64,
        num_attention_heads=2,
        max_position_embeddings=32,
        rope_parameters=theirs | {"rope_theta": 500.0},
    )
    at_BT = torch.arange(T)[None]
    cos, sin = llama.LlamaRotaryEmbedding(config)(torch.zeros(1), at_BT)
    ours = positions.Rope(model_parts.Rope.model_validate({"kind": "rope", "base": 500.0, "scaling": scaling}), 32)
    for found, expected in zip(ours(at_BT, torch.full_like(at_BT, T)), (cos, sin), strict=True):
        assert torch.allclose(found[0, 0], expected[0, :, :16], atol=2e-5)


def test_documents_have_the_lengths_they_would_have_alone() -> None:
    """Else dynamic scaling would stretch a short document by what it is packed with, by padding or by a hole."""
    documents_BT = torch.tensor([[7, 7, 8, -1, -1, 9], [-1, -1, 0, 0, 0, -1], [3, 3, -1, 3, 3, 3]])
    expected = [[2, 2, 1, None, None, 1], [None, None, 3, 3, 3, None], [5, 5, None, 5, 5, 5]]
    found = positions.lengths(documents_BT).tolist()
    assert [
        [n if e else None for n, e in zip(*row, strict=True)] for row in zip(found, expected, strict=True)
    ] == expected


def test_alibi_slopes_are_the_papers() -> None:
    """Else heads would see other distances than those that were found to work."""
    assert positions.slopes(8).tolist() == [2**-n for n in range(1, 9)]
    # the authors' own rule for 12 heads: those of 8, then every second one of 16
    assert positions.slopes(12).tolist() == pytest.approx(
        [2**-n for n in range(1, 9)] + [2**-n for n in (0.5, 1.5, 2.5, 3.5)]
    )
    terms_HTT = positions.Alibi(8)(5)
    assert terms_HTT[1, 4, 1].item() == -3 / 4


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("buckets", "far"), [(32, 128), (8, 20)])
def test_relative_buckets_are_t5s(causal: bool, buckets: int, far: int) -> None:
    """Else T5's weights would be read at the wrong distances."""
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention
    distances_TT = positions.distances(300, torch.device("cpu"))
    settings = model_parts.Relative(kind="relative", buckets=buckets, max_distance=far)
    expected = t5._relative_position_bucket(distances_TT, not causal, buckets, far)
    assert positions.bucket(distances_TT, settings, causal).equal(expected)


KINDS: list[dict[str, Any]] = [
    {"kind": "learned", "limit": 12},
    {"kind": "sinusoidal"},
    {"kind": "rope"},
    {"kind": "alibi"},
    {"kind": "relative", "buckets": 8, "max_distance": 10},
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind["kind"])
def test_order_is_seen(kind: dict[str, Any]) -> None:
    """Else a text and its words in any order would be one to the model."""
    model = made(config_of(arrangement="encoder", positions=kind))
    inputs = packed([[8]], 8)
    swapped = inputs._replace(tokens_BT=inputs.tokens_BT[:, [1, 0, *range(2, 8)]])
    assert not torch.allclose(model(inputs)[0][0, 7], model(swapped)[0][0, 7], atol=1e-4)
    blind = made(config_of(positions={"kind": "none"}, layers=1))  # one causal layer sees a set
    assert torch.allclose(blind(inputs)[0][0, 7], blind(swapped)[0][0, 7], atol=1e-5)


def test_a_sequence_longer_than_learned_positions_is_refused(config_file: Callable[..., Path]) -> None:
    """Else the run would end in its first step with an index out of range."""
    learned = ["model.positions.kind=learned", "model.positions.limit=31"]
    with pytest.raises(RecipeError, match="sequence_length 32 is more than the 31 learned positions"):
        load_config(config_file(), learned)
    assert load_config(config_file(), [*learned[:1], "model.positions.limit=32"])
    model = made(config_of(arrangement="encoder-decoder", positions={"kind": "learned", "limit": 8}))
    with pytest.raises(RecipeError, match=r"model\.positions\.limit is 8, but 9 places"):
        model(packed([[8]], 8)._replace(encoder=packed([[9]], 9)))  # what an encoder reads may be longer


def test_embeddings_can_be_scaled() -> None:
    """Else sinusoids would drown small embeddings (Vaswani et al. 2017, section 3.4)."""
    one, two = (made(config_of(layers=1, embedding_scale=scale)) for scale in (1.0, 2.0))
    inputs = Inputs(*(torch.zeros(1, 1, dtype=torch.int64) + n for n in (V // 2, 0, 0)))
    assert torch.allclose(two._embedded(two, inputs), 2 * one._embedded(one, inputs))
