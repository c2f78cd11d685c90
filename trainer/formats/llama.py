"""Llama's format (Touvron et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.formats.base import GATED, Format, Pair, Unreadable, Values, name_of, named, plain, refuse
from trainer.model_parts import Dynamic, Linear, Llama3, Rope, Yarn
from trainer.model_settings import ModelConfig


def _rope_read(values: Values) -> Values:
    """Of the form before version 5 of `transformers` (`rope_theta`, `rope_scaling`), and since (`rope_parameters`)."""
    given: Values = values.get("rope_parameters") or values.get("rope_scaling") or {}
    base = given.get("rope_theta") or values.get("rope_theta") or 10_000.0
    kind, longest = given.get("rope_type", given.get("type", "default")), values.get("max_position_embeddings", 2048)
    original = given.get("original_max_position_embeddings") or longest
    factor = given.get("factor") or (longest / original if kind == "yarn" else 1)
    scaling: Values = {"kind": kind, "factor": float(factor)}
    if kind == "default":
        return {"kind": "rope", "base": float(base)}
    if kind == "dynamic":
        scaling["original"] = longest
    elif kind == "yarn":
        refuse({key: value for key, value in given.items() if value is not None}, truncate=True, mscale=None)
        if given.get("attention_factor") is not None:
            raise Unreadable("rope_scaling.attention_factor is set; only the one that follows from factor can be read")
        scaling |= {"original": original}
        scaling |= {key: float(given[key]) for key in ("beta_fast", "beta_slow") if given.get(key) is not None}
    elif kind == "llama3":
        scaling |= {"original": original, "low": given["low_freq_factor"], "high": given["high_freq_factor"]}
    elif kind != "linear":
        raise Unreadable(f"rope_scaling is of type {kind!r}; default, linear, dynamic, yarn or llama3 can be read")
    return {"kind": "rope", "base": float(base), "scaling": scaling}


def _rope_write(rope: Rope) -> Values:
    scaling = rope.scaling
    written: Values = {"rope_theta": rope.base}
    if isinstance(scaling, Linear):
        written["rope_scaling"] = {"rope_type": "linear", "factor": scaling.factor}
    elif isinstance(scaling, Dynamic):
        written["rope_scaling"] = {"rope_type": "dynamic", "factor": scaling.factor}
        written["max_position_embeddings"] = scaling.original
    elif isinstance(scaling, Yarn | Llama3):
        known: Values = {
            "rope_type": scaling.kind,
            "factor": scaling.factor,
            "original_max_position_embeddings": scaling.original,
        }
        known |= (
            {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
            if isinstance(scaling, Yarn)
            else {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
        )
        written["rope_scaling"] = known
        written["max_position_embeddings"] = int(scaling.original * scaling.factor)
    return written


def read(values: Values) -> Values:
    bias = values.get("attention_bias", False)
    refuse(values, mlp_bias=bias)
    return {
        "layers": values["num_hidden_layers"],
        "width": values["hidden_size"],
        "heads": values["num_attention_heads"],
        "kv_heads": values.get("num_key_value_heads"),
        "head_size": values.get("head_dim"),
        "hidden": values["intermediate_size"],
        "tied": values.get("tie_word_embeddings", False),
        "positions": _rope_read(values),
        "norm_epsilon": values.get("rms_norm_eps", 1e-6),
        "activation": named(GATED, "hidden_act", values.get("hidden_act", "silu")),
        "bias": bias,
        "dropout": {"attention": values.get("attention_dropout") or 0.0},
    }


def write(config: ModelConfig) -> Values:
    return {
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads,
        "head_dim": config.size_of_head,
        "intermediate_size": config.size_of_hidden,
        "tie_word_embeddings": config.tied,
        "rms_norm_eps": config.norm_epsilon,
        "hidden_act": name_of(GATED, config.activation),
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "attention_dropout": config.dropout.attention,
    } | (_rope_write(config.positions) if isinstance(config.positions, Rope) else {})


def pairs(config: ModelConfig) -> Iterator[Pair]:
    yield from plain("embedding", "model.embed_tokens")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        yield from plain(f"{ours}.attention_norm", f"{theirs}.input_layernorm")
        yield from plain(f"{ours}.attention.query", f"{theirs}.self_attn.q_proj", config.bias)
        yield from plain(f"{ours}.attention.key", f"{theirs}.self_attn.k_proj", config.bias)
        yield from plain(f"{ours}.attention.value", f"{theirs}.self_attn.v_proj", config.bias)
        yield from plain(f"{ours}.attention.output", f"{theirs}.self_attn.o_proj", config.bias)
        yield from plain(f"{ours}.feed_forward_norm", f"{theirs}.post_attention_layernorm")
        for name, other in (("gate", "gate_proj"), ("up", "up_proj"), ("output", "down_proj")):
            yield from plain(f"{ours}.feed_forward.{name}", f"{theirs}.mlp.{other}", config.bias)
    yield from plain("norm", "model.norm")
    if not config.tied:
        yield from plain("head", "lm_head")


LLAMA = Format(
    "llama",
    "LlamaForCausalLM",
    read,
    write,
    pairs,
    prefix="model.",
    head=("lm_head.",),
    ignored=(".rotary_emb.inv_freq",),
)
