"""`corpusmill publish` and `verify ADDRESS`: to a real S3 server and to a folder, whole or not at all."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback import ENVIRONMENT, Flaky, upload

from pipeline import publish
from pipeline.errors import RecipeError, UserError
from pipeline.look.verify_copy import verify_copy
from pipeline.shards import Corpus
from pipeline.storage import remote
from pipeline.storage import upload as uploading
from pipeline.storage.patience import Unavailable

Corpusmill = Callable[..., Any]
ALL = ["documents", "shards"]
buckets = (f"published-{number}" for number in itertools.count())


@pytest.fixture
def bucket(s3: Flaky, tmp_path: Path) -> str:
    name = next(buckets)
    (tmp_path / "empty").mkdir()
    upload(s3.where, name, tmp_path / "empty")
    return name


def test_publishing_to_a_store_that_fails_at_times_is_whole_and_done_once(
    demo_copy: Path, s3: Flaky, bucket: str, tmp_path: Path
) -> None:
    """Who trains elsewhere must get every byte, and a second call must not send gigabytes again."""
    address = f"s3://{bucket}/demo"
    s3.reset(s3.where, every=5)
    done = publish.publish(demo_copy, address, ALL)
    assert s3.failed > 3
    assert done.sent == done.files
    s3.reset(s3.where)
    assert publish.verify(address).damage == []
    for path in (demo_copy / "shards").iterdir():
        with remote.Remote(f"{address}/shards/{path.name}") as file:
            assert file.read(0, file.size) == path.read_bytes()
    s3.reset(s3.where)
    again = publish.publish(demo_copy, address, ALL)
    assert (again.sent, s3.requests["PUT"]) == (0, 0)


def test_a_half_upload_has_no_corpus_json_and_is_finished_by_the_next_call(
    demo_copy: Path, s3: Flaky, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that opens what was sent by half would train on a part without knowing."""
    address = f"s3://{bucket}/half"
    sent: list[str] = []
    put = uploading.Place.put

    def fails(self: uploading.Place, path: Path, name: str) -> None:
        if name.endswith(".idx"):
            raise Unavailable(self.at(name), "HTTP 500", answered=True, doing="written")
        put(self, path, name)
        sent.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(uploading.Place, "put", fails)
        with pytest.raises(Unavailable, match="cannot be written: HTTP 500"):
            publish.publish(demo_copy, address, ALL)
    assert sent
    assert not {"corpus.json", publish.NAME} & set(sent)
    with pytest.raises(UserError, match="nothing that was published whole"):
        publish.verify(address)
    done = publish.publish(demo_copy, address, ALL)
    assert done.sent == done.files - len(sent)
    assert publish.verify(address).damage == []


def test_a_published_folder_is_a_corpus_and_damage_in_it_is_named(
    demo_copy: Path, tmp_path: Path, corpusmill: Corpusmill
) -> None:
    """The same command serves a disk that is carried elsewhere."""
    there = tmp_path / "disk" / "demo"
    told = corpusmill("publish", demo_copy, there, "--what", "shards").stdout
    assert "of them were sent, 0 were there" in told
    assert Corpus.open(there).meta == Corpus.open(demo_copy).meta
    assert not (there / "documents").exists()
    assert "everything is as it was written" in corpusmill("verify", there).stdout
    shard = next((there / "shards").glob("*.bin"))
    data = bytearray(shard.read_bytes())
    data[7] ^= 1
    shard.write_bytes(data)
    (there / "corpus.json").unlink()
    done = corpusmill("verify", there, "--json", check=False)
    assert done.returncode == 4
    assert {(one["file"], one["reason"]) for one in json.loads(done.stdout)["damage"]} == {
        (f"shards/{shard.name}", "its SHA-256 is not the one in published.json"),
        ("corpus.json", "is missing"),
    }
    publish.publish(demo_copy, str(there), ["shards"])
    assert verify_copy(there).damage == []


def test_the_command_reaches_a_store_by_the_environment_alone(
    demo_copy: Path, s3: Flaky, bucket: str, corpusmill: Corpusmill
) -> None:
    """Keys belong into the environment; nothing of them may be asked for on the command line."""
    env = ENVIRONMENT | {"AWS_ENDPOINT_URL": s3.where}
    address = f"s3://{bucket}/by-command"
    assert "published" in corpusmill("publish", demo_copy, address, env=env).stdout
    assert "everything is as it was written" in corpusmill("verify", address, env=env).stdout
    refused = corpusmill("verify", "s3://no-such-bucket/x", env=env, check=False)
    assert (refused.returncode, "published.json" in refused.stderr) == (1, True)


def test_what_cannot_be_published_is_named(demo_copy: Path, tmp_path: Path) -> None:
    """A mistake must not end in half a corpus."""
    with pytest.raises(RecipeError, match="Did you mean 'shards'"):
        publish.publish(demo_copy, str(tmp_path / "x"), ["shard"])
    with pytest.raises(RecipeError, match="Did you mean 's3'"):
        publish.publish(demo_copy, "s4://x/y", ALL)
    (demo_copy / "ledger" / "complete.json").unlink()
    with pytest.raises(UserError, match="not complete"):
        publish.publish(demo_copy, str(tmp_path / "x"), ALL)
    assert not (tmp_path / "x").exists()


def test_a_large_file_goes_in_parts_and_is_known_again_without_being_read(
    s3: Flaky, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every call would download all shards to see that they are there."""
    monkeypatch.setattr(uploading, "PART_BYTES", 5 << 20)
    path = tmp_path / "large"
    path.write_bytes(os.urandom(11 << 20))
    place = uploading.Place(f"s3://{bucket}")
    place.put(path, "large")
    s3.reset(s3.where)
    assert place.holds(path, "large")
    assert s3.requests["GET"] == 0
    assert remote.facts(f"s3://{bucket}/large").value.endswith("-3")
