"""Mixtures, splits and layouts of whole runs: one small run, and what its last phases make of changed recipes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from small_run import contents, run_here, write_recipe

from pipeline import token_parts
from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.look.overview import overview
from pipeline.look.overviewview import print_mixture
from pipeline.look.runfolder import RunFolder
from pipeline.look.verify import verify
from pipeline.phases import plan
from pipeline.progress import Reporter
from pipeline.recipe import Mixture, read_recipe
from pipeline.shards import Corpus
from pipeline.splits import Split, held_out, registered_domain, split_hashes
from pipeline.work import Context, Trial


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small recipe and, in `run`, its finished run."""
    folder = tmp_path_factory.mktemp("mixture")
    changes: dict[str, Any] = {"dedup": {"exact": ["url", "text"]}, "mixture": {}}
    run_here(write_recipe(folder, **changes), folder / "run")
    return folder


def changed(made: Path, tmp_path: Path, *changes: str) -> tuple[Path, dict[str, int]]:
    """The run made again with changes: its folder, and the units that this took."""
    out = tmp_path / "run"
    if not out.exists():
        shutil.copytree(made / "run", out)
    return out, run_here(made / "small.yaml", out, *changes)


def survivors(out: Path) -> dict[bytes, tuple[str, list[int]]]:
    """Source and tokens of each document before the mixture."""
    found = {}
    for path in RunFolder(out).parts("tokens"):
        if path.suffix == ".arrow":
            tokens = token_parts.tokens_of(path, np.dtype("<u2"))
            for row in token_parts.opened(path).to_pylist():
                found[row["id"]] = row["source"], tokens[row["start"] :][: row["n_tokens"]].tolist()
    return found


