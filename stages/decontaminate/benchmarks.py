"""Items of benchmarks, read from the files that people keep them in."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from stages.listfiles import bare, opened


class Item(NamedTuple):
    """One task of a benchmark."""

    benchmark: str
    file: str
    """Its name, unpacked: within the benchmark's folder, and within its archive."""
    number: int
    """Its line in the file, from 1."""
    text: str


def items(path: str, file: str, data: bytes, name: str, fields: Sequence[str]) -> Iterator[Item]:
    """The items of a file, packed or not: JSON lines, of which `fields` are joined (all strings where there are none
    named), or text, an item a line. `path`: what messages call it; `file`: its name within the benchmark's folder;
    `name`: the benchmark's; empty: the file's.

    Raises ValueError with the line where JSON is broken, and where no line has a field that is named.
    """
    for inner, content in opened(path, data):
        inner = inner.replace(bare(path), bare(file), 1)
        benchmark = name or PurePosixPath(inner).name.partition(".")[0]
        lines = content.decode("utf-8-sig", "replace").split("\n")
        records = next((line for line in lines if line.strip()), "").lstrip().startswith("{")
        if fields and not records:
            raise ValueError(f"{path}: fields are for JSON lines, and this is none")
        seen: set[str] = set()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            if not records:
                yield Item(benchmark, inner, number, line)
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path} line {number}: broken JSON: {error}") from None
            if not isinstance(record, dict):
                raise ValueError(f"{path} line {number}: no JSON object")
            seen |= record.keys()
            wanted = [record.get(field) for field in fields] if fields else list(record.values())
            yield Item(benchmark, inner, number, "\n".join(_strings(wanted)))
        for field in fields:
            if field not in seen:
                near = difflib.get_close_matches(field, seen, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(seen))}"
                raise ValueError(f"{path}: no record has the field {field!r}; {hint}")


def names(found: Sequence[Item]) -> list[str]:
    """What each item is called: `benchmark:line`, or `benchmark/file:line` where a benchmark has several files."""
    files: dict[str, set[str]] = {}
    for item in found:
        files.setdefault(item.benchmark, set()).add(item.file)
    return [
        f"{item.benchmark}:{item.number}"
        if len(files[item.benchmark]) == 1
        else f"{item.benchmark}/{item.file}:{item.number}"
        for item in found
    ]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
