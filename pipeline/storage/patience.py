"""What is tried again, how often and how long: failures that pass (throttling, 5xx, cut connections) and others.

The waits double from `CORPUSMILL_RETRY_SECONDS` (1) up to a minute, over `CORPUSMILL_TRIES` (6) tries, without
jitter: workers that meet a throttling store are out of step by their own work.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.errors import UserError

LONGEST = 60.0
"""Seconds that are waited at most before another try."""

_OURS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS}
"""Failures of this machine, not of the store."""

_NETWORK = {"aiohttp", "botocore", "aiobotocore", "urllib3", "httpx", "httpx2", "httpcore", "requests"}
"""Libraries whose failures, where they tell of no HTTP status, are those of a connection."""

Result = TypeVar("Result")


class Unavailable(UserError):
    """A remote file that cannot be had: it is not there, may not be read or written, or its store kept failing."""

    def __init__(
        self, address: str, why: str, *, answered: bool, tries: int = 1, missing: bool = False, doing: str = "read"
    ) -> None:
        self.address = address
        self.why = why
        self.answered = answered
        """Whether the store gave an answer at all."""
        self.missing = missing
        """Whether it is not there."""
        after = f" after {tries} tries" if tries > 1 else ""
        super().__init__(f"{address} cannot be {doing}: {why}{after}. What is committed stays; run again to go on.")


class Passing(Exception):
    """A failure that a caller found itself and that may pass, such as fewer bytes than asked for."""


def insist(call: Callable[[], Result], address: str, doing: str = "read") -> Result:
    """What `call` returns, tried again while it fails in ways that may pass. Raises Unavailable in the end.

    `doing` is what the address is (read, written), for the message.

    Failures of this machine (no room, no memory) and faults of code are raised as they are.
    """
    tries = max(1, int(os.environ.get("CORPUSMILL_TRIES", "6")))
    delay = float(os.environ.get("CORPUSMILL_RETRY_SECONDS", "1"))
    for number in range(1, tries + 1):
        try:
            return call()
        except Exception as error:
            failure = error
        if _is_ours(failure):
            raise failure
        passing = may_pass(failure)
        if not passing or number == tries:
            facts = {"answered": answered(failure), "missing": missing(failure)}
            raise Unavailable(address, why(failure), tries=number, doing=doing, **facts) from failure
        time.sleep(min(LONGEST, delay * 2 ** (number - 1)))
    raise AssertionError("unreachable")


def may_pass(error: BaseException) -> bool:
    """Whether another try can help: a caller may say so; else by the HTTP status where there is one, or by the kind of
    failure."""
    if isinstance(error, Passing):
        return True
    code = status(error)
    if code is not None:
        return code in (408, 425, 429) or code >= 500
    kinds = {type(one).__name__ for one in _chain(error)}
    if kinds & {"NoCredentialsError", "ClientConnectorCertificateError", "PartialCredentialsError", "ProfileNotFound"}:
        return False
    return any(_passes(one) for one in _chain(error))


def missing(error: BaseException) -> bool:
    """Whether a store said that there is no such file."""
    gone = any(isinstance(one, FileNotFoundError) for one in _chain(error)) and not may_pass(error)
    return gone or status(error) == 404


def answered(error: BaseException) -> bool:
    """Whether a store gave an answer, if only a refusal: a network that is down gives none."""
    return status(error) is not None or not may_pass(error)


def status(error: BaseException) -> int | None:
    """The HTTP status that an exception of aiohttp, botocore, gcsfs or huggingface_hub tells of."""
    for one in _chain(error):
        response: Any = getattr(one, "response", None)
        if isinstance(response, dict):
            response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for found in (getattr(one, "status", None), getattr(response, "status_code", response), _code(one)):
            if isinstance(found, int) and 300 <= found < 600:
                return found
    return None


def why(error: BaseException) -> str:
    """The failure in a few words, without what an address may hold behind its `?`."""
    code = status(error)
    if code is not None:
        from http import HTTPStatus

        known = code in HTTPStatus.__members__.values()
        return f"HTTP {code}{' ' + HTTPStatus(code).phrase if known else ''}"
    kinds = [type(one).__name__ for one in _chain(error)]
    if "NoCredentialsError" in kinds:
        return (
            "no credentials were found; set them in the environment or name a profile, or say that none are needed: "
            "storage: {s3: {anon: true}}"
        )
    if "FileNotFoundError" in kinds and not may_pass(error):
        return "there is no such file"
    told = next((one for one in _chain(error) if _passes(one)), error)
    text = re.sub(r"\?[^\s'\")]+", "?...", str(told)).strip()
    return f"{type(told).__name__}: {text}" if text else type(told).__name__


def _is_ours(error: BaseException) -> bool:
    if isinstance(error, UserError | TypeError | AttributeError | NameError | AssertionError | MemoryError):
        return True
    return isinstance(error, OSError) and error.errno in _OURS


def _code(error: BaseException) -> int | None:
    code = str(getattr(error, "code", "")) if type(error).__module__.startswith("gcsfs") else ""
    return int(code) if code.isdecimal() else None


def _passes(error: BaseException) -> bool:
    if isinstance(error, Passing | TimeoutError | ConnectionError):
        return True
    home = type(error).__module__.partition(".")[0]
    return home in _NETWORK or type(error).__name__ in ("FSTimeoutError", "IncompleteRead")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
