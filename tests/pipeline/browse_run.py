"""A small run over hostile documents, and its pages served on loopback, for the tests of `corpusmill browse`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
import yaml

from pipeline.look.browse.document import Library
from pipeline.look.browse.guard import Door
from pipeline.look.browse.server import Browser, listen
from tests.pipeline.small_run import run_here

SCRIPT = "<script>document.title='pwned';window.pwned=1</script><img src=x onerror=\"document.title='pwned'\">"
PLAIN = "The committee of {a} met with {b} of {c} in {b}{c}; {c} was glad of {a}{b}, so that {c}{a} came."
CHINESE = "以战时内阁审查重启停火谈判提案。但报道并未提及会议讨论结果。"
ARABIC = "اجتمعت اللجنة في الربيع لمناقشة ميزانية المدينة وما عليها أن تفعله."
DOCUMENTS = 130


def write(folder: Path) -> Path:
    """Runs a recipe over them: the run folder."""
    crawl = folder / "crawl"
    crawl.mkdir(parents=True)
    rows = [
        {
            "text": PLAIN.format(a=f"anna{n}", b=f"bert{n * 7}", c=f"carl{n * 13}") + f" Line {n}.\nAnd {n * n} more.",
            "link": f"https://h{n % 7}.example/{n}",
            "headline": f"Number {n}",
        }
        for n in range(DOCUMENTS)
    ]
    rows += [
        {"text": f"{SCRIPT} needle in a text", "link": f"https://evil.example/{SCRIPT}", "headline": SCRIPT},
        {"text": f"REFUSED {SCRIPT}", "link": "javascript:document.title='pwned'", "headline": f"no {SCRIPT}"},
        {"text": CHINESE, "link": "https://zh.example/1", "headline": "停火"},
        {"text": ARABIC, "link": "https://ar.example/1", "headline": "لجنة"},
        {"text": " ".join(f"word{n}" for n in range(200)), "link": "https://a.example/1", "headline": "one of two"},
        {"text": " ".join(f"word{n}" for n in range(199)) + " other", "link": "https://a.example/2", "headline": "two"},
    ]
    for number in range(2):
        lines = [json.dumps(row) + "\n" for row in rows[number::2]]
        (crawl / f"rows-{number}.jsonl").write_text("".join(lines), "utf-8")
    fields = {"text": "text", "url": "link", "title": "headline"}
    recipe = {
        "name": "hostile",
        "inputs": [
            {"source": name, "path": f"crawl/rows-{number}.jsonl", "format": "jsonl", "fields": fields}
            for number, name in enumerate(("even", "odd"))
        ],
        "stages": [{"normalize": {}}, {"small_stages:Hostile": {}}],
        "dedup": {"exact": [], "near": {"threshold": 0.8}},
        "tokenizer": {"train": {"vocabulary": 312, "sample_bytes": 60_000, "character_coverage": 0.98}},
    }
    path = folder / "hostile.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    run_here(path, folder / "out")
    return folder / "out"


@contextmanager
def served(folder: Path, reviewer: str = "ann") -> Iterator[str]:
    """The address of the pages over a run folder."""
    sock = listen(0)
    port = sock.getsockname()[1]
    app = Browser(Library.of(folder), Door(port), reviewer).app()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()  # the socket listens from here on, or soon: who asks earlier waits
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