def printed(out: Path) -> str:
    console = Console(width=160, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    print_mixture(overview(out), console)
    return console.export_text()


def test_by_source_holds_every_document_once(made: Path, tmp_path: Path) -> None:
    """Otherwise weights could not be chosen at training time: documents would be missing, or be there twice."""
    shares = "mixture.shares={notes: 0.1, wet: 0.5, docs: 0.4}"
    layout = "shards.layout=by_source"
    out, done = changed(
        made, tmp_path, layout, shares, "mixture.tokens=150000", "mixture.max_epochs={notes: 9, '*': 2}"
    )
    assert set(done) == {"plan", "shard"}, "only the last phases run"
    corpus = Corpus.open(out)
    assert corpus.layout == "by_source"
    before = survivors(out)
    seen: Counter[bytes] = Counter()
    for split in corpus.splits:
        groups = [shard.group for shard in corpus.shards(split)]
        assert groups == sorted(groups, key=["notes", "wet", "docs"].index), "those of one group stand together"
        for shard in corpus.shards(split):
            assert shard.name.startswith(f"{split}-{shard.group}-0")
            tokens = corpus.tokens(shard)
            for row in corpus.documents(shard).to_pylist():
                seen[row["id"]] += 1
                mine = tokens[row["token_start"] : row["token_end"]].tolist()
                assert (row["source"], mine[:-1]) == before[row["id"]]
                assert (shard.group, mine[-1], row["copy"]) == (row["source"], corpus.special["eot"], 0)
    assert seen == Counter(dict.fromkeys(before, 1))

    mixture = corpus.mixture()
    assert (mixture["by"], mixture["tokens"]) == (["source"], 150_000)
    assert {name: one["share"] for name, one in mixture["groups"].items()} == {"notes": 0.1, "wet": 0.5, "docs": 0.4}
    notes = mixture["groups"]["notes"]
    assert (notes["tokens_asked"], notes["max_epochs"]) == (15_000, 9.0)
    assert notes["epochs"] == pytest.approx(15_000 / notes["tokens"], abs=1e-6)
    assert notes["tokens"] == sum(shard.tokens for shard in corpus.shards("train") if shard.group == "notes")
    assert "each document once" in printed(out)
    assert verify(out).damage == []
    assert (
        changed(made, tmp_path, layout, shares, "mixture.tokens=150000", "mixture.max_epochs={notes: 9, '*': 2}")[1]
        == {}
    )

    (out / "mixture.json").write_text((out / "mixture.json").read_text().replace("0.1", "0.2"))
    assert [damage.file for damage in verify(out).damage] == ["mixture.json"]
    with pytest.raises(DamageError, match=r"not the one in corpus\.json"):
        Corpus.open(out).mixture()
    assert set(changed(made, tmp_path)[1]) == {"plan", "shard"}
    assert contents(out, "shards", "plan") == contents(made / "run", "shards", "plan"), "and back"
    assert not (out / "mixture.json").exists()


def test_any_column_groups_documents(made: Path, tmp_path: Path) -> None:
    """Otherwise a mixture by quality, language or host would need another tool, and miss its shares."""
    by = ["mixture.by=[source, characters]", "mixture.buckets={characters: [2000, 6000]}"]
    shares = "mixture.shares={'notes/<2000': 0.25, 'docs/>=6000': 0.25, '*': 0.5}"
    out, done = changed(made, tmp_path, *by, shares, "mixture.tokens=200000", "mixture.max_epochs=40")
    assert set(done) == {"plan", "shard"}
    corpus = Corpus.open(out)
    reached: Counter[str] = Counter()
    longest: Counter[str] = Counter()
    for shard in corpus.shards("train"):
        for row in corpus.documents(shard).to_pylist():
            size = "<2000" if row["characters"] < 2000 else "2000-6000" if row["characters"] < 6000 else ">=6000"
            group = f"{row['source']}/{size}"
            reached[group] += row["token_end"] - row["token_start"]
            longest[group] = max(longest[group], row["token_end"] - row["token_start"])
    mixture = corpus.meta["mixture"]
    assert reached == {name: one["tokens_reached"] for name, one in mixture.items() if one["tokens_reached"]}
    for name, one in mixture.items():
        assert abs(one["tokens_reached"] - one["tokens_asked"]) < max(1, longest[name])
    assert mixture["notes/<2000"]["tokens_asked"] == mixture["docs/>=6000"]["tokens_asked"] == 50_000
    assert sum(one["tokens_asked"] for one in mixture.values()) == 200_000
    assert "source / characters" in printed(out)
    assert verify(out).damage == []


def test_many_groups_are_shown_in_few_lines(made: Path, tmp_path: Path) -> None:
    """Otherwise a mixture by host would fill the terminal with its hosts."""
    out, _ = changed(made, tmp_path, "mixture.by=[host]", "mixture.temperature=2")
    groups = json.loads((out / "corpus.json").read_text())["mixture"]
    assert len(groups) > 25
    text = printed(out)
    assert f"{len(groups) - 20} more" in text
    assert sum(name in text for name in groups) < 30


def test_splits_of_any_name(made: Path, tmp_path: Path) -> None:
    """Otherwise a test set would have to be cut by hand, and share sites with training."""
    out, done = changed(made, tmp_path, "shards.splits={test: 0.2}")
    assert set(done) == {"plan", "shard"}
    corpus = Corpus.open(out)
    assert corpus.splits == ["train", "validation", "test"]
    domains: dict[str, set[str]] = {}
    for split in corpus.splits:
        for shard in corpus.shards(split):
            urls = corpus.documents(shard, ["url"]).column("url").to_pylist()
            hosts = [url.split("//")[1].split("/")[0] for url in urls if url and "//" in url]
            domains.setdefault(split, set()).update(registered_domain(host) for host in hosts)
    assert not domains["validation"] & domains["test"]
    assert contents(out, "shards").keys() > {"shards/test-00000-of-00001.bin"}
    left = corpus.meta["held_out"]["test"]["left_out"]
    assert bool(left["domains"]) == ("left out of test" in printed(out))
    assert not (domains["validation"] | domains["test"]) & (
        domains["train"] - {one["domain"] for one in left["largest"]}
    )


BUCKETS = ["mixture.by=[characters]", "mixture.buckets={characters: [5]}"]


def test_a_bucket_without_documents_may_be_named(made: Path, tmp_path: Path) -> None:
    """Otherwise a recipe that leaves out bad documents would fail, in its last phase, where there are none."""
    changes = [*BUCKETS, "mixture.shares={'<5': 0, '>=5': 1}", "mixture.max_epochs={'<5': 1}"]
    context = Context(made / "run", made, read_recipe(made / "small.yaml", changes))
    (task,) = plan.tasks(context)
    _, body = plan.work(task, context, tmp_path, Reporter(tmp_path))
    assert list(body["mixture"]) == [">=5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["mixture.by=[langauge]"], "mixture.by: 'langauge' is no column .* Did you mean 'language'"),
        (["mixture.by=[language]", "mixture.shares={xx: 1.0, '*': 0}"], "mixture.shares: there is no group 'xx'"),
        (["shards.splits={test: 0.000001}"], r"shards.splits.test 1e-06 took no document: .* no test split"),
        (
            [*BUCKETS, "mixture.shares={'<5': 0.3, '*': 0.7}"],
            "a share of 0.3 from '<5', which has no tokens for training",
        ),
        (["mixture.max_epochs=0.00001"], r"mixture.max_epochs 1e-05 is less than one document of any group"),
        (["mixture.tokens=9000000"], r"9,000,000 tokens cannot be reached with max_epochs 4: all groups hold"),
    ],
)
def test_what_cannot_be_is_said(made: Path, tmp_path: Path, changes: list[str], message: str) -> None:
    """Otherwise a typing error would train another model, or a run end in a traceback."""
    context = Context(made / "run", made, read_recipe(made / "small.yaml", changes))
    (task,) = plan.tasks(context)
    with pytest.raises(UserError, match=message):
        plan.work(task, context, tmp_path, Reporter(tmp_path))


