"""A run whose crawl, folder and index all lie in an object store, under the faults that a folder meets elsewhere."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import promise_helpers as help
import pytest
import xxhash
import yaml
from loopback import ENVIRONMENT, Flaky, moto_app, serving, upload
from promise_helpers import Small
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.storage import address

BUCKET = "everything"
RUN = f"s3://{BUCKET}/runs/small"
LEASE = "4"


@pytest.fixture
def store() -> Iterator[Flaky]:
    """A real S3 server, and the switch by which it fails."""
    flaky = Flaky(moto_app())
    with serving(flaky) as where:
        flaky.reset(where)
        yield flaky


@pytest.fixture
def reach(store: Flaky, tmp_path: Path) -> dict[str, str]:
    """What a process needs to reach it."""
    scratch = tmp_path / "scratch"
    own = {"AWS_ENDPOINT_URL": store.where, "CORPUSMILL_SCRATCH": str(scratch), "CORPUSMILL_LEASE": LEASE}
    return ENVIRONMENT | own


def names(store: Flaky, prefix: str) -> dict[str, bytes]:
    """The objects below an address, read by another client than the one under test."""
    client = boto3.client("s3", endpoint_url=store.where, region_name="us-east-1", aws_access_key_id="loopback",
                          aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"])  # fmt: skip
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
    return {key.removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


@pytest.fixture
def look(reach: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`look(*args)`: a command's output, in this process."""
    for name, value in reach.items():
        monkeypatch.setenv(name, value)
    address.use({})

    def invoke(*args: object, status: int = 0, **env: str) -> str:
        done = CliRunner().invoke(app, [str(arg) for arg in args], env=env)
        assert done.exit_code == status, f"{done.output}\n{done.exception}"
        return done.output

    yield invoke
    address.use({})


@pytest.mark.slow(minutes=4)
def test_a_run_in_a_store_is_that_of_a_folder_whatever_befalls_it(
    small: Small, store: Flaky, reach: dict[str, str], look: Any, tmp_path: Path
) -> None:
    """Else where a run lies, or a machine that was taken away in mid-run, would change what a model is trained on; or
    nobody could see what a run did without copying all of it. One test, for the run is dear."""
    _check_shards(small, store, _killed(small, store, reach, tmp_path))
    _check_looks(small, store, look, tmp_path)
    _check_damage(store, reach, look, tmp_path)


def _killed(small: Small, store: Flaky, reach: dict[str, str], folder: Path) -> str:
    """Runs the recipe to its end, after one of its workers and then all of it was killed, while the store fails at
    times: its output."""
    upload(store.where, BUCKET, small.crawl)
    data = yaml.safe_load(small.recipe.read_text())
    for item in data["inputs"]:
        item["path"] = f"s3://{BUCKET}/{Path(item['path']).name}"
    data["dedup"]["index"] = f"s3://{BUCKET}/memory"
    recipe = help.write_recipe(folder / "small.yaml", data)
    asked = ("run", recipe, "--out", RUN, "--workers", 2)
    process = help.start_held(folder, *asked, env=reach)
    worker = int(Path((folder / "held").read_text()).stem)
    status, output = help.run(*asked, env=reach)  # while the first one is at work
    assert status == 75, output
    assert f"another run works in {RUN} (pid {process.pid} on host {os.uname().nodename}, since 20" in output
    os.kill(worker, signal.SIGKILL)
    assert help.until(lambda: names(store, "runs/small/ledger/rows/signatures/")), "it never came so far"
    help.stop_all(process.pid)
    status, told = process.wait(), process.communicate()[0]
    assert status == -signal.SIGKILL
    assert "A worker died; going on from what is committed" in told
    store.reset(store.where, every=25)
    status, output = help.run(*asked, env=reach)
    store.every = 0
    assert status == 0, output
    assert store.failed > 5
    return output


