"""`corpusmill inspect --contamination`, `--bias`, `--topics` and `--scores`, over real pages and planted texts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small_run import CRAWL, run_here

from pipeline.app import console
from pipeline.errors import UserError
from pipeline.look import balance, clean_folder, contamination, scores, topics
from pipeline.look.hosts import Hosts
from pipeline.look.runfolder import RunFolder
from pipeline.prefix import hosts_of
from pipeline.train_classifier.documents import Document
from pipeline.train_classifier.training import train
from stages.classifier.fit import Training
from stages.classifier.model import dump

ITEM = "Janet's ducks lay sixteen eggs per day and she eats three of them for breakfast every single morning"
OTHER = "A robe takes two bolts of blue fiber and half that much white fiber, so how many bolts is that in total"
TOPICS = {
    "biology": "the mouse is a small rodent that eats seeds and nests in the meadow with its young",
    "computing": "the mouse is plugged into the port and its driver sends clicks to the program",
    "astronomy": "the telescope saw a nebula near the star whose light left it before the earth was",
}
URL = "https://zoo.example/3"
FILLER = (
    "The river rose in the night and by morning the lower meadows lay under water, as it is with that of the hills. "
)
Report = Callable[[RunFolder], Any]


def notes() -> list[dict[str, str]]:
    """Texts whose figures are known."""
    made = []
    for number in range(10):
        made.append((f"https://zoo.example/{number}", f"Number {number}: {TOPICS['biology']}. " * 9 + "He and she. "))
    for number in range(6):
        made.append((f"https://pc{number}.example/", f"Number {number}: {TOPICS['computing']}. " * 9 + "He and his. "))
    made += [
        ("https://zoo.example/eggs", f"{FILLER * 4}{ITEM}."),
        ("https://pc1.example/eggs", f"{ITEM}. {FILLER * 9}"),
    ]
    made += [("https://pc2.example/half", f"{FILLER * 12}{' '.join(OTHER.split()[:15])} and nothing more of it.")]
    made += [(f"https://short.example/{number}", f"Seven women came, number {number}.") for number in range(7)]
    made += [("https://rude.example/", f"{FILLER * 8}\n\nYou are a stupid fucking idiot and I hate you, bitch.\n")]
    return [{"url": url, "text": text} for url, text in made]


def recipe_in(folder: Path, files: list[list[dict[str, str]]], *, pages: bool) -> Path:
    """A recipe over these texts, with a model and a benchmark beside it."""
    for number, rows in enumerate(files):
        (folder / f"notes-{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = [
        Document(label, f"{text} {word}") for label, text in TOPICS.items() for word in "one two three four".split()
    ]
    facts: dict[str, Any] = {}
    model = train(examples, "topic", sorted(TOPICS), Training(bits=12, epochs=20, seed=1), facts)
    (folder / "topics.npz").write_bytes(dump(model))
    (folder / "bench").mkdir()
    (folder / "bench" / "ducks.txt").write_text(
        f"{ITEM}\nAn item that nobody has ever seen in any document, as it is new\n"
    )
    (folder / "bench" / "robes.jsonl").write_text(json.dumps({"question": OTHER}) + "\n")
    inputs: list[dict[str, Any]] = [{"source": "notes", "path": "notes-*.jsonl"}]
    if pages:
        inputs.append({"source": "web", "path": str(CRAWL / "web-000.warc.gz")})
    recipe = {
        "name": "reports",
        "inputs": inputs,
        "stages": [
            {"extract": {"engine": "blocks"}}, {"language": {}}, {"bias": {}},
            {"classify": {"model": "topics.npz", "column": "topic"}}, {"gopher_quality": {"min_words": 30}},
            {"toxicity_model": {"mode": "tag"}},
            {"decontaminate": {"benchmarks": [{"path": "bench"}], "max_share": 0.05, "min_item_share": 0.1}},
        ],
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("reports")
    run_here(recipe_in(folder, [notes()], pages=True), folder / "run")
    return RunFolder(folder / "run")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose recipe has no stage, and that kept nothing."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "a.jsonl").write_text('{"text": ""}\n')
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"inputs": [{"source": "notes", "path": "a.jsonl"}]}))
    run_here(folder / "recipe.yaml", folder / "run")
    return RunFolder(folder / "run")


def test_contamination_is_told_by_item(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody could tell which benchmark's results are worth nothing, or find the pages that leaked it."""
    (found,) = contamination.report(run)
    assert (found["with_items"], found["beyond_limit"]) == (3, 3)
    worst, second = found["items"]
    assert (worst["item"], worst["documents"], worst["beyond_limit"], worst["item_share"]) == ("ducks:1", 2, 2, 1.0)
    assert worst["text"] == ITEM
    assert (second["item"], second["documents"]) == ("robes:1", 1)
    assert 0.1 < second["item_share"] < 1
    by_file = {one["file"]: (one["items"], one["met"], one["whole"], one["never_met"]) for one in found["files"]}
    assert by_file == {"ducks.txt": (2, 1, 1, 1), "robes.jsonl": (1, 1, 0, 0)}
    lost = pa.concat_tables(map(pq.read_table, run.parts("dropped"))).to_pylist()
    assert {row["id"].hex(): row["stage"] for row in lost}[worst["example"]] == "decontaminate"
    contamination.print_report([found], console())
    assert "ducks:1" in capsys.readouterr().out


