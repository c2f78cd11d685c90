"""Settings of a model's exchangeable parts, by kind: positions, experts, initialisation. `trainer.model_settings` holds
them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trainer.section import Count, Natural, Section, Weight, unless_said

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=1, allow_inf_nan=False)]
Base = Annotated[float, Field(gt=1, allow_inf_nan=False)]


class Learned(Section):
    """A vector for each position (Gehring et al. 2017), added to the token's."""

    kind: Literal["learned"]
    """Kind of positions."""
    limit: Count
    """How many there are; a longer sequence is refused."""


class Sinusoidal(Section):
    """Sines and cosines of the position (Vaswani et al. 2017, section 3.5), added to the token's vector."""

    kind: Literal["sinusoidal"]
    """Kind of positions."""
    base: Base = 10_000.0
    """Longest wave, in positions, divided by 2π."""


class Unscaled(Section):
    """Angles as they are."""

    kind: Literal["none"]
    """Kind of scaling."""


class Linear(Section):
    """Positions divided by the factor (Chen et al. 2023)."""

    kind: Literal["linear"]
    """Kind of scaling."""
    factor: Factor
    """How many times longer sequences may be."""


class Dynamic(Section):
    """The base grows with a document that is longer than those learned before (NTK-aware, as `transformers`); what it
    is packed with does not count."""

    kind: Literal["dynamic"]
    """Kind of scaling."""
    factor: Factor
    """How many times longer sequences may be."""
    original: Count
    """Longest sequence of the training before."""


class Yarn(Section):
    """Long waves divided by the factor, short ones kept, and scores sharpened (Peng et al. 2023, YaRN)."""

    kind: Literal["yarn"]
    """Kind of scaling."""
    factor: Factor
    """How many times longer sequences may be."""
    original: Count
    """Longest sequence of the training before."""
    beta_fast: Positive = 32.0
    """Waves that turn oftener than this in `original` places are kept."""
    beta_slow: Positive = 1.0
    """Waves that turn more seldom than this in `original` places are divided."""


class Llama3(Section):
    """Long waves divided by the factor, short ones kept (Llama 3.1's rule, Grattafiori et al. 2024)."""

    kind: Literal["llama3"]
    """Kind of scaling."""
    factor: Factor
    """How many times longer sequences may be."""
    original: Count
    """Longest sequence of the training before."""
    low: Positive = 1.0
    """Waves that turn more seldom than this in `original` places are divided."""
    high: Positive = 4.0
    """Waves that turn oftener than this in `original` places are kept."""

    @model_validator(mode="after")
    def _low_is_lower(self) -> Llama3:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must lie under high {self.high:g}")
        return self


AnyScaling = Annotated[
    Annotated[Unscaled | Linear | Dynamic | Yarn | Llama3, Field(discriminator="kind")], unless_said("none")
]
"""How rotary positions are stretched."""


class Rope(Section):
    """Rotary positions: queries and keys turned by angles that grow with the position (Su et al. 2021)."""

    kind: Literal["rope"]
    """Kind of positions."""
    base: Base = 10_000.0
    """Base of the frequencies (section 3.4.3)."""
    scaling: AnyScaling = Unscaled(kind="none")
    """For sequences longer than those of a training before."""


class Alibi(Section):
    """Scores fall with the distance, by a slope of each head (Press et al. 2022)."""

    kind: Literal["alibi"]
    """Kind of positions."""


class Relative(Section):
    """A learned term for each head and bucket of distances, added to scores (T5: Raffel et al. 2020, section 2.1)."""

    kind: Literal["relative"]
    """Kind of positions."""
    buckets: Annotated[int, Field(strict=True, ge=4, multiple_of=2)] = 32
    """Near distances have one each, far ones share one with ever more others."""
    max_distance: Count = 128
    """From which distance on all share the last bucket."""

    @model_validator(mode="after")
    def _far_enough(self) -> Relative:
        if self.max_distance <= self.buckets // 2:
            raise ValueError(f"max_distance {self.max_distance} must lie over half of buckets {self.buckets}")
        return self


class NoPositions(Section):
    """None: order is seen through the causal mask alone (Kazemnejad et al. 2023)."""

    kind: Literal["none"]
    """Kind of positions."""


AnyPositions = Annotated[
    Annotated[Learned | Sinusoidal | Rope | Alibi | Relative | NoPositions, Field(discriminator="kind")],
    unless_said("rope"),
]
"""How a model knows where a token stands in its document."""


