"""`python -m pipeline.train_extractor`: see the package."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.train_extractor.examples import example
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
        from pipeline.train_extractor.fit import Trainer

        found = load(data)
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is missing: install corpusmill[dev]") from error
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error

    def report(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    examples = [made for page in found if (made := example(page)) is not None]
    report(f"{len(examples):,} pages of {len(found):,} have a text to learn from")
    trainer = Trainer(examples, report)
    wanted = []
    if folds:
        wanted = [(folds / f"fold-{fold}.npz", frozenset({fold})) for fold in range(FOLDS)]
    if out:
        wanted.append((out, frozenset()))
    for path, without in wanted:
        content = dump(trainer.model(without))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        report(f"{path}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    typer.run(main)