def test_contamination_without_the_benchmark_files(run: RunFolder, tmp_path: Path) -> None:
    """A report would count items of other files as never met, or end in a traceback."""
    copy = tmp_path / "run"
    shutil.copytree(run.folder, copy)
    context = json.loads((copy / "ledger" / "context.json").read_text())
    for folder, why in ((tmp_path / "elsewhere", "there is no file"), (tmp_path, "changed since the run")):
        (tmp_path / "bench").mkdir(exist_ok=True)
        (tmp_path / "bench" / "ducks.txt").write_text(OTHER) if folder == tmp_path else None
        (copy / "ledger" / "context.json").write_text(json.dumps(context | {"folder": str(folder)}))
        (found,) = contamination.report(RunFolder(copy))
        assert why in found["unknown"]
        assert [one["never_met"] for one in found["files"]] == [None, None]
        assert [one["item"] for one in found["items"]] == ["ducks:1", "robes:1"]


def test_balance_and_whom_filters_drop(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Mixing for balance would be guesswork, and a filter that drops pages about women would go unseen."""
    found = balance.report(run)
    own = found["sources"]["notes"]
    assert own["groups"]["gender_male"] == {
        "documents": 16,
        "characters": own["groups"]["gender_male"]["characters"],
        "terms": 22,
    }
    assert (own["groups"]["gender_female"]["documents"], own["ratios"]["gender_female:gender_male"]) == (10, 0.4545)
    whole = found["documents"]
    assert whole["documents"] == sum(row.body["documents"] for row in run.of("documents"))
    assert whole["documents"] == sum(one["documents"] for one in found["sources"].values())
    assert found["languages"]["de"]["with_list"] == found["languages"]["de"]["documents"] > 0
    (quality,) = [facts for facts in found["filters"] if facts["stage"] == "gopher_quality"]
    female, male = (quality["groups"][f"gender.{side}"] for side in ("female", "male"))
    assert female["dropped"] >= 7
    assert female["rate"] > male["rate"]
    assert quality["reached"] >= quality["groups"]["nobody"]["reached"] + female["reached"]
    balance.print_report(found, console())
    assert "gender.female" in capsys.readouterr().out


def test_topics_with_their_gaps(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A corpus could lack a domain, or have it from a single site, and nobody would see."""
    (found,) = topics.report(run)
    own = found["sources"]["notes"]
    assert own["topics"]["biology"] >= 10
    assert own["topics"]["computing"] >= 6
    biology = found["topics"]["biology"]
    assert (biology["largest_host"], biology["hosts_exact"]) == ("zoo.example", True)
    assert found["topics"]["computing"]["hosts"] >= 6
    assert sum(one["documents"] for one in found["topics"].values()) == found["documents"]
    assert [name for name in TOPICS if name not in own["topics"]] == own["missing"]
    assert 1 <= found["diversity"]["effective"] <= 3
    assert sum(facts["dropped"] for facts in found["filters"] if facts["stage"] == "gopher_quality") >= 7
    topics.print_report([found], console())
    assert "zoo.example" in capsys.readouterr().out


def test_topics_diversity() -> None:
    """Figures of different corpora could not be compared."""
    assert topics.diversity({"a": 5, "b": 5}) == {"entropy": 1.0, "effective": 2.0}
    assert topics.diversity({"a": 5, "b": 0}) == {"entropy": 0.0, "effective": 1.0}
    assert topics.diversity({"a": 0}) == topics.diversity({}) == {"entropy": 0.0, "effective": 0.0}


def test_scores_are_spread_out(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A threshold on a tag would be set in the dark, and toxic paragraphs go unseen where they are only tagged."""
    found = {one["column"]: one for one in scores.report(run)}
    assert found["toxicity_score"]["with_value"] == found["language_score"]["documents"]
    assert found["toxicity_paragraphs (number)"]["not_zero"] >= 1
    assert found["identity_terms.gender"]["not_zero"] >= 16
    assert found["toxicity_score"]["quantiles"]["1.0"] > 0.2
    scores.print_report(list(found.values()), console())
    shown = capsys.readouterr().out
    assert "toxicity_score" in shown
    assert "identity_subgroups has 22 fields" in shown


def test_reports_do_not_hang_on_how_the_work_is_cut(run: RunFolder, tmp_path: Path) -> None:
    """Two runs over the same documents would report different figures."""
    run_here(recipe_in(tmp_path, [notes()[::-2], notes()[-2::-2]], pages=False), tmp_path / "run")
    one, other = (
        [*contamination.report(a), balance.report(a), *topics.report(a)] for a in (run, RunFolder(tmp_path / "run"))
    )
    assert one[0]["items"] == other[0]["items"]
    assert one[1]["sources"]["notes"] == other[1]["sources"]["notes"]
    assert one[2]["sources"]["notes"] == other[2]["sources"]["notes"]


@pytest.mark.parametrize(
    ("report", "stage"),
    [(contamination.report, "`decontaminate`"), (balance.report, "`bias`"), (topics.report, "`classify`"),
     (scores.report, "`toxicity_model`")],
)  # fmt: skip
def test_a_run_without_the_stage_says_which_to_add(bare: RunFolder, report: Report, stage: str) -> None:
    """A user would see an empty table, and take it for a clean and balanced corpus."""
    with pytest.raises(UserError, match=stage) as error:
        report(bare)
    assert "\n" not in str(error.value)


def test_an_empty_corpus_has_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A report would divide by nothing."""
    run_here(recipe_in(tmp_path, [[{"url": "u", "text": "Too short."}]], pages=False), tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    for look in (contamination, balance, topics, scores):
        look.print_report(look.report(run), console())
    assert "reached" in capsys.readouterr().out


def test_parts_that_were_cleaned_away_are_named(run: RunFolder, tmp_path: Path) -> None:
    """A user would get a traceback, or figures of nothing."""
    shutil.copytree(run.folder, tmp_path / "run")
    clean_folder.carry_out(clean_folder.plan(tmp_path / "run", ["dropped"]))
    run = RunFolder(tmp_path / "run")
    for report in (contamination.report, balance.report, topics.report, scores.report):
        what = "measures" if report == contamination.report else "documents"
        with pytest.raises(UserError, match=f"took the {what} out"):
            report(run)


def test_a_document_shows_whom_it_names(run: RunFolder, corpusmill: Any) -> None:
    """Two lines of zeros would hide what a document was tagged with."""
    (example,) = (row["id"].hex() for row in pq.read_table(run.parts("documents")).to_pylist() if row["url"] == URL)
    shown = corpusmill("trace", run.folder, "--doc", example).stdout
    assert "identity_terms {gender 2}" in shown
    assert "identity_subgroups {gender_female 1, gender_male 1}, stereotypes 0, topic biology" in shown


def test_views_exclude_each_other(run: RunFolder, corpusmill: Any) -> None:
    """One of two options would be passed over in silence."""
    done = corpusmill("inspect", run.folder, "--bias", "--topics", check=False)
    assert (done.returncode, done.stderr) == (2, "corpusmill: --topics and --bias are views of their own; give one\n")
    assert json.loads(corpusmill("inspect", run.folder, "--topics", "--json").stdout)[0]["column"] == "topic"


def test_hosts_are_counted_in_bounded_memory() -> None:
    """Ten million documents would fill the memory; estimates would be far off, or the largest host be lost."""
    urls = [f"https://user@h{n}.example:80/x" for n in range(4000)] + ["HTTP://Big.example/a"] * 1000
    urls += ["ftp://[2001:db8::1]:21/", "no url"]
    names = hosts_of(pa.array([*urls, None]))
    assert names[-4:].to_pylist() == ["big.example", "[2001:db8::1]", None, None]
    for most in (10_000, 500):
        hosts = Hosts(most)
        for start in range(0, len(names), 500):
            part = names[start : start + 500]
            hosts.add(pa.array(["a"] * len(part)), part)
        facts = hosts.facts("a")
        assert len(hosts.counts) <= most
        assert (facts["with_host"], facts["largest_host"]) == (5001, "big.example")
        if facts["hosts_exact"]:
            assert (facts["hosts"], facts["largest_host_documents"]) == (4002, 1000)
        else:
            assert 3000 < facts["hosts"] < 5200
            assert facts["largest_host_documents"] > 900
    assert Hosts().facts("none")["hosts"] == 0
