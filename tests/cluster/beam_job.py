"""A small Beam job, run in a process of its own: `beam_job.py JOB_ENDPOINT POOL OUT SECONDS [OPTIONS]`.

Sixteen numbers, redistributed; each waits, and is listed by the address of the pool that worked on it.
`OUT.begun.ADDRESS` says that one began.
"""

from __future__ import annotations

import os
import sys
import time

import apache_beam as beam
import psutil
from apache_beam.options.pipeline_options import PipelineOptions

NUMBERS = 16


def work(number: int, seconds: float, out: str) -> tuple[str, int]:
    pool = psutil.Process(os.getpid())
    while not (words := [word for word in pool.cmdline() if word.startswith("127.0.0.")]):
        pool = pool.parent() or sys.exit("no pool")
    open(f"{out}.begun.{words[0]}", "w").close()
    time.sleep(seconds)
    return words[0], number


def write(found: tuple[str, list[int]], out: str) -> None:
    pool, numbers = found
    with open(out, "a") as file:
        file.write(f"{pool} {sorted(numbers)}\n")


def main(job_endpoint: str, pool: str, out: str, seconds: str, *options: str) -> None:
    asked = PipelineOptions(
        list(options),
        runner="PortableRunner",
        job_endpoint=job_endpoint,
        environment_type="EXTERNAL",
        environment_config=pool,
        save_main_session=True,
    )
    with beam.Pipeline(options=asked) as pipeline:
        (
            pipeline
            | beam.Create(range(NUMBERS))
            | beam.Reshuffle()
            | beam.Map(work, float(seconds), out)
            | beam.GroupByKey()
            | beam.Map(lambda found: (found[0], list(found[1])))
            | beam.Map(write, out)
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
