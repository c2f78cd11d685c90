"""The model: one set of blocks as a decoder, an encoder, or both.

Shape suffixes: B sequences, T places, C width of the residual stream, H query heads, K key and value heads,
D head size, S places of an encoder, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.attention import Attention, Sight, rule, sight, uses_flex
from trainer.batch import NO_DOCUMENT, Batch
from trainer.blocks import Block, Scene, make_norm
from trainer.experts import Experts
from trainer.feed_forward import ACTIVATIONS
from trainer.initialise import initialise, rate_scales, readout_scale
from trainer.key_values import Cache
from trainer.model_settings import ModelConfig
from trainer.parallel.collectives import gathered, part_of, sliced
from trainer.parallel.division import WHOLE, Division
from trainer.parallel.world import Group
from trainer.positions import Alibi, Learned, Relative, Rope, Sinusoidal, lengths, make_positions
from trainer.recompute import run


class Inputs(NamedTuple):
    """What a model reads, as tensors on its device; see `trainer.batch.Batch`."""

    tokens_BT: Tensor
    positions_BT: Tensor
    documents_BT: Tensor
    prefix_BT: Tensor | None = None
    encoder: Inputs | None = None
    whole: bool = False
    """Whether each sequence is one text without padding."""

    @classmethod
    def of(cls, batch: Batch, rows: slice, device: torch.device, cp: Group | None = None) -> Inputs:
        """Some rows of a batch; where sequences are divided, this process's part of tokens and positions."""

        def here(array: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(array[rows]).to(device)

        def part(array: npt.NDArray[Any]) -> Tensor:
            return here(array) if cp is None else part_of(here(array), cp, 1)

        side = batch.encoder
        return cls(
            part(batch.tokens_BT),
            part(batch.positions_BT),
            here(batch.documents_BT),
            None if batch.prefix_BT is None else here(batch.prefix_BT),
            None if side is None else Inputs(part(side.tokens_BS), part(side.positions_BS), here(side.documents_BS)),
            batch.whole,
        )


class Stack(nn.Module):
    """An encoder beside a decoder: positions, blocks and the norm behind them. The decoder's own stand in `Model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.positions = make_positions(config, causal=False)
        layers = config.encoder_blocks
        self.blocks = nn.ModuleList(Block(config, layer, layers) for layer in range(layers))
        self.embedding_norm = make_norm(config) if config.embedding_norm else None
        self.norm = nn.Identity() if config.norm_place == "post" else make_norm(config)


class MaskedHead(nn.Module):
    """What stands before BERT's output projection: a linear layer, the activation and a norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.activation = ACTIVATIONS[config.activation]
        # Targets are few, and seen in chunks, maybe twice: nothing for the means of BatchNorm.
        self.norm = make_norm(config.model_copy(update={"norm": "layer"}) if config.norm == "batch" else config)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., C)."""
        return self.norm(self.activation(self.dense(hidden)))  # type: ignore[no-any-return]


class Model(nn.Module):
    """A language model of the shape that the settings say."""

    def __init__(self, config: ModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.config, self.vocabulary, self.division = config, vocabulary, WHOLE
        both = config.arrangement == "encoder-decoder"
        self.causal = config.arrangement != "encoder"
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.token_type_embedding = nn.Embedding(config.token_types, config.width) if config.token_types else None
        self.positions = make_positions(config, self.causal)
        self.embedding_norm = make_norm(config) if config.embedding_norm else None
        self.dropout, self.last_dropout = nn.Dropout(config.dropout.embedding), nn.Dropout(config.dropout.last)
        self.encoder = Stack(config) if both else None
        self.blocks = nn.ModuleList(Block(config, layer, config.layers, both) for layer in range(config.layers))
        self.norm: nn.Module | None = nn.Identity() if config.norm_place == "post" else make_norm(config)
        self.masked_head = MaskedHead(config) if config.masked_head else None
        self.head = nn.Linear(config.width, vocabulary, bias=config.masked_head)
        if config.tied:
            self.head.weight = self.embedding.weight
        self.readout = readout_scale(config)
        initialise(self, config)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """The last hidden states (B, T, C), of which `logits` makes predictions, and a term that is added to the mean
        loss (scalar), where the settings ask for one. No place sees another document; a causal one sees no later token
        either, but for those of the prefix. Places of a document must stand together.

        Where the model is divided (`trainer.parallel`), T are the places of this process's part of the sequences.
        """
        losses: list[Tensor] = []
        encoded_BSC = None
        if self.encoder is not None:
            assert inputs.encoder is not None, "an encoder-decoder needs what its encoder reads"
            encoded_BSC = self._through(self.encoder, inputs.encoder, False, losses)
        hidden_BTC = self._through(self, inputs, self.causal, losses, encoded_BSC)
        return hidden_BTC, torch.stack(losses).sum() if losses else None

    def stage(self, inputs: Inputs, x_BTC: Tensor | None, loss: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the blocks that are here make of what those before them made: `forward` in parts, the first of which
        gets nothing. The experts' losses are summed up on the way (scalar)."""
        losses = [] if loss is None else [loss]
        x_BTC = self._through(self, inputs, self.causal, losses, x_BTC=x_BTC)
        return x_BTC, torch.stack(losses).sum() if losses else x_BTC.new_zeros(())

    def before_blocks(self, inputs: Inputs) -> tuple[Tensor, Scene]:
        """What the first block of a decoder or an encoder gets: (B, T, C), and what all blocks share."""
        return self._embedded(self, inputs), self._scene(self, inputs, self.causal, None)

    def read_on(self, inputs: Inputs, cache: Cache) -> Tensor:
        """The last hidden states (B, T, C) of a decoder's next places, which see those that the cache holds; it holds
        them too from then on. Equal to `forward` over all of them at once but for rounding."""
        x_BTC, scene = self._embedded(self, inputs), cache.scene(self, inputs)
        for block in self.blocks:
            x_BTC, _ = block(x_BTC, scene)
        assert self.norm is not None, "of a model that is divided into stages"
        return self.norm(x_BTC)  # type: ignore[no-any-return]

    def divide(self, division: Division) -> None:
        """Makes all layers know that the work is divided."""
        for module in self.modules():
            if isinstance(module, Model | Attention | Experts):
                module.division = division

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., V) of hidden states (..., C): of the token behind each place, or at it (masked language models).

        Where matrices are divided, V are this process's part of the vocabulary.
        """
        if self.masked_head is not None:
            hidden = self.masked_head(hidden)
        return self.head(hidden if self.readout == 1 else hidden * self.readout)  # type: ignore[no-any-return]

    def after_step(self) -> None:
        """To be called behind every step of the optimiser: moves what balances experts."""
        for module in self.modules():
            if isinstance(module, Experts):
                module.rebalance()

    def rate_scales(self) -> dict[str, float]:
        """What the learning rate of each weight is multiplied by, by name; 1 for those that are missing."""
        return rate_scales(self, self.config)

    @property
    def parameter_count(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(weight.numel() for weight in self.parameters())

    def _through(
        self,
        stack: Stack | Model,
        inputs: Inputs,
        causal: bool,
        losses: list[Tensor],
        encoded_BSC: Tensor | None = None,
        x_BTC: Tensor | None = None,
    ) -> Tensor:
        """(B, T, C) behind the stack's last norm; losses of its experts are added to the list. It begins with the
        embedding, or in the middle with `x_BTC`. Where stages divide the model, those blocks are None that are not
        here, and so is the norm."""
        if x_BTC is None:
            x_BTC = self._embedded(stack, inputs)
        scene = self._scene(stack, inputs, causal, encoded_BSC)
        for block in stack.blocks:
            if block is not None:
                x_BTC, loss = run(self.config.recompute, block, x_BTC, scene)
                if loss is not None:
                    losses.append(loss)
        if stack.norm is None:
            return x_BTC
        return gathered(self.last_dropout(stack.norm(x_BTC)), self.division.sequence, 1)

    def _embedded(self, stack: Stack | Model, inputs: Inputs) -> Tensor:
        x_BTC = self.embedding(inputs.tokens_BT)
        if self.config.embedding_scale != 1:
            x_BTC = x_BTC * self.config.embedding_scale
        if self.token_type_embedding is not None:
            x_BTC = x_BTC + self.token_type_embedding.weight[0]
        if isinstance(stack.positions, Learned | Sinusoidal):
            x_BTC = x_BTC + sliced(stack.positions(inputs.positions_BT), self.division.sequence, 1)
        if stack.embedding_norm is not None:
            x_BTC = stack.embedding_norm(x_BTC)
        return self.dropout(x_BTC)  # type: ignore[no-any-return]

    def _scene(self, stack: Stack | Model, inputs: Inputs, causal: bool, encoded_BSC: Tensor | None) -> Scene:
        """What all blocks of the stack share: masks by window, terms of scores, angles."""
        documents_BT = inputs.documents_BT
        (B, T), device, positions = documents_BT.shape, documents_BT.device, stack.positions
        flex = uses_flex(self.config, device)
        heads = self.division.heads(self.config.heads)
        bias_HTT = positions(T)[heads] if isinstance(positions, Alibi | Relative) and not flex else None
        slopes_H = None
        if isinstance(positions, Alibi):
            assert isinstance(positions.slopes_H, Tensor)
            slopes_H = positions.slopes_H[heads]
        # Where order alone says what is seen there is nothing to mask.
        plain = inputs.whole and bias_HTT is None and slopes_H is None and inputs.prefix_BT is None
        plain = plain and self.config.attention != "flex"
        sights = {
            window: Sight(None, None, causal=causal)
            if plain and window is None
            else sight(
                rule(documents_BT, documents_BT, causal, window, inputs.prefix_BT),
                (B, T, T),
                device,
                flex,
                bias_HTT,
                slopes_H,
            )
            for window in {self.config.window_of(layer) for layer in range(len(stack.blocks))}
        }
        real_BT, cp = documents_BT != NO_DOCUMENT, self.division.cp

        def here(x_BT: Tensor) -> Tensor:
            return x_BT if cp is None else part_of(x_BT, cp, 1)

        turn = None
        if isinstance(positions, Rope):
            turn = positions(inputs.positions_BT, here(lengths(documents_BT)) if positions.by_length else None)
        real_here_BT = here(real_BT)
        if encoded_BSC is None:
            return Scene(sights, turn, real_here_BT)
        assert inputs.encoder is not None
        there_BS = inputs.encoder.documents_BT
        # Padding looks at nothing, nor does a document of which the encoder was given nothing.
        across = rule(documents_BT.masked_fill(~real_BT, NO_DOCUMENT - 1), there_BS, causal=False)
        shape = (B, T, there_BS.shape[1])
        return Scene(sights, turn, real_here_BT, encoded_BSC, sight(across, shape, device, flex, blind=True))
