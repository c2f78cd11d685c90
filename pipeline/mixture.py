"""How many copies of each document the training split takes.

Sampling is exact to the document: 2.37 epochs of a group are two copies of every document and a third
of those that come first by sample hash, up to the token target; and so is the budget of all groups together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pipeline.errors import RecipeError, nearest
from pipeline.ids import AnyIds, halves, matrix, rows
from stages.hashing import keyed_all

OTHERS = "*"
"""Under `shares` and `max_epochs`: all groups that are not named."""
MAX_EPOCHS = 4.0
"""The cap of a group that `max_epochs` by group leaves out: up to four epochs, repeated tokens are worth nearly what
new ones are (Muennighoff et al. 2023, Scaling Data-Constrained Language Models, section 6)."""
_STEPS = 2**32  # weights by temperature are whole numbers, so that no two machines round a share apart


@dataclass(frozen=True)
class Wish:
    """What a recipe asks of the mixture."""

    tokens: int | None = None
    """The budget in all; None: as many as there are."""
    shares: Mapping[str, float] | None = None
    """Share of the tokens by group, adding up to 1 within 10^-6; 0 leaves a group out; `*`: all not named, together."""
    temperature: float = 1.0
    """Groups without a share of their own come in proportion to their tokens ^ (1 / temperature)."""
    max_epochs: float | Mapping[str, float] = MAX_EPOCHS
    """How often a group may be read; by group, with `*` for those not named."""

    def cap(self, group: str) -> Fraction:
        """How often this group may be read, as it was written: 2.37 is 237/100."""
        limit = self.max_epochs
        if isinstance(limit, Mapping):
            limit = limit.get(group, limit.get(OTHERS, MAX_EPOCHS))
        return Fraction(repr(float(limit)))


@dataclass(frozen=True)
class Target:
    """What the mixture asks of one group."""

    available: int
    """Tokens of one epoch."""
    share: float
    """Share of the tokens that was asked; of a group without one, what fell to it."""
    asked: int
    """Tokens asked."""
    cap: float
    """How often it may be read."""

    @property
    def epochs(self) -> float:
        """How often it is read."""
        return self.asked / self.available if self.available else 0.0


def targets(available: Mapping[str, int], wish: Wish) -> dict[str, Target]:
    """The tokens to take of each group, in the order of `available`, which holds the tokens of one epoch.

    - Groups with a share get it of the budget, whatever they hold.
    - The others get what is left of it, in proportion to their tokens or, by temperature, to a root of them; what the
      cap of one leaves is spread over the rest of them (UniMax, Chung et al. 2023, algorithm 1, with any caps).
    - Without a budget, it is as many tokens as the groups with a share hold once; with shares, or the most that these
      allow with no group above its cap, if that is less.

    Raises RecipeError where shares and groups do not fit, and where the budget cannot be met, saying what can.
    """
    named, others = _exact_shares(available, wish)
    pool = [name for name in available if name not in named]
    caps = {name: int(wish.cap(name) * amount) for name, amount in available.items()}
    room = sum(caps[name] for name in pool)
    bounds = [int(caps[name] / share) for name, share in named.items() if share]
    most = min([*bounds, *([int(room / others)] if others else [])], default=0)
    budget = wish.tokens
    if budget is None and named:
        budget = min(most, sum(amount for name, amount in available.items() if named.get(name, others)))
    elif budget is None:
        budget = sum(min(available[name], caps[name]) for name in pool)
    asked = _rounded(budget, named | {OTHERS: others})
    spread = asked.pop(OTHERS)
    _check_caps(budget, asked, available, caps, most, wish)
    if spread > room:
        whole = "all groups hold" if not named else f"the groups under '{OTHERS}' would give {spread:,} tokens and hold"
        raise RecipeError(
            f"mixture: {budget:,} tokens cannot be reached with {_cap_text(wish, pool)}: {whole} {room:,} with every "
            f"copy. Possible: mixture.tokens up to {most:,}, or a higher max_epochs."
        )
    asked |= _poured(spread, _weights({name: available[name] for name in pool}, wish.temperature), caps)
    return {
        name: Target(
            amount, float(named[name]) if name in named else asked[name] / max(1, budget), asked[name],
            float(wish.cap(name)),
        )
        for name, amount in available.items()
    }  # fmt: skip


def check_names(section: str, names: Iterable[str], groups: Iterable[str]) -> None:
    """Raises RecipeError where one of the names is no group; `section` is where they stand."""
    known = set(groups)
    for name in names:
        if name != OTHERS and name not in known:
            raise RecipeError(f"{section}: there is no group '{name}'.{nearest(name, known)}")


def _exact_shares(available: Mapping[str, int], wish: Wish) -> tuple[dict[str, Fraction], Fraction]:
    """The share of each group that has one, and that of all others, as fractions; they add up to 1."""
    if isinstance(wish.max_epochs, Mapping):
        check_names("mixture.max_epochs", wish.max_epochs, available)
    shares = wish.shares
    if not shares:
        return {}, Fraction(1)
    check_names("mixture.shares", shares, available)
    rest = {name: amount for name, amount in available.items() if name not in shares}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise RecipeError(f"mixture.shares: the share of '{name}' is {share}; a share lies between 0 and 1")
        if share > 0 and not (available[name] if name != OTHERS else any(rest.values())):
            who = f"'{name}', which has" if name != OTHERS else f"'{OTHERS}', and the groups not named have"
            raise RecipeError(
                f"mixture.shares asks for a share of {share} from {who} no tokens for training: all the documents were "
                "dropped or went into another split. Give it 0, or see where they went with `corpusmill inspect`."
            )
    if rest and OTHERS not in shares:
        (name, *more) = sorted(rest)
        beside = f" and {len(more)} more" if more else ""
        raise RecipeError(
            f"mixture.shares does not name the group '{name}'{beside}; give it 0 to leave it out, or '{OTHERS}' a "
            "share, which is that of all groups not named together"
        )
    exact = {name: Fraction(repr(float(share))) for name, share in shares.items()}  # 0.7 is 7/10, as it was written
    whole = sum(exact.values(), Fraction(0))
    if abs(whole - 1) > Fraction(1, 10**6):
        raise RecipeError(f"mixture.shares add up to {float(whole):g}, not to 1")
    others = exact.pop(OTHERS, Fraction(0)) / whole
    return {name: exact[name] / whole for name in available if name in exact}, others


def _weights(amounts: Mapping[str, int], temperature: float) -> dict[str, int]:
    if temperature == 1 or not any(amounts.values()):
        return dict(amounts)
    largest = max(amounts.values())
    roots = {name: (amount / largest) ** (1 / temperature) for name, amount in amounts.items() if amount}
    return dict.fromkeys(amounts, 0) | {name: max(1, round(root * _STEPS)) for name, root in roots.items()}


def _poured(amount: int, weights: Mapping[str, int], caps: Mapping[str, int]) -> dict[str, int]:
    """`amount` spread in proportion to the weights, so that nobody is above its cap; the caps hold it all."""
    found = dict.fromkeys(weights, 0)
    left, weight = amount, sum(weights.values())
    order = sorted((name for name in weights if weights[name]), key=lambda n: (Fraction(caps[n], weights[n]), n))
    full = 0
    for name in order:  # who is full first comes first
        if caps[name] * weight > left * weights[name]:
            break
        found[name] = caps[name]
        left, weight, full = left - caps[name], weight - weights[name], full + 1
    return found | _rounded(left, {name: Fraction(weights[name], weight) for name in order[full:]})


def _rounded(tokens: int, shares: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole targets that add up to `tokens`: what rounding down leaves goes to the largest remainders."""
    found = {name: int(tokens * share) for name, share in shares.items()}
    left = tokens - sum(found.values()) if any(shares.values()) else 0
    by_remainder = sorted(shares, key=lambda name: (found[name] - tokens * shares[name], name))
    for name in by_remainder[:left]:
        found[name] += 1
    return found


