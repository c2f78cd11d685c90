"""`corpusmill verify` of what has no ledger: a corpus that was published, copied or made of others, or bare shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.corpora import checks, loose
from pipeline.errors import DamageError, UserError
from pipeline.look.verify import Report, check_described, take_over
from pipeline.publish import NAME, manifest_files
from pipeline.shards import Corpus
from pipeline.tokenizers import Options, open_file

MENDED = "bringing it again from where it came"


def verify_copy(folder: Path) -> Report:
    """Checks every file of a corpus in a folder without a ledger. Raises UserError where there is none."""
    report = Report(complete=True, mended_by=MENDED)
    if (folder / NAME).is_file() or (folder / "corpus.json").is_file():
        _corpus(folder, report)
    elif any(folder.glob("*.idx")) or any(folder.glob("*.bin")):
        _shards(folder, report)
    else:
        raise UserError(
            f"{folder} holds nothing that can be verified: no run folder (ledger/), no corpus (corpus.json, {NAME}), "
            "no shards (.bin, .idx)"
        )
    return report


def _corpus(folder: Path, report: Report) -> None:
    files: dict[str, dict[str, Any]] = {}
    if (folder / NAME).is_file():
        try:
            files = manifest_files((folder / NAME).read_bytes())
        except ValueError as error:
            report.add(NAME, f"is not readable: {error}")
    corpus, found = check_described(folder, report) if (folder / "corpus.json").is_file() else (None, None)
    known = {path.relative_to(folder).as_posix(): sha for path, (sha, _) in found.digests.items()} if found else {}
    for name, facts in files.items():
        path = folder / name
        if not path.is_file():
            report.add(name, "is missing")
            continue
        size = path.stat().st_size
        if size != facts["bytes"]:
            report.add(name, f"holds {size} bytes, {NAME} says {facts['bytes']}")
        elif (known.get(name) or checks.digests(path)[0]) != facts["sha256"]:
            report.add(name, f"its SHA-256 is not the one in {NAME}")
    if corpus is not None:
        _tokenizer(corpus, report, listed=bool(files))
    there = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for name in sorted(there.keys() - known.keys() - files.keys()):
        if (corpus or files) and name.startswith("shards/") and name.endswith(checks.ENDINGS):
            report.add(name, "corpus.json does not name it", "removing it")
        elif files and name.startswith(("documents/", "tokenizer/")):
            report.add(name, f"{NAME} does not name it", "removing it")
    judged = there.keys() & (known.keys() | files.keys())
    report.parts, report.bytes = len(judged), sum(there[name] for name in judged)
    others = {f"{Path(name).parent}/".removeprefix("./") or name for name in there.keys() - judged
              if name.startswith(("documents/", "tokenizer/"))}  # fmt: skip
    if others and not (folder / NAME).is_file():
        report.notes.append(f"there is no {NAME}, so no digest is known of the files in {', '.join(sorted(others))}")


def _tokenizer(corpus: Corpus, report: Report, *, listed: bool) -> None:
    name = corpus.meta["tokenizer"]["file"]
    if any(damage.file == name for damage in report.damage):
        return
    if not (corpus.folder / name).is_file():
        if not listed:
            report.notes.append(f"{name} is not there, so the tokens cannot be told as text")
        return
    try:
        options = Options(**corpus.meta["tokenizer"].get("options", {}))
        if open_file(corpus.folder / name, options).digest != corpus.meta["tokenizer"]["digest"]:
            report.add(name, "is not the tokenizer that corpus.json names")
    except UserError as error:
        report.add(name, str(error).removeprefix(f"{corpus.folder / name} "))


def _shards(folder: Path, report: Report) -> None:
    """A folder of shards alone; those of a corpus in the folder above are held against it."""
    above = folder.parent / "corpus.json"
    found = checks.Checked()
    if above.is_file():
        try:
            corpus = checks.read_meta(above.parent)
        except DamageError as error:
            raise DamageError(f"{above} {error}") from error
        shards = [shard for split in corpus.splits for shard in corpus.shards(split)]
        shards = [shard for shard in shards if shard.stem.parent.resolve() == folder.resolve()]
        report.notes.append(f"held against {above}; `corpusmill verify {above.parent}` checks more")
    else:
        corpus, shards = loose.shards_in(folder)
        report.notes.append("there is no corpus.json, so neither digests nor the vocabulary could be judged")
        if reason := checks.numbering([shard.name for shard in shards]):
            report.add(folder.name, reason)
    for shard in shards:
        checks.check_shard(corpus, shard, found)
    take_over(found, shards[0].stem.parent if shards else folder, report)
    report.parts = len(found.digests)
    report.bytes = sum(path.stat().st_size for path in found.digests)
