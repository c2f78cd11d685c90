"""The desk of a phase in a store: what workers on other machines share with the working process."""

from __future__ import annotations

import pickle
from pathlib import Path

import boto3
import pytest
from loopback import ENVIRONMENT, Flaky, download

from pipeline.desk import Abandoned, Desk, StoreDesk, retire
from pipeline.engine import Work
from pipeline.failures import Failure, UnitFailed
from pipeline.progress import Reporter, reports


def test_a_folder_that_is_not_shared_is_named(tmp_path: Path) -> None:
    """Else whoever forgets to share it reads that workers died, time and again, and not why."""
    desk = Desk(tmp_path / "out" / "ledger" / "runs" / "attempt" / "clean-0")
    work = Work(desk)
    with pytest.raises(UnitFailed) as raised:
        work.setup()
    failed = UnitFailed.within(RuntimeError(f"java.lang.Exception: {raised.value}"))
    assert failed is not None
    assert failed.failure.expected
    assert f"there is no run folder {tmp_path / 'out'}" in failed.failure.message
    desk.folder.mkdir(parents=True)
    with pytest.raises(Abandoned):
        work.setup()


def test_desk_in_a_store(s3: Flaky, tmp_path: Path) -> None:
    """Else workers that share no file system with the driver could neither be told nor heard, nor be called off."""
    keys = {"aws_access_key_id": ENVIRONMENT["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": "x"}
    boto3.client("s3", endpoint_url=s3.where, region_name="us-east-1", **keys).create_bucket(Bucket="desks")
    desk = StoreDesk(tmp_path / "attempt" / "clean-0", "s3://desks/run", {"s3": {"endpoint_url": s3.where}})
    with pytest.raises(Abandoned):
        desk.job()
    desk.open({"tasks": ["a"]})
    far: StoreDesk = pickle.loads(pickle.dumps(desk))  # as it gets to a worker
    assert far.job() == {"tasks": ["a"]}
    assert far.sums() == {"units": 0, "parts": 0, "bytes": 0}
    Reporter(tmp_path, far).begin("clean/a")
    far.note_sums({"units": 1, "parts": 2, "bytes": 3})
    far.put_log("b7-1.log", b"said")
    desk.relay()
    (report,) = reports(desk.folder / "reports")
    assert (report["unit"], desk.sums()["units"], desk.failure()) == ("clean/a", 1, None)
    far.fail(Failure("no such file", 1, True, ""))
    assert desk.failure() == Failure("no such file", 1, True, "")
    retire(desk.store)
    with pytest.raises(Abandoned):
        far.check()
    assert list(download(s3.where, "desks", "")) == ["run/ledger/runs/attempt/workers/b7-1.log"]
