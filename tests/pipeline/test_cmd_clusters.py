"""`corpusmill inspect --clusters`: sizes, reasons, the largest clusters with their texts, chains."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small_run import run_here
from typer.testing import CliRunner

from pipeline.app import console
from pipeline.cli import app
from pipeline.errors import RecipeError, UserError
from pipeline.ids import matrix, rows
from pipeline.look import clean_folder, clusters, clusterview, dropped, overview, tables
from pipeline.look.runfolder import RunFolder, one_line

WORDS = random.Random(3).choices([f"{a}{b}{c}" for a in "bdfklm" for b in "aeiou" for c in "nrst"], k=4_000)
CHINESE = "".join(chr(0x4E00 + random.Random(4).randrange(3_000)) for _ in range(400))
STEERING = "\x1b[2Jthe screen\x9b is gone \u202eand turned round\r\n"


def notes() -> list[dict[str, str]]:
    """A chain of twelve windows that slide over words, copies under other URLs, one URL twice, and strangers."""
    texts = [" ".join(WORDS[start : start + 400]) for start in range(0, 144, 12)]
    made = [{"url": f"https://chain.example/{number}", "text": text} for number, text in enumerate(texts)]
    for number in range(5):
        made.append({"url": f"https://copy.example/{number}", "text": STEERING + " ".join(WORDS[1_000:1_200])})
    made += [{"url": f"https://zh.example/{number}", "text": CHINESE} for number in range(2)]
    made += [{"url": "https://same.example/", "text": " ".join(WORDS[at : at + 100])} for at in (2_000, 2_500)]
    made += [{"url": f"https://alone.example/{at}", "text": " ".join(WORDS[at : at + 150])} for at in (3_000, 3_500)]
    return made


def recipe_in(folder: Path, texts: list[dict[str, str]], dedup: dict[str, Any]) -> Path:
    (folder / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts), "utf-8")
    path = folder / "recipe.yaml"
    path.write_text(
        yaml.safe_dump({"inputs": [{"source": "notes", "path": "notes.jsonl"}], "stages": [], "dedup": dedup})
    )
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("clusters")
    run_here(recipe_in(folder, notes(), {"exact": ["url", "text"], "near": {"threshold": 0.8}}), folder / "run")
    return RunFolder(folder / "run")


def duplicates(run: RunFolder) -> list[dict[str, Any]]:
    return [row for path in run.parts("duplicates") for row in pq.read_table(path).to_pylist()]


def test_figures_are_those_of_the_table(run: RunFolder) -> None:
    """A user would tune the threshold by wrong numbers."""
    facts, table = clusters.report(run), duplicates(run)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table:
        groups[row["survivor"].hex()].append(row)
    assert facts["removed"] == len(table) == 11 + 4 + 1 + 1
    assert facts["entered"] == len(notes())
    assert facts["clusters"] == len(groups) == 4
    assert facts["reasons"] == {"near_duplicate": 11, "same_text": 5, "same_url": 1}
    assert facts["sizes"] == [
        {"from": 2, "to": 3, "clusters": 2, "removed": 2},
        {"from": 4, "to": 7, "clusters": 1, "removed": 4},
        {"from": 8, "to": 15, "clusters": 1, "removed": 11},
    ]
    assert [one["size"] for one in facts["largest"]] == [12, 5, 2, 2]
    for one in facts["largest"]:
        mine = groups[one["survivor"]]
        figures = [row["similarity"] for row in mine if row["similarity"] is not None]
        assert one["lowest"] == (min(figures) if figures else None)
        assert (one["removed"], one["size"]) == (len(mine), mine[0]["cluster_size"])
        assert one["in_run"] is True
        assert {member["id"] for member in one["members"]} <= {row["loser"].hex() for row in mine}


def test_the_largest_show_their_texts(run: RunFolder) -> None:
    """Whether a cluster is one of copies, or of strangers with one menu, is seen from texts alone; losers have none in
    the documents."""
    chain, copies, *_ = clusters.report(run)["largest"]
    by_url = {row["url"]: row["text"] for row in notes()}
    for one in (chain, *chain["members"]):
        assert one["text"] == by_url[one["url"]][: clusters.CHARACTERS]
    assert copies["text"] == copies["members"][0]["text"]
    assert "the screen" in copies["text"]
    (chinese,) = (one for one in clusters.report(run)["largest"] if "zh.example" in one["url"])
    assert chinese["text"] == CHINESE[: clusters.CHARACTERS]


def test_chains_are_told_with_their_lowest_similarity(run: RunFolder) -> None:
    """Pairs that are alike lead from one document to another that is not: nobody would see what was removed for it."""
    facts = clusters.report(run)
    assert (facts["chained_clusters"], facts["chained_removed"]) == (1, 11)
    (chain,) = facts["chains"]
    assert chain["lowest"] == min(row["similarity"] for row in duplicates(run) if row["reason"] == "near_duplicate")
    assert chain["lowest"] < facts["threshold"] == 0.8
    figures = [member["similarity"] for member in chain["members"]]
    assert figures == sorted(figures)
    assert figures[0] == chain["lowest"]


def test_passes_change_nothing(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond some millions of losers the figures would be others."""
    whole = clusters.report(run)
    for losers in (1, 4):
        monkeypatch.setattr(clusters, "LOSERS", losers)
        assert clusters.report(run) == whole
    assert clusters.report(run, 1)["largest"] == whole["largest"][:1]


