"""`corpusmill generate`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from asked import TEXTS, train_on, write_text_corpus
from typer.testing import CliRunner

from pipeline.cli import app
from trainer.checkpoint import load_state
from trainer.judge.subject import open_subject


def call(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    return train_on(write_text_corpus(folder / "corpus", TEXTS), folder)


def test_a_model_writes_on(checkpoints: Path, tmp_path: Path) -> None:
    """Else nobody could see what a model has learned."""
    code, out, _ = call("generate", checkpoints, "--prompt", "小明 sees", "--temperature", 0, "--json")
    assert code == 0
    assert ("小明 sees" + json.loads(out)["text"]) in TEXTS
    lines = tmp_path / "prompts.jsonl"
    lines.write_text('{"prompt": "Ada eats"}\n{"prompt": "Bo"}\n', "utf-8")
    code, out, _ = call("generate", checkpoints, "--prompts", lines, "-n", 2, "--most", 30, "--top-k", 2, "--batch", 3)
    written = [line for line in out.splitlines() if not line.startswith("-")]
    assert code == 0
    assert len(written) == 4
    assert all(line.startswith(("Ada eats", "Bo")) for line in written)
    assert call("generate", checkpoints, "--most", 5)[0] == 0


def test_the_mean_of_the_weights_is_asked(checkpoints: Path, tmp_path: Path) -> None:
    """Else --average would ask the weights that it is the mean of."""
    corpus = checkpoints.parent / "corpus"
    folder = train_on(corpus, tmp_path, steps=4, average={"decay": 0.9})
    last, mean = (open_subject(folder, "cpu", print, average=average) for average in (False, True))
    assert mean.name == f"{last.name} (average)"
    kept = load_state(folder / "step-00000004")["average"]["model"]
    assert mean.model.embedding.weight.equal(kept["embedding.weight"])
    assert not mean.model.embedding.weight.equal(last.model.embedding.weight)
    assert call("generate", folder, "--average", "--most", 3)[0] == 0


def test_half_a_character_is_never_printed(checkpoints: Path) -> None:
    """Else Chinese text would end in a replacement character wherever --most falls into one."""
    subject = open_subject(checkpoints, "cpu", print)
    prompt = subject.prompts(["Bo eats"])
    assert len(subject.encode(["鱼"])[0]) > 1, "or there would be no halves"
    (whole,) = subject.write(prompt, 20, temperature=1.0, seed=4)
    for most in range(len(whole) + 1):
        text = subject.text(prompt[0], whole[:most])
        assert "�" not in text
        assert subject.text(prompt[0], whole).startswith(text)


def test_what_is_missing_is_said(checkpoints: Path, tmp_path: Path) -> None:
    """Else a folder of another kind, or a tokenizer that is not there, would end in a traceback."""
    code, _, err = call("generate", tmp_path)
    assert code == 1
    assert "neither a checkpoint nor" in err
    code, _, err = call("generate", checkpoints, "--average")
    assert code == 1
    assert "has no running mean of the weights" in " ".join(err.split())
    code, _, err = call("generate", checkpoints, "--prompts", tmp_path / "none.txt")
    assert code == 2
    assert "--prompts" in err
    code, _, err = call("generate", checkpoints, "--tokenizer", tmp_path / "none.json")
    assert code == 1
    assert "cannot be read" in err


def test_a_model_of_transformers_is_asked_alike(checkpoints: Path, tmp_path: Path) -> None:
    """Else an exported model could not be compared with what it was made of."""
    assert call("export-model", checkpoints, tmp_path / "theirs")[0] == 0
    ask = ("--prompt", "Ada sees", "--temperature", 0)
    ours, theirs = (call("generate", folder, *ask) for folder in (checkpoints, tmp_path / "theirs"))
    assert theirs == ours
    assert theirs[0] == 0
