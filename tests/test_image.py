"""The image for the hosts of a cluster: no Docker engine is needed to see that it would be built as it is meant."""

from __future__ import annotations

import fnmatch
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = ROOT / "configs" / "cluster"
DOCKERFILE = (CLUSTER / "Dockerfile").read_text("utf-8")
ENTRIES = re.split(r"\n(?=[a-z])", (CLUSTER / "requirements.txt").read_text("utf-8").strip())
LOCK = {
    canonicalize_name(item.name): str(item.specifier).removeprefix("==")
    for item in (Requirement(entry.partition(" \\")[0]) for entry in ENTRIES)
    if item.marker is None or item.marker.evaluate()
}
"""What is installed here, on this platform."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = re.search(r"addprefix --extra ,([a-z0-9 ]+)\)", (ROOT / "Makefile").read_text())


def test_the_dockerfile_is_clean() -> None:
    """hadolint knows what goes wrong in images: unpinned bases, caches left inside, a shell that hides failures."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint cannot be had for this system")
    done = subprocess.run([hadolint, CLUSTER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    bad = DOCKERFILE.replace("ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm", "ARG PYTHON_IMAGE=python").replace(
        "FROM ${PYTHON_IMAGE}", "FROM python:latest"
    )
    found = subprocess.run([hadolint, "-"], input=bad, capture_output=True, text=True, check=False)
    assert "DL3007" in found.stdout  # that it looks at all


def test_its_bases_are_of_the_versions_that_are_installed() -> None:
    """Beam's boot program speaks to the SDK of its own release, and Python's version is part of kernels' digests."""
    python = re.search(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)\.\d+-slim-", DOCKERFILE, re.MULTILINE)
    beam = re.search(r"^ARG BEAM_IMAGE=apache/beam_python(\d+\.\d+)_sdk:([\d.]+)$", DOCKERFILE, re.MULTILINE)
    assert python
    assert beam
    assert python[1] == beam[1] == PROJECT["requires-python"].removeprefix(">=")
    assert beam[2] == LOCK["apache-beam"]


def test_the_locked_versions_are_those_that_are_installed_and_tested() -> None:
    """Else the image would hold libraries that no test of ours has seen. To mend: make lock, make install."""
    different = {}
    for name, locked in LOCK.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue  # of another platform, or of an extra that tests do not need
        if installed != locked:
            different[name] = (installed, locked)
    assert different == {}


def test_the_lock_is_in_step_with_the_project() -> None:
    """Else `pip install --require-hashes` would end the build, or install what nobody asked for. To mend: make lock."""
    assert EXTRAS
    asked = [Requirement(text) for text in [*PROJECT["dependencies"], "hatchling"]]
    for extra in EXTRAS[1].split():
        asked += [Requirement(text) for text in PROJECT["optional-dependencies"][extra]]
    missing, seen = [], set()
    while asked:
        item = asked.pop()
        name = canonicalize_name(item.name)
        if item.marker and not item.marker.evaluate(dict(default_environment()) | {"extra": ""}):
            continue
        if name not in LOCK or not item.specifier.contains(LOCK[name], prereleases=True):
            missing.append(str(item))
        if (name, *sorted(item.extras)) in seen:
            continue
        seen.add((name, *sorted(item.extras)))
        try:
            further = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
        for other in further:
            wanted = other.marker is None or any(
                other.marker.evaluate(dict(default_environment()) | {"extra": extra}) for extra in ("", *item.extras)
            )
            if wanted:
                other.marker = None
                asked.append(other)
    assert missing == []
    assert len(seen) > 80


def test_every_locked_file_has_a_digest() -> None:
    """One without would stop the installation after minutes."""
    assert len(ENTRIES) > 100
    assert [entry.split()[0] for entry in ENTRIES if "--hash=sha256:" not in entry] == []
    assert "pip install --require-hashes" in DOCKERFILE


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """A build fails at a file that .dockerignore keeps out, and sends gigabytes of runs where it keeps nothing out."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    copied = [
        source
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
        if "--from" not in line
        for source in line.split()[:-1]
    ]
    assert {"pipeline", "stages", "trainer", "tests/data/crawl"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(rule[0] == "!" and fnmatch.fnmatch(source, rule[1:]) for rule in rules), source
    assert {f"!{source}" for source in copied} == {rule for rule in rules if rule[0] == "!"}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) <= set(copied)


def test_the_example_for_kubernetes() -> None:
    """Its worker must be started by a command that exists, where task managers look for it."""
    text = (CLUSTER / "flink-kubernetes.yaml").read_text()
    deployment, jobs, service = yaml.safe_load_all(text)
    manager, worker = deployment["spec"]["template"]["spec"]["containers"]
    assert worker["image"] == f"corpusmill:{PROJECT['version']}"
    assert f"-t {worker['image']} ." in DOCKERFILE
    assert manager["image"].startswith("flink:1.19.")
    options = dict(zip(worker["args"][1::2], worker["args"][2::2], strict=True))
    assert worker["args"][0] == "worker"
    assert options == {"--host": "127.0.0.1", "--port": "50000"}
    slots = int(re.search(r"numberOfTaskSlots: (\d+)", manager["env"][0]["value"])[1])  # type: ignore[index]
    assert int(worker["resources"]["requests"]["cpu"]) == slots
    for one in (deployment, jobs):
        assert one["spec"]["selector"]["matchLabels"] == one["spec"]["template"]["metadata"]["labels"]
    (server,) = jobs["spec"]["template"]["spec"]["containers"]
    flink = re.search(r"flink(\d+\.\d+)_job_server:(.*)", server["image"])
    assert flink is not None
    assert manager["image"].startswith(f"flink:{flink[1]}.")
    jar = f"beam-runners-flink-{flink[1]}-job-server-{flink[2]}.jar"
    assert f"flink_job_server_jar: {jar}" in (CLUSTER / "flink.yaml").read_text(), (
        "the other example is of another Flink"
    )
    assert service["spec"]["selector"] == jobs["spec"]["selector"]["matchLabels"]
    told = dict(word.split("=") for word in server["args"])
    assert told["--job-host"] == service["metadata"]["name"]
    assert [port["port"] for port in service["spec"]["ports"]] == [
        int(told["--job-port"]),
        int(told["--artifact-port"]),
    ]
    assert f"--job_endpoint={told['--job-host']}:{told['--job-port']}" in text


@pytest.mark.skipif(platform.system() != "Linux", reason="the image is for Linux")
def test_kernels_can_be_compiled_for_another_cpu(tmp_path: Path) -> None:
    """What the build compiles must be found by hosts of other CPUs, or each worker compiles for minutes."""
    name = {"x86_64": "x86-64-v3"}.get(platform.machine(), "generic")
    assert f"ARG CPU={name}" in DOCKERFILE or name == "generic"
    code = (
        "from stages.kernels import njit\nfrom numba.core.registry import cpu_target\nimport numpy as np\n"
        "@njit\ndef total(values):\n    s = 0.0\n    for value in values:\n        s += value * 2\n    return s\n"
        "assert total(np.arange(4.0)) == 12\nprint(cpu_target.target_context.codegen().magic_tuple()[1:])"
    )
    script = tmp_path / "kernel.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script],
        env={"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": "", "CORPUSMILL_CACHE": str(tmp_path)},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == repr((name, "")), done.stderr
