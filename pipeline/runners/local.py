"""The default: workers are processes of this machine, under Beam's FnApiRunner."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pipeline import forks
from pipeline.errors import RecipeError
from pipeline.runners.base import Runner


class Local(Runner):
    """In memory for one worker, several processes for more: forks of the nursery where there is one."""

    shares_desk = True

    def __init__(self, options: Sequence[str]) -> None:
        if options:
            raise RecipeError(f"runner options {list(options)} need another runner than local")
        super().__init__(options)

    def workers(self, asked: int | None) -> int:
        """As asked for, else one for each core."""
        return asked or os.cpu_count() or 1

    def beam(self, job: str, workers: int, nursery: str | None) -> tuple[Any, list[str]]:
        """The FnApiRunner outright: `DirectRunner` would first try to download another."""
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner
        from apache_beam.transforms.environments import SubprocessSDKEnvironment

        count = f"--direct_num_workers={workers}"
        if nursery is not None:
            environment = SubprocessSDKEnvironment.from_command_string(forks.worker_command(nursery))
            return FnApiRunner(environment), [count]
        if workers > 1:
            return FnApiRunner(None), [count, "--direct_running_mode=multi_processing"]
        return FnApiRunner(None), []
