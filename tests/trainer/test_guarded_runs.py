"""The guard: what it takes for trouble, and what a run does about it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
import torch
from checkpoints import assert_equal_states, quiet
from guard_cases import faulty, moved_in_the_second, spoilt, trained
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import document_id, write_config, write_corpus

from pipeline.errors import RecipeError, UserError
from pipeline.incident_commands import read as read_incidents
from trainer.batch import IGNORED, NO_DOCUMENT, Batch
from trainer.checkpoint import load_state, saved
from trainer.config import load_config
from trainer.guard import Guard
from trainer.guard_settings import GuardConfig, OutliersConfig
from trainer.learning import Learner
from trainer.metrics import read
from trainer.run import train

DOCUMENTS = 400
GARBAGE = frozenset(range(7, DOCUMENTS, 33))
NOTHING = np.zeros(0)
GUARD = {"after": 60, "window": 64, "snapshot_every": 10}
NAMING = GUARD | {"documents": {"sigmas": 5.0, "most": 0.2}}


def guard(**settings: Any) -> Guard:
    return Guard(GuardConfig(after=0, **settings), groups=1)


def seen(watcher: Guard, losses: list[float], norm: float = 1.0) -> list[bool]:
    return [watcher.passes(step, loss, norm, 1.0, NOTHING) for step, loss in enumerate(losses, 1)]


@given(st.lists(st.floats(-1, 1), min_size=20, max_size=60), st.floats(0.01, 0.5))
def test_noise_passes_and_a_spike_does_not(noise: list[float], size: float) -> None:
    """Else a run would be stopped by its usual noise, or by nothing."""
    watcher = guard(sigmas=15.0)
    assert all(seen(watcher, [3 + size * value for value in noise]))
    known = 3 + size * np.array(noise)
    spike = known.mean() + 15.1 * max(known.std(), 0.02 * known.mean())
    assert not watcher.passes(99, spike, 1.0, 1.0, NOTHING)
    assert watcher.trouble is not None
    assert watcher.trouble.why == ("loss",)
    assert watcher.trouble.figures["loss"].sigmas == pytest.approx(15.1)
    assert watcher.passes(99, float(known.mean()), 1.0, 1.0, NOTHING)  # the spike is no part of what is usual
    assert watcher.trouble is None


@pytest.mark.parametrize(
    ("loss", "norm", "update", "why"),
    [
        (math.nan, 1.0, 1.0, "not_finite"),
        (3.0, math.inf, 1.0, "not_finite"),
        (3.0, 50.0, 1.0, "gradient_norm"),
        (3.0, 1.0, 50.0, "update_norm"),
    ],
)
def test_what_is_trouble(loss: float, norm: float, update: float, why: str) -> None:
    """Else a broken device or a step too far would be learned from."""
    watcher = guard()
    assert all(seen(watcher, [3.0 + 0.01 * (step % 3) for step in range(30)]))
    assert not watcher.passes(31, loss, norm, update, NOTHING)
    assert watcher.trouble is not None
    assert watcher.trouble.why == (why,)
    assert watcher.remedy(31, True) == ("rollback" if why == "update_norm" else "step")


def test_what_helps_is_tried_in_order_and_not_for_ever() -> None:
    """Else a run that cannot be mended would burn its budget in silence."""
    watcher = guard(patience=2, rollbacks=1, window=16)
    assert all(seen(watcher, [3.0] * 20))
    done = []
    for step in range(21, 25):
        assert not watcher.passes(21, 9.0, 1.0, 1.0, NOTHING)
        done.append(watcher.remedy(step, True))
    assert done == ["step", "step", "rollback", "end"]
    assert watcher.first_bad == 21


def batch_of(*losses: float, groups: list[int] | None = None, targets: int = 40) -> tuple[Batch, Any]:
    """A sequence a document, with what each costs."""
    rows = len(losses)
    targets_BT = np.full((rows, 64), IGNORED)
    targets_BT[:, :targets] = 3
    documents_BT = np.where(np.arange(64) < 50, np.arange(rows)[:, None], NO_DOCUMENT)
    some = np.zeros((rows, 64), np.int64)
    return Batch(some, targets_BT, some, documents_BT, np.array(groups or [0] * rows)), np.array(losses) * targets


def test_documents_are_compared_within_their_group() -> None:
    """Else a small source that is hard, such as poetry among manuals, would be thrown out as garbage."""
    rng, watcher = np.random.default_rng(0), Guard(GuardConfig(after=0, documents=OutliersConfig()), groups=2)
    for step in range(1, 60):
        losses = [*rng.normal(2, 0.2, 6), *rng.normal(7, 0.2, 2)]
        assert watcher.passes(step, 3.0, 1.0, None, watcher.of_documents(*batch_of(*losses, groups=[0] * 6 + [1] * 2)))
    summed = watcher.of_documents(*batch_of(2.0, 7.0, 7.0, groups=[0, 0, 1]))
    assert watcher.documents is not None
    assert watcher.documents.outliers_P.tolist() == [False, True, False]
    assert not watcher.passes(60, 3.0, 1.0, None, summed)
    assert watcher.remedy(60, True) == "documents"
    assert watcher.remedy(60, False) == "step"


def test_many_outliers_are_a_kind_of_text() -> None:
    """Else a language of which there is little would be left out of a model, page by page."""
    rng, watcher = np.random.default_rng(0), Guard(GuardConfig(after=0, documents=OutliersConfig()), groups=1)
    for step in range(1, 300):
        losses = [*rng.normal(2, 0.2, 15), 8.0 if step > 50 else 2.0]
        passed = watcher.passes(step, 3.0, 1.0, None, watcher.of_documents(*batch_of(*losses)))
        if step > 50 and passed:
            break
        if not passed:
            assert watcher.remedy(step, True) == "documents"
            assert watcher.passes(step, 3.0, 1.0, None, watcher.of_documents(*batch_of(*losses[:15])))
    assert 55 < step < 120
    few = watcher.of_documents(*batch_of(50.0, targets=5))
    assert few[-1] == 0  # so few targets say nothing
    assert watcher.documents is not None
    assert not watcher.documents.outliers_P.any()


# ---- whole runs


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same corpus with garbage in it, and without."""
    lengths = {"train": [np.random.default_rng(1).integers(40, 65, DOCUMENTS).tolist()], "validation": [[60] * 40]}
    folder = tmp_path_factory.mktemp("corpora")
    return {
        name: write_corpus(folder / name, lengths, garbage=garbage)
        for name, garbage in (("spoilt", GARBAGE), ("clean", frozenset()))
    }


