"""What may be set for each optimiser. `trainer.optim` makes them: PyTorch's own, a library's next, ours last."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from trainer.section import Count, Section, Share, unless_said

Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Spared = Literal["norms", "biases", "embeddings"]
Needs = Literal["gradient", "curvature", "closure"]
Curvature = Literal["gauss_newton", "hessian"]


class Optimizer(Section):
    """What all of them share."""

    needs: ClassVar[Needs] = "gradient"
    """What a step takes: the gradient alone; besides it, now and then, the diagonal of the curvature; or the loss of
    the batch as a function, which it evaluates as often as it wants, with gradients of its own that nothing has clipped
    or scaled. See `trainer.steps`."""

    learning_rate: Positive = 1e-3
    """Highest learning rate, met at the end of the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled decay (Loshchilov and Hutter 2019), per unit of learning rate."""
    undecayed: tuple[Spared, ...] = ("norms", "biases", "embeddings")
    """Weights without decay; an output projection that is the embedding table counts as one."""
    layer_rates: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How many times the rate of the layer above it each layer has; embeddings are the lowest (Clark et al. 2020)."""
    clip: Positive | None = 1.0
    """Largest global L2 norm of the gradient; null: not clipped."""
    clip_value: Positive | None = None
    """Largest size of an element of the gradient; null: not clipped. Done before clip, behind clip_adaptive."""
    clip_adaptive: Positive | None = None
    """Largest norm of a unit's gradient as a share of the norm of its weights, but for the output layer (Brock et al.
    2021, section 4.1); null: not clipped."""


class Penalised(Optimizer):
    """Those whose decay is a part of the gradient."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """L2 penalty: times the weight, added to its gradient."""


class Moments(Optimizer):
    """Those with a mean of gradients, and of their squares."""

    beta1: Decay = 0.9
    """Decay of the first moment, per step."""
    beta2: Decay = 0.95
    """Decay of the second moment, per step."""
    epsilon: Positive = 1e-8
    """Added to the root of the second moment."""


class AdamW(Moments):
    """Adam with decoupled decay (Loshchilov and Hutter 2019)."""

    kind: Literal["adamw"]
    """Kind of optimiser."""


class Adam(Penalised, Moments):
    """Adam (Kingma and Ba 2015)."""

    kind: Literal["adam"]
    """Kind of optimiser."""


class NAdam(Moments):
    """Adam with Nesterov's momentum (Dozat 2016), and decoupled decay."""

    kind: Literal["nadam"]
    """Kind of optimiser."""
    momentum_decay: Annotated[float, Field(ge=0)] = 4e-3
    """How fast the momentum rises to beta1."""


class SGD(Penalised):
    """Stochastic gradient descent; with momentum, of Polyak or of Nesterov (Sutskever et al. 2013)."""

    kind: Literal["sgd"]
    """Kind of optimiser."""
    momentum: Decay = 0.0
    """Share of the step before that is taken again."""
    nesterov: bool = False
    """Whether the gradient counts as if it were taken one step of momentum further on."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> SGD:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0, such as 0.9")
        return self


class Adagrad(Penalised):
    """Adagrad (Duchi et al. 2011): rates fall by the sum of all squared gradients."""

    kind: Literal["adagrad"]
    """Kind of optimiser."""
    epsilon: Positive = 1e-10
    """Added to the root of the sum."""


class RMSProp(Penalised):
    """RMSProp (Tieleman and Hinton 2012)."""

    kind: Literal["rmsprop"]
    """Kind of optimiser."""
    alpha: Decay = 0.99
    """Decay of the mean of squared gradients, per step."""
    momentum: Decay = 0.0
    """Share of the step before that is taken again."""
    centered: bool = False
    """Whether the squared mean gradient is taken off, which leaves a variance (Graves 2013)."""
    epsilon: Positive = 1e-8
    """Added to the root."""


class Muon(Moments):
    """Muon for the matrices of the blocks (Jordan et al. 2024): momentum, made orthogonal by Newton-Schulz iterations.
    All else by AdamW, at the same rate: Muon's steps are scaled to AdamW's size (Liu et al. 2025, section 2.2)."""

    kind: Literal["muon"]
    """Kind of optimiser."""
    momentum: Decay = 0.95
    """Decay of the mean of gradients, per step."""
    nesterov: bool = True
    """Whether the gradient counts as if it were taken one step of momentum further on."""
    iterations: Count = 5
    """Of Newton and Schulz, in bf16."""


class Adafactor(Optimizer):
    """Adafactor (Shazeer and Stern 2018): second moments of matrices as rows and columns."""

    kind: Literal["adafactor"]
    """Kind of optimiser."""
    beta2_decay: Annotated[float, Field(lt=0)] = -0.8
    """Power of the step by which the second moment's decay nears 1."""
    update_clip: Annotated[float, Field(ge=1)] = 1.0
    """Root mean square that an update of one matrix is held to."""
    relative: Positive = 1e-3
    """Least root mean square that a matrix counts with: rates are shares of it."""


