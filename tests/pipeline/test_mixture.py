"""Mixture, shuffle and shard boundaries."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RecipeError
from pipeline.mixture import Target, Wish, copies, targets
from pipeline.shuffle import assign_shards, shuffle_hashes, shuffle_order
from stages.hashing import keyed


def ids(count: int, start: int = 0) -> list[bytes]:
    return [keyed("probe", number, b"id").to_bytes(16, "little") for number in range(start, start + count)]


def source(*counts: int, start: int = 0) -> tuple[list[bytes], np.ndarray]:
    return ids(len(counts), start), np.array(counts, np.int64)


class Taken(NamedTuple):
    """A group's target and what was taken of it."""

    copies: np.ndarray
    available: int
    asked: int
    reached: int
    share: float


def plan(
    sources: Mapping[str, tuple[Sequence[bytes], np.ndarray]],
    shares: Mapping[str, float] | None,
    tokens: int | None,
    max_epochs: float | Mapping[str, float],
    seed: int,
    temperature: float = 1.0,
) -> dict[str, Taken]:
    """Targets and copies of all groups, in one call over all documents as the plan of a run makes it."""
    wanted: dict[str, Target] = targets(
        {name: int(counts.sum()) for name, (_, counts) in sources.items()},
        Wish(tokens, shares, temperature, max_epochs),
    )
    everyone = [document for documents, _ in sources.values() for document in documents]
    counts = np.concatenate([counts for _, counts in sources.values()])
    groups = np.repeat(np.arange(len(sources)), [len(counts) for _, counts in sources.values()])
    taken = copies(everyone, counts, groups, list(wanted.values()), seed)
    found = {}
    for place, (name, target) in enumerate(wanted.items()):
        here = groups == place
        reached = int((taken[here] * counts[here]).sum())
        found[name] = Taken(taken[here], target.available, target.asked, reached, target.share)
    return found


lengths = st.lists(st.integers(1, 50), min_size=1, max_size=40)


@settings(max_examples=200, deadline=None)
@given(lengths, lengths, st.integers(0, 100), st.integers(1, 3000), st.sampled_from([1.0, 1.5, 2.37, 4.0]))
def test_shares_and_budget_are_met_to_the_document(
    one: list[int], two: list[int], percent: int, tokens: int, max_epochs: float
) -> None:
    """Otherwise the model trains on another mixture than the recipe asks for."""
    sources = {"a": source(*one), "b": source(*two, start=100)}
    shares = {"a": percent / 100, "b": (100 - percent) / 100}
    try:
        result = plan(sources, shares, tokens, max_epochs, 7)
    except RecipeError:
        assert any(tokens * shares[name] > max_epochs * sum(sources[name][1]) - 1 for name in shares)
        with pytest.raises(RecipeError, match="up to"):
            plan(sources, shares, tokens, max_epochs, 7)
        return
    assert sum(each.asked for each in result.values()) == tokens
    for name, each in result.items():
        counts = sources[name][1]
        assert abs(each.asked - tokens * shares[name]) < 1
        assert each.reached == int((each.copies * counts).sum())
        assert abs(each.reached - each.asked) < counts.max()
        assert each.reached <= max_epochs * counts.sum(), "no source is read more often than the cap"
        assert each.copies.max() - each.copies.min() <= 1, "every document is taken equally often, up to one copy"


def test_the_most_that_a_refusal_offers_is_possible() -> None:
    """Otherwise the message would send the user from one refused recipe to the next."""
    sources = {"web": source(*[10] * 10), "books": source(7, 7, 7, start=50)}
    shares = {"web": 0.7, "books": 0.3}
    with pytest.raises(
        RecipeError, match=r"'books' would give 300 tokens and has 21, 42 .* up to 140\b.*14.29"
    ) as caught:
        plan(sources, shares, 1000, 2, 1)
    assert "a share of" not in str(caught.value), "both sources fall short, so a share alone mends nothing"
    result = plan(sources, shares, 140, 2, 1)
    assert (result["web"].reached, result["books"].reached) == (100, 42)
    with pytest.raises(RecipeError, match="cannot be reached"):
        plan(sources, shares, 144, 2, 1)
    assert plan(sources, shares, 1000, 14.29, 1)["books"].reached >= 294
    with pytest.raises(RecipeError, match=r"a share of 'books' of at most 0.21"):
        plan(sources, shares, 200, 2, 1)


