"""Phase tokenise as a whole (read a part, encode, try the way back, write the tokens) beside the loops of libraries.

    python -m tests.bench.tokens_encode [--rounds 3] [--peer FOLDER]

The same texts in each language, one core, CPU seconds (`time.process_time`), the best of several rounds that go round
the contestants: tiktoken's `encode_ordinary` on the same ranks and pattern, Hugging Face's `encode_batch`, datatrove's
tokenizer step in an environment of its own (left out where there is none), and SentencePiece's `encode`, one text
after another, on a unigram model. The tokenizers, 32,000 tokens each, are trained on the shared texts once and kept.

Where there is less text of a language than is asked for, it comes several times: a real part is tens of megabytes, and
what each part costs whatever it holds would else weigh most. Our byte-level BPE is opened anew before each round (which
is not timed), so that it has to merge the words of the texts, as in a worker that has just begun.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import sentencepiece
import tiktoken
import tokenizers
import xxhash

from pipeline.parts import PartWriter
from pipeline.phases import tokenise
from pipeline.tokenizers import Tokenizer, files, translate
from pipeline.tokenizers.files import from_bytes
from pipeline.tokenizers.huggingface import HuggingFace
from pipeline.tokenizers.training import train as train_pieces
from pipeline.tokenizers.training_bytes import train as train_bytes
from pipeline.work import Task
from stages.schema import DOCUMENTS
from tests.bench.clean_stages import PEER_CACHE

TEXTS = Path(__file__).parents[3] / "shared" / "data" / "text"
KEPT = Path(tempfile.gettempdir()) / f"corpusmill-bench-{os.getuid()}"
VOCABULARY = 32_000
TRAIN_BYTES = 12_000_000
MOST = 4_000_000
"""UTF-8 bytes of a language."""
LANGUAGES = {
    "en": ("encyclopedia_en", "science_en"),
    "zh": ("science_zh", "docs_zh"),
    "ja": ("docs_ja",),
    "es": ("docs_es",),
    "python": ("code_python",),
}


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a file of shared texts."""
    with gzip.open(TEXTS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def by_language() -> dict[str, list[str]]:
    """MOST of texts of each language."""
    found: dict[str, list[str]] = {
        language: [row["text"] for name in names for row in read(name)] for language, names in LANGUAGES.items()
    }
    for row in read("encyclopedia_12"):
        if row["lang"] in ("ar", "ru", "hi", "th"):
            found.setdefault(row["lang"], []).append(row["text"])
    for language, texts in found.items():
        ends = itertools.accumulate(len(text.encode()) for text in itertools.cycle(texts))
        count = sum(1 for _ in itertools.takewhile(lambda end: end <= MOST, ends))
        found[language] = list(itertools.islice(itertools.cycle(texts), count))
    return found


def trained(kind: str) -> bytes:
    """A tokenizer of all languages, from the folder where it is kept or trained anew."""
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{kind}-{VOCABULARY}"
    if not path.exists():
        names = ("encyclopedia_12", *dict.fromkeys(name for names in LANGUAGES.values() for name in names))
        rows = [
            (xxhash.xxh3_128_digest(row["text"].encode()), "s", row["text"]) for name in names for row in read(name)
        ]
        chosen, size = [], 0
        for row in sorted(rows):
            size += len(row[2].encode())
            if size > TRAIN_BYTES:
                break
            chosen.append(row)
        print(f"training {kind} on {size / 1e6:.0f} MB", file=sys.stderr)
        if kind == "bytes":
            path.write_bytes(train_bytes(chosen, vocabulary=VOCABULARY))
        else:
            path.write_bytes(train_pieces(chosen, vocabulary=VOCABULARY))
    return path.read_bytes()


def phase(model: Tokenizer, folder: Path, texts: list[str], language: str) -> tuple[Callable[[], None], ...]:
    """What opens the tokenizer, and phase tokenise over a part with these texts."""
    schema = pa.schema([*DOCUMENTS, ("cluster_size", pa.int32()), ("characters", pa.int32())])
    rows = [
        {
            "id": number.to_bytes(16, "big"), "source": "s", "text": text, "language": language,
            "url": f"https://example.org/{number}", "cluster_size": 1, "characters": len(text),
        }
        for number, text in enumerate(texts)
    ]  # fmt: skip
    with PartWriter(folder / f"{language}.parquet", schema) as part:
        part.write_rows(rows)
    (folder / "tokenizer").mkdir(exist_ok=True)
    facts = json.loads(json.dumps(model.facts()))
    spec = {"path": f"{language}.parquet", "tokenizer": facts, "model": facts["file"], "prefix": []}
    context: Any = SimpleNamespace(out=folder, recipe=SimpleNamespace(seed=1))
    reporter: Any = SimpleNamespace(add=lambda **_: None)
    task = Task("tokenise", "0" * 40, 0, spec)
    out = folder / "out"
    out.mkdir(exist_ok=True)

    def begin() -> None:
        assert files.opened(folder, facts).pieces is not None  # made once a process, and kept

    def work() -> None:
        _, body = tokenise.work(task, context, out, reporter)
        assert body["not_reversible"] == 0

    return begin, work


def datatrove(python: Path, folder: Path, texts: dict[str, list[str]], rounds: int) -> dict[str, float]:
    """CPU seconds of datatrove's tokenizer step by language, or nothing where it is not installed."""
    if not python.exists():
        return {}
    (folder / "texts.json").write_text(json.dumps(texts), "utf-8")
    command = [python, Path(__file__).parent / "datatrove_tokens.py", folder, str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TOKENIZERS_PARALLELISM": "false"})
    if done.returncode:
        print(f"datatrove: {done.stderr[-500:]}", file=sys.stderr)
        return {}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Prints the table; 2 where the texts are not here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=Path, default=PEER_CACHE, help="folder of datatrove's environment")
    options = parser.parse_args()
    if not TEXTS.exists():
        print("the texts (../shared/data/text) are not here", file=sys.stderr)
        return 2
    texts = by_language()
    bytes_file, pieces_file = trained("bytes"), trained("unigram")
    ours, unigram = HuggingFace(bytes_file), from_bytes(pieces_file)
    engine = ours.choose_engine([some[0] for some in texts.values()])
    assert engine["name"] == "compiled", engine
    fast = translate.fast(json.loads(bytes_file))
    assert isinstance(fast.encoder.core._core, tiktoken.Encoding)
    encode = fast.encoder.core._core.encode_ordinary
    library = tokenizers.Tokenizer.from_str(bytes_file.decode())
    library.encode_special_tokens = True
    pieces = sentencepiece.SentencePieceProcessor(model_proto=pieces_file)
    print(f"{'':<8}{'MB':>6}{'M tokens':>10}{'M tokens/s':>12}   ours / tiktoken  / HF batch  / datatrove   "
          "unigram / SentencePiece")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folders = {kind: Path(name) / kind for kind in ("bytes", "unigram")}
        for kind, file in (("bytes", bytes_file), ("unigram", pieces_file)):
            (folders[kind] / "tokenizer").mkdir(parents=True)
            model = ours if kind == "bytes" else unigram
            (folders[kind] / "tokenizer" / model.file_name).write_bytes(file)
        theirs = datatrove(options.peer / "bin" / "python", folders["bytes"], texts, options.rounds)
        for language, some in texts.items():
            begin, work = phase(ours, folders["bytes"], some, language)
            begin_unigram, work_unigram = phase(unigram, folders["unigram"], some, language)
            contestants: dict[str, Callable[[], Any]] = {
                "ours": work,
                "tiktoken": lambda some=some: [encode(text) for text in some],
                "hf": lambda some=some: library.encode_batch(some, add_special_tokens=False),
                "unigram": work_unigram,
                "sentencepiece": lambda some=some: [pieces.encode(text) for text in some],
            }
            spent = dict.fromkeys(contestants, float("inf"))
            for turn in range(options.rounds + 1):
                files._opened.cache_clear()
                begin()
                begin_unigram()
                for who, contestant in contestants.items():
                    begun = time.process_time()
                    contestant()
                    if turn:
                        spent[who] = min(spent[who], time.process_time() - begun)
            count = sum(map(len, contestants["tiktoken"]()))
            size = sum(len(text.encode()) for text in some)
            peer = f"{theirs[language] / spent['ours']:10.2f}x" if language in theirs else f"{'-':>11}"
            print(
                f"{language:<8}{size / 1e6:6.2f}{count / 1e6:10.3f}{count / 1e6 / spent['ours']:12.2f}   "
                f"{spent['tiktoken'] / spent['ours']:14.2f}x {spent['hf'] / spent['ours']:10.2f}x  {peer}   "
                f"{spent['sentencepiece'] / spent['unigram']:20.2f}x"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
