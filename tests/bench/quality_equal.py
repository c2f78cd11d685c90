"""Counts of quality, kernel against plain Python, on as many texts as asked: `python -m tests.bench.quality_equal`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.append(str(Path(__file__).parents[1] / "stages"))

import quality_reference as reference
from hypothesis import strategies as st
from test_quality_count import ANY, LIKELY, one
from test_segmenters import MIXED
from test_segmenters import one as cut_one


def main() -> int:
    """Compares; ends with the first text on which they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--texts", type=int, default=100_000, help="texts of any characters, and as many of likely ones"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, texts in (("any", ANY), ("likely", LIKELY)):

        @seed(options.seed)
        @settings(
            max_examples=options.texts, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(texts)
        def equal(text: str) -> None:
            assert one(text) == reference.counts(text)

        equal()
        print(f"{name}: {options.texts:,} texts, all counts equal")

    @seed(options.seed)
    @settings(
        max_examples=options.texts, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(MIXED, st.sets(st.integers(0, 60), max_size=20))
    def equal_cut(text: str, places: set[int]) -> None:
        places = {place for place in places if place <= len(text)}
        assert cut_one(text, places) == reference.counts(text, places)

    equal_cut()
    print(f"cut by a segmenter: {options.texts:,} texts, all counts equal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