def test_without_shares_everything_comes_once_or_equally_often() -> None:
    """Otherwise a recipe without a mixture would lose or repeat documents."""
    sources = {"a": source(5, 6, 7), "b": source(*[10] * 20, start=9)}
    once = plan(sources, None, None, 4, 3)
    assert all((each.copies == 1).all() and each.reached == each.available for each in once.values())
    half = plan(sources, {}, 109, 4, 3)
    assert (half["a"].asked, half["b"].asked) == (9, 100)
    assert half["b"].reached == 100
    third = plan(sources, None, 218 * 3, 4, 3)
    assert all((each.copies == 3).all() for each in third.values())
    with pytest.raises(RecipeError, match="max_epochs 4"):
        plan(sources, None, 218 * 5, 4, 3)


def test_without_a_budget_it_is_what_is_there_or_what_the_cap_allows() -> None:
    """Otherwise a small source with a large share would be repeated without end, or a large one cut for nothing."""
    sources = {"a": source(*[10] * 9), "b": source(*[1] * 10, start=20), "c": source(1000, start=40)}
    result = plan(sources, {"a": 0.5, "b": 0.5, "c": 0}, None, 8, 1)
    assert [each.reached for each in result.values()] == [50, 50, 0]
    result = plan(sources, {"a": 0.5, "b": 0.5, "c": 0.0}, None, 2, 1)
    assert [each.reached for each in result.values()] == [20, 20, 0]


def test_a_fraction_of_an_epoch_is_a_prefix_in_sample_order_that_grows() -> None:
    """Otherwise raising the budget would exchange documents that were already trained on."""
    sources = {"a": source(*[3] * 50)}
    taken: set[int] = set()
    for tokens in (1, 30, 90, 149):
        copies = plan(sources, {"a": 1.0}, tokens, 4, 5)["a"].copies
        now = set(np.flatnonzero(copies).tolist())
        assert taken <= now
        assert len(now) == -(-tokens // 3)
        taken = now
    other = plan(sources, {"a": 1.0}, 75, 4, 6)["a"].copies
    assert (other != plan(sources, {"a": 1.0}, 75, 4, 5)["a"].copies).any(), "the seed matters"


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"wbe": 0.5, "books": 0.5}, "no group 'wbe'. Did you mean 'web'"),
        ({"web": 0.5, "books": 0.4}, "add up to 0.9, not to 1"),
        ({"web": 1.0}, "does not name the group 'books'"),
        ({"web": 1.5, "books": -0.5}, "'web' is 1.5"),
        ({"web": 0.5, "books": 0.25, "empty": 0.25}, "'empty', which has no tokens"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares: dict[str, float], message: str) -> None:
    """Otherwise a typing error would change the mixture in silence."""
    sources = {"web": source(1, 2), "books": source(3, start=9)} | ({"empty": source()} if "empty" in shares else {})
    with pytest.raises(RecipeError, match=message):
        plan(sources, shares, None, 4, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=30), st.integers(0, 100))
def test_order_and_sample_do_not_depend_on_rows(copies: list[int], seed: int) -> None:
    """The promise of reproducibility: the same shards whatever part a document came from."""
    names = ids(len(copies))
    rows = np.random.default_rng(seed).permutation(len(copies))
    document, number = shuffle_order(names, np.array(copies, np.int64), seed)
    again, number_again = shuffle_order([names[r] for r in rows], np.array(copies, np.int64)[rows], seed)
    assert document.tolist() == rows[again].tolist()
    assert number.tolist() == number_again.tolist()
    expected = sorted(
        (keyed("shuffle", seed, name + copy.to_bytes(4, "little")), name, copy)
        for name, times in zip(names, copies, strict=True)
        for copy in range(times)
    )
    assert [(names[d], c) for d, c in zip(document, number, strict=True)] == [
        (name, copy) for _, name, copy in expected
    ]
    assert shuffle_hashes(names, seed, copies).tolist() == [
        keyed("shuffle", seed, name + copy.to_bytes(4, "little")) for name, copy in zip(names, copies, strict=True)
    ]
    counts = np.arange(1, len(copies) + 1)
    if copies:
        one = plan({"a": (names, counts)}, {"a": 1.0}, 11, 99, seed)["a"].copies
        two = plan({"a": ([names[r] for r in rows], counts[rows])}, {"a": 1.0}, 11, 99, seed)["a"].copies
        assert one[rows].tolist() == two.tolist()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 100))
