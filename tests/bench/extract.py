"""Every figure of extraction in one run: `make bench-extract`, or `python -m tests.bench.extract`.

Our engine is scored on each page by a model that was trained without the page's site; the reference is
`trafilatura.extract(page, include_comments=False)`, beside it resiliparse's main content. Differences carry their
paired 95 % bootstrap interval over pages.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from stages.base import Processor
from tests.bench import extract_speed as speed
from tests.bench import warc_reading
from tests.bench.extract_contestants import (
    PEERS,
    fold_extractors,
    our_results,
    peer_texts,
    remembered,
    shipped_extractor,
    train_folds,
)
from tests.bench.extract_metadata import NOTHING, dated, peer_metadata, same_title
from tests.bench.extract_report import Row, compared, environment, show
from tests.bench.extract_scoring import (
    PAGE_TYPES,
    Page,
    micro_f1,
    page_sets,
    pages,
    paired_micro_bootstrap,
    snippet_counts,
    token_f1,
)
from tests.bench.extract_structure import KINDS, kept, pieces

Texts = Mapping[str, Mapping[str, str]]
"""Texts by contestant and page id."""

SCORED = {"quality", "structure", "metadata"}
"""The parts whose pages must not have been seen in training."""

PARTS = ("quality", "structure", "metadata", "speed", "warc")


def quality(found: Sequence[Page], texts: Texts) -> list[Row]:
    """Token F1 by set, page type and language, and the snippets."""
    sets = page_sets(found)
    gold = [page for page in found if page.gold]
    f1 = {name: {p.id: token_f1(of[p.id], p.gold or "").f1 for p in gold} for name, of in texts.items()}
    rows = []

    def row(
        goal: str,
        members: Sequence[Page],
        target: str = "",
        against: str | None = "trafilatura",
        mean: float | None = None,
        low: float | None = None,
    ) -> None:
        if members:
            scores = {name: [of[p.id] for p in members] for name, of in f1.items()}
            rows.append(compared(goal, scores, target, against=against, mean=mean, low=low))

    row("token F1, WCXB", sets["wcxb"], "mean difference ≥ +0.02", mean=0.02)
    for kind in PAGE_TYPES:
        members = sets[f"wcxb/{kind}"]
        row(f"token F1, {kind}", members, "against the better: interval > −0.03", low=-0.03, against=None)
        if kind == "forum":
            row("token F1, forum", members, "mean difference ≥ +0.08", mean=0.08)
    row("token F1, magic-html articles", sets["magic"], "interval > −0.03", low=-0.03)
    if snippets := sets["trafilatura"]:
        counts = {
            name: [snippet_counts(of[p.id], p.wanted, p.unwanted) for p in snippets] for name, of in texts.items()
        }
        difference = paired_micro_bootstrap(counts["ours"], counts["trafilatura"])
        scores = {name: micro_f1(each) for name, each in counts.items()}
        target, met = "difference ≥ −0.005", difference.mean >= -0.005
        rows.append(
            Row(
                "snippets of trafilatura's evaluation, micro F1",
                len(snippets),
                scores,
                difference,
                "trafilatura",
                target,
                met,
            )
        )
    row(
        "token F1, languages without spaces",
        sets["spaceless"],
        "mean difference ≥ +0.03",
        mean=0.03,
        against="resiliparse",
    )
    for language in sorted({p.language or "" for p in gold} - {"", "en"}):
        row(f"  token F1, language {language}", [p for p in gold if p.language == language])
    row("  token F1, not English", sets["multilingual"])
    shingles = {name: [token_f1(of[p.id], p.gold or "", n=4).f1 for p in sets["wcxb"]] for name, of in texts.items()}
    if sets["wcxb"]:
        rows.append(compared("  4-gram F1, WCXB", shingles, ""))
    return rows


def structure(found: Sequence[Page], markdown: Mapping[str, str], reference: Mapping[str, str]) -> list[Row]:
    """Shares of code, formulas and table cells that stand verbatim in our Markdown."""
    counts: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for page in found:
        for kind, pair in kept(pieces(page, page.gold or reference[page.id]), markdown[page.id]).items():
            if pair[1]:
                counts.setdefault((kind, "gold" if page.gold else "others"), []).append(pair)
    rows = []
    words = {"pre": "`pre`", "tex": "TeX", "cells": "table cells"}
    for kind in KINDS:
        for group, where in (
            ("gold", "in the gold text"),
            ("others", "where trafilatura's text is, pages without gold"),
        ):
            pairs = counts.get((kind, group), [])
            if not pairs:
                continue
            hits, total = (sum(pair[at] for pair in pairs) for at in (0, 1))
            by_page = float(np.mean([hit / of for hit, of in pairs]))
            goal = f"{words[kind]} verbatim in Markdown, {total} {where}"
            rows.append(
                Row(
                    goal,
                    len(pairs),
                    {"ours": hits / total, "mean by page": by_page},
                    None,
                    "",
                    "≥ 0.95",
                    hits / total >= 0.95,
                )
                if group == "gold"
                else Row("  " + goal, len(pairs), {"ours": hits / total, "mean by page": by_page})
            )
    return rows


def metadata(found: Sequence[Page], extractors: Mapping[int, Processor], cache: Path | None) -> list[Row]:
    """Titles against WCXB's, dates against the day in the URL."""
    titled = [page for page in found if page.title and page.dataset == "wcxb-dev"]
    ours = our_results(extractors, titled)
    theirs = remembered("trafilatura titles", titled, peer_metadata, NOTHING, cache)
    rows = []
    if titled:
        exact = {
            "ours": [float(same_title(ours[p.id].title, p.title or "")) for p in titled],
            "trafilatura": [float(same_title(theirs[p.id][0], p.title or "")) for p in titled],
        }
        rows.append(compared("titles equal to WCXB's", exact, "no worse", mean=0.0))
        near = {
            "ours": [token_f1(ours[p.id].title or "", p.title or "").f1 for p in titled],
            "trafilatura": [token_f1(theirs[p.id][0] or "", p.title or "").f1 for p in titled],
        }
        rows.append(compared("token F1 of titles", near, "no worse", mean=0.0))
    days = dated(found)
    if days:
        scrubbed = [page for page, _ in days]
        ours = our_results(extractors, scrubbed)
        theirs = remembered("trafilatura dates", scrubbed, peer_metadata, NOTHING, cache)
        right = {
            "ours": [float(ours[page.id].date == day) for page, day in days],
            "trafilatura": [float(theirs[page.id][1] == day) for page, day in days],
        }
        rows.append(compared("dates equal to the day in the URL", right, "no worse", mean=0.0))
        wrong = {
            "ours": [float(ours[page.id].date not in (None, day)) for page, day in days],
            "trafilatura": [float(theirs[page.id][1] not in (None, day)) for page, day in days],
        }
        rows.append(compared("  dates of another day", wrong, ""))
    return rows


