"""What a run takes beside its units: the start, a pipeline for each phase, a unit's place in the books."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.planning import laws
from pipeline.planning.measured import Measured, PhaseCost

DRIVER_S = 0.01
"""CPU seconds of the driver for each second of the run: it looks five times a second. Where no run says so."""


FEW = 4
"""Phases below which nothing is fitted to a run's rounds: the least noise would count thousandfold in a large one."""


@dataclass(frozen=True)
class Startup:
    """Out of what a run spent outside of its units."""

    run_s: float
    """Seconds before the first phase and behind the last one."""
    pipeline: float
    """Seconds that a pipeline with one worker, or on a cluster, takes beside its units."""
    here_s: float
    """Seconds of a pipeline that the working process does itself, beside its units."""
    round: float
    """Seconds between two units of a worker: commit, report, the next claim."""
    plan_unit_s: float
    """Seconds of the working process for a unit, CPU time all of it."""
    fixed_cpu_s: float
    """CPU seconds of driver, working process and stages' binding, units apart."""
    driver_share: float
    """CPU seconds of the driver a second."""
    worker_cpu_s: float
    """CPU seconds of a worker in a pipeline beside its units."""
    commit_cpu_s: float
    """CPU seconds of a worker for a unit beside its work."""
    local: bool
    """Whether its workers were on one machine, so that it shows nothing of a cluster's start."""

    @classmethod
    def of(cls, measured: Measured) -> Startup:
        """What a run shows of it; the constants of `laws` for what it does not."""
        pipeline, each = _fitted(measured)
        here = _here(measured)
        units = measured.units
        outside = [cost.outside for cost in measured.phases.values() if cost.outside is not None]
        planning = sum(one.planning_cpu_s for one in outside)
        plan_unit = planning / units if units >= laws.MANY_UNITS else laws.PLAN_UNIT_S
        run, working = measured.run, measured.working
        if run is None or working is None:
            return cls(
                0.0, pipeline, here, each, plan_unit, 0.0, DRIVER_S, laws.START_CPU_S, laws.COMMIT_CPU_S, local=True
            )
        phases = sum(one.wall_s for one in outside)
        pipelines = [one for each_phase in outside for one in each_phase.pipelines]
        units_here = sum(one.units for one in pipelines if one.here)
        fixed = run.binding_cpu_s + max(0.0, working.cpu_s - plan_unit * units - laws.COMMIT_CPU_S * units_here)
        workers = sum(one.workers for one in pipelines if not one.here)
        guessed = laws.START_CPU_S * workers + laws.COMMIT_CPU_S * max(0, units - units_here)
        in_units = sum(cost.cpu_s for cost in measured.phases.values())
        beside = run.cpu_s - run.driver_cpu_s - run.binding_cpu_s - working.cpu_s - in_units
        ratio = min(3.0, max(0.3, beside / guessed)) if run.local and guessed else 1.0
        return cls(
            run_s=max(0.0, run.wall_s - phases),
            pipeline=pipeline,
            here_s=here,
            round=each,
            plan_unit_s=plan_unit,
            fixed_cpu_s=fixed,
            driver_share=run.driver_cpu_s / run.wall_s,
            worker_cpu_s=laws.START_CPU_S * ratio,
            commit_cpu_s=laws.COMMIT_CPU_S * ratio,
            local=run.local,
        )

    def pipeline_s(self, workers: int, rounds: float, *, cluster: bool) -> float:
        """Seconds of a pipeline beside its units, which each worker does `rounds` of."""
        start = max(self.pipeline, laws.JOB_S) if cluster and self.local else self.pipeline
        return start + laws.WORKER_S * (workers - 1) + self.round * rounds


def _here(measured: Measured) -> float:
    """Mean seconds beside their units of pipelines that the working process did itself."""
    pairs = [(cost, cost.outside.pipelines) for cost in measured.phases.values() if cost.outside is not None]
    beside = [
        max(0.0, made[0].wall_s - cost.wall_s)
        for cost, made in pairs
        if len(made) == 1 and made[0].here and made[0].units == cost.units
    ]
    return sum(beside) / len(beside) if beside else laws.HERE_S


def _fitted(measured: Measured) -> tuple[float, float]:
    """Seconds of a pipeline and of a round: least squares over the run's phases, neither below 0."""
    local = measured.run is None or measured.run.local
    pairs = [found for cost in measured.phases.values() if (found := _beside(cost, local=local)) is not None]
    if not pairs:
        return laws.PIPELINE_S, laws.ROUND_S
    ones = [rounds for _, rounds in pairs]
    rest = [seconds for seconds, _ in pairs]
    count = len(pairs)
    mean_x, mean_y = sum(ones) / count, sum(rest) / count
    spread = sum((x - mean_x) ** 2 for x in ones)
    slope = laws.ROUND_S
    if count >= FEW and spread:
        slope = max(0.0, sum((x - mean_x) * (y - mean_y) for x, y in zip(ones, rest, strict=True)) / spread)
    return max(0.0, mean_y - slope * mean_x), slope


def _beside(cost: PhaseCost, *, local: bool) -> tuple[float, float] | None:
    """Seconds of a phase's pipeline beside its units, where `local` as if of one worker, and rounds of units.

    None where the run was resumed in it, so that its time is not known whole, or no worker was started for it.
    """
    outside = cost.outside
    if outside is None or len(outside.pipelines) != 1 or outside.pipelines[0].units != cost.units:
        return None
    (one,) = outside.pipelines
    if one.here:
        return None
    busy = max(cost.longest_s, cost.wall_s / one.workers)
    forks = laws.WORKER_S * (one.workers - 1) if local else 0.0
    return max(0.0, one.wall_s - busy - forks), float(-(-one.units // one.workers))
