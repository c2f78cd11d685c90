"""The jars of a cluster: fetched once for a machine, each checked against its digest before it is used."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError

LISTS = Path(__file__).resolve().parents[2] / "configs" / "cluster"
"""The folder of pom.xml, the requirement of Flink, and the digests."""

ENGINES = ("flink", "spark")
FLINK_JARS = ("flink-dist-", "log4j-")
"""How the names of those jars begin that are wanted of Flink's package; the rest are formats and an interpreter."""

PACKAGES = "Debian's packages: apt-get install default-jre-headless maven python3-pip"


class JarsMissing(UserError):
    """The jars of a cluster cannot be had here: a program is missing, or what it fetches from."""


@dataclass(frozen=True)
class Jars:
    """Jars whose digests were right when they were looked at."""

    folder: Path
    names: tuple[str, ...]
    """Below the folder, in the order of the class path."""

    @property
    def paths(self) -> list[Path]:
        """Where they are."""
        return [self.folder / name for name in self.names]

    @property
    def class_path(self) -> str:
        """As `java -cp` wants it."""
        return os.pathsep.join(map(str, self.paths))


def cache() -> Path:
    """The folder that all clones on this machine share."""
    base = os.environ.get("CORPUSMILL_CACHE") or os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "corpusmill"


def fetch(engine: str = "flink") -> Jars:
    """The checked jars of this engine, fetched if they are not in the cache.

    Raises JarsMissing where they cannot be had, and UserError, by the jar's name, where one is not what the list says.
    """
    listed = digests(engine)
    state = hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in listed.items()).encode()).hexdigest()
    folder = cache() / f"cluster-{engine}-{state[:16]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".cluster-{engine}-") as scratch:
            whole = Path(scratch) / "jars"
            download(engine, whole)
            _check(whole, listed, "fetch them from elsewhere, or find out who changed it")
            try:
                whole.rename(folder)
            except OSError:
                if not folder.exists():  # another process was as fast
                    raise
    _check(folder, listed, f"delete {folder} and try again")
    return Jars(folder, tuple(listed))


def digests(engine: str) -> dict[str, str]:
    """Name of each jar, with its folder, to its SHA-256, from the engine's list."""
    path = LISTS / f"jars-{engine}.sha256"
    if not path.exists():
        raise JarsMissing(f"{path} is missing: a cluster on this machine is started from a checkout of corpusmill")
    pairs = [line.split("  ", 1) for line in path.read_text().splitlines()]
    return {name: digest for digest, name in pairs}


def pin(engine: str) -> Path:
    """Writes the engine's list anew, from what its pom.xml and requirement bring today; returns its path."""
    path = LISTS / f"jars-{engine}.sha256"
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "jars"
        download(engine, whole)
        names = sorted(str(jar.relative_to(whole)) for jar in whole.rglob("*.jar"))
        names.sort(key=lambda name: not name.startswith(f"{engine}/"))  # the engine's own win over Beam's
        path.write_text("".join(f"{_digest(whole / name)}  {name}\n" for name in names))
    return path


def download(engine: str, folder: Path) -> None:
    """Fills a new folder with the engine's jars, unchecked. Raises JarsMissing where they cannot be had."""
    if not shutil.which("java") or not shutil.which("mvn"):
        missing = " and ".join(name for name in ("java", "mvn") if not shutil.which(name))
        raise JarsMissing(f"a cluster needs {missing}, which is not on the PATH. {PACKAGES}")
    (folder / "beam").mkdir(parents=True)
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder / 'beam'}"]
    _call(["mvn", "--quiet", "--batch-mode", "--file", str(LISTS / "pom.xml"), f"-P{engine}", *copy], "Maven")
    requirement = LISTS / f"{engine}.txt"
    if requirement.exists():
        _from_package(requirement, folder / engine)


def _from_package(requirement: Path, into: Path) -> None:
    """Puts the wanted jars of the one Python package that the file names, by its digest, into a new folder."""
    into.mkdir()
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
        _call([*_pip(), "download", *options, "--dest", scratch, "--requirement", str(requirement)], "pip")
        (archive,) = Path(scratch).iterdir()
        with tarfile.open(archive) as package:
            for member in package:
                name = Path(member.name).name
                if member.isfile() and "/deps/lib/" in member.name and name.startswith(FLINK_JARS):
                    data = package.extractfile(member)
                    assert data is not None
                    with (into / name).open("wb") as file:
                        shutil.copyfileobj(data, file)


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    for name, words in (("uv", ["tool", "run", "pip"]), ("pip", []), ("pip3", [])):
        found = shutil.which(name)
        if found:
            return [found, *words]
    raise JarsMissing(f"a cluster's Flink comes from a Python package, and there is no pip. {PACKAGES}")


def _call(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise JarsMissing(f"{name} could not fetch the cluster's jars:\n" + "\n".join(said[:6]))


def _check(folder: Path, listed: dict[str, str], remedy: str) -> None:
    for name, wanted in listed.items():
        path = folder / name
        if not path.exists():
            raise UserError(f"{name} is missing among the cluster's jars; {remedy}")
        found = _digest(path)
        if found != wanted:
            raise UserError(f"{name} is not the jar that was pinned (SHA-256 {found}, not {wanted}); {remedy}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
