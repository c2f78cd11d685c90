"""Stages on tables of one's own, without a recipe and without a run.

>>> import pyarrow as pa
>>> from pipeline.library import apply
>>> from stages.emoji_names import Emoji
>>> from stages.quality.gopher import GopherQuality
>>> table = pa.table({"text": ["Well done 👍, and the rest of it is to be had on Monday.", "hm"], "page": [1, 2]})
>>> apply(table, GopherQuality(min_words=5), Emoji(mode="name")).to_pylist()
[{'text': 'Well done thumbs up, and the rest of it is to be had on Monday.', 'page': 1}]

What is left out, and why, is to be had as well:

>>> apply(table, GopherQuality(min_words=5), mark="dropped")["dropped"].to_pylist()[1]
{'reason': 'gopher_quality.few_words', 'value': 1.0, 'limit': 5.0}

`apply` takes Arrow tables and batches, readers of batches, and datasets of Hugging Face, and gives what it was given.
The stages are those of a recipe (`corpusmill stages` lists them) or your own, and do what they do in a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, cast

import pyarrow as pa

from pipeline.errors import UserError
from pipeline.library.columns import ROWS
from pipeline.library.steps import Rows, Steps
from stages.base import Stage

Data = TypeVar("Data")


def apply(
    data: Data,
    *stages: Stage,
    text: str = "text",
    html: str | None = None,
    mark: str | None = None,
    folder: str | Path = ".",
    workers: int | None = None,
) -> Data:
    """The rows that the stages keep, with the columns that they write: of the kind that was given.

    `data`: a pyarrow Table, RecordBatch or RecordBatchReader (which is read as the result is), a Dataset,
    IterableDataset (as it is read) or a dictionary of such of Hugging Face. Column `text` holds the texts. `html` names
    a column of pages, bytes or strings, which `Extract` makes texts of; it takes that column out, as it does in a run.
    Columns that stages know (`id`, `url`, `language` and so on, see `stages.schema`) are used where their types fit,
    and need not be there; all others stay as they are. An `id` that is not 16 bytes is made of source, URL, date and
    text, as readers make it.

    With `mark`, dropped rows stay as they came, and the column of that name says why: a struct of reason, value and
    limit, null where a row is kept. `folder`: where paths in settings begin. `workers`: processes for a Dataset.

    Stages that run in a child process of their own in a run (`Extract`) run in this one: their limits on CPU time and
    memory do not hold. Raises UserError where a column is missing, or a stage's file.
    """
    steps = Steps(stages, text, html, mark, str(Path(folder).absolute()))
    found: Any = _applied(data, steps, workers)
    return cast(Data, found)


def _applied(data: Any, steps: Steps, workers: int | None) -> Any:
    if isinstance(data, pa.RecordBatch):
        return _one(steps(pa.Table.from_batches([data])))
    if isinstance(data, pa.Table):
        return steps(data)
    if isinstance(data, pa.RecordBatchReader):
        batches = (made for batch in data for made in steps(pa.Table.from_batches([batch])).to_batches())
        return pa.RecordBatchReader.from_batches(steps.schema(data.schema), batches)
    module = type(data).__module__.partition(".")[0]
    if module == "datasets" and isinstance(data, dict):
        return type(data)({name: _applied(part, steps, workers) for name, part in data.items()})
    if module == "datasets" and hasattr(data, "map"):
        return _mapped(data, steps, workers)
    raise UserError(
        f"apply takes a Table, RecordBatch or RecordBatchReader of pyarrow or a dataset of Hugging Face, not "
        f"{type(data).__module__}.{type(data).__qualname__}; pa.table(...) or Dataset.from_... makes one"
    )


def _one(table: pa.Table) -> pa.RecordBatch:
    """The table as one batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _mapped(data: Any, steps: Steps, workers: int | None) -> Any:
    """A dataset of Hugging Face put through the stages, batch by batch."""
    from datasets import Dataset, Features

    features = None
    if data.features is not None:
        before = data.features.arrow_schema
        after = steps.schema(before)
        features = Features.from_arrow_schema(after.remove_metadata())
        for name in features:
            if name in before.names and before.field(name).type == after.field(name).type:
                features[name] = data.features[name]  # that a number is a label stands in the features alone
    how: dict[str, Any] = {"batched": True, "batch_size": ROWS, "features": features}
    if isinstance(data, Dataset):
        form = data.format
        if len(data):
            made = data.with_format("arrow").map(steps, num_proc=workers, **how)
        else:  # `map` would leave the columns as they are
            made = Dataset.from_dict({name: [] for name in features or ()}, features, split=data.split)
        kept = [name for name in form["columns"] if name in made.column_names] + [
            name for name in made.column_names if name not in data.column_names
        ]
        return made.with_format(form["type"], columns=kept, **form["format_kwargs"])
    # Rows of a stream come from anywhere, one by one: as tables, a batch whose texts are all null has another type.
    names = data.column_names or [name for row in data.take(1) for name in row]
    form = data._formatting  # there is no other word for it
    made = data.with_format(None).map(Rows(steps, data.features), remove_columns=names, **how)
    return made.with_format(form and form.format_type)
