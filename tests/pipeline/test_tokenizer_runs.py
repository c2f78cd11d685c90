"""Runs with each form of tokenizer: trained as far as asked, by file, looked at, verified and traced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_run import contents, run_here, write_recipe
from test_tokenizer_files import PRE, data, made, rank_file
from tokenizers import Tokenizer as Library
from tokenizers import normalizers

from pipeline import tokenizer_commands
from pipeline.errors import DamageError, UserError
from pipeline.ledger import Ledger
from pipeline.look import trace
from pipeline.look.overview import overview
from pipeline.look.runfolder import RunFolder
from pipeline.look.verify import verify
from pipeline.shards import Corpus
from pipeline.tokenizers import open_folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The recipe and the folder of a run that ended behind its tokenizer, a byte_bpe."""
    folder = tmp_path_factory.mktemp("trained")
    train = {"type": "byte_bpe", "vocabulary": 1200, "sample_bytes": 100_000}
    recipe = write_recipe(folder, tokenizer={"train": train})
    done = run_here(recipe, folder / "run", until="tokenizer")
    assert set(done) & {"tokenizer", "tokenise", "plan", "shard"} == {"tokenizer"}
    return recipe, folder / "run"


def texts_and_tokens(out: Path) -> list[tuple[str, list[int]]]:
    """The text of each document, and its tokens in the shards, without the boundary token."""
    texts = {
        row["id"]: row["text"]
        for path in RunFolder(out).parts("documents")
        for row in pq.read_table(path, columns=["id", "text"]).to_pylist()
    }
    corpus = Corpus.open(out)
    found = []
    for split in corpus.meta["splits"]:
        for shard in corpus.shards(split):
            tokens = corpus.tokens(shard)
            for row in corpus.documents(shard).to_pylist():
                assert tokens[row["token_end"] - 1] == corpus.special["eot"]
                found.append((texts[row["id"]], tokens[row["token_start"] : row["token_end"] - 1].tolist()))
    return found


def test_training_ends_behind_the_tokenizer_and_a_run_goes_on(
    trained: tuple[Path, Path], tmp_path: Path, corpusmill: Any
) -> None:
    """Else whoever wants a tokenizer alone pays for tokens and shards, or pays for the training twice."""
    recipe, made_once = trained
    out = tmp_path / "run"
    shutil.copytree(made_once, out)
    assert not (out / "corpus.json").exists()
    assert Ledger(out).complete() is None
    said = corpusmill("tokenizer", "report", str(out))
    assert said.returncode == 0, said.stderr
    assert "huggingface, 1,200 tokens" in said.stdout
    assert "tokens are made by: compiled" in said.stdout
    facts = json.loads(corpusmill("tokenizer", "report", str(out), "--json").stdout)
    assert facts["sample"]["not_reversible"] == 0
    assert sum(one["tokens"] for one in facts["languages"].values()) == facts["sample"]["tokens"]
    assert {"notes", "wet", "docs"} == set(facts["sources"])
    assert facts["languages"]["zh"]["words"] is None, "no words in Chinese"
    assert facts["languages"]["en"]["characters"] > 2 * facts["languages"]["en"]["tokens"]
    assert facts["tokens"]["unreachable"]["count"] == 0
    assert len(facts["tokens"]["longest"][0]["text"]) >= 10
    never = {one["token"] for one in facts["tokens"]["never"]["longest"]}

    done = run_here(recipe, out)
    assert "tokenizer" not in done
    assert done["tokenise"]
    library = Library.from_file(str(out / "tokenizer" / "tokenizer.json"))
    rows = texts_and_tokens(out)
    assert rows
    assert all(library.encode(text).ids == tokens for text, tokens in rows)
    assert not never & {token for _, tokens in rows for token in tokens} or facts["sample"]["documents"] < len(rows)
    assert verify(out).damage == []
    (shard, *_) = Corpus.open(out).shards("train")
    assert trace.of_token(RunFolder(out), f"{shard.name}:3")["again"]["equal"]
    assert overview(out)["tokenizer"]["engine"] == {"name": "compiled", "why": None}
    assert "tokens are made by: compiled" in corpusmill("inspect", str(out)).stdout


