"""What may be set for the model: its shape. `trainer.model` builds it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trainer.learning_settings import LossConfig
from trainer.model_parts import (
    AnyInitialisation,
    AnyPositions,
    ExpertsConfig,
    Learned,
    MuP,
    Relative,
    Rope,
    Scaled,
    Sinusoidal,
    TFixup,
)
from trainer.optimizers import AnyOptimizer, Penalised
from trainer.presets import Preset, with_preset
from trainer.section import Count, Natural, Section

Chance = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal[
    "relu", "relu2", "gelu", "gelu-tanh", "silu", "glu", "bilinear", "reglu", "geglu", "geglu-tanh", "swiglu"
]
GATED = ("glu", "bilinear", "reglu", "geglu", "geglu-tanh", "swiglu")
"""Those of three matrices (Shazeer 2020)."""

MUP_OPTIMIZERS = ("adam", "adamw", "nadam", "adagrad", "rmsprop", "lion")
"""Those whose steps do not grow with the gradient, which muP's rates are for (Yang et al. 2022, table 8)."""

RUNNING = {"preset", "init_from", "attention", "recompute", "dropout"}
"""Settings that a resume may change: they are no part of the model's shape."""


class DropoutConfig(Section):
    """What is left out in training, at random (Srivastava et al. 2014)."""

    embedding: Chance = 0.0
    """Share of the values that go into the first block."""
    residual: Chance = 0.0
    """Share of what attention and feed-forward layers add to the residual stream."""
    hidden: Chance = 0.0
    """Share of the feed-forward layers' hidden values."""
    attention: Chance = 0.0
    """Share of the attention weights."""
    last: Chance = 0.0
    """Share of the values behind a stack's last norm (T5)."""
    layers: Chance = 0.0
    """Stochastic depth: how often a sequence passes the last layer by; it rises from 0 in proportion to depth (Huang
    et al. 2016)."""