def config(folder: Path, corpus: Path, name: str = "run", **changes: Any) -> Path:
    shape = {"layers": 2, "width": 32, "heads": 2}
    settings = {"model": shape, "sequence_length": 64, "global_batch": 8, "micro_batch": 4, "steps": 160}
    settings |= {"optimizer": {"learning_rate": 2.0e-2}, "schedule": {"warmup": 10}}
    settings |= {"checkpoint": {"folder": str(folder / name), "every": 40, "keep": 9}}
    return write_config(folder, corpus, name, **settings | changes)


def named(folder: Path) -> set[str]:
    return {document for row in read_incidents(folder) for document in row["left_out"]}


@pytest.fixture(scope="module")
def guarded(corpora: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over the corpus with garbage, whose guard names documents."""
    folder = tmp_path_factory.mktemp("guarded")
    assert train(config(folder, corpora["spoilt"], guard=NAMING), say=quiet) == 0
    return folder / "run"


def test_garbage_is_named_and_left_out(guarded: Path) -> None:
    """Else what spoils a run could only be found by reading the corpus."""
    planted = {document_id(number).hex() for number in GARBAGE}
    rows = read_incidents(guarded)
    assert named(guarded) <= planted
    assert len(named(guarded)) >= 0.9 * len(planted)
    first = rows[0]
    assert first["why"] == ["documents"]
    worst = first["documents"][0]
    assert worst["document"] in first["left_out"]
    assert worst["url"] in {f"https://site.example/{number}" for number in GARBAGE}
    assert worst["loss"] > 3.5
    assert worst["sigmas"] > 5
    assert sum(one["stands_out"] for one in first["documents"]) == len(first["left_out"])
    assert [row["step"] for row in read(guarded / "metrics.jsonl") if row["kind"] == "step"] == list(range(1, 161))
    logged = [row for row in read(guarded / "metrics.jsonl") if row["kind"] == "incident"]
    assert [row["step"] for row in logged] == [row["step"] for row in rows]


def test_a_killed_run_finds_the_same(guarded: Path, corpora: dict[str, Path], tmp_path: Path) -> None:
    """Else what a run leaves out, and so its weights, would hang on when it was killed."""
    path = config(tmp_path, corpora["spoilt"], guard=NAMING)
    shutil.copytree(guarded, tmp_path / "run")
    for step in (120, 160):
        shutil.rmtree(tmp_path / "run" / f"step-{step:08d}")
    (tmp_path / "run" / "latest").write_text("step-00000080\n")
    assert train(path, say=quiet) == 0
    assert read_incidents(tmp_path / "run") == read_incidents(guarded)
    ours, theirs = (load_state(folder / "step-00000160") for folder in (tmp_path / "run", guarded))
    assert_equal_states(ours, theirs)


def test_two_processes_decide_alike(guarded: Path, corpora: dict[str, Path], tmp_path: Path) -> None:
    """Else one would leave a step out that the other makes, and they would wait for each other for ever."""
    path = config(tmp_path, corpora["spoilt"], guard=NAMING)
    assert ranks.run(trained, 2, path, ["parallel.dp_replicate=2", "steps=100"]) == [0, 0]
    rows = [row for row in read_incidents(guarded) if row["step"] <= 100]
    found = read_incidents(tmp_path / "run")
    keys = ("step", "data_step", "why", "action", "outliers", "left_out")
    assert [[row[key] for key in keys] for row in found] == [[row[key] for key in keys] for row in rows]
    assert found


def test_weights_that_a_fault_spoilt_are_taken_back(
    corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a flipped bit in the memory of one device would cost the run."""
    learn = Learner.learn
    monkeypatch.setattr(Learner, "learn", faulty(97, times=1))
    path = config(tmp_path, corpora["clean"], guard=GUARD)
    said: list[str] = []
    assert train(path, say=said.append) == 0
    rows = read_incidents(tmp_path / "run")
    assert [row["action"] for row in rows] == ["step", "step", "rollback"]
    assert {row["step"] for row in rows} == {98}
    assert rows[-1]["back_to"] == 80  # the newest copy that is ten steps from the fault
    steps = [row for row in read(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "step"]
    assert [row["step"] for row in steps] == [*range(1, 98), *range(81, 161)]
    again = [row for row in steps if row["attempt"] == 3]
    assert [row["data_step"] for row in again] == list(range(101, 181))  # nothing is read twice
    assert again[0]["learning_rate"] == pytest.approx(steps[80]["learning_rate"] / 2)
    plain = config(tmp_path, corpora["clean"], "plain")
    monkeypatch.setattr(Learner, "learn", learn)
    assert train(plain, say=quiet) == 0
    losses = [read(tmp_path / name / "metrics.jsonl")[-1]["validation_loss"] for name in ("run", "plain")]
    assert losses[0] == pytest.approx(losses[1], abs=0.1)
    assert any("back to step 80" in line for line in said)


def test_weights_that_are_no_longer_numbers_are_taken_back(
    corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else NaN would spread through all weights and moments, and into every checkpoint from then on."""
    monkeypatch.setattr(Learner, "learn", faulty(97, times=1, factor=math.nan))
    assert train(config(tmp_path, corpora["clean"], guard=GUARD, steps=130), say=quiet) == 0
    rows = read_incidents(tmp_path / "run")
    assert [row["action"] for row in rows] == ["step", "step", "rollback"]
    assert all("not_finite" in row["why"] for row in rows)
    for kept in saved(tmp_path / "run"):
        state = load_state(kept)
        assert all(torch.isfinite(weight).all() for weight in state["model"].values()), kept


def test_a_gradient_that_is_not_finite_costs_its_step_alone(
    corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one batch that overflows would end the run, or take back steps that were fine."""
    backward, calls = Learner._backward, 0

    def overflows(self: Learner, *given: Any) -> Any:
        nonlocal calls
        found = backward(self, *given)
        calls += 1
        if calls == 50:
            assert self.weights[0].grad is not None
            self.weights[0].grad[0] = math.inf
        return found

    monkeypatch.setattr(Learner, "_backward", overflows)
    assert train(config(tmp_path, corpora["clean"], guard=GUARD, steps=80), say=quiet) == 0
    assert [(row["step"], row["why"], row["action"]) for row in read_incidents(tmp_path / "run")] == [
        (50, ["not_finite"], "step")
    ]
    steps = [row for row in read(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "step"]
    assert [row["data_step"] for row in steps] == [*range(1, 50), *range(51, 82)]


def test_steps_alone_are_left_out_where_that_is_asked_for(corpora: dict[str, Path], tmp_path: Path) -> None:
    """Else who must not change the set of documents could not have the guard."""
    path = config(tmp_path, corpora["spoilt"], guard=NAMING | {"leave_out": "steps"})
    assert train(path, say=quiet) == 0
    rows = read_incidents(tmp_path / "run")
    assert rows
    assert {row["action"] for row in rows} == {"step"}
    assert named(tmp_path / "run") == set()
    steps = [row for row in read(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "step"]
    assert [row["step"] for row in steps] == list(range(1, 161))
    assert not {row["data_step"] for row in rows} & {row["data_step"] for row in steps}


@pytest.mark.thorough
def test_processes_with_a_share_of_the_weights_each_go_back_together(corpora: dict[str, Path], tmp_path: Path) -> None:
    """Else weights of one moment would be trained on beside weights of another."""
    for name, settings, processes in (("alone", [], 1), ("shards", ["parallel.dp_shard=2", "micro_batch=2"], 2)):
        path = config(tmp_path, corpora["clean"], name, guard=GUARD, steps=110)
        assert ranks.run(spoilt, processes, path, settings, 97) == [0] * processes
    keys = ("step", "data_step", "why", "action", "back_to")
    found, alone = (
        [[row.get(key) for key in keys] for row in read_incidents(tmp_path / name)] for name in ("shards", "alone")
    )
    assert found == alone
    assert [row[3] for row in found] == ["step", "step", "rollback"]
    ours, theirs = (load_state(tmp_path / name / "step-00000110")["model"] for name in ("shards", "alone"))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-3, atol=1e-4)


LION = [{"step": 93, "set": {"optimizer": {"kind": "lion", "learning_rate": 2.0e-3}}}]


@pytest.mark.parametrize(
    ("guard", "changes", "fault", "back_to"),
    [
        pytest.param({"snapshot_every": None}, [], 97, 80, marks=pytest.mark.thorough),
        ({"snapshot_every": 1000}, [], 97, 80),  # newer than the copy of the beginning
        ({"snapshot_every": None}, LION, 110, 92),
        pytest.param({"snapshot_every": 10}, LION, 110, 100, marks=pytest.mark.thorough),
        ({"snapshot_every": 10}, LION, 102, 92),  # what was before has other moments
    ],
)
def test_how_far_it_goes_back(
    guard: dict[str, Any],
    changes: list[Any],
    fault: int,
    back_to: int,
    corpora: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else one bad step would cost a run all that it learned, or make steps anew by settings that were not theirs."""
    monkeypatch.setattr(Learner, "learn", faulty(fault, times=1))
    path = config(tmp_path, corpora["clean"], guard=GUARD | guard, changes=changes, steps=130)
    assert train(path, say=quiet) == 0
    last = read_incidents(tmp_path / "run")[-1]
    assert (last["action"], last["back_to"]) == ("rollback", back_to)
    steps = [row["step"] for row in read(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "step"]
    assert steps == [*range(1, fault + 1), *range(back_to + 1, 131)]
    state = load_state(tmp_path / "run" / "step-00000130")
    assert all(torch.isfinite(weight).all() for weight in state["model"].values())


def test_where_there_is_nothing_to_go_back_to_it_says_so(
    corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one would look for bad steps before it."""
    monkeypatch.setattr(Learner, "learn", faulty(30, times=1))
    path = config(tmp_path, corpora["clean"], guard=GUARD | {"after": 20, "snapshot_every": None})
    with pytest.raises(UserError, match="neither a copy of the weights nor a checkpoint"):
        train(path, say=quiet)


@pytest.mark.thorough
def test_a_move_of_one_process_alone_is_seen(corpora: dict[str, Path], tmp_path: Path) -> None:
    """Else a device that spoils its part of the weights would be noticed only by what the whole model makes of it."""
    path = config(tmp_path, corpora["clean"], guard=GUARD)
    settings = ["parallel.tp=2", "steps=80"]
    assert ranks.run(moved_in_the_second, 2, path, settings, 70) == [0, 0]
    first = read_incidents(tmp_path / "run")[0]
    assert (first["why"], first["step"], first["action"]) == (["update_norm"], 71, "rollback")


def test_a_run_that_cannot_be_mended_ends(
    corpora: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would go back and forth for ever."""
    monkeypatch.setattr(Learner, "learn", faulty(97, times=99))
    path = config(tmp_path, corpora["clean"], guard=GUARD | {"rollbacks": 2})
    with pytest.raises(UserError, match=r"gives up at step \d+ .*corpusmill incidents"):
        train(path, say=quiet)
    assert read_incidents(tmp_path / "run")[-1]["action"] == "end"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["guard={}", "loose={kind: local_sgd}", "parallel.dp_replicate=2"], "guard decides for all processes"),
        (["guard={documents: {}}", "data.documents=joined"], "guard.documents needs the loss of each document"),
        (["guard={documents: {}}", "parallel.cp=2"], "guard.documents needs"),
        (["guard={sigma: 3}"], "guard.sigma.*sigmas"),
    ],
)
def test_what_does_not_go_together_is_refused(
    config_file: Callable[..., Path], settings: list[str], message: str
) -> None:
    """Else it would fail in the first step, or watch nothing."""
    with pytest.raises(RecipeError, match=message):
        load_config(config_file(), settings)


def test_the_command_shows_them(guarded: Path, corpusmill: Callable[..., Any]) -> None:
    """Else the list would be of use to programs alone."""
    shown = corpusmill("incidents", guarded, "-n", 2).stdout
    assert "documents that stand out" in shown
    assert f"{len(named(guarded))} documents left out of all later steps" in shown
    rows = corpusmill("incidents", guarded, "--json").stdout
    assert [json.loads(line) for line in rows.splitlines()] == read_incidents(guarded)
    assert "guard: {}" in corpusmill("incidents", guarded / "nowhere", check=False).stderr
