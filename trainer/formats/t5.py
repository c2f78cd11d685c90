"""T5's format (Raffel et al. 2020), of 1.0 and 1.1."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.formats.base import GATED, PLAIN, Format, Pair, Values, name_of, named, plain, refuse
from trainer.model_parts import Relative
from trainer.model_settings import ModelConfig

_T5_FORMS = PLAIN | {f"gated-{name}": ours for name, ours in GATED.items()} | {"gated-gelu": "geglu-tanh"}
"""By `feed_forward_proj`; its gated-gelu has always been the one with tanh."""


def read(values: Values) -> Values:
    refuse(values, is_decoder=False)
    scaled = values.get("scale_decoder_outputs", values.get("tie_word_embeddings") is not False)
    dropout = values.get("dropout_rate", 0.1)
    return {
        "arrangement": "encoder-decoder",
        "layers": values.get("num_decoder_layers") or values["num_layers"],
        "encoder_layers": values["num_layers"],
        "width": values["d_model"],
        "heads": values["num_heads"],
        "head_size": values["d_kv"],
        "hidden": values["d_ff"],
        "tied": values.get("tie_word_embeddings") is not False,
        "positions": {
            "kind": "relative",
            "buckets": values.get("relative_attention_num_buckets", 32),
            "max_distance": values.get("relative_attention_max_distance", 128),
        },
        "norm_epsilon": values.get("layer_norm_epsilon", 1e-6),
        "activation": named(_T5_FORMS, "feed_forward_proj", values.get("feed_forward_proj", "relu")),
        "attention_scale": 1.0,
        "logit_scale": values["d_model"] ** -0.5 if scaled else 1.0,
        "dropout": dict.fromkeys(("embedding", "residual", "hidden", "attention", "last"), dropout),
    }


def write(config: ModelConfig) -> Values:
    positions = config.positions if isinstance(config.positions, Relative) else Relative(kind="relative")
    return {
        "num_layers": config.encoder_blocks or config.layers,
        "num_decoder_layers": config.layers,
        "d_model": config.width,
        "num_heads": config.heads,
        "d_kv": config.size_of_head,
        "d_ff": config.size_of_hidden,
        "tie_word_embeddings": config.tied,
        "scale_decoder_outputs": config.tied,
        "relative_attention_num_buckets": positions.buckets,
        "relative_attention_max_distance": positions.max_distance,
        "layer_norm_epsilon": config.norm_epsilon,
        "feed_forward_proj": name_of({"gated-gelu": "geglu-tanh"} | _T5_FORMS, config.activation),
        "dropout_rate": config.dropout.residual,
        "is_encoder_decoder": True,
    }


def pairs(config: ModelConfig) -> Iterator[Pair]:
    yield from plain("embedding", "shared")
    for stack, prefix, layers in (("encoder", "encoder.", config.encoder_blocks), ("decoder", "", config.layers)):
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        yield from plain(f"{prefix}positions.embedding", bias)
        for layer in range(layers):
            ours, theirs = f"{prefix}blocks.{layer}", f"{stack}.block.{layer}.layer"
            attentions = [("attention", "SelfAttention")] + [("across", "EncDecAttention")] * (stack == "decoder")
            for number, (name, other) in enumerate(attentions):
                yield from plain(f"{ours}.{name}_norm", f"{theirs}.{number}.layer_norm")
                for part, letter in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
                    yield from plain(f"{ours}.{name}.{part}", f"{theirs}.{number}.{other}.{letter}")
            last = f"{theirs}.{len(attentions)}"
            yield from plain(f"{ours}.feed_forward_norm", f"{last}.layer_norm")
            ins = (("gate", "wi_0"), ("up", "wi_1")) if config.gated else (("up", "wi"),)
            for name, other in (*ins, ("output", "wo")):
                yield from plain(f"{ours}.feed_forward.{name}", f"{last}.DenseReluDense.{other}")
        yield from plain(f"{prefix}norm", f"{stack}.final_layer_norm")
    if not config.tied:
        yield from plain("head", "lm_head")


T5 = Format(
    "t5",
    "T5ForConditionalGeneration",
    read,
    write,
    pairs,
    prefix="",
    head=(),
    ignored=(".embed_tokens.weight", "EncDecAttention.relative_attention_bias"),
)