class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2): the sign of a mean of gradients, with decoupled decay."""

    kind: Literal["lion"]
    """Kind of optimiser."""
    learning_rate: Positive = 1e-4
    """Highest learning rate. Every weight moves by it at every step: take 3 to 10 times less than for AdamW (section
    5)."""
    weight_decay: Annotated[float, Field(ge=0)] = 1.0
    """Decoupled decay, per unit of learning rate: 3 to 10 times more than for AdamW, since the rate is smaller."""
    beta1: Decay = 0.9
    """Share of the mean of gradients in the step's direction."""
    beta2: Decay = 0.99
    """Decay of the mean of gradients, per step."""


class SOAP(Optimizer):
    """SOAP (Vyas et al. 2024, algorithm 3): AdamW in the eigenbasis of Shampoo's statistics. Vectors by AdamW. The
    first step only measures."""

    kind: Literal["soap"]
    """Kind of optimiser."""
    learning_rate: Positive = 3e-3
    """Highest learning rate, met at the end of the warm-up."""
    beta1: Decay = 0.95
    """Decay of the first moment, per step."""
    beta2: Decay = 0.95
    """Decay of the second moment and of Shampoo's statistics, per step."""
    epsilon: Positive = 1e-8
    """Added to the root of the second moment."""
    interval: Count = 10
    """Steps between two turns of the eigenbasis."""
    max_dimension: Count = 4_096
    """Longest side of a matrix that has a basis of its own, whose turns take time by its cube; a longer one, such as
    the vocabulary, has none. The paper has 10,000."""


class Shampoo(Optimizer):
    """Shampoo (Gupta et al. 2018, algorithm 2), with decoupled decay. Of vectors, and of sides that are too long, only
    the diagonal of the statistics is kept (section 5)."""

    kind: Literal["shampoo"]
    """Kind of optimiser."""
    beta1: Decay = 0.9
    """Decay of the mean of gradients that the preconditioner is applied to, per step."""
    beta2: Decay | None = 0.95
    """Decay of the statistics, per step; null: their sum over all steps, as in the paper."""
    epsilon: Positive = 1e-12
    """Added to the statistics' diagonal. With the sum and no graft, larger (1e-4) keeps the first steps short."""
    graft: Literal["none", "adam"] = "adam"
    """adam: a weight's step has the norm that Adam's would have, so Adam's rates hold (Anil et al. 2020, section 3.4;
    Agarwal et al. 2020)."""
    interval: Count = 20
    """Steps between two roots of the statistics (the paper takes 20 to 100)."""
    max_dimension: Count = 1_200
    """Longest side of a weight whose statistics are a full matrix (the paper's limit)."""


