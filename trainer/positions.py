"""How a model knows where a token stands: vectors added to tokens, rotated queries and keys, or terms of scores.

Shape suffixes as in `trainer.model`; S places that are looked at.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.errors import RecipeError
from trainer import model_parts
from trainer.batch import NO_DOCUMENT
from trainer.model_settings import ModelConfig
from trainer.numbers import wide

Turn = tuple[Tensor, Tensor]
"""Cosines and sines, each (B, 1, T, D/2), in fp32."""


class Learned(nn.Module):
    """A vector for each position."""

    def __init__(self, settings: model_parts.Learned, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(settings.limit, width)

    def forward(self, positions_BT: Tensor) -> Tensor:
        """(B, T, C). Raises RecipeError where there are more places than positions."""
        if positions_BT.shape[1] > self.embedding.num_embeddings:
            raise RecipeError(
                f"model.positions.limit is {self.embedding.num_embeddings}, but {positions_BT.shape[1]} places are to "
                "be read; raise it, or lower what makes them so many"
            )
        return self.embedding(positions_BT)  # type: ignore[no-any-return]


class Sinusoidal(nn.Module):
    """Vaswani et al. 2017, section 3.5: value 2i of position p is sin(p / base^(2i/C)), 2i + 1 its cosine."""

    def __init__(self, settings: model_parts.Sinusoidal, width: int) -> None:
        super().__init__()
        exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
        self.register_buffer("frequencies_C", (settings.base**-exponents).float(), persistent=False)

    def forward(self, positions_BT: Tensor) -> Tensor:
        """(B, T, C), in fp32."""
        assert isinstance(self.frequencies_C, Tensor)
        angles_BTC = positions_BT[..., None].float() * self.frequencies_C
        return torch.stack([angles_BTC.sin(), angles_BTC.cos()], dim=-1).flatten(-2)


class Rope(nn.Module):
    """Rotary positions (Su et al. 2021): pairs (i, i + D/2) of a head are turned by position × base^(-2i/D)."""

    def __init__(self, settings: model_parts.Rope, head_size: int) -> None:
        super().__init__()
        self.settings, self.head_size = settings, head_size
        self.register_buffer("frequencies_D", scaled_frequencies(settings, head_size).float(), persistent=False)
        self.sharpened = sharpening(settings)

    @property
    def by_length(self) -> bool:
        """Whether angles depend on how long a document is."""
        return isinstance(self.settings.scaling, model_parts.Dynamic)

    def forward(self, positions_BT: Tensor, lengths_BT: Tensor | None = None) -> Turn:
        """What queries and keys at these places are turned by; where it is `by_length`, `lengths_BT` are needed."""
        assert isinstance(self.frequencies_D, Tensor)
        frequencies_D, scaling = self.frequencies_D, self.settings.scaling
        if isinstance(scaling, model_parts.Dynamic):
            assert lengths_BT is not None, "dynamic scaling needs the lengths of documents"
            # The base grows by grown^(D / (D - 2)), frequency i falls by its power -2i/D.
            grown_BT = (scaling.factor * lengths_BT / scaling.original - (scaling.factor - 1)).clamp(min=1)
            powers_D = torch.arange(0, self.head_size, 2, device=grown_BT.device) / max(self.head_size - 2, 1)
            frequencies_D = frequencies_D * grown_BT[:, None, :, None] ** -powers_D
        angles_B1TD = positions_BT[:, None, :, None].float() * frequencies_D
        return angles_B1TD.cos() * self.sharpened, angles_B1TD.sin() * self.sharpened


def lengths(documents_BT: Tensor) -> Tensor:
    """(B, T): how many places the document of each place has. Numbers of documents rise along a row, but for holes."""
    numbers_BT = documents_BT.cummax(1).values
    nth_BT = (numbers_BT.diff(dim=1, prepend=numbers_BT[:, :1]) != 0).cumsum(1)
    real_BT = (documents_BT != NO_DOCUMENT).long()
    return torch.zeros_like(nth_BT).scatter_add(1, nth_BT, real_BT).gather(1, nth_BT)


def frequencies(base: float, head_size: int) -> Tensor:
    """(D/2,), in fp64: radians a place."""
    return base ** -(torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)


def scaled_frequencies(settings: model_parts.Rope, head_size: int) -> Tensor:
    """(D/2,), in fp64, as the scaling makes them; dynamic ones as they are up to the original length."""
    plain_D, scaling = frequencies(settings.base, head_size), settings.scaling
    if isinstance(scaling, model_parts.Linear):
        return plain_D / scaling.factor
    if isinstance(scaling, model_parts.Llama3):
        turns_D = scaling.original * plain_D / (2 * math.pi)
        kept_D = ((turns_D - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
        return plain_D * (kept_D + (1 - kept_D) / scaling.factor)
    if isinstance(scaling, model_parts.Yarn):
        # The index whose wave turns so often in the original length; between the two indices weights move linearly.
        def index(turns: float) -> float:
            return head_size * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(settings.base))

        low, high = (
            max(math.floor(index(scaling.beta_fast)), 0),
            min(math.ceil(index(scaling.beta_slow)), head_size - 1),
        )
        divided_D = ((torch.arange(head_size // 2, dtype=torch.float64) - low) / max(high - low, 1e-3)).clamp(0, 1)
        return plain_D * (1 - divided_D + divided_D / scaling.factor)
    return plain_D


def sharpening(settings: model_parts.Rope) -> float:
    """What cosines and sines are multiplied by (Peng et al. 2023, equation 22)."""
    scaling = settings.scaling
    return 0.1 * math.log(scaling.factor) + 1 if isinstance(scaling, model_parts.Yarn) else 1.0


def rotated(x_BHTD: Tensor, turn: Turn) -> Tensor:
    """Queries or keys, turned; same shape and type."""
    cos_B1TD, sin_B1TD = turn
    first, second = wide(x_BHTD).chunk(2, dim=-1)
    turned = torch.cat([first * cos_B1TD - second * sin_B1TD, second * cos_B1TD + first * sin_B1TD], dim=-1)
    return turned.type_as(x_BHTD)


class Alibi(nn.Module):
    """A slope for each head, by which its scores fall with every place of distance (Press et al. 2022)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes_H", slopes(heads), persistent=False)

    def forward(self, T: int) -> Tensor:
        """(H, T, T), what is added to scores."""
        assert isinstance(self.slopes_H, Tensor)
        return self.slopes_H[:, None, None] * -distances(T, self.slopes_H.device).abs()


