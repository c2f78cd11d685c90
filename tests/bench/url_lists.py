"""Block lists of 5 million entries: URLs a second, memory, and time to read the list; beside datatrove's URLFilter.

`python -m tests.bench.url_lists`. Both get the same lists and the same words. datatrove gets an environment of its own
(the one of `bench-clean`); what it needs as Python sets is handed to it as its own arguments, and its tldextract takes
the suffix list that comes with it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

import stages
from stages.url import Url

ENTRIES = 5_000_000
URLS = 400_000
LISTED = 0.05


def entries(number: int, seed: int = 7) -> bytes:
    """A list of `number` lines, a tenth of them URLs; no two alike."""
    rng = np.random.default_rng(seed)
    tops = np.array(["com", "net", "de", "ru", "co.uk", "info", "com.br", "fr", "org", "xyz"])
    top = tops[rng.integers(0, len(tops), number)]
    deep = rng.random(number) < 0.2
    path = rng.random(number) < 0.1
    lines = [
        f"{'m.' * sub}{xxhash.xxh32_hexdigest(str(i).encode())[: 4 + i % 5]}{i:x}.{tld}{f'/{i:x}/page' * tail}"
        for i, (tld, sub, tail) in enumerate(zip(top.tolist(), deep.tolist(), path.tolist(), strict=True))
    ]
    return "\n".join(lines).encode()


def addresses(listed: bytes, number: int, seed: int = 8) -> list[str]:
    """URLs as a crawl has them, LISTED of them of listed sites."""
    rng = np.random.default_rng(seed)
    lines = listed.split(b"\n")
    urls = []
    for i in range(number):
        if rng.random() < LISTED:
            line = lines[int(rng.integers(0, len(lines)))].decode()
            urls.append(f"https://www.{line}" + ("" if "/" in line else f"/news/{i}"))
        else:
            host = xxhash.xxh64_hexdigest(str(i).encode())[: 6 + i % 9]
            path = f"{2000 + i % 24}/{i % 12}/some-title-of-a-page-{i}.html?id={i}"
            urls.append(f"https://{'www.' if i % 2 else 'blog.'}{host}.com/{path}")
    return urls


def rate(work: Callable[[], object], number: int) -> float:
    """URLs a CPU second, best of three."""
    best = float("inf")
    for _ in range(3):
        begun = time.process_time()
        work()
        best = min(best, time.process_time() - begun)
    return number / best


def memory(kind: str) -> int:
    """`VmRSS` or `VmHWM` of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024
    return 0


def batches(urls: list[str]) -> list[pa.RecordBatch]:
    """Batches of 10,000 rows with the columns that the stage reads."""
    step = 10_000
    return [
        pa.RecordBatch.from_pydict({"id": [b""] * len(part), "url": part})
        for part in (urls[at : at + step] for at in range(0, len(urls), step))
    ]


Send = Callable[[dict[str, float]], None]


def ours(path: Path, addressed: Path, send: Send) -> None:
    """Figures of the stage, in a process of its own."""
    words = (Path(next(iter(stages.__path__))) / "data" / "url_words.json").read_bytes()
    stage = Url(blocklists=("list",))
    stage.bind({"blocklists/0/list": b"a.example", "words/0": words})(batches(["http://a.example/"])[0])  # compiles
    before = memory("VmRSS")
    begun = time.process_time()
    process = stage.bind({"blocklists/0/list": path.read_bytes(), "words/0": words})
    figures = {"build_s": time.process_time() - begun, "peak": memory("VmHWM"), "held": memory("VmRSS")}
    urls = addressed.read_text().splitlines()
    work = batches(urls)
    dropped = sum(len(process(batch).dropped) for batch in work)
    send(figures | {"before": before, "dropped": dropped, "rate": rate(lambda: [process(b) for b in work], len(urls))})


_PEER = """
import json, re, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import URLFilter
from tldextract import TLDExtract

path, addressed, words, most = sys.argv[1:]
words = json.load(open(words, encoding="utf-8"))

def memory(kind):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))

figures = {"before": memory("VmRSS")}
begun = time.process_time()
with open(path) as lines:
    listed = lines.read().splitlines()
one = URLFilter(
    extra_domains=(line for line in listed if "/" not in line), extra_urls=(line for line in listed if "/" in line),
    banned_words=words["words"], soft_banned_words=words["soft_words"], banned_subwords=words["words_anywhere"],
    use_integrated_lists=False,
)
del listed
figures |= {"build_s": time.process_time() - begun, "peak": memory("VmHWM"), "held": memory("VmRSS")}
one.tldextractor = TLDExtract(cache_dir=None, suffix_list_urls=())
with open(addressed) as lines:
    documents = [Document(text="", id="", metadata={"url": url}) for url in lines.read().splitlines()[: int(most)]]
one.filter(documents[0])
best = float("inf")
for _ in range(3):
    begun = time.process_time()
    dropped = sum(one.filter(document) is not True for document in documents)
    best = min(best, time.process_time() - begun)
print(json.dumps(figures | {"dropped": dropped, "rate": len(documents) / best, "urls": len(documents)}))
"""


def peer(path: Path, addressed: Path, python: Path) -> dict[str, float]:
    """Figures of datatrove's filter over a tenth of the URLs."""
    words = Path(next(iter(stages.__path__))) / "data" / "url_words.json"
    command = [str(python), "-c", _PEER, str(path), str(addressed), str(words), str(URLS // 10)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def measure(work: Callable[..., None], path: Path, addressed: Path) -> dict[str, float]:
    """The figures that `work` sends from a fresh process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(work, path, addressed, there))
    child.start()
    there.close()  # so that a child that fails ends the wait
    found: dict[str, float] = here.recv()
    child.join()
    return found


def _child(work: Callable[..., None], path: Path, addressed: Path, pipe: multiprocessing.connection.Connection) -> None:
    work(path, addressed, pipe.send)


def main() -> None:
    """Prints both columns and the ratio."""
    from tests.bench.clean_stages import PEER_CACHE, peer_python  # here: the measured process needs none of it

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alone", action="store_true", help="without datatrove")
    parser.add_argument("--peer", type=Path, default=PEER_CACHE, help="folder of datatrove's environment")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, addressed = Path(folder) / "list.txt", Path(folder) / "urls.txt"
        path.write_bytes(entries(ENTRIES))
        addressed.write_text("\n".join(addresses(path.read_bytes(), URLS)))
        short = Path(folder) / "short.txt"
        short.write_text("a.example\nb.example/page")
        measure(ours, short, short)  # compiles, if need be: workers find the kernels on the disk
        found = {"corpusmill": measure(ours, path, addressed) | {"urls": URLS}}
        if not options.alone:
            found["datatrove"] = peer(path, addressed, peer_python(options.peer))
    print(f"URL lists: {ENTRIES:,} entries, {LISTED:.0%} of the URLs listed")
    for name, row in found.items():
        held, grown, peak = row["held"] / 1e6, (row["held"] - row["before"]) / 1e6, row["peak"] / 1e6
        print(
            f"  {name:10} {row['rate']:>10,.0f} URLs/CPU s; list read in {row['build_s']:.1f} s; the process holds "
            f"{held:,.0f} MB ({grown:,.0f} the list), {peak:,.0f} MB at most while it reads; "
            f"drops {row['dropped'] / row['urls']:.2%}"
        )
    if not options.alone:
        print(f"  ratio {found['corpusmill']['rate'] / found['datatrove']['rate']:.0f}")


if __name__ == "__main__":
    main()
