"""Every command of the README works as it stands there, in its order."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [line.split(" #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository whose `.venv` is this interpreter's, so that nothing is installed again."""
    folder = tmp_path_factory.mktemp("readme") / "corpusmill"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "README.md", "configs", "pipeline", "stages", "trainer", "tests"):
        (folder / name).symlink_to(ROOT / name)
    shims = folder / ".venv" / "bin"
    shims.mkdir(parents=True)
    for name in ("python", "corpusmill", "pytest"):
        source = Path(sys.executable).parent / name
        (shims / name).write_text(f'#!/bin/sh\nexec "{source}" "$@"\n')
        (shims / name).chmod(0o755)
    (folder / ".venv" / "installed").touch()
    return folder


@pytest.mark.slow(minutes=6)
def test_every_command_of_the_readme_works_in_its_order(checkout: Path, demo_run: Path) -> None:
    """A newcomer who copies the README line by line must never meet an error."""
    found = commands()
    assert found[:2] == ["make demo", "make test"]
    for command in found:
        if command == "make test":
            continue  # that is what runs now
        done = subprocess.run(command, shell=True, cwd=checkout, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert done.stdout.strip(), command
        if command == "make demo":
            assert "records framed" in done.stdout
            assert "unigram" in done.stdout
            same = [(run / "corpus.json").read_bytes() for run in (checkout / "runs" / "demo", demo_run)]
            assert same[0] == same[1], "on all cores it gave other bytes than on one"
            tried = [
                line.strip() for line in done.stdout.splitlines() if line.strip().startswith(".venv/bin/corpusmill")
            ]
            for suggestion in tried[-3:]:
                follow = subprocess.run(shlex.split(suggestion), cwd=checkout, capture_output=True, text=True)
                assert follow.returncode == 0, f"{suggestion}\n{follow.stderr}"
            assert len(tried) >= 3
    for code in blocks("python"):
        subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True)
    shutil.rmtree(checkout / "runs")


def test_recipe_of_the_readme_is_one() -> None:
    """The example must not name a key that does not exist."""
    import yaml

    from pipeline.recipe import Recipe, stage_problems
    from stages.registry import STAGES

    (text,) = blocks("yaml")
    recipe = Recipe.model_validate(yaml.safe_load(text))
    for item in recipe.stages:
        ((name, settings),) = item.items()
        if name in STAGES:
            assert stage_problems(STAGES[name], name, settings or {}, ROOT) == []


def test_training_examples_of_the_readme_are_some() -> None:
    """The sections shown must fit into the configuration of the demo."""
    import yaml

    from trainer.config import TrainConfig

    shown = [yaml.safe_load(block) for block in blocks("yml")]
    training = [sections for sections in shown if set(sections) <= set(TrainConfig.model_fields)]
    assert len(training) >= 9
    config = yaml.safe_load((ROOT / "configs" / "train-demo.yaml").read_text(encoding="utf-8"))
    for sections in training:
        TrainConfig.model_validate(config | sections)