class Sophia(Optimizer):
    """What both kinds of Sophia share (Liu et al. 2023, algorithm 3): mean of gradients over mean of curvature, each
    entry held to 1, with decoupled decay."""

    needs: ClassVar[Needs] = "curvature"
    """The diagonal of the curvature, at every `interval`-th step."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.2
    """Decoupled decay, per unit of learning rate."""
    beta1: Decay = 0.96
    """Decay of the mean of gradients, per step."""
    beta2: Decay = 0.99
    """Decay of the mean of curvature, per estimate."""
    epsilon: Positive = 1e-12
    """Least curvature that counts; where there is less, the step is the sign of the mean gradient."""
    interval: Count = 10
    """Steps between two estimates of the curvature."""
    curvature_sequences: Count | None = None
    """Sequences that an estimate reads (the paper: half of the batch), at most the batch; null: one micro-batch."""


class SophiaG(Sophia):
    """Sophia with the estimate of Gauss, Newton and Bartlett: squares of a gradient to labels that the model draws."""

    kind: Literal["sophia_g"]
    """Kind of optimiser."""
    gamma: Positive = 0.05
    """Scale of the curvature (γ): the larger, the more entries stay below 1 (the paper aims at 10 to 50 %)."""


class SophiaH(Sophia):
    """Sophia with the estimate of Hutchinson: a random vector times its product with the Hessian."""

    kind: Literal["sophia_h"]
    """Kind of optimiser."""
    gamma: Positive = 0.01
    """Scale of the curvature (γ): the larger, the more entries stay below 1 (the paper aims at 10 to 50 %)."""


class SecondOrder(Penalised):
    """Those that evaluate the loss of the whole batch several times a step. They need large batches: from one batch to
    the next the loss must be nearly the same function."""

    needs: ClassVar[Needs] = "closure"
    """The loss of the batch, as a function of the weights."""

    learning_rate: Positive = 1.0
    """Length of the first step that a line search tries, as a share of the direction; 1 is Newton's."""
    clip: None = None
    """Not clipped: a line search compares the loss with its true gradient."""
    clip_value: None = None
    """Not clipped either."""
    clip_adaptive: None = None
    """Not clipped either."""

    @model_validator(mode="after")
    def _one_rate(self) -> SecondOrder:
        if self.layer_rates != 1:
            raise ValueError("layer_rates must be 1 here: a line search moves all weights along one direction")
        return self


class LBFGS(SecondOrder):
    """L-BFGS (Liu and Nocedal 1989): the inverse Hessian from the last steps."""

    kind: Literal["lbfgs"]
    """Kind of optimiser."""
    iterations: Count = 4
    """Steps over the same batch, within one optimiser step."""
    history: Count = 10
    """Steps that are remembered; each takes twice the memory of the weights."""
    line_search: Literal["strong_wolfe", "none"] = "strong_wolfe"
    """Of each step. With none, `learning_rate` is its length, which must be small."""


class NewtonCG(SecondOrder):
    """Newton's method without a Hessian (Martens 2010): conjugate gradients on products with the curvature, damped as
    by Levenberg and Marquardt, then a backtracking line search."""

    kind: Literal["newton_cg"]
    """Kind of optimiser."""
    curvature: Curvature = "gauss_newton"
    """Gauss-Newton's is never negative (Schraudolph 2002); along a direction in which the Hessian's is, conjugate
    gradients end."""
    iterations: Count = 50
    """Most conjugate gradients of a step; fewer where they gain little (section 4.4)."""
    damping: Positive = 1.0
    """First damping (λ): times the vector, added to its product. Then 2/3 or 3/2 of it, as the loss follows its model
    or does not (section 4.1)."""
    restart: Share = 0.95
    """Share of the last step's solution that conjugate gradients begin with (section 4.5)."""
    curvature_sequences: Count | None = None
    """Sequences that products read, at most the batch; null: all of it. Gradient and loss are always those of all."""


AnyOptimizer = Annotated[
    Annotated[
        AdamW | Adam | NAdam | SGD | Adagrad | RMSProp | Muon | Adafactor | Lion | SOAP | Shampoo | SophiaG | SophiaH
        | LBFGS | NewtonCG,
        Field(discriminator="kind"),
    ],
    unless_said("adamw"),
]  # fmt: skip
"""An optimiser of any kind."""
