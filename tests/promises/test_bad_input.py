"""Bad input: one clear message, nothing lost, an exit status that scripts can use."""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import pwd
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import promise_helpers as help
import pytest
from promise_helpers import Small

TEXT = "A note about the rivers of the north and the towns that have grown along their banks. "


def _lines(path: Path, count: int, *, start: int = 0) -> Path:
    """A file of JSON lines, each another text."""
    rows = [
        json.dumps({"text": f"Note {number}. " + TEXT * (3 + number % 5)}) for number in range(start, start + count)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def _notes(folder: Path, *, path: str = "notes/*", **changes: Any) -> Path:
    """A recipe over JSON lines that ends with documents."""
    entry = {"source": "notes", "path": path, "format": "jsonl"}
    data = {"name": "notes", "inputs": [entry], "stages": [{"normalize": {}}], "dedup": {"exact": ["text"]}}
    folder.mkdir(exist_ok=True)
    return help.write_recipe(folder / "notes.yaml", data | changes)


def _fails(status: int, words: list[str], *args: object, **settings: Any) -> str:
    """Runs a command that must end with this status and one message that has these words."""
    found, output = help.run(*args, **settings)
    assert found == status, output
    assert "Traceback" not in output
    assert len([line for line in output.splitlines() if line.startswith("corpusmill: ")]) == 1, output
    for word in words:
        assert word in output, output
    return output


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder with a recipe over two files of notes."""
    (tmp_path / "notes").mkdir()
    _lines(tmp_path / "notes" / "a.jsonl", 40)
    _lines(tmp_path / "notes" / "b.jsonl", 40, start=40)
    return _notes(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    """Else a typing mistake would make an empty corpus."""
    (tmp_path / "notes").mkdir()
    _lines(tmp_path / "notes" / "march.jsonl", 3)
    recipe = _notes(tmp_path, path="notes/marhc.jsonl")
    out = tmp_path / "out"
    _fails(2, ["inputs[0].path", "notes/marhc.jsonl", "march.jsonl"], "run", recipe, "--out", out)
    assert not out.exists()


def test_no_inputs(tmp_path: Path) -> None:
    """Else a recipe without inputs would succeed at nothing."""
    _fails(2, ["inputs"], "run", _notes(tmp_path, inputs=[]), "--out", tmp_path / "out")
    recipe = help.write_recipe(tmp_path / "r.yaml", {"name": "x", "stages": []})
    _fails(2, ["inputs", "missing"], "run", recipe, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_zero_byte_file(notes: Path, tmp_path: Path) -> None:
    """Else a download that failed would pass for a source without documents."""
    (tmp_path / "notes" / "c.jsonl").touch()
    _fails(2, ["c.jsonl", "empty"], "run", notes, "--out", tmp_path / "out")
    words = ["--set", "inputs.0.allow_incomplete=true"]
    status, output = help.run("run", notes, "--out", tmp_path / "out", "--workers", 1, *words)
    assert status == 0, output
    assert help.inspect(tmp_path / "out")["records"]["kept"] == 80


def test_file_cut_off_in_the_middle_of_a_member(small: Small, tmp_path: Path) -> None:
    """Else a download that broke off would pass for a whole one; or all of it would be lost."""
    (tmp_path / "crawl").mkdir()
    pages = (small.crawl / "web-a.warc.gz").read_bytes()
    whole = list(help.members(pages))
    (tmp_path / "crawl" / "cut.warc.gz").write_bytes(pages[: (whole[-1][0] + whole[-1][1]) // 2])
    lines = _lines(tmp_path / "lines", 2000).read_bytes()
    packed = gzip.compress(lines)
    (tmp_path / "crawl" / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    table = (small.crawl / "table.parquet").read_bytes()
    (tmp_path / "crawl" / "cut.parquet").write_bytes(table[: len(table) // 2])  # what says where rows lie is gone
    (tmp_path / "crawl" / "page.warc.gz").write_bytes(b"<html>404: there is no such file</html>")
    inputs = [
        {"source": "docs", "path": "crawl/cut.parquet", "format": "parquet", "fields": help.TABLE},
        {"source": "web", "path": "crawl/page.warc.gz", "format": "warc"},
        {"source": "web", "path": "crawl/cut.warc.gz", "format": "warc"},
        {"source": "notes", "path": "crawl/cut.jsonl.gz", "format": "jsonl"},
    ]
    data = {"name": "cut", "inputs": inputs, "stages": [{"extract": {}}]}
    recipe = help.write_recipe(tmp_path / "r.yaml", data)
    out = tmp_path / "out"
    words = [*sorted(path.name for path in (tmp_path / "crawl").iterdir()), "allow_incomplete"]
    output = _fails(3, words, "run", recipe, "--out", out, "--workers", 1)
    assert "the run is complete" in output
    facts = help.inspect(out)
    framed = {Path(item["path"]).name: item["framed"] for item in facts["inputs"]}
    assert framed["cut.warc.gz"] == len(whole) - 1
    kept = [row["text"] for row in help.rows(out, "documents") if row["source"] == "notes"]
    expected = [json.loads(line)["text"] for line in lines.splitlines()]
    assert len(kept) > 500
    assert sorted(kept) == sorted(expected[: len(kept)])  # each whole line in front of the cut
    assert sum(gap["reason"] == "truncated" for gap in facts["gaps"]) == 2
    for item in facts["inputs"]:
        assert item["bytes"] == item["spans"] + item["structure"] + item["gaps"]
    words = [f"--set=inputs.{number}.allow_incomplete=true" for number in range(4)]
    output = _fails(3, ["page.warc.gz"], "run", recipe, "--out", out, "--workers", 1, words[0], *words[2:])
    assert "cut.warc.gz" not in output  # accepted file by file, not for all of a source
    status, output = help.run("run", recipe, "--out", out, "--workers", 1, *words)
    assert status == 0, output
    assert "nothing was redone" in output


def test_folder_of_another_recipe(notes: Path, small: Small, tmp_path: Path) -> None:
    """Else one run would eat another's results."""
    before = help.shards(small.out)
    _fails(2, ["small", "notes", "--out"], "run", notes, "--out", small.out)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    _fails(2, ["not empty"], "run", notes, "--out", tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]  # nothing was touched
    _fails(2, ["is a file"], "run", notes, "--out", tmp_path / "home" / "letter.txt")
    assert help.shards(small.out) == before


def test_unknown_format_version(notes: Path, tmp_path: Path) -> None:
    """Else an older corpusmill would misread what a newer one wrote."""
    out = tmp_path / "out"
    (out / "ledger").mkdir(parents=True)
    (out / "ledger" / "run.json").write_text(json.dumps({"format_version": 99, "name": "notes"}))
    for command in (["run", notes, "--out", out], ["inspect", out]):
        _fails(1, ["format 99"], *command)


def test_two_runs_at_once(small: Small, tmp_path: Path) -> None:
    """Else two commands would work on one folder, and both results would be wrong."""
    out = tmp_path / "out"
    first = help.start_held(tmp_path, "run", small.recipe, "--out", out, "--workers", 1)
    _fails(75, [f"pid {first.pid}", socket.gethostname()], "run", small.recipe, "--out", out, "--workers", 1)
    help.release(tmp_path)
    status, output = help.finish(first)
    assert status == 0, output
    assert help.shards(out) == small.shards


def test_input_changed_while_the_run_is_at_work(tmp_path: Path) -> None:
    """Else the ledger would hold documents under the digest of another file."""
    (tmp_path / "notes").mkdir()
    first = _lines(tmp_path / "notes" / "a.jsonl", 300)
    recipe = _notes(tmp_path)
    out = tmp_path / "out"
    process = help.start_held(tmp_path, "run", recipe, "--out", out, "--workers", 1)
    data = first.read_bytes()
    first.write_bytes(data.replace(b"rivers", b"sewers"))  # as many bytes
    help.release(tmp_path)
    status, output = help.finish(process)
    assert status == 1, output
    assert f"{first} changed while the run was at work; run again" in output
    assert "Traceback" not in output
    status, output = help.run("run", recipe, "--out", out, "--workers", 1)
    assert status == 0, output
    assert all("sewers" in row["text"] for row in help.rows(out, "documents"))


def test_two_files_of_equal_contents(notes: Path, tmp_path: Path) -> None:
    """Else a file that was downloaded twice would be lost from the books, or counted double in the corpus."""
    shutil.copy(tmp_path / "notes" / "a.jsonl", tmp_path / "notes" / "copy.jsonl")
    out = tmp_path / "out"
    status, output = help.run("run", notes, "--out", out, "--workers", 1)
    assert status == 0, output
    facts = help.inspect(out)
    assert facts["records"] == {"framed": 120, "kept": 80, "dropped": 40, "not_sampled": 0, "balanced": True}
    assert facts["reasons"] == {"dedup.same_record": 40}
    assert len(facts["inputs"]) == 3


# Files and folders without permission: as a user whom permissions bind, which root is not.


def _bound_by_permissions() -> Callable[[], None] | None:
    """For `preexec_fn`: what makes the started process heed permissions; None where it does already.

    Root becomes `nobody`; where `nobody` cannot reach the interpreter (as below /root), root gives up the
    capabilities by which it passes over permissions, for good.
    """
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    code = f"import os; os.listdir({str(help.ROOT)!r})"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code], user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], check=False
        )
        reaches = tried.returncode == 0
    except PermissionError:
        reaches = False

    def become_nobody() -> None:
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)

    def give_up_capabilities() -> None:
        library = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if library.prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
                raise OSError(ctypes.get_errno(), "capabilities cannot be given up")

    return become_nobody if reaches else give_up_capabilities


