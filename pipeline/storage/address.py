"""Addresses: what is remote, which package opens it, with which options; and that no secret gets into a run folder."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pipeline.errors import RecipeError, nearest

EXTRAS = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "http": ("aiohttp", "http"), "hf": ("huggingface_hub", "hf")}
"""What a family of protocols needs: the distribution, and the extra of corpusmill that brings it."""

TIMEOUT = float(os.environ.get("CORPUSMILL_TIMEOUT", "60"))
"""Seconds without a byte after which a request counts as failed."""

_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)(?:://|::)")
_FAMILIES = {"s3a": "s3", "gcs": "gs", "https": "http"}
_SECRET = re.compile(r"secret|key|token|passw|credential|auth|cookie|username|signature|\bsig\b", re.I)
_HARMLESS_TOKENS = ("anon", "google_default", "cloud", "cache", "browser")  # gcsfs: ways to find one, none themselves
_MORE_S3_OPTIONS = ("profile", "listings_expiry_time", "max_paths")

_options: dict[str, dict[str, Any]] = {}


def protocol_of(address: str) -> str | None:
    """The protocol of an address in lower case; None for a local path, `file://` included."""
    found = _PROTOCOL.match(address)
    protocol = found[1].lower() if found else "file"
    return None if protocol in ("file", "local") else protocol


def is_remote(address: str) -> bool:
    """Whether an address is no local path."""
    return protocol_of(address) is not None


def local_path(address: str) -> str:
    """A local path without its `file://`."""
    return re.sub(r"^(?:file|local)://", "", address, flags=re.I)


def family(protocol: str) -> str:
    """The name that protocols with one set of options share: s3, gs, http; others stand for themselves."""
    return _FAMILIES.get(protocol, protocol)


def use(options: Mapping[str, Mapping[str, Any]]) -> None:
    """Sets the options of all file systems that this process opens from now on: a recipe's section `storage`."""
    _options.clear()
    for protocol, given in options.items():
        _options.setdefault(family(protocol), {}).update(given)


def filesystem(address: str) -> Any:
    """The fsspec file system of a remote address, one a process. Raises RecipeError where it cannot be had."""
    import fsspec

    protocol = protocol_of(address)
    assert protocol is not None
    kind = _kind(protocol)
    options = _defaults(family(protocol), _options.get(family(protocol), {}))
    try:
        return kind(**options) if "::" not in address else fsspec.core.url_to_fs(address)[0]
    except (TypeError, ValueError) as error:
        raise RecipeError(f"storage.{family(protocol)}: {error}") from error
    except ImportError as error:
        raise RecipeError(f"{protocol}:// cannot be used: {error}") from error


def _kind(protocol: str) -> Any:
    import fsspec

    distribution, extra = EXTRAS.get(family(protocol), (None, None))
    try:
        return fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        known = sorted({*EXTRAS, "gcs", "https"})
        raise RecipeError(f"there is no protocol {protocol}://.{nearest(protocol, known)}") from error
    except ImportError as error:
        if extra is None:
            raise RecipeError(f"{protocol}:// cannot be used: {error}") from error
        raise RecipeError(
            f"{protocol}:// needs the package {distribution}, which is not installed: pip install 'corpusmill[{extra}]'"
        ) from error


def _defaults(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options over ours: no caches that could be stale, no second layer of retries, bounded waiting."""
    options: dict[str, Any] = {"use_listings_cache": False, **given}
    if name == "s3":
        waiting = {"retries": {"total_max_attempts": 1}, "connect_timeout": TIMEOUT, "read_timeout": TIMEOUT}
        options["config_kwargs"] = waiting | dict(given.get("config_kwargs", {}))
    elif name == "http":
        import aiohttp

        waits = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        options["client_kwargs"] = {"timeout": waits} | dict(given.get("client_kwargs", {}))
    return options


def problem(address: str) -> str | None:
    """Why an address cannot be used at all, or None: no such protocol, no package, a secret in it."""
    parts = urlsplit(address)
    if "@" in parts.netloc and ":" in parts.netloc.rpartition("@")[0]:
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return f"{bare} is given with a password, which would be written into the run folder; use the environment"
    if any(_SECRET.search(name) for name, _ in parse_qsl(parts.query)):
        bare = parts._replace(query="").geturl()
        return f"{bare} is given with a signature or key, which would be written into the run folder; download it first"
    try:
        filesystem(address)
    except RecipeError as error:
        return str(error)
    return None


def option_problems(storage: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with a recipe's section `storage`: protocols, options, and secrets, which belong elsewhere."""
    problems = []
    for protocol, options in storage.items():
        try:
            kind = _kind(protocol)
        except RecipeError as error:
            problems.append(f"storage.{protocol}: {error}")
            continue
        secrets = _secrets(options, family(protocol))
        problems += [
            f"storage.{protocol}.{name}: a secret does not belong into a recipe, which is copied into the run folder; "
            f"{_elsewhere(family(protocol))}"
            for name in secrets
        ]
        if family(protocol) == "s3":
            known = {*inspect.signature(kind.__init__).parameters, *_MORE_S3_OPTIONS} - {"self", "kwargs"}
            problems += [
                f"storage.{protocol}.{name}: no such option.{nearest(name, known)}"
                for name in options
                if name not in known and name not in secrets
            ]
    return problems


def _elsewhere(name: str) -> str:
    if name == "s3":
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or name a `profile`"
    if name == "gs":
        return "set GOOGLE_APPLICATION_CREDENTIALS in the environment"
    if name == "hf":
        return "set HF_TOKEN in the environment"
    return f"set it in the environment as FSSPEC_{name.upper()}_NAME"


def _secrets(options: Any, name: str, path: str = "") -> list[str]:
    """The keys, dotted, that hold a secret, or a value that is an address with one."""
    found = []
    for key, value in options.items():
        here = f"{path}{key}"
        if isinstance(value, Mapping):
            found += [here] if _SECRET.search(str(key)) else _secrets(value, name, f"{here}.")
        elif name == "gs" and key == "token" and value in _HARMLESS_TOKENS:
            continue
        elif _SECRET.search(str(key)) or (isinstance(value, str) and re.search(r"://[^/@]*:[^/@]*@", value)):
            found.append(here)
    return found