def timing(found: Sequence[Page], options: argparse.Namespace) -> list[Row]:
    """CPU a page from bytes to Arrow text, and memory."""
    sample = sorted(found, key=lambda page: page.id)[: options.timed]  # ids are hashes: a fair draw of all sets
    makers: dict[str, Callable[[Sequence[Page]], speed.Work]] = {
        "ours": partial(speed.stage_work, shipped_extractor(options.engine))
    }
    makers |= {name: partial(speed.peer_work, name) for name in PEERS}
    spent = speed.measure(makers, sample, options.rounds)
    ratio = {name: spent["trafilatura"] / spent[name] for name in spent}
    shared = ["--engine", options.engine, "--up-to", sample[-1].id]
    memory = {name: speed.peak(["--peak-of", name, *shared]) / 1e6 for name in ("ours", "trafilatura", "resiliparse")}
    return [
        Row("CPU ms a page, bytes to Arrow text", len(sample), spent),
        Row("trafilatura's CPU / CPU", len(sample), ratio, None, "", "≥ 6 (stretch 8)", ratio["ours"] >= 6),
        Row("peak memory beyond the pages, MB", len(sample), memory),
    ]


def warc(rounds: int) -> list[Row]:
    """WARC reading with bodies decoded against warcio."""
    best = warc_reading.measure(sorted(warc_reading.CRAWL.glob("*.warc.gz")), rounds)
    (ours, (records, _)), (theirs, (wanted, _)) = best["ours"], best["warcio"]
    milliseconds = {"ours": 1000 * ours / records, "warcio": 1000 * theirs / wanted}
    ratio = {"ours": theirs / ours}
    return [
        Row("WARC reading, CPU ms a record", records, milliseconds),
        Row("warcio's CPU / CPU", records, ratio, None, "", "≥ 1.4", theirs / ours >= 1.4),
        Row("records", records, {"ours": records, "warcio": wanted}, None, "", "every one", records == wanted),
    ]


