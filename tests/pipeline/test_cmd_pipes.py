"""Commands behind which a pipe breaks: work goes on unheard, a listing ends quietly, nothing half passes for done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from small_run import contents, write_recipe

from pipeline.look.verify import verify

ROOT = Path(__file__).resolve().parents[2]


def broken(*args: object, after: int = 0) -> tuple[int, str]:
    """Exit status and messages of a command whose output nobody reads behind its first `after` bytes."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *map(str, args)],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    os.close(write)
    if after:
        assert os.read(read, after)
    os.close(read)
    _, messages = process.communicate()
    return process.returncode, messages


def test_a_run_whose_output_nobody_reads_is_done_all_the_same(tmp_path: Path) -> None:
    """Else a run of days would end, or worse, end with 0, because the terminal's `head` or `less` was left."""
    recipe, out = write_recipe(tmp_path), tmp_path / "run"
    assert broken("run", recipe, "--out", out, "--workers", 1, after=1) == (0, "")
    assert len(contents(out, "shards")) > 6
    assert (out / "corpus.json").exists()
    assert verify(out).damage == []
    assert verify(out).complete
    assert broken("run", recipe, "--out", out, "--set", "expect.normalize.drop=[0.9,1.0]")[0] == 3  # its own status
    assert broken("verify", out)[0] == 0


def test_a_training_run_whose_output_nobody_reads_is_done_all_the_same(
    demo_copy: Path, tmp_path: Path, corpusmill: Callable[..., object]
) -> None:
    """Else a model of days would be lost with the terminal."""
    config = {
        "data": {"corpus": str(demo_copy), "validation": None}, "model": {"layers": 1, "width": 16, "heads": 1},
        "sequence_length": 64, "global_batch": 2, "steps": 3, "schedule": {"warmup": 1}, "device": "cpu", "threads": 1,
        "checkpoint": {"folder": str(tmp_path / "model"), "every": 3}, "log": {"every": 1},
    }  # fmt: skip
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    assert broken("train", path) == (0, "")
    assert (tmp_path / "model" / "step-00000003").is_dir()


def test_a_listing_that_nobody_reads_to_its_end_ends_quietly(demo_run: Path) -> None:
    """Else `| head` would bring a traceback."""
    for args in (["inspect", demo_run], ["inspect", demo_run, "--json"], ["dropped", demo_run, "-n", "0"], ["stages"]):
        assert broken(*args) == (141, ""), args
    assert broken("dropped", demo_run, "--json", after=100) == (141, "")
