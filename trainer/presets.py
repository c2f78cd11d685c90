"""Published shapes of models: a starting point whose values the keys beside it override."""

from __future__ import annotations

from typing import Any, Literal

Preset = Literal[
    "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl",
    "llama-2-7b", "llama-2-13b", "llama-2-70b", "llama-3-8b", "llama-3-70b", "llama-3.1-8b",
    "llama-3.2-1b", "llama-3.2-3b",
    "bert-base", "bert-large",
    "t5-small", "t5-base", "t5-large",
]  # fmt: skip

Values = dict[str, Any]


def _gpt2(layers: int, width: int, heads: int) -> Values:
    """Radford et al. 2019, table 2; dropout of the original is left out, as is today's custom."""
    return {
        "layers": layers,
        "width": width,
        "heads": heads,
        "vocabulary": 50257,
        "positions": {"kind": "learned", "limit": 1024},
        "norm": "layer",
        "activation": "gelu-tanh",
        "bias": True,
    }


def _llama(layers: int, width: int, heads: int, kv_heads: int, hidden: int, rope: Values, **more: Any) -> Values:
    """Touvron et al. 2023 and Grattafiori et al. 2024, table 3."""
    shape = {"layers": layers, "width": width, "heads": heads, "kv_heads": kv_heads, "hidden": hidden}
    return shape | {"vocabulary": 128256, "tied": False, "positions": {"kind": "rope"} | rope} | more


def _bert(layers: int, width: int, heads: int) -> Values:
    """Devlin et al. 2019, section 3."""
    return {
        "arrangement": "encoder",
        "layers": layers,
        "width": width,
        "heads": heads,
        "vocabulary": 30522,
        "positions": {"kind": "learned", "limit": 512},
        "token_types": 2,
        "norm": "layer",
        "norm_place": "post",
        "embedding_norm": True,
        "norm_epsilon": 1e-12,
        "activation": "gelu",
        "bias": True,
        "masked_head": True,
        "dropout": {"embedding": 0.1, "residual": 0.1, "attention": 0.1},
        "initialisation": {"kind": "normal"},
    }


def _t5(layers: int, width: int, heads: int, hidden: int) -> Values:
    """Raffel et al. 2020, section 3.1.1 and 3.7; scores are not scaled, tied logits by 1/√width."""
    return {
        "arrangement": "encoder-decoder",
        "layers": layers,
        "width": width,
        "heads": heads,
        "head_size": 64,
        "hidden": hidden,
        "vocabulary": 32128,
        "positions": {"kind": "relative"},
        "norm_epsilon": 1e-6,
        "activation": "relu",
        "attention_scale": 1.0,
        "logit_scale": width**-0.5,
        "dropout": dict.fromkeys(("embedding", "residual", "hidden", "attention", "last"), 0.1),
    }


_LLAMA_3_1 = {"base": 500_000.0, "scaling": {"kind": "llama3", "factor": 8.0, "original": 8192}}
_LLAMA_3_2 = {"base": 500_000.0, "scaling": {"kind": "llama3", "factor": 32.0, "original": 8192}}

PRESETS: dict[str, Values] = {
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    "llama-2-7b": _llama(32, 4096, 32, 32, 11008, {}, vocabulary=32000),
    "llama-2-13b": _llama(40, 5120, 40, 40, 13824, {}, vocabulary=32000),
    "llama-2-70b": _llama(80, 8192, 64, 8, 28672, {}, vocabulary=32000),
    "llama-3-8b": _llama(32, 4096, 32, 8, 14336, {"base": 500_000.0}),
    "llama-3-70b": _llama(80, 8192, 64, 8, 28672, {"base": 500_000.0}),
    "llama-3.1-8b": _llama(32, 4096, 32, 8, 14336, _LLAMA_3_1),
    "llama-3.2-1b": _llama(16, 2048, 32, 8, 8192, _LLAMA_3_2, tied=True),
    "llama-3.2-3b": _llama(28, 3072, 24, 8, 8192, _LLAMA_3_2, tied=True),
    "bert-base": _bert(12, 768, 12),
    "bert-large": _bert(24, 1024, 16),
    "t5-small": _t5(6, 512, 8, 2048),
    "t5-base": _t5(12, 768, 12, 3072),
    "t5-large": _t5(24, 1024, 16, 4096),
}


def with_preset(values: Values) -> Values:
    """The values of the preset that `values` name, with theirs over it; unchanged where they name none that is known.

    A section keeps the preset's keys beside the given ones unless it is given another `kind`.
    """
    name = values.get("preset")
    beneath = PRESETS.get(name) if isinstance(name, str) else None
    return _over(beneath, values) if beneath is not None else values


def _over(beneath: Values, values: Values) -> Values:
    merged = dict(beneath)
    for key, value in values.items():
        below = beneath.get(key)
        same = isinstance(value, dict) and isinstance(below, dict) and value.get("kind") in (None, below.get("kind"))
        merged[key] = _over(below, value) if same and isinstance(below, dict) else value
    return merged
