"""Files of numbers in memory: what a full disk does to those that are written."""

from __future__ import annotations

import errno
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.mapping import made, mapped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file has its room when it is written")


def test_a_file_has_all_its_room_before_it_is_written(tmp_path: Path) -> None:
    """Else a full disk would end workers by SIGBUS, four times over, and the user read of memory in place of room."""
    numbers = made(tmp_path / "a", "<u4", (1 << 18, 2))
    assert (tmp_path / "a").stat().st_blocks * 512 >= 1 << 21
    assert numbers.shape == (1 << 18, 2)
    assert not numbers.any()
    numbers[7] = 1, 2
    assert mapped(tmp_path / "a", "<u4")[14:16].tolist() == [1, 2]


def test_a_file_that_has_no_room_is_named(tmp_path: Path) -> None:
    """Else the user would not learn which disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OSError, match="large") as caught:
            made(tmp_path / "a", np.uint64, 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(tmp_path / "a")