def test_it_is_drawn(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of a page would steer the terminal of whoever looks at it."""
    clusterview.print_report(clusters.report(run), console())
    said = capsys.readouterr().out
    assert "4 clusters: 17 of 23 documents (73.9%)" in said
    assert "Chains: in 1 clusters (11 documents lost)" in said
    assert "https://chain.example/" in said
    assert CHINESE[:100] in said
    assert "\\x1b[2Jthe screen\\x9b is gone \\u202eand" in said
    assert not {"\x1b", "\x9b", "\u202e", "\r"} & set(said)
    assert [line.count("█") for line in said.splitlines() if " to " in line and "│" in line] == [5, 10, 30]


def test_bars_grow_and_never_vanish() -> None:
    """A cluster among a million would not be seen."""
    assert [len(tables.bar(value, 1_000_000)) for value in (0, 1, 500_000, 1_000_000)] == [0, 1, 15, 30]


def test_steering_characters_are_spelled_out() -> None:
    """A page's text could hide what follows it, or turn it round."""
    assert one_line("a\x00\t\x85\u2028\u202e\u2066ん") == "a\\x00\\t\\x85\\u2028\\u202e\\u2066ん"


def test_the_command_line_gives_json_and_refuses_two_views(run: RunFolder) -> None:
    """Scripts that watch a corpus would have to read a drawing."""
    done = CliRunner().invoke(app, ["inspect", str(run.folder), "--clusters", "-n", "2", "--json"])
    assert done.exit_code == 0
    facts = json.loads(done.stdout)
    assert len(facts["largest"]) == 2
    assert facts["clusters"] == 4
    two = CliRunner().invoke(app, ["inspect", str(run.folder), "--clusters", "--scores"])
    assert two.exit_code == RecipeError.exit_code
    assert overview.overview(run.folder)["clusters"] == {"2": 2, "5": 1, "12": 1}


def test_what_was_taken_away_is_said(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cluster would seem to be of empty documents, or the command end in a traceback."""
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    clean_folder.carry_out(clean_folder.plan(folder, ["documents", "duplicates"]))
    facts = clusters.report(RunFolder(folder))
    assert [one["text"] is None for one in facts["largest"]] == [False] * 4
    assert all(member["text"] is None for one in facts["largest"] for member in one["members"])
    clusterview.print_report(facts, console())
    assert "its text is not there any more" in capsys.readouterr().out
    clean_folder.carry_out(clean_folder.plan(folder, ["documents"]))
    with pytest.raises(UserError, match="took the duplicates out"):
        clusters.report(RunFolder(folder))


def test_a_survivor_of_an_earlier_crawl_is_named(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text is not in this run: without its URL nobody could find out what stayed."""
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    (path,) = RunFolder(folder).parts("duplicates")
    table = pq.read_table(path)
    old = pa.array([bytes(15) + b"\7"] * len(table), pa.binary(16))
    urls = pa.array(["https://earlier.example/"] * len(table))
    for name, values in (("survivor", old), ("survivor_url", urls)):
        table = table.set_column(table.schema.get_field_index(name), name, values)
    pq.write_table(table, path)
    facts = clusters.report(RunFolder(folder))
    (one,) = facts["largest"]
    assert (one["in_run"], one["url"], one["text"]) == (False, "https://earlier.example/", None)
    clusterview.print_report(facts, console())
    assert "https://earlier.example/ (of an earlier crawl, not in this run)" in capsys.readouterr().out


def test_a_run_without_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first look at a clean corpus would be a traceback."""
    run_here(recipe_in(tmp_path, notes()[-2:], {"exact": ["text"]}), tmp_path / "run")
    facts = clusters.report(RunFolder(tmp_path / "run"))
    assert (facts["clusters"], facts["removed"], facts["largest"], facts["threshold"]) == (0, 0, [], None)
    clusterview.print_report(facts, console())
    assert "no duplicates among 2 documents" in capsys.readouterr().out


def test_duplicates_that_stay_are_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures would read as if they were removed; and a dropped record would name the URL of another's survivor."""
    texts = [*notes()[12:16], *notes()[19:20], *notes()[19:20]]
    run_here(recipe_in(tmp_path, texts, {"exact": ["text"], "mode": "mark"}), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    facts = clusters.report(run)
    assert (facts["mode"], facts["clusters"], facts["removed"]) == ("mark", 2, 4)
    (record,) = dropped.records(run, dropped.Chosen())
    assert (record["url"], record["survivor_url"]) == ("https://same.example/", "https://same.example/")
    clusterview.print_report(facts, console())
    assert "lost to another one, and stay nevertheless (`mode: mark`)" in capsys.readouterr().out


def test_very_many_equal_sizes_give_those_of_the_least_ids() -> None:
    """Which of a million pairs is shown would depend on the order of files."""
    generator = random.Random(7)
    survivors = [generator.randbytes(16) for _ in range(3_000)]
    columns = {
        "survivor": pa.array(survivors, pa.binary(16)),
        "size": pa.array([2] * 3_000),
        "removed": pa.array([1] * 3_000),
        "lowest": pa.array([0.9] * 2_999 + [None], pa.float64()),
    }
    counts = clusters._Counts(4, 0.95)
    counts.add(pa.table(columns))
    assert [one["survivor"] for one in counts.largest] == sorted(survivors)[:4]
    assert [one["survivor"] for one in counts.chains] == sorted(survivors[:-1])[:4]
    assert (counts.chained, counts.clusters) == (2_999, 3_000)
    assert counts.chain_below == pytest.approx(0.95, abs=1e-5)
    assert clusters._Counts(4, None).chain_below == -math.inf
    assert list(rows(matrix(survivors[:2]))) == survivors[:2]