def _cap_text(wish: Wish, groups: Iterable[str]) -> str:
    limits = sorted({float(wish.cap(name)) for name in groups})
    return "max_epochs " + (f"{limits[0]:g}" if len(limits) == 1 else f"{limits[0]:g} to {limits[-1]:g}")


def _check_caps(
    tokens: int,
    asked: Mapping[str, int],
    available: Mapping[str, int],
    caps: Mapping[str, int],
    most: int,
    wish: Wish,
) -> None:
    """Raises RecipeError where a group with a share would be read more often than it may."""
    over = [name for name in asked if asked[name] > caps[name]]
    if not over:
        return
    worst = max(over, key=lambda name: (asked[name] / available[name], name))
    wants = "; ".join(
        f"'{name}' would give {asked[name]:,} tokens and has {available[name]:,}, {caps[name]:,} with every copy"
        for name in over[:5]
    )
    wants += f"; and {len(over) - 5} more" if len(over) > 5 else ""
    epochs = -(-asked[worst] * 100 // available[worst]) / 100
    lower = f", or a share of '{worst}' of at most {int(caps[worst] / tokens * 10_000) / 10_000:g}"
    raise RecipeError(
        f"mixture: {tokens:,} tokens cannot be reached with {_cap_text(wish, over)}: {wants}. Possible at these "
        f"shares: mixture.tokens up to {most:,}. Possible at this budget: max_epochs from {epochs:g}"
        f"{lower if len(over) == 1 and len(available) > 1 else ''}."
    )


def copies(
    ids: AnyIds, tokens: npt.NDArray[np.integer], groups: npt.NDArray[np.integer], asked: list[Target], seed: int
) -> npt.NDArray[np.int32]:
    """(documents,) how often each document is taken, 0 where it is left out.

    `tokens` are the documents' lengths, `groups` the places of their groups in `asked`. A group's target is met by full
    copies of all its documents and a prefix in sample-hash order of the rest. Its last document is the one in which the
    target lies: taken, it overshoots, left out, it undershoots. It is left out where it would break the cap; of the
    others as many are taken as reach what all targets come to, drawn by hash with the part of each that its group asks
    for (were all of them taken, thousands of groups of a few documents would be twice the budget).
    """
    whole = np.array([target.available for target in asked], np.int64)
    goal = np.array([target.asked for target in asked], np.int64)
    cap = np.array([int(Fraction(repr(target.cap)) * target.available) for target in asked], np.int64)
    full = goal // np.maximum(whole, 1)
    rest = goal - full * whole
    found: npt.NDArray[np.int32] = full.astype(np.int32)[groups]
    some = np.flatnonzero((rest > 0)[groups])
    if len(some):
        table = matrix(ids)[some]
        high, low = halves(table)
        order = np.lexsort((low, high, keyed_all("sample", seed, rows(table)), groups[some]))
        some = some[order]
        group, length = groups[some], np.asarray(tokens)[some].astype(np.int64)
        reached = np.cumsum(length)
        first = np.searchsorted(group, np.arange(len(asked)))  # where each group begins
        reached -= np.append(0, reached)[first][group]
        found[some[reached <= rest[group]]] += 1
        part = np.minimum(rest[group] - reached + length, length)  # of a document, so much is asked
        last = np.flatnonzero((part > 0) & (part < length))
        wanted = int(part[last].sum())
        last = last[full[group[last]] * whole[group[last]] + reached[last] <= cap[group[last]]]
        theirs = table[order[last]]
        high, low = halves(theirs)
        drawn = keyed_all("sample", seed, (b"last" + row for row in rows(theirs)))
        last = last[np.lexsort((low, high, drawn * (length[last] / part[last])))]
        found[some[last[np.cumsum(length[last]) - length[last] < wanted]]] += 1
    return found
