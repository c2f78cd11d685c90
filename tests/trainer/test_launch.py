"""Many processes: started, killed, stopped, hung; machines that fail; the examples for those who schedule them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import launch_cases
import psutil
import pytest
import ranks
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from pipeline.errors import RecipeError, UserError
from trainer.checkpoint import load_state, saved
from trainer.config import load_config
from trainer.metrics import read
from trainer.parallel import launch, self_test
from trainer.parallel.faults import HungError, Place, Report, blamed, told
from trainer.parallel.self_test import Measured, exclude, excluded, leave_out, partner, suspects
from trainer.parallel.world import check_size

LAUNCH = Path(__file__).resolve().parents[2] / "configs" / "launch"
WAIT = 240  # seconds, for what should be over long before
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts commands of this Python, whose output goes to `NAME.log`; none of their processes outlives the test."""
    begun: list[subprocess.Popen[str]] = []

    def run(name: str, *words: str, **environment: str) -> subprocess.Popen[str]:
        with (tmp_path / f"{name}.log").open("a") as log:
            begun.append(
                subprocess.Popen(
                    words, stdout=log, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env=os.environ | environment
                )
            )
            begun[-1].log = tmp_path / f"{name}.log"
        return begun[-1]

    yield run
    for process in begun:
        if process.poll() is None:
            for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                one.kill()
        process.wait()


def corpusmill(config: Path, *words: str) -> list[str]:
    code = "import sys; from pipeline.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code, "train", str(config), *words]


def torchrun(*words: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *words, "-m", "trainer"]


def until(true: Callable[[], Any], *processes: subprocess.Popen[str]) -> Any:
    """What becomes true while the processes run."""
    end = time.monotonic() + WAIT
    while not (found := true()):
        assert time.monotonic() < end, "it did not come"
        ended = [process for process in processes if process.poll() is not None]
        assert not ended, f"it ended before, with {ended[0].returncode}: {ended[0].log.read_text()[-5000:]}"
        time.sleep(0.05)
    return found


def steps(folder: Path) -> list[int]:
    file = folder / "metrics.jsonl"
    return [row["step"] for row in read(file) if row["kind"] == "step"] if file.exists() else []


def worker(agent: subprocess.Popen[str], rank: int) -> psutil.Process:
    (found,) = [one for one in psutil.Process(agent.pid).children() if one.environ().get("RANK") == str(rank)]
    return found


@pytest.mark.slow(minutes=1)
def test_killed_restarted_and_stopped_it_is_the_run_that_nothing_disturbed(
    config_file: Callable[..., Path], start: Start, tmp_path: Path
) -> None:
    """Else a process that dies would stop the others for ever, or change the model, or nobody would know who died."""
    changes = {"steps": 200, "parallel": {"dp_replicate": "auto"}, "log": {"every": 100}}
    checkpoints = {"every": 20, "keep": 2}
    straight, hurt = tmp_path / "straight", tmp_path / "hurt"
    path = config_file("straight", **changes, checkpoint=checkpoints | {"folder": str(straight)})
    assert ranks.run(launch_cases.train, 2, path) == [0, 0]

    path = config_file("hurt", **changes, checkpoint=checkpoints | {"folder": str(hurt)})
    process = start("hurt", *corpusmill(path, "--nproc", "2", "--restarts", "1"))
    until(lambda: len(steps(hurt)) >= 30, process)
    victim = worker(process, 1)
    began = time.monotonic()
    victim.kill()
    line = rf"rank 1 \(pid {victim.pid} on \S+\) was killed by SIGKILL"
    until(lambda: re.search(line, (tmp_path / "hurt.log").read_text()), process)
    assert time.monotonic() - began < 20
    until(lambda: re.search(r"going on from \S+step-\d+", (tmp_path / "hurt.log").read_text()), process)
    until(lambda: max(steps(hurt)) >= 80, process)
    process.terminate()
    assert process.wait(WAIT) == 128 + signal.SIGTERM
    stop = re.search(r"stopped after step (\d+), which is saved", (tmp_path / "hurt.log").read_text())
    assert stop is not None
    assert saved(hurt)[0].name == f"step-{int(stop[1]):08d}"
    assert "Traceback" not in (tmp_path / "hurt.log").read_text().partition("starting all")[2]

    assert ranks.run(launch_cases.train, 2, path) == [0, 0]
    assert steps(hurt) == steps(straight) == list(range(1, 201))
    ours, theirs = (load_state(folder / "step-00000200") for folder in (hurt, straight))
    for name, weight in theirs["model"].items():
        assert torch.equal(ours["model"][name], weight), name
    for name, moments in theirs["optimizer"].items():
        assert all(torch.equal(ours["optimizer"][name][key], value) for key, value in moments.items()), name


