"""Imports run one way: pipeline -> stages, trainer -> pipeline.shards; stages know neither."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRAINER_MAY = {
    "pipeline.aside", "pipeline.errors", "pipeline.settings", "pipeline.shards",
    "pipeline.storage.address", "pipeline.storage.patience", "pipeline.tokenizers",
}  # fmt: skip
"""Those of storage for a corpus at an address: what is an address, which package opens it and what is tried again must
be the same for a run and for the training on it. They import nothing but `pipeline.errors`. Tokenizers for what is
asked of a model in words: tokens must be the corpus's; imported inside functions, for they bring compilers."""
INSIDE_FUNCTIONS = {
    "pipeline/commands.py", "pipeline/incident_commands.py", "pipeline/judge_commands.py", "pipeline/look/trace.py",
    "pipeline/model_commands.py",
    "pipeline/plan_commands.py", "pipeline/plan_size_commands.py", "pipeline/training_commands.py",
}  # fmt: skip
"""The command line imports the trainer inside the commands that need it, so that the pipeline runs without torch."""


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every module that a file imports, and whether the import stands at the top level."""
    tree = ast.parse(path.read_text("utf-8"))
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "pipeline" else [node.module]
            )
            found += [(name, id(node) in top) for name in names]
    return found


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("path", files("stages"), ids=lambda path: str(path.relative_to(ROOT)))
def test_stages_know_no_pipeline_no_trainer_and_no_beam(path: Path) -> None:
    """Else a stage could not be used, or tested, on a batch alone."""
    for name, _ in imports(path):
        assert name.split(".")[0] not in {"pipeline", "trainer", "apache_beam", "torch"}, name


@pytest.mark.parametrize("path", files("trainer"), ids=lambda path: str(path.relative_to(ROOT)))
def test_trainer_knows_the_shards_alone(path: Path) -> None:
    """Else training on a GPU machine would need Beam and every stage's library."""
    for name, _ in imports(path):
        assert name.split(".")[0] not in {"stages", "apache_beam"}, name
        if name.split(".")[0] == "pipeline":
            assert name in TRAINER_MAY, name


@pytest.mark.parametrize("path", files("pipeline"), ids=lambda path: str(path.relative_to(ROOT)))
def test_pipeline_imports_the_trainer_only_inside_commands(path: Path) -> None:
    """Else the pipeline would not run without torch."""
    for name, top in imports(path):
        if name.split(".")[0] in {"trainer", "torch"}:
            assert not top, name
            assert str(path.relative_to(ROOT)) in INSIDE_FUNCTIONS, name


def test_what_the_imports_really_load() -> None:
    """The shard format drags no Beam, torch or stage into a trainer; the command line loads no torch and no Beam.

    What a run's processes load they all pay for, workers too: Beam only where there is work, SciPy only to join edges.
    Who only looks into a corpus does not wait for compilers, stages and databases.
    """
    code = "import sys, {module}; print(sorted(m for m in {suspects} if m in sys.modules))"
    for module, suspects in (
        ("pipeline.shards", ["apache_beam", "torch", "stages", "trafilatura", "pydantic"]),
        ("pipeline.cli", ["apache_beam", "torch", "trainer", "trafilatura"]),
        ("trainer.trace", ["apache_beam", "torch", "stages", "fsspec", "pipeline.ledger"]),
        ("pipeline.driver, pipeline.look.overview", ["apache_beam", "scipy.sparse", "pipeline.phases"]),
        (
            "pipeline.corpora.showing, pipeline.corpora.folder, pipeline.look.dropped, pipeline.look.sql, "
            "pipeline.look.verify_copy, pipeline.tokenizers.sentencepiece, pipeline.show",
            ["numba", "stages.registry", "duckdb", "plotly", "fsspec", "datasets", "torch", "apache_beam"],
        ),
        ("pipeline.runner", ["apache_beam", "scipy.sparse", "datasketch", "tldextract"]),
    ):
        run = subprocess.run(
            [sys.executable, "-c", code.format(module=module, suspects=suspects)],
            capture_output=True,
            text=True,
            check=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")},
        )
        assert run.stdout.strip() == "[]", f"{module} loads {run.stdout.strip()}"