@pytest.fixture
def bound(tmp_path: Path) -> dict[str, Any]:
    """Settings for `help.run` under which permissions count, and a check that they do."""
    settings: dict[str, Any] = {"preexec_fn": _bound_by_permissions(), "env": {"PYTHONDONTWRITEBYTECODE": "1"}}
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0)
    code = f"open({str(secret)!r})"
    tried = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=settings["preexec_fn"], capture_output=True, text=True, check=False
    )
    assert "PermissionError" in tried.stderr, tried
    parents = list(tmp_path.parents)
    depth = next((n for n, folder in enumerate(parents, 1) if folder.name.startswith("pytest-of-")), 2)
    for folder in (tmp_path, *parents[:depth]):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    return settings


def test_unreadable_file(notes: Path, tmp_path: Path, bound: dict[str, Any]) -> None:
    """Else a file that may not be read would be left out in silence."""
    (tmp_path / "notes" / "b.jsonl").chmod(0)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    _fails(2, ["b.jsonl", "Permission denied"], "run", notes, "--out", open_to_all / "out", **bound)
    assert not (open_to_all / "out").exists()


def test_folders_without_permission(notes: Path, tmp_path: Path, bound: dict[str, Any]) -> None:
    """Else a wrong mount would end in a traceback, or in half a folder."""
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    _fails(1, [str(closed / "out"), "Permission denied"], "run", notes, "--out", closed / "out", **bound)
    _fails(1, [str(closed), "Permission denied"], "run", notes, "--out", closed, **bound)
    (tmp_path / "notes").chmod(0)
    _fails(2, [str(tmp_path / "notes"), "may not be read"], "run", notes, "--out", tmp_path / "out2", **bound)
    (tmp_path / "notes").chmod(0o755)