@pytest.mark.slow(minutes=1)
def test_it_goes_on_with_fewer_processes_when_a_machine_is_lost(
    config_file: Callable[..., Path], start: Start, tmp_path: Path
) -> None:
    """Else one broken machine of many would end a run until somebody mends it."""
    folder = tmp_path / "checkpoints"
    path = config_file(
        "fewer", steps=200, parallel={"dp_shard": "auto"}, checkpoint={"folder": str(folder), "every": 20}
    )
    port = ranks.free_port()

    def machine(is_host: bool) -> list[str]:
        meet = f"is_host={is_host},last_call_timeout=8,keep_alive_interval=1,keep_alive_max_attempt=2"
        return torchrun(
            *("--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3", "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1", "--rdzv-conf", meet),
        )

    first, second = (start(name, *machine(name == "first"), str(path)) for name in ("first", "second"))
    until(lambda: len(steps(folder)) >= 30, first, second)
    for one in [psutil.Process(second.pid), *psutil.Process(second.pid).children(recursive=True)]:
        one.kill()
    assert first.wait(WAIT) == 0, (tmp_path / "first.log").read_text()
    log = (tmp_path / "first.log").read_text() + (tmp_path / "second.log").read_text()
    assert "2 processes: dp_shard 2" in log
    assert re.search(r"not equal to the bit.*parallel.dp_shard 2 -> 1", log), log
    assert steps(folder) == list(range(1, 201))


@pytest.mark.parametrize("how", ["stopped", pytest.param("busy", marks=pytest.mark.thorough)])
def test_who_hangs_is_named_with_its_stack(how: str, tmp_path: Path) -> None:
    """Else a thousand processes would wait for one, and nobody could say for which."""
    began = time.monotonic()
    with pytest.raises(ranks.RankFailed):
        ranks.run(launch_cases.hang, 2, how, tmp_path / "error.json")
    assert time.monotonic() - began < 30
    message = json.loads((tmp_path / "error.json").read_text())["message"]["message"]
    assert message.startswith(f"{HungError.__name__}: the run hangs at rank 1 (pid ")
    first = message.partition("rank 0 (")[0]  # who is blamed comes first, with the stack
    assert "in step 3" in first or how == "stopped"
    assert re.search(r"launch_cases.py\", line \d+,? in asleep", first), message
    assert ("SIGSTOP" in first) == (how == "stopped")
    assert re.search(r"rank 0 \(pid \d+ on \S+\): in step 3, at barrier", message), message


def test_watching_costs_next_to_nothing() -> None:
    """A step of a large model takes seconds; what watches over it must not be seen."""
    assert max(ranks.run(launch_cases.beats, 2, 1000)) < 50e-6


def report(rank: int, **changes: Any) -> Report:
    values = {"place": Place(rank, "host", rank), "step": 5, "seconds": 9.0, "stack": "s", "frame": "f", "waits": True}
    return Report(**values | changes)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ([{}, {"silent": "stopped"}, {"step": 4}], [1]),
        ([{}, {"waits": False}, {"step": 4}], [2]),
        ([{}, {"waits": False, "frame": "g"}, {}], [1]),
        ([{"waits": False}, {"waits": False}, {"waits": False, "frame": "g"}], [2]),
        ([{}, {}, {}], []),
    ],
)
def test_who_is_blamed(changes: list[dict[str, Any]], found: list[int]) -> None:
    """The wrong name would have somebody look into a process that merely waits."""
    reports = [report(rank, **change) for rank, change in enumerate(changes)]
    assert [one.place.rank for one in blamed(reports)] == found
    text = told("why", reports)
    assert (f"hangs at rank {found[0]} " in text) if found else ("no rank is behind" in text)


def failure(folder: Path, rank: int, code: int, left: str = "", timestamp: int = 0) -> ProcessFailure:
    file = folder / f"{rank}.json"
    if left:
        file.write_text(json.dumps({"message": {"message": left, "extraInfo": {"timestamp": str(timestamp)}}}))
    return ProcessFailure(rank, 100 + rank, code, str(file))