class Auxiliary(Section):
    """A loss that is least where all experts are chosen as often (Fedus et al. 2022, equation 4)."""

    kind: Literal["auxiliary"]
    """Kind of balance."""
    weight: Weight = 0.01
    """What it is multiplied by; it is 1 for each layer in perfect balance."""


class BiasBalance(Section):
    """A bias on the choice, moved after each step against the load: no loss (DeepSeek-V3 2024, section 2.1.2)."""

    kind: Literal["bias"]
    """Kind of balance."""
    rate: Positive = 1e-3
    """How far it moves each step."""


class Unbalanced(Section):
    """Nothing balances the load."""

    kind: Literal["none"]
    """Kind of balance."""


AnyBalance = Annotated[
    Annotated[Auxiliary | BiasBalance | Unbalanced, Field(discriminator="kind")], unless_said("auxiliary")
]
"""What keeps experts equally busy."""


class ExpertsConfig(Section):
    """A mixture of experts in place of the feed-forward layer (Shazeer et al. 2017). No token is dropped."""

    number: Annotated[int, Field(strict=True, ge=2)]
    """Experts that a router chooses from."""
    top_k: Count = 2
    """How many it chooses for each token."""
    shared: Natural = 0
    """Further ones that every token goes through (Dai et al. 2024)."""
    hidden: Count | None = None
    """Width of each one's hidden layer; null: the model's hidden."""
    every: Count = 1
    """n: layers n, 2n, 3n, ... have experts, the others stay dense."""
    score: Literal["softmax", "sigmoid"] = "softmax"
    """Over the router's outputs (sigmoid: DeepSeek-V3)."""
    normalise: bool = True
    """Whether the weights of the chosen ones are divided by their sum (Mixtral, DeepSeek-V3)."""
    balance: AnyBalance = Auxiliary(kind="auxiliary")
    """What keeps them equally busy."""
    z_loss: Weight = 0.0
    """Weight of the mean squared log-sum-exp of the router's outputs (Zoph et al. 2022, equation 5)."""

    @model_validator(mode="after")
    def _enough(self) -> ExpertsConfig:
        if self.top_k > self.number:
            raise ValueError(f"top_k {self.top_k} of {self.number} experts cannot be chosen; lower it")
        return self


class Normal(Section):
    """Normal, all with one deviation."""

    kind: Literal["normal"]
    """Kind of initialisation."""
    std: Positive = 0.02
    """Deviation."""


class Scaled(Section):
    """Normal; what writes into the residual stream is divided by the root of the number of such writers, so that
    the stream's variance does not grow with depth (Radford et al. 2019, section 2.3)."""

    kind: Literal["scaled"]
    """Kind of initialisation."""
    std: Positive = 0.02
    """Deviation before that."""


class Xavier(Section):
    """Uniform, with variance 2 / (inputs + outputs) (Glorot and Bengio 2010); embeddings normal."""

    kind: Literal["xavier"]
    """Kind of initialisation."""
    embedding_std: Positive = 0.02
    """Deviation of embeddings."""


class Kaiming(Section):
    """Normal, with variance 2 / inputs (He et al. 2015); embeddings normal."""

    kind: Literal["kaiming"]
    """Kind of initialisation."""
    embedding_std: Positive = 0.02
    """Deviation of embeddings."""


class TFixup(Section):
    """Xavier, and smaller with depth for values, outputs, feed-forward layers and embeddings, so that neither norms
    nor a warm-up are needed (Huang et al. 2020, section 3.2). Needs norm: none."""

    kind: Literal["t-fixup"]
    """Kind of initialisation."""


class MuP(Section):
    """muP: what is best for a narrow model is best for a wide one too (Yang et al. 2022, table 8). Matrices of blocks
    have a deviation and a learning rate that fall with width, logits and attention scores smaller multipliers; what
    decays does so as fast at every width."""

    kind: Literal["mup"]
    """Kind of initialisation."""
    base_width: Count
    """Width at which it equals `scaled`, with heads of base_head_size: that of the model whose learning rate is taken
    over."""
    base_head_size: Count = 64
    """Head size at which scores are divided by its root; they are divided in proportion to the head size. Both
    models need the same."""
    std: Positive = 0.02
    """Deviation at the base width."""


AnyInitialisation = Annotated[
    Annotated[Normal | Scaled | Xavier | Kaiming | TFixup | MuP, Field(discriminator="kind")], unless_said("scaled")
]
"""What weights are before the first step."""