def test_a_folder_without_a_report_is_named(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Else whoever names the recipe instead of the folder, or has a damaged one, is shown a traceback."""
    recipe, made_once = trained
    with pytest.raises(UserError, match=r"small\.yaml has no tokenizer: there is no tokenizer/facts\.json"):
        tokenizer_commands._facts(recipe)
    shutil.copytree(made_once / "tokenizer", tmp_path / "tokenizer")
    for text in ("{}", "[1]", '{"sample"'):
        (tmp_path / "tokenizer" / "report.json").write_text(text)
        with pytest.raises(DamageError, match=r"report\.json .*`corpusmill verify` says more"):
            tokenizer_commands._facts(tmp_path)


def test_training_does_not_hang_on_how_documents_lie_in_parts(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """The promise of reproducibility: another cut of the inputs, renamed, gives the same tokenizer to the byte."""
    recipe, made_once = trained
    shutil.copytree(recipe.parent / "crawl", tmp_path / "crawl")
    lines = [(tmp_path / "crawl" / f"notes-{number}.jsonl").read_text("utf-8") for number in range(2)]
    (tmp_path / "crawl" / "notes-0.jsonl").unlink()
    (tmp_path / "crawl" / "notes-1.jsonl").unlink()
    (tmp_path / "crawl" / "notes-z.jsonl").write_text("".join(reversed(lines)), "utf-8")
    shutil.copy(recipe, tmp_path / "small.yaml")
    run_here(tmp_path / "small.yaml", tmp_path / "run", until="tokenizer")
    assert contents(tmp_path / "run", "tokenizer") == contents(made_once, "tokenizer")


def test_files_of_each_form_are_committed_under_their_names(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Else a corpus could not be made for a model that exists, or its users would not find its tokenizer."""
    recipe, made_once = trained
    out = tmp_path / "run"
    shutil.copytree(made_once, out)
    library = made(PRE["gpt2"], normalizers.Lowercase())
    lower, ranks = tmp_path / "lower.json", tmp_path / "ranks.txt"
    lower.write_bytes(data(library))
    file, known = rank_file(made(PRE["llama3"]))
    ranks.write_bytes(file)
    plain = f"tokenizer={{file: {lower}, eot: '<|begin_of_text|>'}}"
    done = run_here(recipe, out, plain)
    assert "documents" not in done
    facts = json.loads((out / "tokenizer" / "facts.json").read_text())
    assert (facts["file"], facts["special"]["eot"]) == ("tokenizer/tokenizer.json", 1)
    assert facts["engine"]["name"] == "tokenizers"
    assert "normalises text by Lowercase" in facts["engine"]["why"]
    assert overview(out)["tokens"]["not_reversible"] > 0, "capitals do not come back"
    assert run_here(recipe, out, plain) == {}, "the choice is kept"
    library.encode_special_tokens = True
    assert all(library.encode(text).ids == tokens for text, tokens in texts_and_tokens(out))

    special = f"special: {{'<|endoftext|>': {len(known)}}}"
    run_here(recipe, out, f"tokenizer={{file: {ranks}, pattern: cl100k, {special}}}")
    assert (out / "tokenizer" / "tokenizer.tiktoken").read_bytes() == file
    assert not (out / "tokenizer" / "tokenizer.json").exists()
    model = open_folder(out)
    assert (model.kind, model.special) == ("tiktoken", {"eot": len(known)})
    assert all(model.decode(tokens) == text for text, tokens in texts_and_tokens(out))
    assert verify(out).damage == []
    (out / "tokenizer" / "tokenizer.tiktoken").write_bytes(file[:-9])
    assert [damage.file for damage in verify(out).damage] == ["tokenizer/tokenizer.tiktoken"]


def test_a_file_that_does_not_fit_stops_before_work(
    trained: tuple[Path, Path], tmp_path: Path, corpusmill: Any
) -> None:
    """Else the crawl is cleaned for hours before the tokenizer turns out to have no end of text."""
    recipe, _ = trained
    file, _ = rank_file(made(PRE["llama3"]))
    (tmp_path / "ranks.txt").write_bytes(file)
    for setting, problem in (
        (f"tokenizer={{file: {tmp_path}/ranks.txt}}", "tokenizer.pattern: "),
        (f"tokenizer={{file: {tmp_path}/ranks.txt, pattern: cl100k}}", "cl100k has 100,256"),
        ("tokenizer.eot='</s>'", "`eot` is about a `file`"),
    ):
        done = corpusmill("run", str(recipe), "--out", str(tmp_path / "out"), "--set", setting, check=False)
        assert done.returncode == 2
        assert problem in done.stderr
    done = corpusmill("tokenizer", "train", str(recipe), "--out", str(tmp_path / "out"), "--set", "shards=null",
                      "--set", "mixture=null", "--set", "tokenizer=null", check=False)  # fmt: skip
    assert done.returncode == 2
    assert "has no `tokenizer` section" in done.stderr
    assert not (tmp_path / "out").exists()