def _check_shards(small: Small, store: Flaky, killed: str) -> None:
    assert re.search(r"clean +nothing to do|clean +\d of 5", killed), killed
    there = names(store, "runs/small/shards/")
    for name in small.shards:
        assert there[name] == (small.out / "shards" / name).read_bytes(), name
    assert len(small.shards) > 3
    index = json.loads(names(store, "memory/")["index.json"])
    assert len(index["generations"]) == 1
    logs = names(store, "runs/small/ledger/runs/")
    assert len([name for name in logs if name.endswith("/log")]) == 2, "of the attempt that was killed there are none"
    secret = ENVIRONMENT["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [name for name, data in names(store, "runs/small/").items() if secret in data]


def _check_looks(small: Small, store: Flaky, look: Any, tmp_path: Path) -> None:
    assert help.statistics(json.loads(look("inspect", RUN, "--json"))) == small.statistics
    near = [json.loads(line) for line in look("dropped", small.out, "--json").splitlines()]
    far = [json.loads(line) for line in look("dropped", RUN, "--json").splitlines()]
    for row in (*near, *far):
        row.pop("origin")
    assert sorted(far, key=str) == sorted(near, key=str) != []
    shown = ("head", "-n", 2)
    assert look(*shown, RUN) == look(*shown, small.out) != ""
    there = {name: xxhash.xxh3_128_hexdigest(data) for name, data in names(store, "runs/small/shards/").items()}
    copied = {path.stem for path in (tmp_path / "scratch" / "files").glob("*/*")}
    first = min(name for name in there if name.startswith("train")).partition(".")[0]
    assert {name for name, digest in there.items() if digest in copied} == {f"{first}.bin", f"{first}.docs.parquet"}
    assert f"corpusmill fetch {RUN} DIR" in look(*shown, RUN, status=1, CORPUSMILL_SCRATCH_GB="0.00001")
    shard = next(name for name in small.shards if name.startswith("train") and name.endswith(".bin"))
    place = f"{shard.removesuffix('.bin')}:30"
    assert look("decode", RUN, place) == look("decode", small.out, place)
    traced = json.loads(look("trace", RUN, "--token", place, "--json"))
    assert traced["again"]["equal"] is True
    assert "everything is as it was written" in look("verify", RUN)
    assert f"corpusmill fetch {RUN} DIR" in look("sql", RUN, "SELECT 1", status=2)
    assert f"copied {RUN}" in look("fetch", RUN, tmp_path / "copy")
    assert help.shards(tmp_path / "copy") == small.shards
    assert "everything is as it was written" in look("verify", tmp_path / "copy")
    look("fetch", RUN, tmp_path / "copy", status=2)  # which holds something by now
    look("fetch", RUN, tmp_path / "corpus", "--what", "corpus")
    assert "everything is as it was written" in look("verify", tmp_path / "corpus")


def _check_damage(store: Flaky, reach: dict[str, str], look: Any, tmp_path: Path) -> None:
    before = names(store, "runs/small/")
    name = next(name for name in sorted(before) if name.startswith("tokens/") and name.endswith(".bin"))
    client = boto3.client("s3", endpoint_url=store.where, region_name="us-east-1", aws_access_key_id="loopback",
                          aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"])  # fmt: skip
    client.put_object(Bucket=BUCKET, Key=f"runs/small/{name}", Body=before[name][:-1] + b"?")
    shard = next(name for name in sorted(before) if name.startswith("shards/") and name.endswith(".idx"))
    client.delete_object(Bucket=BUCKET, Key=f"runs/small/{shard}")
    told = look("verify", RUN, status=4)
    assert name in told
    assert shard in told
    recipe = tmp_path / "again.yaml"
    recipe.write_bytes(before["recipe.yaml"])
    status, output = help.run("run", recipe, "--out", RUN, "--workers", 1, env=reach)
    assert status == 0, output
    assert re.search(r"tokenise +1 of \d", output), output
    after = names(store, "runs/small/")
    assert {n for n in before if not n.startswith("ledger/")} == {n for n in after if not n.startswith("ledger/")}
    assert all(after[n] == before[n] for n in before if n.startswith("shards/"))
    changed = ("--set", "shards.boundary=bos-first")  # other shards under the same names
    status, output = help.run("run", recipe, "--out", RUN, "--workers", 1, *changed, env=reach)
    assert status == 0, output
    last = names(store, "runs/small/shards/")
    assert last.keys() == {n.removeprefix("shards/") for n in after if n.startswith("shards/")}
    assert not [n for n in last if n.endswith(".bin") and last[n] == after[f"shards/{n}"]]
    assert "everything is as it was written" in look("verify", RUN)