def slopes(heads: int) -> Tensor:
    """(H,): 2^(-8h/H) of head h = 1...H where H is a power of 2; else those of the power below, and between them every
    second one of the power above."""
    power = 2 ** int(math.log2(heads))
    own = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    between = [2 ** (-8 * h / (2 * power)) for h in range(1, 2 * power, 2)]
    return torch.tensor((own + between)[:heads])


class Relative(nn.Module):
    """A learned term for each head and bucket of distances (Raffel et al. 2020, section 2.1), shared by all blocks."""

    def __init__(self, settings: model_parts.Relative, heads: int, causal: bool) -> None:
        super().__init__()
        self.settings, self.causal = settings, causal
        self.embedding = nn.Embedding(settings.buckets, heads)

    def forward(self, T: int) -> Tensor:
        """(H, T, T), what is added to scores."""
        buckets_TT = bucket(distances(T, self.embedding.weight.device), self.settings, self.causal)
        return self.embedding(buckets_TT).permute(2, 0, 1)  # type: ignore[no-any-return]


def bucket(distances: Tensor, settings: model_parts.Relative, causal: bool) -> Tensor:
    """Bucket numbers of distances (place looked at - place that looks); same shape.

    Where both directions are seen each has half of the buckets. Half of those are for one distance each; the rest
    widen with the logarithm up to `max_distance`.
    """
    buckets, first = settings.buckets, torch.zeros_like(distances)
    if causal:
        distances = (-distances).clamp(min=0)
    else:
        buckets //= 2
        first, distances = (distances > 0) * buckets, distances.abs()
    exact = buckets // 2
    # In fp32, as in the original: in another precision some distances would fall into the bucket beside theirs.
    grown = torch.log(distances.clamp(min=1).float() / exact) / math.log(settings.max_distance / exact)
    far = (exact + (grown * (buckets - exact)).long()).clamp(max=buckets - 1)
    return first + torch.where(distances < exact, distances, far)


def distances(T: int, device: torch.device) -> Tensor:
    """(T, T): place of the column - place of the row. Those of a document stand together, so it is as far inside it."""
    at_T = torch.arange(T, device=device)
    return at_T[None, :] - at_T[:, None]


def make_positions(config: ModelConfig, causal: bool) -> nn.Module | None:
    """The module of the kind that the settings name; None where there is none."""
    settings = config.positions
    if isinstance(settings, model_parts.Learned):
        return Learned(settings, config.width)
    if isinstance(settings, model_parts.Sinusoidal):
        return Sinusoidal(settings, config.width)
    if isinstance(settings, model_parts.Rope):
        return Rope(settings, config.size_of_head)
    if isinstance(settings, model_parts.Alibi):
        return Alibi(config.heads)
    if isinstance(settings, model_parts.Relative):
        return Relative(settings, config.heads, causal)
    return None