def test_shards_tile_the_order_within_their_limit(counts: list[int], limit: int) -> None:
    """Otherwise a document is lost between shards, or a file outgrows what readers of the format take."""
    cuts = assign_shards(np.array(counts, np.int64), limit)
    assert (cuts[0], cuts[-1]) == (0, len(counts))
    assert (np.diff(cuts) > 0).all()
    sizes = [sum(counts[a:b]) for a, b in itertools.pairwise(cuts)]
    assert all(size <= limit or b - a == 1 for size, (a, b) in zip(sizes, itertools.pairwise(cuts), strict=True))
    fewest, filled, documents = 0, 0, 0
    for count in counts:
        if not documents or filled + count > limit:
            fewest, filled, documents = fewest + 1, 0, 0
        filled, documents = filled + count, documents + 1
    assert len(sizes) == fewest


def test_shards_are_of_nearly_equal_size() -> None:
    """Otherwise the last shard is a stub, and the loader's last window holds few documents to shuffle."""
    assert np.diff(assign_shards(np.ones(201, np.int64), 100)).tolist() == [67, 67, 67]
    assert assign_shards(np.array([6, 5, 5, 6]), 11).tolist() == [0, 2, 4]
    assert assign_shards(np.array([3, 500, 3]), 100).tolist() == [0, 1, 2, 3]


amounts = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10_000), min_size=1)


@settings(max_examples=300, deadline=None)
@given(amounts, st.data(), st.floats(0.5, 10), st.integers(1, 40_000))
def test_what_a_cap_leaves_is_spread_over_the_others(
    available: dict[str, int], data: st.DataObject, temperature: float, tokens: int
) -> None:
    """Otherwise a small language would eat the budget, or a part of the budget would go to nobody."""
    limits = data.draw(st.dictionaries(st.sampled_from(sorted(available)), st.sampled_from([0.5, 1, 2, 8])))
    wish = Wish(tokens, None, temperature, {**limits, "*": 3})
    caps = {name: int(limits.get(name, 3) * amount) for name, amount in available.items()}
    if sum(caps.values()) < tokens:
        with pytest.raises(RecipeError, match=f"up to {sum(caps.values()):,}, or a higher max_epochs"):
            targets(available, wish)
        return
    found = targets(available, wish)
    assert sum(one.asked for one in found.values()) == tokens
    assert all(found[name].asked <= caps[name] for name in available)
    weights = {name: amount ** (1 / temperature) for name, amount in available.items()}
    free = {name: found[name].asked / weights[name] for name in available if found[name].asked + 1 < caps[name]}
    for one, two in itertools.combinations(free, 2):  # nobody below its cap has less than its part, up to rounding
        assert abs(free[one] - free[two]) <= 1.1 / weights[one] + 1.1 / weights[two] + 1e-4 * free[one]
    for name in available.keys() - free.keys():  # and who is full would have had more
        assert all(found[name].asked <= free[other] * weights[name] * 1.001 + 2.2 + weights[name] for other in free)


def test_temperature_lifts_what_is_small() -> None:
    """Otherwise a multilingual model would see English alone."""
    available = {"en": 1_000_000, "sw": 10_000, "none": 0}
    found = targets(available, Wish(200_000, None, 2.0, 4))
    assert found["sw"].asked == round(200_000 * 100 / 1100)  # square roots are 1000 and 100
    assert found["none"].asked == 0
    capped = targets(available, Wish(1_000_000, None, 2.0, {"sw": 2, "en": 3}))
    assert (capped["sw"].asked, capped["en"].asked) == (20_000, 980_000)
    assert sum(one.asked for one in targets(available, Wish(None, None, 5.0, 4)).values()) == 1_010_000
    assert sum(one.asked for one in targets(available, Wish(None, None, 1.0, {"en": 0.5})).values()) == 510_000


