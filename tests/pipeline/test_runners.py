"""Runners and their flags: what is refused before any work, and by what name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast
from wsgiref.types import StartResponse

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from loopback import serving

from pipeline import runners
from pipeline.driver import RunRequest, check_request
from pipeline.errors import RecipeError, UserError
from pipeline.phases import PHASES
from pipeline.ports import free_port
from pipeline.runner import Order
from pipeline.runners import portable
from pipeline.runners.base import job_prefix
from pipeline.runners.dataflow import Dataflow
from pipeline.runners.flags import Flags, read
from pipeline.runners.jobserver import known_options
from pipeline.runners.spark import Spark
from pipeline.work import Context

FLINK = ["--flink_master=localhost:8081", "--environment_config=localhost:50000", "--job_endpoint=localhost:8099"]


def test_flags_as_they_are_written() -> None:
    """Else a value would be taken for a flag, or the later of two would not win."""
    flags = Flags.parse(["--parallelism=4", "--fast", "--master", "a:1", "--parallelism", "8", "--experiments=a"])
    assert flags.to_list() == ["--parallelism=8", "--fast", "--master=a:1", "--experiments=a"]


@pytest.mark.parametrize(
    "name", ["experiments", "labels", "extra_package", "sdk_harness_container_image_overrides", "javas_own"]
)
def test_flags_that_may_be_given_several_times(name: str) -> None:
    """Else all but the last package, label or image that a cluster's file lists would be lost without a word."""
    given = [f"--{name}=a", f"--{name}=b"]
    assert Flags.parse(given).to_list() == given


@pytest.mark.parametrize("words", [["parallelism=4"], ["--a=1", "2"], ["--=3"]])
def test_what_is_no_flag_is_refused(words: list[str]) -> None:
    """Else a typing error would be lost on its way to the cluster."""
    with pytest.raises(RecipeError, match="runner option"):
        Flags.parse(words)


def test_flags_from_a_file(tmp_path: Path) -> None:
    """Else a cluster's settings could not be kept beside the recipe."""
    path = tmp_path / "flink.yaml"
    path.write_text("flink_master: localhost:8081\nparallelism: 4\nfast: true\nslow: false\nexperiments: [a, b]\n")
    assert read(path) == [
        *("--flink_master=localhost:8081", "--parallelism=4", "--fast", "--experiments=a", "--experiments=b")
    ]
    path.write_text("parallelism: [4, 8]\n")
    with pytest.raises(RecipeError, match="parallelism is a list; this flag takes one value"):
        read(path)
    path.write_text("- a\n")
    with pytest.raises(RecipeError, match="a mapping of flags is wanted"):
        read(path)
    with pytest.raises(RecipeError, match="No such file"):
        read(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--flink_master=HOST:PORT"),
        (FLINK[:1], "corpusmill worker"),
        (FLINK[:2], "flink_job_server_jar"),
        ([*FLINK[:2], "--job_endpoint=8099"], "an address is wanted"),
        ([*FLINK[:2], "--flink_job_server_jar=none.jar"], "there is no such file"),
        ([*FLINK, "--parallelism=many"], "--parallelism=many: a whole number"),
        (["--flink_master=jobmanager", *FLINK[1:]], "--flink_master=jobmanager: an address is wanted"),
        ([FLINK[0], "--environment_config={url: a:1}", FLINK[2]], "HOST:PORT is wanted, or JSON"),
        ([FLINK[0], "--environment_config=50000", FLINK[2]], "--environment_config=50000: an address"),
    ],
)
def test_what_flink_needs_is_said_first(flags: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the run would begin, and fail at its first phase with a message of Java's."""
    monkeypatch.setenv("CORPUSMILL_NO_LOCAL_CLUSTER", "1")
    with pytest.raises(RecipeError, match=said):
        check_request(RunRequest(runner="flink", options=flags))


def test_java_is_missed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a driver in the image, which has none, would end with "No such file or directory"."""
    monkeypatch.setenv("CORPUSMILL_NO_LOCAL_CLUSTER", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    jar = tmp_path / "job-server.jar"
    jar.touch()
    with pytest.raises(RecipeError, match=r"needs java .*--job_endpoint=HOST:PORT"):
        check_request(RunRequest(runner="flink", options=[*FLINK[:2], f"--flink_job_server_jar={jar}"]))


def test_what_answers_but_is_no_flink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another port of the cluster, given by mistake, would be a fault of ours with a trace."""
    monkeypatch.setattr(portable, "PATIENCE", 0.5)

    def other(environ: dict[str, Any], start: StartResponse) -> list[bytes]:
        start("200 OK", [])
        return [b"{}"]

    with serving(other) as where:
        address = where.removeprefix("http://")
        found = runners.make("flink", [f"--flink_master={address}", *FLINK[1:]])
        with pytest.raises(UserError, match="what answers there is no job manager of Flink"), found:
            pass
        with pytest.raises(UserError, match=r"is no job server of Beam \(--job_endpoint\)"):
            known_options(address)
    nobody = runners.make("flink", [f"--flink_master=127.0.0.1:{free_port()}", *FLINK[1:]])
    with pytest.raises(UserError, match="no Flink to work on"), nobody:
        pass


def test_an_unknown_flag_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else Beam would drop it without a word, and the run be another than the one asked for."""
    monkeypatch.setenv("CORPUSMILL_NO_LOCAL_CLUSTER", "1")
    jar = tmp_path / "job-server.jar"
    jar.touch()
    flags = [*FLINK[:2], f"--flink_job_server_jar={jar}", "--paralelism=4"]
    with pytest.raises(RecipeError, match=r"--paralelism: no such option. Did you mean 'parallelism'"):
        check_request(RunRequest(runner="flink", options=flags))


DATAFLOW = Path(__file__).resolve().parents[2] / "configs" / "cluster" / "dataflow.yaml"


def test_dataflows_template_is_right() -> None:
    """Else whoever fills it in would learn of a wrong name from a job that failed."""
    found = runners.make("dataflow", read(DATAFLOW))
    found.check()
    found.check_out("gs://bucket/run")
    assert "settings of Dataflow are right" in found.rehearse()
    with pytest.raises(RecipeError, match="give gs://BUCKET/RUN"):
        found.check_out("/data/run")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("--project=123456", "Invalid Project ID"),
        ("--machine_typ=n2", "Did you mean 'machine_type'"),
        ("--max_num_workers=many", "a whole number"),
    ],
)
def test_what_dataflow_would_refuse_is_refused_first(wrong: str, said: str) -> None:
    """Else minutes would go by until a job that cannot start says so."""
    with pytest.raises(RecipeError, match=said):
        check_request(RunRequest(runner="dataflow", options=[*read(DATAFLOW), wrong]))


def test_dataflow_says_all_that_is_missing() -> None:
    """Else it would come out one by one."""
    with pytest.raises(RecipeError, match=r"--project.*--region.*--temp_location.*--sdk_container_image"):
        check_request(RunRequest(runner="dataflow"))


def test_dataflow_takes_the_names_of_all_jobs() -> None:
    """Else a recipe whose phase has a name that Dataflow refuses would die there after the hours before it."""

    class DataflowRunner:
        """Beam's checks go by the name of the class."""

    found = Dataflow(read(DATAFLOW))
    for phase in PHASES:
        for name in (f"{phase}-0", f"{phase}-round-1", f"{phase}-again-for-{phase}"):
            flags = found.flags_of(f"{job_prefix('gs://bucket/run')}0a1b2c3d-{name}", 3)
            options = PipelineOptions([*flags, "--dry_run=True"])
            assert PipelineOptionsValidator(options, DataflowRunner()).validate() == []  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("given", "workers", "machines"),
    [
        ([], 1, {"num_workers": "1", "max_num_workers": "1"}),
        ([], 33, {"num_workers": "3", "max_num_workers": "3"}),
        ([], 100_000, {"num_workers": "64", "max_num_workers": "64"}),
        (["--machine_type=custom-4-16384"], 33, {"num_workers": "9", "max_num_workers": "9"}),
        (["--machine_type=e2-medium", "--num_workers=2"], 5, {"num_workers": "2", "max_num_workers": "5"}),
    ],
)
def test_dataflow_starts_no_machine_for_nothing(given: list[str], workers: int, machines: dict[str, str]) -> None:
    """Else a phase of one unit would pay for 64 machines, and `--workers` be ignored."""
    found = Dataflow([*read(DATAFLOW), *given])
    flags = Flags.parse(found.flags_of("job", workers))
    assert {name: flags.get(name) for name in machines} == machines


