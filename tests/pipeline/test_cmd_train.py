"""`corpusmill train` and what all commands share: help that teaches, exit codes that scripts can use."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pipeline.commands
from pipeline.cli import app
from pipeline.errors import DamageError

NAMES = sorted(command.name for command in app.registered_commands if command.name)


def call(*args: object) -> tuple[int, str]:
    """Exit code and all output of a command, in this process."""
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    return done.exit_code, done.output


def test_all_commands_are_there() -> None:
    """Else a command of the README would be unknown."""
    assert NAMES == [
        "browse", "card", "clean", "decode", "dropped", "eval", "export", "export-model", "fetch", "generate", "head",
        "import-model", "incidents", "inspect", "memorisation", "merge", "packing", "plan-run", "plant-canaries",
        "plot-schedule", "publish", "remove", "report", "run", "sql", "stages", "trace", "train", "try",
        "verify", "worker",
    ]  # fmt: skip
    assert Path(pipeline.commands.__file__).exists()


@pytest.mark.parametrize("name", NAMES)
def test_help_teaches(name: str) -> None:
    """Else a user had to look elsewhere for how a command is called."""
    code, text = call(name, "--help")
    assert code == 0
    assert f"corpusmill {name} " in text.replace("\n ", "")
    assert "Example" in text


@pytest.mark.parametrize("code", [0, 1, 130, 143])
def test_exit_codes_of_training_are_passed_on(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `make demo` would be green although the model did not learn."""
    run = pytest.importorskip("trainer.run")
    seen: list[object] = []

    def train(config: Path, overrides: list[str]) -> int:
        seen.extend([config, overrides])
        return code

    monkeypatch.setattr(run, "train", train)
    assert call("train", "c.yaml", "--set", "a.b=1", "--set", "steps=2") == (code, "")
    assert seen == [Path("c.yaml"), ["a.b=1", "steps=2"]]


def test_messages_of_training(demo_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a missing package, a wrong key or Ctrl-C would end in a traceback."""
    run = pytest.importorskip("trainer.run")
    assert call("train", tmp_path / "none.yaml")[0] == 2
    demo = Path(__file__).resolve().parents[2] / "configs" / "train-demo.yaml"
    code, text = call("train", demo, "--set", f"data.corpus={demo_copy}", "--set", "stepz=1")
    assert code == 2
    assert "Did you mean 'steps'" in text
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch", None)
        code, text = call("train", demo, "--set", f"data.corpus={demo_copy}")
    assert code == 1
    assert "pip install 'corpusmill[train]'" in text

    def interrupted(config: Path, overrides: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train", interrupted)
    assert call("train", "c.yaml")[0] == 130


def test_an_error_is_one_message_and_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else scripts could not tell damage from a wrong argument, and users would read tracebacks."""
    run = pytest.importorskip("trainer.run")

    def train(config: Path, overrides: list[str]) -> int:
        raise DamageError("[bold]a file[/] is cut short")

    monkeypatch.setattr(run, "train", train)
    assert call("train", "c.yaml") == (4, "corpusmill: [bold]a file[/] is cut short\n")


def test_packings_are_compared(demo_copy: Path) -> None:
    """Else a user would have to train to learn what a packing pads and cuts."""
    code, text = call("packing", demo_copy, "--sequence-length", 128)
    assert code == 0
    assert "documents cut" in text
    code, text = call("packing", demo_copy, "--sequence-length", 128, "--drop", "--json")
    best, cut = json.loads(text)
    assert (code, best["packing"], cut["packing"]) == (0, "best-fit", "concatenate")
    assert best["fitting_cut"] == best["dropped"] == cut["padding"] == 0
    assert 0 < best["documents_cut"] < cut["documents_cut"]
    assert cut["tokens"] == cut["sequences"] * 128 + cut["dropped"]
    code, text = call("packing", demo_copy, "--split", "trian")
    assert (code, "has no split 'trian'" in text) == (1, True)


def test_a_schedule_is_drawn(tmp_path: Path) -> None:
    """Else nobody would see a mistake in a schedule before the run is over."""
    demo = Path(pipeline.commands.__file__).parents[1] / "configs" / "train-demo.yaml"
    code, text = call("plot-schedule", demo, "--set", "schedule.kind=wsd", "--out", tmp_path / "s.html")
    assert (code, "500 │ 2.000e-04" in text) == (0, True)
    page = (tmp_path / "s.html").read_text("utf-8")
    assert "train-demo.yaml: wsd" in page
    code, text = call("plot-schedule", demo, "--set", "schedule={kind: constant, warmup: 2}", "--json")
    assert json.loads(text)[:3] == [[1, 0.002], [2, 0.004], [3, 0.004]]
    change = "changes=[{step: 251, set: {schedule: {kind: constant, warmup: 0}, optimizer.learning_rate: 0.003}}]"
    code, text = call("plot-schedule", demo, "--set", change, "--json")
    assert json.loads(text)[249][1] < 0.004
    assert {rate for step, rate in json.loads(text)[250:]} == {0.003}
    code, text = call("plot-schedule", demo, "--set", change, "--out", tmp_path / "s.html")
    assert (code, "cosine, then constant" in text) == (0, True)
    ramp = "batch_ramp={kind: noise, first: 2, couple: sqrt}"
    code, text = call("plot-schedule", demo, "--set", ramp, "--set", "micro_batch=1", "--out", tmp_path / "s.html")
    assert "drawn for batches of 2: with batch_ramp.couple sqrt the rate rises as the batch does, to 1.41 times" in text
    assert "drawn for batches of 2" in (tmp_path / "s.html").read_text("utf-8")
    code, text = call("plot-schedule", demo, "--out", tmp_path / "no" / "s.html")
    assert (code, "cannot be written: No such file or directory" in text) == (1, True)
    code, text = call("plot-schedule", demo, "--set", "schedule.kind=wave")
    assert (code, "schedule.kind: no such kind, found 'wave'" in text) == (2, True)


def test_every_setting_is_explained_on_request() -> None:
    """Else a user had to read the code to know what may be set."""
    code, text = call("train", "--help-config")
    assert (code, text.splitlines()[0]) == (0, "data: required")
