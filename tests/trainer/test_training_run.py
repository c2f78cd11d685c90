"""Whole runs of a tiny model: killed, stopped, damaged, gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_corpus import SETTINGS, small_lengths, write_corpus

from pipeline.errors import DamageError, LockedError, UserError
from pipeline.shards import Corpus
from trainer import checkpoint, unigram
from trainer.checkpoint import locked, newest, saved
from trainer.config import load_config
from trainer.data import Source
from trainer.learning import Learned, Learner
from trainer.metrics import read
from trainer.model import Inputs, Model
from trainer.order import Order
from trainer.packing import plan
from trainer.run import train
from trainer.trace import documents_of_step, steps_of_document

WAIT = 600  # seconds, for a process that should be long gone


def quiet(line: str) -> None:
    pass


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.load_state(folder)
    optimizer = {f"{number}.{key}": value for number, row in state["optimizer"].items() for key, value in row.items()}
    return {**state["model"], **optimizer}


def assert_equal_weights(one: Path, two: Path) -> None:
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read(folder / "metrics.jsonl") if row["kind"] == "step"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> Path:
    """The checkpoint folder of 20 steps that nothing disturbed."""
    folder = tmp_path_factory.mktemp("straight")
    path = folder / "train.yaml"
    path.write_text(
        json.dumps(SETTINGS | {"data": {"corpus": str(corpus_folder)}, "checkpoint": {"folder": str(folder)}})
    )
    assert train(path, ["checkpoint.every=5", "checkpoint.keep=9"], quiet) == 0
    return folder


def test_killed_at_13_and_resumed(config_file: Callable[..., Path], straight: Path, tmp_path: Path) -> None:
    """Else a power cut would change the model, and the loss curve would have holes or doubled steps."""
    path = config_file("killed")
    folder = load_config(path).checkpoint.folder
    # A slow step 14 leaves time for the kill, which must come from outside.
    code = (
        "import sys, time\n"
        "from trainer.learning import Learner\n"
        "from trainer.run import main\n"
        "learn = Learner.learn\n"
        "steps = iter(range(1, 100))\n"
        "def slow(*arguments):\n"
        "    if next(steps) == 14: time.sleep(600)\n"
        "    return learn(*arguments)\n"
        "Learner.learn = slow\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.DEVNULL)
    log = folder / "metrics.jsonl"
    deadline = time.monotonic() + WAIT
    while not (log.exists() and len(losses(folder)) == 13) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert [step for step, _ in losses(folder)] == list(range(1, 14))
    assert [found.name for found in saved(folder)] == ["step-00000010", "step-00000005"]
    with log.open("a") as file:
        file.write('{"kind": "step", "step": 14, "lo')  # as a kill while writing leaves it
    (folder / ".writing-step-00000015").mkdir()
    assert train(path, say=quiet) == 0
    assert_equal_weights(folder / "step-00000020", straight / "step-00000020")
    assert losses(folder) == losses(straight)
    assert [step for step, _ in losses(folder)] == list(range(1, 21))
    assert not list(folder.glob(".writing-*"))
    results = [row for row in read(log) if row["kind"] == "result"]
    assert len(results) == 1
    # once more: nothing is trained again, the result is the same
    assert train(path, say=quiet) == 0
    assert losses(folder) == losses(straight)
    assert [row for row in read(log) if row["kind"] == "result"] == results


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal(
    config_file: Callable[..., Path], straight: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    """Else Ctrl-C or a scheduler's SIGTERM would lose the steps since the last checkpoint."""
    path = config_file(f"signal-{number}", checkpoint={"folder": str(straight.parent / f"signal-{number}")})
    learn, steps = Learner.learn, iter(range(1, 100))

    def signalled(*arguments: Any) -> Learned:
        if next(steps) == 7:
            os.kill(os.getpid(), number)
        return learn(*arguments)

    monkeypatch.setattr(Learner, "learn", signalled)
    before = signal.getsignal(number)
    assert train(path, say=quiet) == code
    assert signal.getsignal(number) is before
    folder = load_config(path).checkpoint.folder
    assert [found.name for found in saved(folder)] == ["step-00000007"]
    assert train(path, say=quiet) == 0
    assert_equal_weights(folder / "step-00000020", straight / "step-00000020")
    assert losses(folder) == losses(straight)


