"""The packages of the extra `look`, which only the commands need that open a database, a page or a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import UserError

PACKAGES = ("duckdb", "jinja2", "plotly", "starlette", "uvicorn")


@contextmanager
def look_extra(what: str) -> Iterator[None]:
    """Around the imports of such a command: raises UserError where one of the packages is not installed.

    `what` begins the sentence, such as `corpusmill sql`.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in PACKAGES:
            raise
        raise UserError(f"{what} needs {missing}; install it with `pip install 'corpusmill[look]'`") from error