def test_dataflow_counts_units_not_machines() -> None:
    """Else phases would be cut for 64 units at once where 64 machines of 16 cores stand ready."""
    found = Dataflow(read(DATAFLOW))
    assert found.workers(None) == 64 * 16
    assert found.workers(8) == 8


def test_spark_on_this_machine_has_as_many_workers_as_asked_for() -> None:
    """Else `--workers 2` on a machine of 64 cores would be 64 processes, and more memory than there is."""
    order = Order(cast(Context, None), 2, "spark", ["--spark_master_url=local[*]"], Path("desk"))
    found = cast(Spark, order.beam)
    assert found._driver_flags() == ["--spark-master-url=local[2]"]
    flags = Flags.parse(found.beam("job", 1, None)[1])
    assert flags.get("sdk_worker_parallelism") == "2"


def test_spark_on_a_cluster_has_a_process_for_each_core() -> None:
    """Else one Python process would do the work of all cores of a machine; and `--workers` would not be heeded."""
    options = ["--spark_master_url=spark://host:7077", "--environment_config=localhost:50000"]
    found = Spark([*options, "--spark_job_server_jar=some.jar"])
    assert "-Dspark.cores.max" not in " ".join(found._java_command())
    flags = found.beam("job", 1, None)[1]
    assert "--sdk_worker_parallelism=0" in flags  # Beam's Java side: by cores
    assert "--load_balance_bundles" in flags  # else two units may share a process while another has none
    found.asked = 6
    assert found._driver_flags() == ["--spark-master-url=spark://host:7077"]
    assert "-Dspark.cores.max=6" in found._java_command()


def test_sparks_master_is_looked_at() -> None:
    """Else a host without its protocol would be taken for something else by Spark."""
    with pytest.raises(RecipeError, match="spark://HOST:PORT"):
        check_request(RunRequest(runner="spark", options=["--spark_master_url=host:7077"]))


@pytest.mark.parametrize("name", ["flink", "FlinkRunner"])
def test_beams_own_names_are_understood(name: str) -> None:
    """Else whoever comes from Beam would have to guess."""
    assert type(runners.make(name, FLINK)).__name__ == "Flink"


def test_local_takes_no_flags() -> None:
    """Else flags meant for a cluster would be ignored where --runner was forgotten."""
    with pytest.raises(RecipeError, match="need another runner than local"):
        runners.make("local", ["--parallelism=4"])
