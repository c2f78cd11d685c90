"""A finished run of the demo recipe that tests look into, made once a session, and the command line to call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "configs" / "demo.yaml"

Corpusmill = Callable[..., "subprocess.CompletedProcess[str]"]


def call(
    *args: object,
    check: bool = True,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs `corpusmill ARGS`; `env` is added to this process's. With `check`, a failure fails the test with its
    output."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *map(str, args)],
        env=os.environ | {"COLUMNS": "160"} | (env or {}),
        cwd=cwd or ROOT,
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        words = " ".join(map(str, args))
        pytest.fail(f"corpusmill {words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done


@pytest.fixture(scope="session")
def corpusmill() -> Corpusmill:
    """`corpusmill(*args, check=True, env=None, cwd=None)`: the command line in a process of its own."""
    return call


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of configs/demo.yaml. Tests must not change it: see `demo_copy`."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    call("run", DEMO, "--out", folder, "--workers", 1)
    return folder


@pytest.fixture
def demo_copy(demo_run: Path, tmp_path: Path) -> Path:
    """A copy of `demo_run` that the test may change."""
    return Path(shutil.copytree(demo_run, tmp_path / "run"))
