"""Makes the bundled books and code, tests/data/texts: `python tests/data/make_texts.py SHARED_DATA`.

SHARED_DATA is the folder of large test data. The same data gives the same bytes.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

from xxhash import xxh3_64_intdigest

FOLDER = Path(__file__).parent / "texts"
BOOKS, CODE = 48, 90
CHARACTERS = 9_000
"""Of a piece of a book."""


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a file of JSON lines, in the order of a hash of their ids."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return sorted(found, key=lambda row: xxh3_64_intdigest(row["id"].encode()))


def piece(text: str) -> str:
    """Whole paragraphs from the middle of a text."""
    start = text.find("\n\n", len(text) // 3) + 2
    end = text.rfind("\n\n", start, start + CHARACTERS)
    return text[start : end if end > start else start + CHARACTERS].strip("\n")


def write(name: str, made: list[dict[str, str]]) -> None:
    """Writes rows as gzip'ed JSON lines without a time in them."""
    data = io.BytesIO()
    with gzip.GzipFile(fileobj=data, mode="wb", mtime=0) as file:
        for row in made:
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    (FOLDER / name).write_bytes(data.getvalue())


def main(shared: Path) -> None:
    """Both files."""
    FOLDER.mkdir(exist_ok=True)
    books = rows(shared / "text" / "books.jsonl.gz")
    pieces = [{"title": row["id"].rsplit("/", 1)[-1], "text": piece(row["text"])} for row in books]
    write("books.jsonl.gz", [row for row in pieces if len(row["text"]) > 1_000][:BOOKS])
    code = [row for row in rows(shared / "text" / "code_python.jsonl.gz") if 400 < len(row["text"]) < 6_000]
    name = "https://github.com/TheAlgorithms/Python/blob/master/"
    made = [{"url": name + row["id"].split("/", 1)[1], "text": row["text"]} for row in code]
    write("code.jsonl.gz", made[:CODE])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