def test_the_cause_is_told_and_not_what_follows_from_it(tmp_path: Path) -> None:
    """When one is killed all others fail too, often earlier than that is seen."""
    lost = failure(tmp_path, 0, 1, "LostError: rank 1 has ended")
    killed, ended = failure(tmp_path, 1, -signal.SIGKILL), failure(tmp_path, 2, -signal.SIGTERM)
    hung = failure(tmp_path, 3, HungError.exit_code, "HungError: the run hangs at rank 1\nstacks")
    broken = failure(tmp_path, 4, 1, "ValueError: no such thing")
    assert launch.cause({0: lost, 1: killed, 2: ended}) == (1, killed)
    assert launch.cause({0: lost, 1: killed, 3: hung}) == (3, hung)
    assert launch.cause({0: lost, 2: ended, 4: broken}) == (4, broken)
    assert launch.told(4, broken).endswith("failed: ValueError: no such thing")
    assert "stacks" in launch.told(3, hung)
    assert launch.is_meant(failure(tmp_path, 5, 143))
    assert not any(launch.is_meant(one) for one in (lost, killed, ended, hung, broken))


def test_as_many_copies_as_processes_are_left(config_file: Callable[..., Path]) -> None:
    """Else a restart with fewer machines would need another configuration."""
    model = {"layers": 2, "width": 16, "heads": 2}
    path = config_file("auto", parallel={"dp_replicate": "auto", "tp": 2}, model=model, micro_batch=1)
    assert load_config(path, processes=6).parallel.dp_replicate == 3
    config = load_config(path, processes=5)
    with pytest.raises(RecipeError, match=r"dp_replicate 2 × tp 2 makes 4 processes, and 5 were started"):
        check_size(config.parallel, 5)
    with pytest.raises(RecipeError, match="both auto"):
        load_config(path, ["parallel.dp_shard=auto"])


def test_processes_that_do_not_fit_are_refused_before_any_starts(config_file: Callable[..., Path]) -> None:
    """Else the user would wait for all of them to start, to read it as often as there are processes."""
    path = config_file("three", parallel={"dp_replicate": 3}, micro_batch=1)
    with pytest.raises(RecipeError, match=r"dp_replicate 3 makes 3 processes, and 2 were started.*--nproc 3"):
        launch.launch(path, [], 2, 0)
    with pytest.raises(RecipeError, match="1 was started"):
        check_size(load_config(path).parallel)


def test_a_fault_of_the_users_is_told_once_and_not_tried_again(
    config_file: Callable[..., Path], start: Start, tmp_path: Path
) -> None:
    """Else `--restarts` would repeat a typing error, and end with another exit code than one process does."""
    path = config_file("typing", parallel={"dp_replicate": "auto"}, data={"corpus": str(tmp_path / "nowhere")})
    process = start("typing", *corpusmill(path, "--nproc", "1", "--restarts", "3"))
    assert process.wait(WAIT) in (1, 2)
    log = (tmp_path / "typing.log").read_text()
    assert log.count("nowhere") >= 1
    assert "starting all" not in log
    assert "Traceback" not in log


def well(rank: int, **changes: Any) -> Measured:
    values = {"rank": rank, "host": f"node{rank // 2}", "device": f"cuda:{rank % 2}"}
    values |= dict.fromkeys(("right", "kept", "stored"), True)
    return Measured(**values | {"flops": 1e12, "memory": 1e11, "disk": 1e9, "loader": 50.0, "link": 1e10} | changes)


def test_machines_that_fail_are_found() -> None:
    """One that computes wrongly spoils the model, and one that is slow slows all."""
    found = [well(0), well(1, right=False), well(2, kept=False), well(3, flops=4e11), well(4, link=None), well(5)]
    assert [one.measured.rank for one in suspects(found)] == [1, 2, 3]
    assert suspects(found)[2].told == (
        "node1, cuda:1 (rank 3): multiplies matrices at 400 GFLOP/s, the median is 1e+03"
    )
    assert [one.measured.rank for one in suspects([well(0), well(1), well(2, memory=4.9e10)])] == [2]
    assert suspects([well(0), well(1), well(2, memory=5e10)]) == []
    broken = [well(0, stored=False), well(1, disk=5e7), well(2, loader=2.0), well(3, disk=2e8, loader=6.0)]
    assert [one.why for one in suspects(broken)] == [
        "its disk does not keep what is written",
        "writes to the disk at 50 MB/s, the median is 600",
        "reads batches at 2 a second, the median is 28",
    ]