# No room.


@pytest.mark.thorough  # as a full disk, by another error
def test_file_size_limit(small: Small, tmp_path: Path) -> None:
    """Else a quota would end in a traceback, and what was done be lost."""
    out = tmp_path / "out"
    limit = 60_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    output = _fails(
        1, ["no room to write", "File too large"], "run", small.recipe, "--out", out, "--workers", 1, preexec_fn=limited
    )
    assert "run again" in output
    assert not list((out / "ledger" / "attempts").iterdir())
    done = help.ledger_rows(out)
    assert done
    status, output = help.run("run", small.recipe, "--out", out, "--workers", 1)
    assert status == 0, output
    assert help.shards(out) == small.shards
    assert done.items() <= help.ledger_rows(out).items()  # nothing that was done was done again


@pytest.fixture
def little(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "little"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no tmpfs can be mounted here; test_file_size_limit fills a quota instead")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_full_disk(small: Small, little: Path) -> None:
    """Else a disk that fills up at night would cost the run."""
    out = little / "out"
    _fails(1, ["no room to write", "No space left"], "run", small.recipe, "--out", out, "--workers", 2)
    done = help.ledger_rows(out)
    subprocess.run(["mount", "-o", "remount,size=64m", str(little)], check=True)
    status, output = help.run("run", small.recipe, "--out", out, "--workers", 2)
    assert status == 0, output
    assert help.shards(out) == small.shards
    assert help.statistics(help.inspect(out)) == small.statistics
    assert done.items() <= help.ledger_rows(out).items()


def test_disk_full_from_the_start(small: Small, little: Path) -> None:
    """Else the command would not even say why it ends."""
    (little / "ballast").write_bytes(bytes(1 << 20 - 1))
    with pytest.raises(OSError, match="No space"):
        (little / "more").write_bytes(bytes(1 << 20))
    _fails(1, ["No space left"], "run", small.recipe, "--out", little / "out", "--workers", 1)


def test_disk_that_fills_while_the_run_is_at_work(small: Small, little: Path, tmp_path: Path) -> None:
    """Else the message would be lost with the disk: others fill it too, and then not a byte is left."""
    subprocess.run(["mount", "-o", "remount,size=16m", str(little)], check=True)
    out = little / "out"
    process = help.start_held(tmp_path, "run", small.recipe, "--out", out, "--workers", 1)
    stop, full = threading.Event(), threading.Event()

    def fill() -> None:
        with (little / "ballast").open("ab", buffering=0) as file:
            while not stop.is_set():
                try:
                    file.write(bytes(4096))
                except OSError:
                    full.set()
                    time.sleep(0.01)

    filling = threading.Thread(target=fill)
    filling.start()
    assert full.wait(help.PATIENCE)
    help.release(tmp_path)
    status, output = help.finish(process)
    stop.set()
    filling.join()
    assert status == 1, output
    assert "No space left" in output
    assert "Traceback" not in output
    (little / "ballast").unlink()
    status, output = help.run("run", small.recipe, "--out", out, "--workers", 1)
    assert status == 0, output
    assert help.shards(out) == small.shards
