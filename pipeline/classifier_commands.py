"""The commands `classifier train` and `classifier test`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from pipeline.app import AsJson, app, command, console, write_out
from pipeline.errors import RecipeError

group = typer.Typer(
    help="Train and test classifiers for the stages `classify` and `toxicity_model`.", no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip
app.add_typer(group, name="classifier")

Files = list[Path] | None
Positive = Annotated[
    Files, typer.Option("--positive", metavar="FILE", help="Documents of the class; a file or folder (repeatable).")
]
Negative = Annotated[
    Files, typer.Option("--negative", metavar="FILE", help="Documents that are not of it (repeatable).")
]
Labelled = Annotated[
    Files, typer.Option("--labelled", metavar="FILE", help="Documents with labels, for several classes (repeatable).")
]
Judged = Annotated[
    Files,
    typer.Option(
        "--labels", metavar="DIR",
        help="A run whose documents were judged in `corpusmill browse`: good ones are of the class (repeatable).",
    ),
]  # fmt: skip
LabelField = Annotated[str, typer.Option("--label-field", metavar="NAME", help="The field of the label.")]
UrlField = Annotated[
    str,
    typer.Option(
        "--url-field", metavar="NAME",
        help="Take the label from the URL in this field instead: the first section of its path, as sport of "
        "https://example.org/sport/a.html.",
    ),
]  # fmt: skip
Least = Annotated[
    int | None,
    typer.Option(
        "--least", metavar="N", min=1,
        help="Leave out labels that fewer documents have. [default: 1; 10 with --url-field]",
    ),
]  # fmt: skip
TextField = Annotated[str, typer.Option("--text-field", metavar="NAME", help="The field of the text.")]


@command("train", works=True, group=group)
def train_classifier(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The model to write, such as quality.npz.")],
    positive: Positive = None,
    negative: Negative = None,
    labelled: Labelled = None,
    judged: Judged = None,
    label_field: LabelField = "label",
    url_field: UrlField = "",
    least: Least = None,
    text_field: TextField = "text",
    kind: Annotated[
        Literal["quality", "topic", "toxicity"] | None,
        typer.Option(
            "--kind",
            help="toxicity: judged by a text's worst part, for the stage toxicity_model; the others by the whole text, "
            "for classify. [default: topic with --labelled, else quality]",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="LABEL", help="What the class of --positive is called.")
    ] = "positive",
    licence: Annotated[
        str, typer.Option("--licence", metavar="TEXT", help="Licence of the documents, kept in the model.")
    ] = "",
    advise: Annotated[
        float | None,
        typer.Option("--threshold", metavar="SCORE", min=0, max=1, help="The threshold that the model advises."),
    ] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", metavar="SHARE", min=0.01, max=0.9, help="Share that is only tested on.")
    ] = 0.1,
    bits: Annotated[
        int, typer.Option("--bits", metavar="N", min=8, max=24, help="2^N weights for each class, a byte each.")
    ] = 20,
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", min=1, help="Times each document is seen.")] = 8,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Of the order and the split.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train a classifier from two sets of documents, or from documents with labels, and say how good it is.

    Files: JSON lines, Parquet, CSV, TSV, or text with a document a line, packed or not; or a folder of them. Copies
    are left out before a share is held out for the figures. The same files, options and version give the same bytes.

    Examples: corpusmill classifier train quality.npz --positive good.jsonl --negative web.jsonl.gz;
    corpusmill classifier train topics.npz --labelled pages.jsonl --label-field section;
    corpusmill classifier train topics.npz --labelled runs/demo/documents --url-field url;
    corpusmill classifier train quality.npz --labels runs/demo
    """
    from pipeline.train_classifier import training as work
    from pipeline.train_classifier.documents import digests, read
    from stages.classifier.fit import Training
    from stages.classifier.model import ONE, dump

    paths = [*(positive or []), *(negative or []), *(labelled or [])]
    notes: dict[str, int] = {}
    documents: Sequence[Any]
    if judged:
        if paths or url_field:
            raise RecipeError("--labels stands alone: it gives documents of the class and others")
        from pipeline.look.labels import NAME
        from pipeline.train_classifier import judged as review

        found = review.read(judged, name, f"{work.NOT} {name}")
        documents, paths = found.documents, [folder / NAME for folder in judged]
        notes = {"labels_without_text": found.missing, "texts_changed": found.changed}
    else:
        documents = _documents(read, work.NOT, positive, negative, labelled, label_field, url_field, text_field, name)
    rare: dict[str, int] = {}
    if labelled:
        documents, rare = work.common(documents, least or (10 if url_field else 1))
    halves = work.parted(documents, held_out, seed)
    if not halves.train or not halves.held_out:
        left = f"; {sum(rare.values()):,} are left out, for --least, with {len(rare):,} labels" if rare else ""
        raise RecipeError(f"too few documents: there must be some to train on and some to hold out{left}")
    named = {document.label for document in halves.train}
    labels = sorted(named) if labelled else [name]
    training = Training(bits=bits, epochs=epochs, seed=seed)
    facts = {
        "documents": len(halves.train), "held_out": len(halves.held_out), "copies_left_out": halves.copies,
        "labels_left_out": len(rare),
        "licence": licence, "files": digests(paths), **notes,
        "training": training._asdict(),
    }  # fmt: skip
    model = work.train(halves.train, kind or ("topic" if labelled else "quality"), labels, training, facts)
    model = model._replace(threshold=round((advise or 0) * ONE))
    figures = work.test(model, halves.held_out)
    model = model._replace(facts={**facts, "figures": figures})
    data = dump(model)
    write_out(out, data)
    if as_json:
        print(json.dumps({"model": str(out), "bytes": len(data), "kind": model.kind, **facts, "figures": figures}))
        return
    screen = console()
    left = f", and {sum(rare.values()):,} documents of {len(rare):,} rare labels" if rare else ""
    screen.print(
        f"{out}: {len(data):,} bytes, kind {model.kind}, trained on {len(halves.train):,} documents; "
        f"{halves.copies:,} copies left out{left}", markup=False, highlight=False,
    )  # fmt: skip
    if notes.get("labels_without_text"):
        screen.print(
            f"{notes['labels_without_text']:,} labels are of records that are not among the documents: left out",
            highlight=False,
        )
    if notes.get("texts_changed"):
        screen.print(
            f"{notes['texts_changed']:,} texts are not the ones that were judged; they were taken as they are now",
            highlight=False,
        )
    _print(figures, "documents that were held out")