def test_machines_that_are_well_are_told(tmp_path: Path) -> None:
    """Else nobody would know whether the test was made."""
    for (line,) in ranks.run(launch_cases.well_machines, 2, tmp_path):
        assert re.fullmatch(r"self-test: 2 processes are well, after \S+ s; the slowest makes \S+ GFLOP/s", line)
    assert excluded(tmp_path) == []


def test_a_slow_machine_ends_the_run_before_its_first_step(tmp_path: Path) -> None:
    """Else all others would wait for it in every step, for weeks."""
    found = ranks.run(launch_cases.slow_machine, 3, tmp_path / "checkpoints")
    assert len(set(found)) == 1  # all processes end, none waits for those that did
    assert "node1, cpu (rank 1): multiplies matrices at" in found[0]
    assert "node1" in excluded(tmp_path / "checkpoints")


@given(st.lists(st.floats(1, 1e12), min_size=1, max_size=9))
def test_slow_is_under_half_of_the_median(speeds: list[float]) -> None:
    """Else healthy machines would be left out, or slow ones kept."""
    ordered = sorted(speeds)
    middle = (ordered[(len(speeds) - 1) // 2] + ordered[len(speeds) // 2]) / 2
    found = suspects([well(rank, link=speed) for rank, speed in enumerate(speeds)])
    assert [one.measured.rank for one in found] == [n for n, speed in enumerate(speeds) if speed < middle / 2]


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 1))
def test_partners_have_each_other_and_lie_on_another_host(hosts: int, each: int, round_: int) -> None:
    """Else an exchange would wait for a partner that waits for another one."""
    names = [f"node{host}" for host in range(hosts) for _ in range(each)]
    for rank, name in enumerate(names):
        other = partner(rank, names, round_)
        if other is not None:
            assert partner(other, names, round_) == rank
            assert other != rank
            assert hosts == 1 or names[other] != name
    if len(names) > 1:
        assert all(any(partner(rank, names, one) is not None for one in (0, 1)) for rank in range(len(names)))


def test_a_wrong_product_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of a device that computes wrongly must not pass."""
    assert self_test.product(torch.device("cpu"))[0]
    multiply = torch.Tensor.__matmul__

    def wrong(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        made = multiply(a, b)
        if made.dtype == torch.float32:
            made.view(-1)[7] += 1
        return made

    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    assert not self_test.product(torch.device("cpu"))[0]


def test_the_list_of_machines_to_leave_out(
    config_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else a restart would take the machine that just failed."""
    folder = tmp_path / "excluded"
    assert excluded(folder) == []
    exclude(folder, ["node7", "node3"])
    exclude(folder, ["node3", "node1"])
    assert excluded(folder) == (folder / "excluded-nodes.txt").read_text().split() == ["node7", "node3", "node1"]
    config = load_config(config_file("out", parallel={"dp_shard": 2}, checkpoint={"folder": str(folder)}))
    monkeypatch.setenv("NODE_NAME", "node2")
    leave_out(config)
    monkeypatch.setenv("NODE_NAME", "node3")
    with pytest.raises(UserError, match=r"node3, failed a self-test.*excluded-nodes.txt"):
        leave_out(config)