def test_a_host_has_no_files_of_its_own(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a mixture by host would fill the disk with millions of files."""
    monkeypatch.setattr(plan, "MOST_GROUPS", 20)
    recipe = read_recipe(made / "small.yaml", ["mixture.by=[host]", "shards.layout=by_source"])
    context = Context(made / "run", made, recipe)
    (task,) = plan.tasks(context)
    with pytest.raises(UserError, match=r"by_source: mixture.by makes \d+ groups, .* at most 20 may"):
        plan.work(task, context, tmp_path, Reporter(tmp_path))


def test_nothing_left_to_train_on_is_said() -> None:
    """Otherwise a corpus without a training split would be written."""
    held = {name: Split(np.arange(2), np.zeros(0, np.int64), np.zeros(0, np.int64)) for name in ("validation", "test")}
    with pytest.raises(UserError, match=r"shards.validation 0.5, shards.splits.test 0.4 took every document"):
        plan._check_splits(np.zeros(4, bool), held, {"validation": 0.5, "test": 0.4}, {})
    with pytest.raises(UserError, match="no document is left to write into shards"):
        plan._check_splits(np.zeros(0, bool), {}, {}, {})
    few = {
        "domains": 2,
        "tokens": 50,
        "largest": [{"domain": "a.com", "tokens": 30}, {"domain": "b.org", "tokens": 20}],
    }
    none = {"test": Split(*[np.zeros(0, np.int64)] * 3)}
    with pytest.raises(UserError, match=r"the 2 that were drawn hold each more than a quarter .* \(a.com 30 tokens\)"):
        plan._check_splits(np.ones(4, bool), none, {"test": 0.4}, {"test": few})


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        (["mixture.by=[source, source]"], ["mixture.by", "a column stands twice"]),
        (["mixture.buckets={score: [0.3]}"], ["mixture.buckets.score: mixture.by does not name this column"]),
        (
            [
                "mixture.by=[characters]",
                "mixture.buckets={characters: [5, 9]}",
                "mixture.shares={'5-8': 0.5, '*': 0.5}",
            ],
            ["mixture.shares.5-8: characters has no bucket '5-8'. Did you mean '5-9'?"],
        ),
        (["mixture.by=[a]", "mixture.buckets={a: [0.6, 0.3]}"], ["mixture.buckets", "edges of 'a' do not ascend"]),
        (["mixture.max_epochs={wett: 2}"], ["mixture.max_epochs.wett: no input has this source. Did you mean 'wet'?"]),
        (["mixture.max_epochs=often"], ["mixture.max_epochs: give a number above 0, or one for each group"]),
        (["mixture.max_epochs=1e30"], ["mixture.max_epochs: give a number above 0", "at most 100,000"]),
        (
            ["mixture.temperature=2", "mixture.shares={notes: 0.3, wet: 0.3, docs: 0.4}"],
            ["mixture.temperature: is for"],
        ),
        (["shards.splits={validation: 0.1}"], ["shards.splits", "stands under shards.validation"]),
        (["shards.splits={te-st: 0.1}"], ["'te-st' is no name for files"]),
        (["shards.splits={test: 0.9}"], ["add up to 1 or more"]),
        (["shards.layout=by_sorce"], ["shards.layout", "Did you mean 'by_source'?"]),
    ],
)
def test_recipes_are_checked_before_any_work(made: Path, changes: list[str], messages: list[str]) -> None:
    """Otherwise a run of days would end at its last phase."""
    with pytest.raises(RecipeError) as caught:
        read_recipe(made / "small.yaml", changes)
    assert all(message in str(caught.value) for message in messages), caught.value


def test_a_trial_does_without_groups_that_it_did_not_meet() -> None:
    """Otherwise `--limit 20` would fail on a mixture that is meant for the whole."""
    asked = Mixture.model_validate(
        {"tokens": 10**9, "shares": {"notes": 0.5, "wet": 0.25, "docs": 0.25}, "max_epochs": {"notes": 2, "docs": 4}}
    )
    few = plan.Documents(
        np.zeros((3, 16), np.uint8), np.array([10, 30, 50], np.int32), np.zeros(3, np.uint64), np.zeros(3, np.int32),
        np.zeros(1, np.int64), ["notes", "wet", "docs"], np.array([0, 2, 2], np.int32),
    )  # fmt: skip
    context: Any = SimpleNamespace(trial=Trial(limit=3))
    found = plan._targets(few, np.ones(3, bool), asked, context)
    assert {name: one.asked for name, one in found.items()} == {"notes": 20, "wet": 0, "docs": 10}
    nothing = plan._targets(few, np.zeros(3, bool), asked, context)
    assert [one.asked for one in nothing.values()] == [0, 0, 0]


def test_duplicates_that_stay_follow_their_survivors() -> None:
    """Otherwise `mode: mark` would leave copies of what is validated on in training."""
    ids = np.random.default_rng(1).integers(0, 256, (600, 16), np.uint8)
    urls = pa.array([f"https://d{number}.com/" for number in range(600)])
    hashes = split_hashes(urls, ids, 1)
    marked, survivors = np.arange(0, 300), np.concatenate([ids[300:500], np.repeat(ids[:1] ^ 255, 100, axis=0)])
    plan._follow_survivors(hashes, ids, marked, survivors, 1)
    side = np.zeros(600, bool)
    side[held_out(hashes, np.ones(600), {"validation": 0.3}, 1)["validation"].rows] = True
    assert (side[:200] == side[300:500]).all()
    assert side[:200].any()
    assert len(set(side[200:300])) == 1, "those of a survivor that an earlier crawl has stay together"
    assert (hashes[300:] == split_hashes(urls, ids, 1)[300:]).all()


def test_mixture_json_is_named_with_its_digest(made: Path, tmp_path: Path) -> None:
    """Otherwise a copy of a corpus could be trained on with weights of another."""
    out, _ = changed(made, tmp_path, "shards.layout=by_source")
    files = json.loads((out / "corpus.json").read_text())["files"]
    assert files == {"mixture.json": hashlib.sha256((out / "mixture.json").read_bytes()).hexdigest()}
    groups = Corpus.open(out).mixture()["groups"]
    assert all(one["epochs"] == 1.0 for one in groups.values()), "without weights, as they come"
    assert sum(one["share"] for one in groups.values()) == pytest.approx(1)
