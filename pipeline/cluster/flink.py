"""How each part of a Flink cluster is set and started. Memory is given outright: all of it fits a machine of 8 GiB."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from pipeline.cluster import start_class
from pipeline.cluster.jars import Jars

TASK_MANAGERS = 2
SLOTS = 2
"""Slots of a task manager: two, so that one alone can do all of a job that two began."""

POOL_HOST = "worker"
"""The name by which each task manager finds the pool beside it, as on a machine of its own."""

_OPENED = (
    "java.base/java.lang java.base/java.lang.reflect java.base/java.io java.base/java.net java.base/java.nio "
    "java.base/sun.nio.ch java.base/java.text java.base/java.time java.base/java.util java.base/java.util.concurrent "
    "java.base/java.util.concurrent.atomic java.base/java.util.concurrent.locks "
    "java.base/sun.nio.cs java.base/sun.security.action java.base/sun.util.calendar"
).split()
"""Packages that Flink, Spark and Beam reach into by reflection, which Java 17 allows only when told: those of Flink's
config.yaml and of Spark's JavaModuleOptions. Without sun.security.action Spark waits for ever for a failed task."""

_EXPORTED = "java.base/sun.net.util java.rmi/sun.rmi.registry java.security.jgss/sun.security.krb5".split()

JAVA = (
    "java",
    *(f"--add-opens={name}=ALL-UNNAMED" for name in _OPENED),
    *(f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTED),
    "-XX:+UseSerialGC",  # small heaps on few cores: no threads and tables of a parallel collector
    "-XX:TieredStopAtLevel=1",  # a job lasts seconds, and Flink's share of them is starting up
    "-XX:+ExitOnOutOfMemoryError",
)


@dataclass(frozen=True)
class Ports:
    """Where the parts listen: on the loopback interface, but for Beam's job server, which cannot be told so."""

    rest: int = 8081
    """Flink's page and REST interface."""
    rpc: int = 6123
    """The job manager's, for its task managers."""
    job: int = 8099
    """The job server's, for Beam's portable runner."""
    artifacts: int = 8098
    pool: int = 50000
    """Of every worker pool: the first on 127.0.0.1, the second on 127.0.0.2."""

    @classmethod
    def free(cls, preferred: Ports | None = None) -> Ports:
        """Ports that nobody listens on, the preferred ones where they are free."""
        chosen = {}
        with ExitStack() as held:
            for field in fields(cls):
                wanted = getattr(preferred, field.name) if preferred else 0
                chosen[field.name] = _free(wanted, held)
        return cls(**chosen)


def _free(wanted: int, held: ExitStack) -> int:
    """A port that is free on every pool's address; its sockets stay open until `held` is closed."""
    while True:
        sockets = [held.enter_context(socket.socket()) for _ in range(TASK_MANAGERS)]
        with suppress(OSError):
            port = wanted
            for number, each in enumerate(sockets, 1):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                each.bind((host(number), port))
                port = each.getsockname()[1]
            return port
        wanted = 0


def host(number: int) -> str:
    """The address of the first, second... task manager and its pool."""
    return f"127.0.0.{number}"


def write_settings(folder: Path, ports: Ports) -> None:
    """Writes what the parts read into `folder/conf`: Flink's settings, how it logs, and a hosts file for each."""
    conf, scratch = folder / "conf", folder / "tmp"
    conf.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(exist_ok=True)
    settings = {
        "jobmanager.rpc.address": host(1),
        "jobmanager.rpc.port": ports.rpc,
        "jobmanager.bind-host": host(1),
        "jobmanager.memory.process.size": "700m",
        "rest.address": host(1),
        "rest.port": ports.rest,
        "rest.bind-address": host(1),
        "io.tmp.dirs": str(scratch),
        "web.upload.dir": str(scratch),
        "web.submit.enable": False,
        "taskmanager.numberOfTaskSlots": SLOTS,
        "taskmanager.cpu.cores": float(SLOTS),
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.task.heap.size": "256m",
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.task.off-heap.size": "64m",
        "taskmanager.memory.managed.size": "64m",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
        # Else a small job's tasks all go to one task manager.
        "taskmanager.load-balance.mode": "SLOTS",
        # A task manager that is gone is struck off when two calls to it fail, one that hangs after eight seconds. Until
        # then tasks are sent to it: a job that begins anew at once would use up its attempts on it.
        "heartbeat.interval": 1000,
        "heartbeat.timeout": 8000,
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 3,
        "restart-strategy.fixed-delay.delay": "4 s",
        "resourcemanager.taskmanager-registration.timeout": "30 s",
        "pekko.startup-timeout": "60 s",  # ten, by default, which a busy machine may take
        "cluster.registration.error-delay": 1000,
        "cluster.registration.refused-registration-delay": 1000,
    }
    (conf / "config.yaml").write_text(yaml.safe_dump(settings))
    (conf / "log4j.properties").write_text(
        "rootLogger.level = INFO\nrootLogger.appenderRef.out.ref = Out\n"
        "appender.out.name = Out\nappender.out.type = CONSOLE\nappender.out.layout.type = PatternLayout\n"
        "appender.out.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n\n"
        # It prints every metric of every job.
        "logger.runner.name = org.apache.beam.runners.flink.FlinkPipelineRunner\nlogger.runner.level = WARN\n"
    )
    names = " ".join(dict.fromkeys(["localhost", socket.gethostname()]))
    for number in range(1, TASK_MANAGERS + 1):
        (conf / f"hosts-{number}").write_text(f"{host(1)} {names}\n{host(number)} {POOL_HOST}\n")