def test_damaged_checkpoints(config_file: Callable[..., Path], straight: Path, tmp_path: Path) -> None:
    """Else one flipped bit would end a run of weeks, or be trained on in silence."""
    folder = tmp_path / "damaged"
    shutil.copytree(straight, folder)
    path = config_file("damaged", checkpoint={"folder": str(folder), "every": 5, "keep": 9})
    state = folder / "step-00000020" / "rank-0.pt"
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    meta = folder / "step-00000015" / "checkpoint.json"
    meta.write_text(meta.read_text().replace('step\\":15', 'step\\":16'))
    said: list[str] = []
    assert train(path, say=said.append) == 0
    assert len([line for line in said if "falling back" in line]) == 2
    assert f"going on from {folder / 'step-00000010'} (step 10)" in said
    assert_equal_weights(folder / "step-00000020", straight / "step-00000020")
    assert_equal_weights(folder / "step-00000015", straight / "step-00000015")
    assert losses(folder) == losses(straight)
    for found in saved(folder):
        (found / "checkpoint.json").write_text("{}")
    with pytest.raises(DamageError, match=r"no checkpoint in .* is whole"):
        train(path, say=quiet)


@pytest.mark.parametrize("kind", ["adam", "nadam", "sgd", "adagrad", "rmsprop", "adafactor", "muon"])
def test_every_optimiser_resumes_to_the_bit(config_file: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    """Else what one of them remembers between steps would be lost with every stop."""
    more = {"momentum": 0.9} if kind in ("sgd", "rmsprop") else {}
    path = config_file(kind, optimizer={"kind": kind, "learning_rate": 1e-2, "layer_rates": 0.9} | more)
    folder = load_config(path).checkpoint.folder
    assert train(path, ["checkpoint.keep=9"], quiet) == 0
    straight = shutil.copytree(folder, tmp_path / "straight")
    for step in (15, 20):
        shutil.rmtree(folder / f"step-{step:08d}")
    assert train(path, ["checkpoint.keep=9"], quiet) == 0
    assert_equal_weights(folder / "step-00000020", straight / "step-00000020")
    assert losses(folder) == losses(straight)


def test_resume_refuses_what_is_another_run(config_file: Callable[..., Path], straight: Path, tmp_path: Path) -> None:
    """Else a run would go on with tokens that mean something else, or with another model's weights."""
    folder = tmp_path / "copy"
    shutil.copytree(straight, folder)
    path = config_file("other", checkpoint={"folder": str(folder)})

    def refused(*overrides: str) -> str:
        with pytest.raises(UserError) as caught:
            train(path, overrides, quiet)
        return str(caught.value)

    other = write_corpus(tmp_path / "other", small_lengths(), seed=9)
    assert "the first that differs is train-00000-of-00002" in refused(f"data.corpus={other}")
    retokenised = write_corpus(tmp_path / "retokenised", small_lengths(), tokenizer="t1")
    assert "another tokenizer" in refused(f"data.corpus={retokenised}")
    assert "another shape: model.layers 2 -> 3" in refused("model.layers=3")
    assert "another shape: vocabulary 64 -> 65" in refused("model.vocabulary=65")
    assert "seed 3, not 4" in refused("seed=4")
    assert "sequence_length 32, not 16" in refused("sequence_length=16")
    assert "has 20 steps behind it, more than the 10 asked for" in refused("steps=10")
    said: list[str] = []
    assert train(path, ["steps=22", "optimizer.learning_rate=0.001"], said.append) == 0
    assert any("steps 20 -> 22" in line and "learning_rate 0.01 -> 0.001" in line for line in said)
    meta = json.loads((folder / "step-00000022" / "checkpoint.json").read_text())
    text = meta["meta"].replace(f'"format_version":{checkpoint.FORMAT_VERSION}', '"format_version":9')
    (folder / "step-00000022" / "checkpoint.json").write_text(
        json.dumps({"meta": text, "digest": checkpoint.digest_of(text)})
    )
    assert "format version 9" in refused("steps=22")


def test_one_run_at_a_time(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else two runs would write over each other's checkpoints."""
    path = config_file("twice")
    with (
        locked(load_config(path).checkpoint.folder),
        pytest.raises(LockedError, match=rf"another run trains in .*pid {os.getpid()} on "),
    ):
        train(path, say=quiet)


def test_trace_names_the_documents_of_a_batch(straight: Path, corpus: Corpus) -> None:
    """Else a loss spike would be blamed on the wrong pages."""
    source = Source(corpus, plan(corpus, "train", 32))
    order = Order(source.plan, 3)
    found = newest(straight, quiet)
    assert found is not None
    history = found[1].history
    uses = {}
    for step in range(1, 21):
        batch = source.batch(order.batch(history, step))
        uses[step] = documents_of_step(straight, step)
        filled = np.zeros(batch.tokens_BT.shape, int)
        for use in uses[step]:
            tokens = corpus.tokens(corpus.shard(use.shard))[use.token_start : use.token_end]
            here = use.row, slice(use.column, use.column + len(tokens))
            assert (batch.tokens_BT[here] == tokens).all()
            filled[here] += 1
            table = corpus.documents(corpus.shard(use.shard))
            row = next(r for r in table.to_pylist() if r["token_start"] <= use.token_start < r["token_end"])
            assert (row["id"].hex(), row["url"], row["source"]) == (use.document, use.url, use.source)
        assert (filled == (batch.documents_BT >= 0)).all()
    for document in {use.document for step in uses.values() for use in step}:
        expected = [use for step in range(1, 21) for use in uses[step] if use.document == document]
        assert steps_of_document(straight, corpus, document) == sorted(
            expected, key=lambda use: (use.step, use.row, use.column)
        )
    at_ten = steps_of_document(straight / "step-00000010", None, uses[12][0].document)
    assert max((use.step for use in at_ten), default=0) <= 10
    with pytest.raises(UserError, match="has steps 1 to 20"):
        documents_of_step(straight, 21)
    for unknown in ("0" * 32, "no hex"):
        with pytest.raises(UserError, match="has no document"):
            steps_of_document(straight, corpus, unknown)


def test_leaving_out_and_jumping(config_file: Callable[..., Path], straight: Path, tmp_path: Path) -> None:
    """Else a user could not take the documents of a loss spike out and go on, and trace would not know of it."""
    folder = tmp_path / "jump"
    shutil.copytree(straight, folder)
    for path in saved(folder)[:2]:
        shutil.rmtree(path)
    out = documents_of_step(straight, 20)[0].document
    path = config_file("jump", checkpoint={"folder": str(folder)})
    assert train(path, ["data.skip_to=16", f"data.leave_out=[{out}]"], quiet) == 0
    rows = [row for row in read(folder / "metrics.jsonl") if row["kind"] == "step"]
    assert [(row["attempt"], row["step"], row["data_step"]) for row in rows] == [
        *((0, n, n) for n in range(1, 21)),
        *((1, n, n + 5) for n in range(11, 21)),
    ]
    assert [use.document for use in documents_of_step(folder, 10)] == [
        use.document for use in documents_of_step(straight, 10)
    ]
    later = [use for use in documents_of_step(folder, 15) if use.document != out]
    before = [use for use in documents_of_step(straight, 20) if use.document != out]
    assert [(u.document, u.token_start, u.row, u.column) for u in later] == [
        (u.document, u.token_start, u.row, u.column) for u in before
    ]
    assert out not in {use.document for use in documents_of_step(folder, 15)}
    skipped = documents_of_step(straight, 13)[0].document
    assert 13 not in {use.data_step for use in steps_of_document(folder, None, skipped)}
    assert {use.step for use in steps_of_document(folder, None, out)} <= set(range(1, 11))


def test_figures_at_the_end(config_file: Callable[..., Path], straight: Path, corpus: Corpus) -> None:
    """Else a model would be called good that is worse than counting tokens."""
    result = next(row for row in read(straight / "metrics.jsonl") if row["kind"] == "result")
    tokens = np.concatenate([corpus.tokens(shard) for shard in corpus.shards("train")])
    shares = np.bincount(tokens) / len(tokens)
    assert result["unigram_entropy"] == pytest.approx(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    held_out = corpus.shards("validation")[0]
    targets, start = [], 0
    for length in corpus.lengths(held_out):
        targets += corpus.tokens(held_out)[start + 1 : start + length].tolist()
        start += length
    counts = unigram.counts(corpus, "train")
    expected = -np.log((counts[targets] + 1) / (counts.sum() + len(counts))).mean()
    assert result["validation_unigram"] == pytest.approx(expected)

    # document by document, unpacked, with no mask but the causal one
    model = Model(load_config(config_file()).model, corpus.vocabulary)
    state = checkpoint.load_state(straight / "step-00000020")["model"]
    model.load_state_dict({"head.weight": state["embedding.weight"]} | state)
    total, start = 0.0, 0
    for length in corpus.lengths(held_out).tolist():
        text = torch.from_numpy(corpus.tokens(held_out)[start : start + length].astype(np.int64))
        for begin in range(0, length, 32):
            piece, target = text[begin : begin + 32], text[begin + 1 : begin + 33]
            same = torch.zeros(1, len(piece), dtype=torch.int64)
            inputs = Inputs(piece[None], torch.arange(len(piece))[None], same)
            logits = model.logits(model(inputs)[0])[0, : len(target)]
            total += torch.nn.functional.cross_entropy(logits, target, reduction="sum").item()
        start += length
    assert result["validation_loss"] == pytest.approx(total / len(targets), rel=1e-5)


def test_goal_not_reached(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a demo that learned nothing would look like a success to a script."""
    said: list[str] = []
    overrides = ["steps=3", "require_below_unigram=5", "evaluation.every=2", "evaluation.sequences=3", "precision=bf16"]
    assert train(config_file("goal"), overrides, said.append) == 1
    assert "require_below_unigram asks for 5.0 nats" in said[-1]
    rows = read(tmp_path / "goal" / "checkpoints" / "metrics.jsonl")
    assert [row["step"] for row in rows if row["kind"] == "evaluation"] == [2]


def test_loss_that_is_no_number(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a run would go on for days with weights of NaN, and save them."""
    path = config_file("nan")
    with pytest.raises(UserError, match="is not finite"):
        train(path, ["optimizer.learning_rate=1e30", "optimizer.clip=null", "schedule.warmup=0"], quiet)
    assert all(np.isfinite(loss) for _, loss in losses(tmp_path / "nan" / "checkpoints"))


def test_broken_shard_is_named(config_file: Callable[..., Path], corpus_folder: Path, tmp_path: Path) -> None:
    """Else a flipped bit in a shard would end in an index error deep in torch."""
    copy = shutil.copytree(corpus_folder, tmp_path / "copy")
    for path in (copy / "shards").glob("train-*.bin"):
        path.write_bytes(b"\xff\xff" * (path.stat().st_size // 2))
    with pytest.raises(DamageError, match="a token beyond the vocabulary of 64"):
        train(config_file("broken"), [f"data.corpus={copy}"], quiet)