def test_a_star_stands_for_all_groups_not_named() -> None:
    """Otherwise a mixture of hosts would have to name every host of a crawl."""
    available = {"a.com": 600, "b.com": 300, "c.com": 100, "wiki.org": 500}
    found = targets(available, Wish(1000, {"wiki.org": 0.5, "*": 0.5}, 1.0, 4))
    assert {name: one.asked for name, one in found.items()} == {
        "a.com": 300,
        "b.com": 150,
        "c.com": 50,
        "wiki.org": 500,
    }
    assert [one.share for one in found.values()] == [0.3, 0.15, 0.05, 0.5]
    capped = targets(available, Wish(1000, {"wiki.org": 0, "*": 1}, 1.0, {"a.com": 0.5}))
    assert {name: one.asked for name, one in capped.items()} == {
        "a.com": 300,
        "b.com": 525,
        "c.com": 175,
        "wiki.org": 0,
    }
    assert sum(one.asked for one in targets(available, Wish(None, {"wiki.org": 0, "*": 1})).values()) == 1000
    with pytest.raises(RecipeError, match=r"under '\*' would give 5,000 tokens and hold 4,000 with every copy.* 8,000"):
        targets(available, Wish(10_000, {"wiki.org": 0.5, "*": 0.5}, 1.0, {"*": 4, "wiki.org": 20}))
    with pytest.raises(RecipeError, match=r"does not name the group 'a.com' and 2 more; .* or '\*' a share"):
        targets(available, Wish(1000, {"wiki.org": 1.0}))
    with pytest.raises(RecipeError, match=r"mixture.max_epochs: there is no group 'wiki.or'. Did you mean 'wiki.org'"):
        targets(available, Wish(1000, None, 1.0, {"wiki.or": 2}))
    with pytest.raises(RecipeError, match=r"from '\*', and the groups not named have no tokens"):
        targets({"a": 5}, Wish(None, {"a": 0.5, "*": 0.5}))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 5)), min_size=1, max_size=60), st.integers(0, 99))
def test_many_groups_are_met_to_the_document_in_any_order_of_rows(rows: list[tuple[int, int]], seed: int) -> None:
    """Otherwise shares by host or bucket would be met worse than those by source, or hang on the parts' order."""
    counts, groups = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    available = {str(group): int(counts[groups == group].sum()) for group in range(6)}
    wanted = list(targets(available, Wish(max(1, int(counts.sum() * 1.7)), None, 3.0, 5)).values())
    names = ids(len(rows))
    taken = copies(names, counts, groups, wanted, seed)
    for group, target in enumerate(wanted):
        here = groups == group
        if here.any():
            reached = int((taken[here] * counts[here]).sum())
            assert abs(reached - target.asked) < counts[here].max()
            assert reached <= 5 * target.available
    order = np.random.default_rng(seed).permutation(len(rows))
    again = copies([names[row] for row in order], counts[order], groups[order], wanted, seed)
    assert again.tolist() == taken[order].tolist()


@pytest.mark.parametrize(("part", "temperature"), [(0.1, 1.0), (0.5, 3.0), (2.3, 1.0)])
def test_a_budget_is_met_with_many_groups_of_few_documents(part: float, temperature: float) -> None:
    """Otherwise a mixture by host, with a document and more too much from each, would be twice its budget."""
    rng = np.random.default_rng(4)
    groups = np.append(np.arange(400), rng.integers(0, 40, 800))
    counts = rng.integers(1, 900, len(groups))
    available = {str(group): int(counts[groups == group].sum()) for group in range(400)}
    budget = int(counts.sum() * part)
    wanted = list(targets(available, Wish(budget, None, temperature, 4)).values())
    taken = copies(ids(len(groups)), counts, groups, wanted, 1)
    reached = np.bincount(groups, taken * counts, 400)
    assert 0 <= reached.sum() - budget < counts.max()
    for group, target in enumerate(wanted):
        assert abs(reached[group] - target.asked) < counts[groups == group].max()
    asked = sum(target.asked for target in wanted[40:])  # those of one document together have their part
    assert reached[40:].sum() == pytest.approx(asked, rel=0.15)


def test_groups_stand_one_behind_another_in_shuffled_order() -> None:
    """Otherwise a shard of one source would hold documents of another, or documents as they lay in the crawl."""
    groups = np.array([1, 0, 1, 0, 2, 1])
    document, copy = shuffle_order(ids(6), np.array([1, 2, 0, 1, 1, 1]), 3, groups)
    assert groups[document].tolist() == [0, 0, 0, 1, 1, 2]
    whole, _ = shuffle_order(ids(6), np.array([1, 2, 0, 1, 1, 1]), 3)
    for group in range(3):
        assert document[groups[document] == group].tolist() == whole[groups[whole] == group].tolist()
    assert sorted(zip(document.tolist(), copy.tolist(), strict=True)) == [
        (0, 0),
        (1, 0),
        (1, 1),
        (3, 0),
        (4, 0),
        (5, 0),
    ]