def job_manager_command(jars: Jars, folder: Path) -> list[str]:
    """Starts the job manager by the settings in `folder/conf`."""
    entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
    return [*_java(folder, "job-manager", "-Xmx320m", "-XX:MaxMetaspaceSize=256m"), *_run(jars, entry, folder)]


def task_manager_command(jars: Jars, folder: Path, number: int) -> list[str]:
    """Starts the first, second... task manager by the settings in `folder/conf`."""
    own = {
        "taskmanager.host": host(number),
        "taskmanager.bind-host": host(number),
        "taskmanager.resource-id": f"task-manager-{number}",
    }
    memory = ("-Xmx384m", "-XX:MaxDirectMemorySize=256m", "-XX:MaxMetaspaceSize=256m")
    hosts = f"-Djdk.net.hosts.file={folder / 'conf' / f'hosts-{number}'}"
    entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
    java = _java(folder, f"task-manager-{number}", hosts, *memory)
    return [*java, *_run(jars, entry, folder), *(f"-D{key}={value}" for key, value in own.items())]


def job_server_command(master: str, jars: Jars, ports: Ports, folder: Path) -> list[str]:
    """Starts Beam's job server for the Flink cluster whose REST interface is at `master`; its files go to `folder`.

    The cluster must have the same jars on its class path: nothing is uploaded with a job.
    """
    start = folder / "conf" / "start-job-server.jar"
    start.parent.mkdir(parents=True, exist_ok=True)
    start_class.write_jar(start, "org.apache.beam.runners.flink.FlinkJobServerDriver")
    return [
        *_java(folder, "job-server", "-Xmx320m", "-XX:MaxMetaspaceSize=256m"),
        *("-cp", f"{start}{os.pathsep}{jars.class_path}", start_class.NAME),
        f"--flink-master={master}",
        f"--job-host={host(1)}",
        f"--job-port={ports.job}",
        f"--artifact-port={ports.artifacts}",
        "--expansion-port=-1",  # it would listen to the whole network, and run what it is told
        f"--artifacts-dir={folder / 'tmp' / 'artifacts'}",
    ]


def pool_command(number: int, port: int, folder: Path) -> list[str]:
    """Starts the worker pool beside the first, second... task manager; each worker has a log of its own."""
    words = {"--host": host(number), "--port": str(port), "--log-folder": str(folder / "logs" / f"workers-{number}")}
    return [sys.executable, "-m", "pipeline.cli", "worker", *(word for pair in words.items() for word in pair)]


def _java(folder: Path, name: str, *options: str) -> list[str]:
    log4j = (folder / "conf" / "log4j.properties").as_uri()
    return [*JAVA, f"-Dlog4j.configurationFile={log4j}", f"-Dlog.file={folder / 'logs' / name}.log", *options]


def _run(jars: Jars, entry: str, folder: Path) -> list[str]:
    return ["-cp", jars.class_path, entry, "-c", str(folder / "conf")]


def facts(ports: Ports) -> dict[str, object]:
    """What a client of the cluster must know."""
    return {
        "master": f"{host(1)}:{ports.rest}",
        "job_endpoint": f"{host(1)}:{ports.job}",
        "environment_config": f"{POOL_HOST}:{ports.pool}",
        "ports": asdict(ports),
    }
