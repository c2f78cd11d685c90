"""What is fetched for a cluster is used only as it was pinned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.cluster import jars
from pipeline.errors import UserError


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small jars in place of what Maven brings, pinned, and an empty cache; returns the folder of the two."""
    made, lists = tmp_path / "made", tmp_path / "lists"
    (made / "beam").mkdir(parents=True)
    lists.mkdir()
    (made / "beam" / "one.jar").write_bytes(b"one" * 100)
    (made / "beam" / "two.jar").write_bytes(b"two" * 100)
    monkeypatch.setattr(jars, "LISTS", lists)
    monkeypatch.setattr(jars, "download", lambda engine, folder: shutil.copytree(made, folder))
    monkeypatch.setenv("CORPUSMILL_CACHE", str(tmp_path / "cache"))
    jars.pin("flink")
    return made


def test_jar_that_another_mirror_changed_is_refused_by_name(small: Path, tmp_path: Path) -> None:
    """Else somebody else's code would run here, and go on doing so from the cache."""
    flip(small / "beam" / "two.jar")
    with pytest.raises(UserError, match=r"beam/two\.jar is not the jar that was pinned"):
        jars.fetch("flink")
    assert list((tmp_path / "cache").rglob("*.jar")) == []


def test_jar_that_changed_in_the_cache_is_refused_by_name(small: Path) -> None:
    """Else a damaged disk would look like a fault of Flink."""
    found = jars.fetch("flink")
    assert found.names == ("beam/one.jar", "beam/two.jar")
    flip(found.folder / "beam" / "one.jar")
    with pytest.raises(UserError, match=r"beam/one\.jar is not the jar that was pinned.*delete .*cluster-flink-"):
        jars.fetch("flink")


def test_second_clone_fetches_nothing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each checkout would fetch hundreds of megabytes."""
    first = jars.fetch("flink")
    monkeypatch.setattr(jars, "download", lambda *_: pytest.fail("fetched again"))
    assert jars.fetch("flink") == first


def test_without_maven_the_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a newcomer would see that a program is missing, but not what to type."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CORPUSMILL_CACHE", str(tmp_path))
    with pytest.raises(jars.JarsMissing, match=r"java and mvn.*apt-get install default-jre-headless maven"):
        jars.fetch("flink")


def test_jar_of_the_real_list_with_a_flipped_byte_is_refused(
    flink_jars: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the shipped list would guard nothing."""
    real = jars.fetch("flink")
    copy = tmp_path / "corpusmill" / real.folder.name
    for name in real.names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).symlink_to(real.folder / name)
    changed = "beam/beam-runners-flink-1.19-2.62.0.jar"
    (copy / changed).unlink()
    shutil.copy(real.folder / changed, copy / changed)
    flip(copy / changed)
    monkeypatch.setenv("CORPUSMILL_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"beam-runners-flink-1\.19-2\.62\.0\.jar is not the jar"):
        jars.fetch("flink")
