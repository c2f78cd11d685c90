"""Block lists of 5 million entries: URLs a second, memory, and time to read the list; beside sets and tldextract.

The peer is the approach of datatrove's URLFilter (Python sets of domains and URLs, tldextract on each URL, words by
`re.split`), written anew here: datatrove itself loads only its own small lists.
"""

from __future__ import annotations

import multiprocessing
import re
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


def ours(path: Path, urls: list[str], send: Send) -> None:
    """Figures of the stage, in a process of its own."""
    words = (Path(next(iter(stages.__path__))) / "data" / "url_words.json").read_bytes()
    stage = Url(blocklists=("list",))
    stage.bind({"blocklists/0/list": b"a.example", "words/0": words})(batches(urls[:10])[0])  # compiles
    before = memory("VmRSS")
    begun = time.process_time()
    process = stage.bind({"blocklists/0/list": path.read_bytes(), "words/0": words})
    figures = {"build_s": time.process_time() - begun, "peak": memory("VmHWM"), "held": memory("VmRSS")}
    work = batches(urls)
    dropped = sum(len(process(batch).dropped) for batch in work)
    send(figures | {"before": before, "dropped": dropped, "rate": rate(lambda: [process(b) for b in work], len(urls))})


def peer(path: Path, urls: list[str], send: Send) -> None:
    """Figures of sets and tldextract."""
    import tldextract

    before = memory("VmRSS")
    begun = time.process_time()
    listed = path.read_text().splitlines()
    domains = {line for line in listed if "/" not in line}
    pages = {line for line in listed if "/" in line}
    del listed
    figures = {"build_s": time.process_time() - begun, "peak": memory("VmHWM"), "held": memory("VmRSS")}
    extract = tldextract.TLDExtract(cache_dir=None, suffix_list_urls=())
    split = re.compile("[^a-zA-Z0-9]+")
    banned = {"porn", "porno", "hentai", "milf"}
    soft = {"sex", "adult", "cam", "xxx"}

    def judge(url: str) -> bool:
        info = extract(url)
        if info.top_domain_under_public_suffix in domains or info.fqdn in domains or url in pages:
            return True
        words = set(split.split(url))
        return bool(words & banned) or len(words & soft) > 1

    dropped = sum(map(judge, urls))
    send(
        figures | {"before": before, "dropped": dropped, "rate": rate(lambda: [judge(url) for url in urls], len(urls))}
    )


def measure(work: Callable[..., None], path: Path, urls: list[str]) -> dict[str, float]:
    """The figures that `work` sends from a fresh process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_child, args=(work, path, urls, there))
    child.start()
    found: dict[str, float] = here.recv()
    child.join()
    return found


def _child(work: Callable[..., None], path: Path, urls: list[str], pipe: multiprocessing.connection.Connection) -> None:
    work(path, urls, pipe.send)


def main() -> None:
    """Prints both columns and the ratio."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        path.write_bytes(entries(ENTRIES))
        urls = addresses(path.read_bytes(), URLS)
        found = {"corpusmill": measure(ours, path, urls), "sets + tldextract": measure(peer, path, urls[: URLS // 10])}
    print(f"URL lists: {ENTRIES:,} entries, {LISTED:.0%} of the URLs listed")
    for name, row in found.items():
        held, grown, peak = row["held"] / 1e6, (row["held"] - row["before"]) / 1e6, row["peak"] / 1e6
        print(
            f"  {name:18} {row['rate']:>10,.0f} URLs/CPU s; list read in {row['build_s']:.1f} s; the process holds "
            f"{held:,.0f} MB ({grown:,.0f} the list), {peak:,.0f} MB at most; dropped {row['dropped']:,.0f}"
        )
    print(f"  ratio {found['corpusmill']['rate'] / found['sets + tldextract']['rate']:.0f}")


if __name__ == "__main__":
    main()
