"""What a run tells the pools of its workers, by way of the runner: parameters of Beam's external environment."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from pipeline.work import Context

CONTEXT = "corpusmill.context"
"""The context of the run: a pool binds its stages once for all workers."""
RELEASE = "corpusmill.release"
"""The driver's release of corpusmill: a pool of another one starts no worker. All else the worker compares, which can
say so where nobody tries again."""


def config_of(where: str) -> dict[str, Any]:
    """A value of Beam's `--environment_config`, which may be the address alone. Raises ValueError for broken JSON."""
    return dict(json.loads(where)) if where.lstrip().startswith("{") else {"url": where}


def environment_config(where: str, context: Context) -> str:
    """The value of Beam's `--environment_config` for the pools at `where`: their address, or such a value."""
    config = config_of(where)
    params: dict[str, str] = config.get("params", {})
    told = {CONTEXT: json.dumps(context.to_json()), RELEASE: version("corpusmill")}
    return json.dumps(config | {"params": params | told})


def told(flags: list[str], context: Context) -> list[str]:
    """Flags of a runner: where they have its workers come from pools, these are told of the run."""
    head = "--environment_config="
    if "--environment_type=EXTERNAL" not in flags:
        return list(flags)
    return [
        head + environment_config(flag.removeprefix(head), context) if flag.startswith(head) else flag for flag in flags
    ]