def run(options: argparse.Namespace) -> list[Row]:
    """The rows of the parts that were asked for."""
    found = pages()
    if options.pages:
        found = sorted(found, key=lambda page: page.id)[: options.pages]
    extractors = fold_extractors(options.engine, "text", options.models) if SCORED & set(options.only) else {}
    rows: list[Row] = []
    reference: dict[str, str] = {}
    if {"quality", "structure"} & set(options.only):
        reference = peer_texts("trafilatura", found, options.cache)
    if "quality" in options.only:
        ours = our_results(extractors, found)
        texts = {name: peer_texts(name, found, options.cache) for name in PEERS}
        drops = sum(result.dropped is not None for result in ours.values())
        rows += quality(found, {"ours": {name: result.text for name, result in ours.items()}, **texts})
        rows.append(
            Row(
                "  pages without text",
                len(found),
                {"ours": drops} | {n: sum(not t for t in of.values()) for n, of in texts.items()},
            )
        )
    if "structure" in options.only:
        marked = our_results(fold_extractors(options.engine, "markdown", options.models), found)
        rows += structure(found, {name: result.text for name, result in marked.items()}, reference)
    if "metadata" in options.only:
        rows += metadata(found, extractors, options.cache)
    if "speed" in options.only:
        rows += timing(found, options)
    if "warc" in options.only:
        rows += warc(options.rounds)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; 2 where the pages are not here or the engine cannot run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="blocks", help="the engine in the column `ours`")
    parser.add_argument(
        "--models", type=Path, help="folder with the models fold-0.* to fold-4.*; trained where left out"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pages", type=int, help="a sample of so many pages, for a quick look")
    parser.add_argument("--timed", type=int, default=400, help="pages on which CPU is measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="folder in which the texts of others are kept from run to run")
    parser.add_argument("--json", type=Path, help="file for the same figures as JSON")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--up-to", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            if options.peak_of:
                print(_peak(options))
                return 0
            if options.engine == "blocks" and not options.models and SCORED & set(options.only):
                options.models = Path(scratch)
                train_folds(options.models)
            rows = run(options)
        except subprocess.CalledProcessError as error:
            print(f"bench-extract cannot run: this command failed: {' '.join(error.cmd)}", file=sys.stderr)
            return 2
        except (FileNotFoundError, ValueError) as error:
            print(f"bench-extract cannot run: {error}", file=sys.stderr)
            return 2
    show(rows)
    if options.json:
        document = {"environment": environment(), "engine": options.engine, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0


def _peak(options: argparse.Namespace) -> int:
    sample = pages(up_to=options.up_to)  # no others, whose memory would be counted
    if options.peak_of != "ours":
        return speed.grown(speed.peer_work(options.peak_of, sample))
    return speed.grown(speed.stage_work(shipped_extractor(options.engine), sample))


if __name__ == "__main__":
    sys.exit(main())