FAKES = {
    "srun": 'while [[ "$1" == --* ]]; do shift; done; echo $$ > "$FAKES/step"; exec "$@"',
    "torchrun": 'exec "$PYTHON" -m torch.distributed.run --local-addr 127.0.0.1 "$@"',
    # as Slurm does, all processes of the step are told
    "scancel": 'step=$(cat "$FAKES/step"); echo "scancel $*" >> "$FAKES/calls"; kill -TERM $(pgrep -P "$step") "$step"',
    "scontrol": 'echo "scontrol $*" >> "$FAKES/calls"; case "$1 $2" in "show hostnames") echo 127.0.0.1;; '
    '"show job") echo "JobId=7"; echo "   Command=/home/me/slurm.sh";; esac',
    "sbatch": 'echo "sbatch $*" >> "$FAKES/calls"',
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job of Slurm on this machine."""
    folder = tmp_path / "fakes"
    folder.mkdir()
    for name, text in FAKES.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    job = {"SLURM_JOB_ID": str(ranks.free_port() % 20000), "SLURM_JOB_NODELIST": "this", "SLURM_NNODES": "1"}
    return job | {
        "PATH": f"{folder}:{os.environ['PATH']}", "FAKES": str(folder), "PYTHON": sys.executable, "PROCESSES": "2",
    }  # fmt: skip


@pytest.mark.slow(minutes=1)
def test_the_example_for_slurm_trains_and_is_queued_again(
    config_file: Callable[..., Path], start: Start, slurm: dict[str, str], tmp_path: Path
) -> None:
    """An example that nobody runs is wrong in the first week of a long training."""
    folder, calls = tmp_path / "checkpoints", tmp_path / "fakes" / "calls"
    path = config_file("slurm", steps=2000, parallel={"dp_replicate": "auto"})
    process = start("slurm", "bash", str(LAUNCH / "slurm.sh"), str(path), str(folder), "checkpoint.every=500", **slurm)
    until(lambda: len(steps(folder)) >= 20, process)
    process.terminate()  # to the script alone, as --signal=B: does
    assert process.wait(WAIT) == 0, (tmp_path / "slurm.log").read_text()
    log, job = (tmp_path / "slurm.log").read_text(), slurm["SLURM_JOB_ID"]
    stop = re.search(r"stopped after step (\d+), which is saved", log)
    assert stop is not None, log
    assert [one.name for one in saved(folder)] == [f"step-{int(stop[1]):08d}"]
    assert "2 processes: dp_replicate 2" in log
    assert calls.read_text().splitlines()[1:] == [f"scancel --signal=TERM {job}.0", f"scontrol requeue {job}"]


def test_the_example_for_slurm_leaves_out_what_failed(start: Start, slurm: dict[str, str], tmp_path: Path) -> None:
    """Else the job would start on the broken machine again and again."""
    fakes, folder = tmp_path / "fakes", tmp_path / "checkpoints"
    (fakes / "torchrun").write_text(
        f"#!/bin/bash\nmkdir {folder}; printf 'a1\\nb2\\n' > {folder}/excluded-nodes.txt\nexit 1"
    )
    process = start("slurm", "bash", str(LAUNCH / "slurm.sh"), "c.yaml", str(folder), "steps=3", **slurm)
    assert process.wait(WAIT) == 0
    last = (fakes / "calls").read_text().splitlines()[-1]
    assert last == f"sbatch --exclude=a1,b2 /home/me/slurm.sh c.yaml {folder} steps=3"
    # the next job fails otherwise: its exit code is the job's
    (fakes / "torchrun").write_text("#!/bin/bash\nexit 9")
    assert start("slurm", "bash", str(LAUNCH / "slurm.sh"), "c.yaml", str(folder), **slurm).wait(WAIT) == 9


def test_the_example_for_slurm_asks_for_what_it_needs() -> None:
    """Without these lines nothing of it happens."""
    asked = re.findall(r"^#SBATCH (.*)$", (LAUNCH / "slurm.sh").read_text(), re.MULTILINE)
    assert {"--requeue", "--signal=B:TERM@120", "--ntasks-per-node=1", "--open-mode=append"} <= set(asked)
    assert subprocess.run(["bash", "-n", LAUNCH / "slurm.sh"], check=False).returncode == 0


def test_the_example_for_kubernetes_fits_together() -> None:
    """Names that do not match would leave pods that wait for each other."""
    from torch.distributed.run import parse_args

    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text("utf-8"))
    pod, number = job["spec"]["template"], job["spec"]["completions"]
    (container,) = pod["spec"]["containers"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["parallelism"] == number
    assert pod["spec"]["restartPolicy"] == "Never"  # which podFailurePolicy needs
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert container["command"] == ["torchrun"]
    words = parse_args(container["args"])
    assert (words.nnodes, words.module, words.training_script) == (str(number), True, "trainer")
    assert words.rdzv_endpoint == (
        f"{job['metadata']['name']}-0.{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    )
    assert container["resources"]["limits"]["nvidia.com/gpu"] == words.nproc_per_node
    config, *overrides = words.training_script_args
    processes = number * int(words.nproc_per_node)
    found = load_config(LAUNCH.parents[1] / config, overrides, processes)
    check_size(found.parallel, processes)
    mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert set(mounted.values()) == {one["name"] for one in pod["spec"]["volumes"]}
    assert str(found.checkpoint.folder.parent) in mounted
    assert str(found.data.corpus) in mounted
    wait = {one["name"]: one.get("value") for one in container["env"]}["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]
    assert int(wait) < pod["spec"]["terminationGracePeriodSeconds"]
