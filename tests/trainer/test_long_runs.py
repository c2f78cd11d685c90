"""How long a run is, how its batch grows, when it ends: whole runs of a tiny model, stopped and gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import RecipeError, UserError
from pipeline.shards import Corpus
from trainer.checkpoint import FORMAT_VERSION, digest_of, load_state, newest, read_meta
from trainer.config import load_config
from trainer.learning_settings import EarlyStopConfig, PlateauConfig
from trainer.metrics import read
from trainer.plateau import Watch
from trainer.run import train

Config = Callable[..., Path]


MEASURED = {
    "tokens_per_second", "seconds", "data_wait_seconds", "mfu_measured",
    "memory_bytes", "process_bytes", "process_peak_bytes",
}  # fmt: skip


def rows(folder: Path, kind: str = "step") -> list[dict[str, Any]]:
    """Without what depends on the clock."""
    found = [row for row in read(folder / "metrics.jsonl") if row["kind"] == kind]
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in found]


def equal(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.equal(two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    return bool(one == two)


def state(folder: Path, step: int) -> dict[str, Any]:
    return load_state(folder / f"step-{step:08d}")


def straight_and_resumed(path: Path, tmp_path: Path, back_to: int, last: int, every: int = 5) -> Path:
    """Runs, takes away the checkpoints behind `back_to`, runs again; all must be equal to the bit."""
    keep = ["checkpoint.keep=99", f"checkpoint.every={every}"]
    folder = load_config(path).checkpoint.folder
    assert train(path, keep, lambda line: None) == 0
    before, first = rows(folder), state(folder, last)
    for step in range(back_to + every, last + every, every):
        shutil.rmtree(folder / f"step-{min(step, last):08d}", ignore_errors=True)
    found = newest(folder, lambda line: None)
    assert found is not None
    assert found[1].step == back_to
    assert train(path, keep, lambda line: None) == 0
    assert rows(folder) == before
    assert equal(state(folder, last), first)
    return folder


def test_length_in_tokens_and_epochs(config_file: Config) -> None:
    """Else a user would have to do the division, and to do it again for every batch."""
    lines: list[str] = []
    path = config_file(steps=None, tokens=4 * 32 * 6, checkpoint={"folder": str(config_file().parent / "tokens")})
    assert train(path, (), lines.append) == 0
    assert any("6 steps = 768 tokens (padding counts) = 0.142 epochs" in line for line in lines), lines
    assert [row["step"] for row in rows(load_config(path).checkpoint.folder)] == [1, 2, 3, 4, 5, 6]
    assert load_config(path).tokens == 768
    assert train(path, (), lines.append) == 0  # goes on: nothing left to do
    lines.clear()
    path = config_file("epochs", steps=None, epochs=0.05, schedule={"warmup": 0})
    assert train(path, (), lines.append) == 0
    assert any("3 steps = 384 tokens" in line and "0.071 epochs" in line for line in lines), lines
    with pytest.raises(RecipeError, match="warmup"):
        train(config_file("short", steps=None, tokens=256, schedule={"warmup": 50}), (), lines.append)


def test_length_in_tokens_holds_where_the_batch_changes(config_file: Config, tmp_path: Path) -> None:
    """Else a run that goes on with another batch would end at half of its tokens, and call that done."""
    lines: list[str] = []
    path = config_file(steps=None, tokens=4 * 32 * 6, checkpoint={"folder": str(tmp_path / "tokens"), "every": 1})
    assert train(path, ["checkpoint.keep=9"], lines.append) == 0
    for step in (4, 5, 6):
        shutil.rmtree(tmp_path / "tokens" / f"step-{step:08d}")
    lines.clear()
    assert train(path, ["global_batch=2"], lines.append) == 0  # 3 steps of 4 sequences, 12 sequences are left
    assert any("9 steps = 768 tokens" in line for line in lines), lines
    assert [row["global_batch"] for row in rows(tmp_path / "tokens")] == [4] * 3 + [2] * 6
    lines.clear()
    assert train(path, ["global_batch=8"], lines.append) == 0
    assert any("9 steps = 768 tokens" in line for line in lines), lines  # nothing is left to do


def test_length_is_told_with_the_changes_to_come(config_file: Config, tmp_path: Path) -> None:
    """Else a user would be told of another number of tokens before the change and behind it, both wrong."""
    lines: list[str] = []
    changes = [{"step": 4, "set": {"global_batch": 8}}]
    assert (
        train(config_file(steps=6, changes=changes, checkpoint={"folder": str(tmp_path / "c")}), (), lines.append) == 0
    )
    told = [line for line in lines if "padding counts" in line]
    assert len(told) == 2
    assert all(f"6 steps = {(3 * 4 + 3 * 8) * 32:,} tokens" in line for line in told)


def test_a_fixed_ramp_grows_and_resumes(config_file: Config, tmp_path: Path) -> None:
    """Else a run that was stopped in mid-ramp would go on with another batch, and other data."""
    ramp = {"kind": "linear", "first": 2, "increment": 2, "every": 4, "couple": "linear"}
    path = config_file("ramp", global_batch=8, micro_batch=1, batch_ramp=ramp, steps=20, schedule={"kind": "constant"})
    folder = straight_and_resumed(path, tmp_path, 5, 20)
    assert [row["global_batch"] for row in rows(folder)] == [2] * 4 + [4] * 4 + [6] * 4 + [8] * 8
    assert [row["learning_rate"] for row in rows(folder)][::4] == pytest.approx([2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2])
    moments = read_meta(folder / "step-00000020").history
    assert [moments.at(d).cursor for d in (1, 5, 9, 13)] == [0, 8, 24, 48]  # no sequence twice, none left out


def test_settings_that_are_refused_now_do_not_damage_a_checkpoint(config_file: Config, tmp_path: Path) -> None:
    """Else whoever updates would be told that a whole checkpoint is damaged, and to begin again."""
    ramp = {"kind": "linear", "first": 2, "increment": 2, "every": 4}
    path = config_file("old", global_batch=8, micro_batch=1, batch_ramp=ramp, steps=6, schedule={"kind": "constant"})
    folder = load_config(path).checkpoint.folder
    assert train(path, ["steps=4"], lambda line: None) == 0
    with pytest.raises(RecipeError, match="critical 4 bounds"):
        load_config(path, ["batch_ramp.critical=4"])

    def rewrite(step: int, *pairs: tuple[str, str]) -> None:
        written = folder / f"step-{step:08d}" / "checkpoint.json"
        text = json.loads(written.read_text())["meta"]
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        written.write_text(json.dumps({"meta": text, "digest": digest_of(text)}))

    rewrite(4, ('"critical":null', '"critical":4'), (f'"format_version":{FORMAT_VERSION}', '"format_version":5'))
    lines: list[str] = []
    assert train(path, (), lines.append) == 0
    assert any("an older version of corpusmill wrote the checkpoint (format 5)" in line for line in lines)
    rewrite(6, ('"increment":2', '"increment":-2'))
    with pytest.raises(UserError, match=r"step-00000006, which this version cannot read: .*increment"):
        train(path, (), lines.append)


def test_what_is_to_come_of_a_ramp_may_change(config_file: Config) -> None:
    """Else a ramp that turns out wrong could only be mended by beginning again."""
    ramp = {"kind": "linear", "first": 2, "increment": 2, "every": 8}
    path = config_file("changed", global_batch=8, micro_batch=1, batch_ramp=ramp, steps=30)
    folder = load_config(path).checkpoint.folder
    assert train(path, ["steps=10"], lambda line: None) == 0
    assert train(path, ["steps=14", "batch_ramp=null"], lambda line: None) == 0
    assert [row["global_batch"] for row in rows(folder)] == [2] * 8 + [4] * 2 + [8] * 4


def test_the_noise_scale_drives_the_batch(config_file: Config, tmp_path: Path) -> None:
    """Else the largest batch that pays would have to be guessed, and a resume would grow it elsewhere."""
    ramp = {"kind": "noise", "first": 2, "every": 5, "share": 1.0, "couple": "sqrt"}
    path = config_file(
        "noise",
        global_batch=8,
        micro_batch=1,
        batch_ramp=ramp,
        steps=90,
        noise_scale={"decay": 0.9},
        optimizer={"learning_rate": 1e-3},
    )
    folder = straight_and_resumed(path, tmp_path, 30, 90, every=30)
    found = rows(folder)
    batches = [row["global_batch"] for row in found]
    assert batches[0] == 2
    assert batches[-1] > 2
    assert all(row["noise_scale"] is None or row["noise_scale"] > 0 for row in found)
    grown = [step for step in range(1, 90) if batches[step] != batches[step - 1]]
    for step in grown:  # each growth was decided 34 steps before, by the noise scale of that step
        scale = found[step - 34]["noise_scale"]
        assert (step - 33) % 5 == 0
        assert scale is not None
        assert batches[step] <= scale
    schedule = load_config(path)
    for row in found:
        expected = 1e-3 * schedule.schedule.share(row["step"], 90) * (row["global_batch"] / 8) ** 0.5
        assert row["learning_rate"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "fp16"},
        {"precision": "bf16-stochastic"},
        {"average": {"decay": 0.9}},
        {"average": {"decay": 0.999}, "precision": "bf16-stochastic"},
        {"evaluation": {"every": 2, "sequences": 4}, "plateau": {"patience": 0, "threshold": 0.5}},
        {"loss": {"label_smoothing": 0.1, "z": 1e-3, "l1": 1e-5, "l2": 1e-4, "chunk": 16}},
    ],
    ids=["fp16", "bf16-stochastic", "average", "average-of-bf16", "plateau", "loss"],
)
def test_every_state_resumes_to_the_bit(config_file: Config, tmp_path: Path, settings: dict[str, Any]) -> None:
    """Else what these remember between steps would be lost with every stop."""
    straight_and_resumed(config_file("resumed", **settings), tmp_path, 10, 20)


def test_the_rate_falls_on_a_plateau(config_file: Config) -> None:
    """Else the setting would do nothing: here no evaluation is progress enough."""
    path = config_file(
        "plateau",
        evaluation={"every": 2, "sequences": 4},
        plateau={"patience": 1, "threshold": 50.0, "factor": 0.5, "floor": 0.2},
        schedule={"kind": "constant"},
    )
    assert train(path, (), lambda line: None) == 0
    rates = [row["learning_rate"] for row in rows(load_config(path).checkpoint.folder)]
    assert rates == pytest.approx([1e-2] * 6 + [5e-3] * 4 + [2.5e-3] * 4 + [2e-3] * 6)


def test_an_early_end(config_file: Config) -> None:
    """Else a run that learns nothing more would go on to its last step; and again, where it is begun again."""
    path = config_file(
        "early", evaluation={"every": 2, "sequences": 4}, early_stop={"patience": 2, "threshold": 50.0}, average={}
    )
    folder, lines = load_config(path).checkpoint.folder, []
    for _ in range(2):
        assert train(path, (), lines.append) == 0
        assert [row["step"] for row in rows(folder)] == list(range(1, 7))
        assert [row["step"] for row in rows(folder, "evaluation")] == [2, 4, 6]
        result = rows(folder, "result")
        assert len(result) == 1
        assert result[0]["step"] == 6
        assert result[0]["average_loss"] != result[0]["validation_loss"]
    assert any("ended after step 6" in line for line in lines)
    assert train(path, ["early_stop=null"], lines.append) == 0
    assert [row["step"] for row in rows(folder)] == list(range(1, 21))


def test_what_is_added_at_a_resume_knows_the_best_so_far() -> None:
    """Else a run that has become worse would be taken for one that still learns."""
    plain = Watch(None, None)
    for loss in (3.0, 2.0, 4.0):
        plain.see(loss)
    early, plateau = Watch(None, EarlyStopConfig(patience=1)), Watch(PlateauConfig(patience=0), None)
    for watch in (early, plateau):
        watch.load_state_dict(plain.state_dict())
        watch.see(1.9)
        assert (watch.over, watch.rate_share) == (False, 1.0)
        watch.load_state_dict(plain.state_dict())
        watch.see(2.5)
    assert early.over
    assert plateau.rate_share == 0.5


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"precision": "bf16-stochastic"},
        {"model": {"layers": 2, "width": 16, "heads": 2, "experts": {"number": 4, "balance": {"kind": "bias"}}}},
    ],
    ids=["plain", "bf16-stochastic", "experts"],
)
def test_the_micro_batch_that_was_found_stays(config_file: Config, more: dict[str, Any]) -> None:
    """Else a resume on a fuller machine would round otherwise; or trying would leave traces in the run."""
    lines: list[str] = []
    path = config_file("auto", micro_batch="auto", global_batch=12, steps=4, **more)
    folder = load_config(path).checkpoint.folder
    assert train(path, ["steps=3"], lines.append) == 0
    assert "micro_batch: 12 (of a global batch of 12)" in lines
    assert read_meta(folder / "step-00000003").config.micro_batch == 12
    whole = config_file("whole", micro_batch=12, global_batch=12, steps=3, **more)
    assert train(whole, (), lines.append) == 0
    # trying has left no trace
    assert equal(state(load_config(whole).checkpoint.folder, 3)["model"], state(folder, 3)["model"])
    lines.clear()
    assert train(path, (), lines.append) == 0
    assert [row["step"] for row in rows(folder)] == [1, 2, 3, 4]
    assert not [line for line in lines if "not equal to the bit" in line and "micro_batch" in line]
    lines.clear()
    assert train(path, ["steps=5", "global_batch=10"], lines.append) == 0
    assert "micro_batch 12 -> 10" in next(line for line in lines if "not equal to the bit" in line)


def test_all_kinds_of_events_together_resume_to_the_bit(config_file: Config, corpus: Corpus, tmp_path: Path) -> None:
    """Else a ramp, shorter sequences, a jump and documents that are left out would be right one by one alone."""
    ramp = {"kind": "linear", "first": 2, "increment": 2, "every": 6}
    path = config_file("events", global_batch=6, micro_batch=1, batch_ramp=ramp, steps=30, average={"decay": 0.9})
    folder = load_config(path).checkpoint.folder
    shard = corpus.shards("train")[0]
    out = corpus.documents(shard, ["id"])["id"][5].as_py().hex()
    later = ["data.curriculum=[{from_step: 1, length: 8}, {from_step: 9, length: 16}, {from_step: 20, length: 32}]"]
    assert train(path, ["steps=7", *later, "schedule.kind=constant"], lambda line: None) == 0
    more = [*later, "schedule.kind=constant", "data.skip_to=12", f"data.leave_out=[{out}]", "checkpoint.keep=99"]
    assert train(path, more, lambda line: None) == 0
    first, before = state(folder, 30), rows(folder)
    assert [row["global_batch"] for row in before] == [2] * 6 + [4] * 6 + [6] * 18
    assert [row["data_step"] for row in before] == [*range(1, 8), *range(12, 35)]
    for step in (20, 25, 30):
        shutil.rmtree(folder / f"step-{step:08d}")
    assert train(path, more, lambda line: None) == 0
    assert equal(state(folder, 30), first)
    assert rows(folder) == before
