"""`python -m pipeline.train_extractor`: see the package."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from pipeline.train_extractor.examples import example
from pipeline.train_extractor.fit import Report, Trainer, lightgbm
from pipeline.train_extractor.pages import load
from stages.extract.folds import FOLDS
from stages.extract.model import dump


def main(
    data: Annotated[Path, typer.Argument(help="Folder of WARC files and gold.jsonl.gz.")],
    out: Annotated[Path | None, typer.Option(help="File for the model trained on everything.")] = None,
    folds: Annotated[
        Path | None, typer.Option(help="Folder for fold-0.npz to fold-4.npz, each trained without the fold it names.")
    ] = None,
) -> None:
    """Trains the model of the extractor `blocks`; the same data give the same model."""
    try:
        train(data, out, folds, lambda text: print(text, file=sys.stderr, flush=True))
    except (UserError, OSError) as error:
        raise SystemExit(str(error)) from error


def train(data: Path, out: Path | None, folds: Path | None, report: Report) -> None:
    """Writes the models that are asked for. Raises UserError or OSError, as far as can be known before any work."""
    wanted = [(folds / f"fold-{fold}.npz", frozenset({fold})) for fold in range(FOLDS)] if folds else []
    if out:
        wanted.append((out, frozenset()))
    if not wanted:
        raise UserError("there is nothing to make: give --out FILE, --folds FOLDER, or both")
    lightgbm()
    found = load(data)
    for path, _ in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UserError(f"{path} is a folder: name a file for the model")
    examples = [made for page in found if (made := example(page)) is not None]
    report(f"{len(examples):,} pages of {len(found):,} have a text to learn from")
    trainer = Trainer(examples, report)
    for _, without in wanted:
        trainer.check(without)
    for path, without in wanted:
        content = dump(trainer.model(without))
        path.write_bytes(content)
        report(f"{path}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    typer.run(main)