@command("test", works=True, group=group)
def score_documents(
    path: Annotated[Path, typer.Argument(metavar="MODEL", help="A model that `classifier train` wrote.")],
    positive: Positive = None,
    negative: Negative = None,
    labelled: Labelled = None,
    label_field: LabelField = "label",
    url_field: UrlField = "",
    text_field: TextField = "text",
    as_json: AsJson = False,
) -> None:
    """Say how well a classifier does on documents: AUC, precision and recall at several thresholds, for each class.

    Example: corpusmill classifier test quality.npz --positive good-2.jsonl --negative web-2.jsonl.gz
    """
    from pipeline.train_classifier import training as work
    from pipeline.train_classifier.documents import read
    from stages.classifier.model import load

    try:
        model = load(path.read_bytes(), path.name)
    except (OSError, ValueError) as error:
        raise RecipeError(f"{error}" if isinstance(error, ValueError) else f"{path}: {error.strerror}") from error
    if positive and len(model.labels) > 1:
        raise RecipeError(f"{path} has the classes {', '.join(model.labels)}: give --labelled")
    documents = _documents(
        read, work.NOT, positive, negative, labelled, label_field, url_field, text_field, model.labels[0]
    )
    if url_field:  # sections that the model was not trained on
        documents = [document for document in documents if document.label in model.labels]
    figures = work.test(model, documents)
    if as_json:
        print(json.dumps(figures))
    else:
        _print(figures, "documents")


def _documents(
    read: Any,
    other: str,
    positive: Files,
    negative: Files,
    labelled: Files,
    label_field: str,
    url_field: str,
    text_field: str,
    name: str,
) -> Sequence[Any]:
    if bool(labelled) == bool(positive or negative) or bool(positive) != bool(negative):
        raise RecipeError("give --positive and --negative, or --labelled alone, or --labels")
    if labelled:
        return list(read(labelled, text_field, None, label_field, url_field))
    if url_field:
        raise RecipeError("--url-field gives labels: it goes with --labelled")
    return [*read(positive or [], text_field, name), *read(negative or [], text_field, f"{other} {name}")]


def _print(figures: dict[str, Any], what: str) -> None:
    screen = console()
    accuracy = f"; {figures['accuracy']:.1%} right" if figures.get("accuracy") is not None else ""
    screen.print(f"on {figures['documents']:,} {what}{accuracy}:", markup=False, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="")
    for title in ("class", "documents", "AUC", "threshold", "precision", "recall", "others flagged"):
        table.add_column(title, justify="left" if title == "class" else "right")
    for label, found in figures.items():
        if not isinstance(found, dict):
            continue
        for number, row in enumerate(found["at"]):
            area = "-" if found["auc"] is None else f"{found['auc']:.4f}"
            first = ("", "", "") if number else (label, f"{found['documents']:,}", area)
            shares = (row["precision"], row["recall"], row["false_positives"])
            table.add_row(*first, f"{row['threshold']:.2f}", *("-" if x is None else f"{x:.1%}" for x in shares))
    screen.print(table)
