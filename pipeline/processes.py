"""Processes that follow one another, so that a killed run leaves none behind."""

from __future__ import annotations

import os
import threading
import time

import psutil

INTERVAL = 0.2
"""Seconds between two looks at the process that is followed."""


def alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return _alive(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def follow(pid: int) -> None:
    """Ends this process soon after process `pid` is gone, whatever this one is at."""
    try:
        followed = psutil.Process(pid)
    except psutil.NoSuchProcess:
        os._exit(1)

    def watch() -> None:
        while _alive(followed):
            time.sleep(INTERVAL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name=f"follow-{pid}").start()


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
