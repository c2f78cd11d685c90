"""Keys and values of the places that a decoder has read, kept so that the next ones need not read them again.

Shape suffixes as in `trainer.model`; S places that were read, those of the pass among them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer import model_parts
from trainer.attention import Attention, Sight, dense, rule
from trainer.batch import NO_DOCUMENT
from trainer.blocks import Scene
from trainer.model_settings import ModelConfig
from trainer.positions import Alibi, Relative, Rope

if TYPE_CHECKING:
    from trainer.model import Inputs, Model


def can_keep(config: ModelConfig) -> bool:
    """Whether what is kept of a place stays right when there are more of them: not with dynamic scaling of rotary
    positions, which turns all places anew, nor where places see later ones."""
    dynamic = isinstance(config.positions, model_parts.Rope) and isinstance(
        config.positions.scaling, model_parts.Dynamic
    )
    return config.arrangement == "decoder" and not dynamic


class Cache:
    """Room for keys and values of B rows of at most so many places, for all layers of a model."""

    def __init__(self, model: Model, rows: int, most: int) -> None:
        device = next(model.parameters()).device
        self.first = self.size = 0
        """Places before the pass, and with it."""
        self._most = most
        self._kept: dict[Attention, tuple[Tensor, Tensor]] = {}
        self._documents_BS = torch.full((rows, most), NO_DOCUMENT, device=device)
        self._prefix_BS = torch.zeros(rows, most, dtype=torch.bool, device=device)
        self._bias_HSS = model.positions(most) if isinstance(model.positions, Alibi | Relative) else None

    def scene(self, model: Model, inputs: Inputs) -> Scene:
        """What all blocks share in a pass over the next places, which the cache counts among its own from now on."""
        (B, T), device = inputs.tokens_BT.shape, inputs.tokens_BT.device
        self.first, self.size = self.size, self.size + T
        self._documents_BS[:, self.first : self.size] = inputs.documents_BT
        if inputs.prefix_BT is not None:
            self._prefix_BS[:, self.first : self.size] = inputs.prefix_BT
        seen_BS, prefix_BS = self._documents_BS[:, : self.size], self._prefix_BS[:, : self.size]
        sights: dict[int | None, Sight] = {}
        for window in {model.config.window_of(layer) for layer in range(len(model.blocks))}:
            may_look = rule(seen_BS, seen_BS, True, window, prefix_BS)
            mask_B1TS = dense(may_look, B, T, self.size, device, self.first)[:, None]
            if self._bias_HSS is not None:
                bias_HTS = self._bias_HSS[:, self.first : self.size, : self.size]
                mask_B1TS = bias_HTS[None].masked_fill(~mask_B1TS, -math.inf)
            sights[window] = Sight(mask_B1TS, None)
        turn = model.positions(inputs.positions_BT) if isinstance(model.positions, Rope) else None
        return Scene(sights, turn, inputs.documents_BT != NO_DOCUMENT, cache=self)

    def extended(self, layer: Attention, k_BKTD: Tensor, v_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, K, S, D) of all places of a layer, those of this pass kept with them."""
        if layer not in self._kept:
            B, K, _, D = k_BKTD.shape
            self._kept[layer] = k_BKTD.new_zeros(B, K, self._most, D), v_BKTD.new_zeros(B, K, self._most, D)
        keys, values = self._kept[layer]
        keys[:, :, self.first : self.size] = k_BKTD
        values[:, :, self.first : self.size] = v_BKTD
        return keys[:, :, : self.size], values[:, :, : self.size]