class ModelConfig(Section):
    """The model's shape."""

    preset: Preset | None = None
    """A published shape, which says all that is required; keys beside it stand over its own. null: none."""
    arrangement: Literal["decoder", "encoder", "encoder-decoder"] = "decoder"
    """decoder: each place sees those before it; encoder: all of its document; encoder-decoder: both, and places of the
    decoder see all that the encoder made of their document."""
    layers: Count
    """Number of blocks; of the decoder where there are two stacks."""
    encoder_layers: Count | None = None
    """Blocks of the encoder where there are two stacks; null: as many as layers."""
    width: Count
    """Size of the residual stream."""
    heads: Count
    """Query heads of each attention."""
    kv_heads: Count | None = None
    """Key and value heads: 1 is multi-query (Shazeer 2019), between 1 and heads grouped-query attention (Ainslie et
    al. 2023); null: as many as heads."""
    head_size: Count | None = None
    """Size of each head; null: width divided by heads."""
    hidden: Count | None = None
    """Width of the feed-forward's hidden layer; null: 4 times width, of a gated one 8/3 rounded up to a multiple of
    32."""
    vocabulary: Count | None = None
    """Number of token ids; null: the corpus's."""
    tied: bool = True
    """Whether the output projection is the embedding table."""
    positions: AnyPositions = Rope(kind="rope")
    """How it is known where a token stands in its document."""
    token_types: Natural = 0
    """Rows of an embedding of token types (BERT's segments), of which each token has the first; 0: none."""
    embedding_scale: Annotated[float, Field(gt=0)] = 1.0
    """What token embeddings are multiplied by; the root of width in Vaswani et al. 2017, section 3.4."""
    norm: Literal["rms", "layer", "batch", "none"] = "rms"
    """rms: RMSNorm (Zhang and Sennrich 2019); layer: LayerNorm (Ba et al. 2016); batch: BatchNorm (Ioffe and Szegedy
    2015) over all places of a micro-batch, padding and holes among them, for encoders alone (masked_head has
    LayerNorm); none: for t-fixup."""
    norm_place: Literal["pre", "post", "sandwich"] = "pre"
    """pre: before each layer, and at the end; post: behind each sum (Vaswani et al. 2017); sandwich: before and behind
    each layer, and at the end (Ding et al. 2021)."""
    embedding_norm: bool = False
    """Whether a norm stands before the first block (BERT)."""
    qk_norm: bool = False
    """Whether queries and keys are normed, head by head (Henry et al. 2020; Dehghani et al. 2023)."""
    norm_epsilon: Annotated[float, Field(gt=0)] = 1e-5
    """Added to a norm's mean square or variance."""
    activation: Activation = "swiglu"
    """Of the feed-forward layers: plain (relu2: its square, So et al. 2021), or gated (Shazeer 2020)."""
    bias: bool = False
    """Whether linear layers of blocks, and LayerNorm, add a bias."""
    attention: Literal["auto", "sdpa", "flex"] = "auto"
    """auto: flex attention, which skips what no place may see, where the accelerator and the model allow it, else
    SDPA; both give the same values."""
    attention_scale: Annotated[float, Field(gt=0)] | None = None
    """What scores are multiplied by; null: 1/√head_size. T5 has 1."""
    window: Count | None = None
    """Sliding window: a place sees so many places back, itself among them (Beltagy et al. 2020); encoders as many
    ahead; null: all."""
    full_every: Annotated[int, Field(strict=True, ge=2)] | None = None
    """n: layers n, 2n, 3n, ... have no window; null: all have it."""
    experts: ExpertsConfig | None = None
    """A mixture of experts in place of feed-forward layers; null: dense."""
    masked_head: bool = False
    """Whether a linear layer, the activation and a norm stand before the output projection, and a bias is added behind
    it (BERT)."""
    logit_scale: Annotated[float, Field(gt=0)] = 1.0
    """What the last hidden states are multiplied by before the output projection; T5's tied ones have 1/√width."""
    dropout: DropoutConfig = DropoutConfig()
    """What is left out in training."""
    initialisation: AnyInitialisation = Scaled(kind="scaled")
    """What weights are before the first step."""
    recompute: Literal["none", "selective", "full"] = "none"
    """Activation checkpointing: what backward makes anew instead of keeping it. full: each block; selective: all but
    products of matrices and attention. Same gradients, less memory, more work."""
    init_from: Path | None = None
    """A folder in a Hugging Face format, or a checkpoint, whose weights a run begins with, of the corpus's tokenizer; a
    resume does not read it.
    `corpusmill import-model` writes the settings that fit. null: random weights."""

    @property
    def size_of_head(self) -> int:
        """Of each attention head."""
        return self.head_size or self.width // self.heads

    @property
    def size_of_hidden(self) -> int:
        """Width of the feed-forward's hidden layer."""
        return self.hidden or (32 * math.ceil(self.width * 8 / 3 / 32) if self.gated else 4 * self.width)

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layers have a gate."""
        return self.activation in GATED

    @property
    def encoder_blocks(self) -> int:
        """Blocks of an encoder beside a decoder."""
        return (self.encoder_layers or self.layers) if self.arrangement == "encoder-decoder" else 0

    def window_of(self, layer: int) -> int | None:
        """Of a layer, counted from 0; None: it sees all of its document."""
        return None if self.full_every and (layer + 1) % self.full_every == 0 else self.window

    def has_experts(self, layer: int) -> bool:
        """Whether a layer, counted from 0, has experts."""
        return self.experts is not None and (layer + 1) % self.experts.every == 0

    def problem(self, sequence_length: int, optimizer: AnyOptimizer, loss: LossConfig) -> str | None:
        """Why the model cannot be trained on such sequences, by such an optimiser and loss; None where it can."""
        limit = self.positions.limit if isinstance(self.positions, Learned) else None
        if limit is not None and sequence_length > limit:
            return (
                f"sequence_length {sequence_length} is more than the {limit} learned positions of "
                "model.positions.limit; raise that, or lower sequence_length"
            )
        if not isinstance(self.initialisation, MuP):
            return None
        if optimizer.kind not in MUP_OPTIMIZERS:
            return (
                f"model.initialisation.kind mup gives rates for {', '.join(MUP_OPTIMIZERS)}, not for "
                f"optimizer.kind {optimizer.kind}; change one of them"
            )
        penalty = optimizer.weight_decay if isinstance(optimizer, Penalised) else 0.0
        penalties = (("optimizer.weight_decay", penalty), ("loss.l1", loss.l1), ("loss.l2", loss.l2))
        if key := next((key for key, value in penalties if value), None):
            return (
                f"{key} is a part of the gradient, beside which it weighs otherwise at every width, so that "
                "model.initialisation.kind mup has no rule for it; set it to 0, and take optimizer.kind adamw, nadam "
                "or lion for decay"
            )
        return None

    @model_validator(mode="before")
    @classmethod
    def _preset_beneath(cls, values: Any) -> Any:
        return with_preset(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _heads_fit(self) -> ModelConfig:
        even = isinstance(self.positions, Rope)
        if self.head_size is None and (self.width % self.heads or (even and (self.width // self.heads) % 2)):
            raise ValueError(
                f"width {self.width} over {self.heads} heads gives no {'even' if even else 'whole'} head size; change "
                "one of them, or set head_size"
            )
        if even and self.size_of_head % 2:
            raise ValueError(f"head_size {self.head_size} must be even for rotary positions")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if isinstance(self.positions, Sinusoidal) and self.width % 2:
            raise ValueError(f"width {self.width} must be even for sinusoidal positions")
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        problems = (
            (
                self.encoder_layers is not None and self.arrangement != "encoder-decoder",
                f"encoder_layers is for arrangement: encoder-decoder; an arrangement of {self.arrangement} has layers "
                "alone",
            ),
            (
                self.norm == "batch" and self.arrangement != "encoder",
                f"norm: batch cannot be used in an arrangement of {self.arrangement}: its means run over later tokens "
                "too, which a decoder must not see; take rms or layer",
            ),
            (
                self.norm == "batch" and self.recompute != "none",
                "norm: batch counts each place once, recompute would count it twice; set recompute: none",
            ),
            (
                isinstance(self.initialisation, TFixup) and (self.norm != "none" or self.embedding_norm),
                f"initialisation.kind t-fixup stands in place of norms; set norm: none (it is {self.norm}) and "
                "embedding_norm: false",
            ),
            (
                self.norm == "none" and (self.embedding_norm or self.norm_place != "pre"),
                "norm: none leaves nothing that norm_place or embedding_norm could place; leave them out",
            ),
            (
                self.full_every is not None and self.window is None,
                "full_every says which layers are without a window, but window is null; set it, or leave it out",
            ),
            (
                self.experts is not None
                and self.experts.every > max(self.layers, self.encoder_blocks),
                f"experts.every {self.experts and self.experts.every} is more than there are layers: none would have "
                "experts; lower it",
            ),
            (
                self.masked_head and self.arrangement != "encoder",
                f"masked_head is for arrangement: encoder, not {self.arrangement}; leave it out",
            ),
            (
                self.attention == "flex" and isinstance(self.positions, Relative),
                "attention: flex has no learned terms of positions.kind relative; take auto or sdpa",
            ),
            (
                self.attention == "flex" and self.dropout.attention > 0,
                "attention: flex has no dropout.attention; take auto or sdpa, or set that to 0",
            ),
            (
                isinstance(self.initialisation, MuP) and self.attention_scale is not None,
                "initialisation.kind mup says what scores are multiplied by; leave attention_scale out",
            ),
            (
                self.arrangement != "decoder" and self.positions.kind == "none",
                "positions.kind none leaves an encoder blind to order, which only a causal mask shows; take another",
            ),
        )  # fmt: skip
        for wrong, message in problems:
            if wrong:
                raise ValueError(message)
        return self
