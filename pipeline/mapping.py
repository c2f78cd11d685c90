"""Plain files of numbers, mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def mapped(path: Path, kind: Any) -> npt.NDArray[Any]:
    """The numbers of a file, read where they are looked at; an array of none where it is empty. Not to be written.

    It holds no file descriptor, as numpy's own map does: thousands of parts may be mapped at once.
    """
    if not path.stat().st_size:
        return np.zeros(0, kind)
    with pa.memory_map(str(path)) as file:
        return np.frombuffer(file.read_buffer(), kind)
