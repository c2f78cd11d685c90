"""The plan itself: a line for each phase out of the run's costs. The formulas are explained in README.md."""

from __future__ import annotations

from dataclasses import replace

from pipeline.lsh import RANGE_ROWS
from pipeline.parts import PART_BYTES
from pipeline.phases import PHASES, SMALL
from pipeline.phases.index import INDEXED, REMOTE_SPLIT_BYTES
from pipeline.planning import laws
from pipeline.planning.asked import Crawl, Machines
from pipeline.planning.laws import LAWS, Law, Sizes
from pipeline.planning.lines import Line, Plan, single
from pipeline.planning.measured import Amounts, Measured, PhaseCost
from pipeline.planning.problems import find
from pipeline.planning.startup import Startup
from pipeline.recipe import Recipe
from pipeline.runner import JOB_UNITS
from pipeline.storage.address import is_remote
from pipeline.work import SPLIT_BYTES


def plan(measured: Measured, recipe: Recipe, crawl: Crawl, machines: Machines) -> Plan:
    """What the recipe will take on this crawl and these machines, by a finished run of it."""
    here = measured.amounts
    scale = (crawl.pages or 0.0) / here.pages if crawl.pages else (crawl.size or 0.0) / here.size
    amounts = scaled(here, measured, recipe, scale)
    sizes = sizes_of(measured, amounts, recipe, scale, crawl.file_size)
    startup = Startup.of(measured)
    lines = [
        line(name, LAWS[name], measured, sizes, scale, machines, startup)
        for name in PHASES
        if measured.phases[name].units or (name == "stars" and _stars(sizes))
    ]
    planning = sum(startup.plan_unit_s * one.units for one in lines)
    wall = startup.run_s + sum(one.wall_s for one in lines)
    serial = startup.fixed_cpu_s + startup.driver_share * wall + planning
    serial += sum(one.cpu_s for one in lines if single(one))
    starts = sum(one.workers * one.jobs for one in lines if not one.here)
    other = startup.worker_cpu_s * starts + startup.commit_cpu_s * sum(one.units for one in lines)
    made = Plan(
        measured, recipe, crawl, machines, scale, sizes, startup, lines, serial, other, [],
        differing(measured.recipe, recipe),
    )  # fmt: skip
    return replace(made, problems=find(made))


def scaled(here: Amounts, measured: Measured, recipe: Recipe, scale: float) -> Amounts:
    """The amounts of the planned crawl: shares kept and lengths as in the run, the mixture's budget as it is."""
    grown = Amounts(
        size=here.size * scale,
        pages=here.pages * scale,
        **{
            name: getattr(here, name) * scale / measured.sampled
            for name in ("documents", "signed", "survivors", "text", "tokens", "shard_tokens")
        },
        clustered=here.clustered,
    )
    budget = recipe.mixture.tokens if recipe.mixture else None
    return grown if budget is None else replace(grown, shard_tokens=min(float(budget), grown.shard_tokens))


def sizes_of(
    measured: Measured, amounts: Amounts, recipe: Recipe, scale: float, file_size: float | None = None
) -> Sizes:
    """What the numbers of units follow from: files of this size, or files and splits as large as the run's.

    A run with --limit read a part of its files: what it indexed tells their size, and their size how they are cut.
    """
    through = scale / measured.sampled
    written = {kind: size * through for kind, size in measured.written.items()}
    for kind in (("shard", "shards"), ("shard", ".bin"), ("plan", "plan")):
        if kind in written:
            written[kind] = measured.written[kind] * amounts.shard_tokens / max(1.0, measured.amounts.shard_tokens)
    mean = file_size or measured.indexed / measured.files
    files = max(1.0, round(amounts.size / mean))
    splits = max(1.0, round(measured.splits * scale))
    if file_size is not None or measured.trial.limit is not None:
        splits = files * -(-mean // _split_bytes(recipe))
    text = measured.amounts.text / max(1, measured.amounts.survivors) * amounts.documents
    parts = max(splits * measured.parts / measured.splits, text / PART_BYTES)
    return Sizes(amounts, files, splits, parts, written, recipe)


def _far(recipe: Recipe) -> bool:
    """Whether inputs lie in a store."""
    return any(is_remote(path) for item in recipe.inputs for path in (*item.paths, item.base or ""))


def _split_bytes(recipe: Recipe) -> int:
    """Bytes of a split: larger where compressed files lie in a store, in which cuts are dear to find."""
    indexed = all(set(item.formats) <= set(INDEXED) for item in recipe.inputs)
    return REMOTE_SPLIT_BYTES if _far(recipe) and not indexed else SPLIT_BYTES


def edges_of(sizes: Sizes) -> float:
    """Edges of near duplicates, each found in several bands, by the bytes that the join writes."""
    return sizes.of((("join", "dedup"),)) / laws.EDGE_PACKED


def _stars(sizes: Sizes) -> bool:
    near = sizes.recipe.dedup.near if sizes.recipe.dedup else None
    return near is not None and sizes.amounts.signed >= near.stars_from


def line(
    name: str, law: Law, measured: Measured, sizes: Sizes, scale: float, machines: Machines, startup: Startup
) -> Line:
    """What one phase will take."""
    cost = measured.phases[name]
    units = max(1.0, law.units(sizes))
    turns = laws.STARS_ROUNDS if name == "stars" else 1
    most = _job(units / turns, machines)
    jobs = -(-units // most)
    size = _size(name, law, sizes)
    alone = law.single or size < PHASES[name].parallel_from
    here = alone and size < SMALL and machines.count == 1
    workers = 1 if alone else int(min(machines.workers, most))
    spread = min(machines.count, workers)
    cpu, source = _cpu(name, law, cost, measured, sizes, scale, units, workers * jobs)
    cpu *= machines.crowded(-(-workers // machines.count)) / _crowded(cost, measured, machines.busy)
    waits = cost.wall_s / cost.cpu_s if source == "run" and cost.wall_s > cost.cpu_s > 1 else 1.0
    mean = cpu * waits / units
    rounds = units // most * -(-most // workers) + -(-(units % most) // workers)
    longest = jobs * mean * cost.skew if units > 1 else 0.0
    written = sum(size for kind, size in sizes.written.items() if kind[0] == name and not kind[1].startswith("."))
    if name == "stars":
        written = 2 * laws.EDGE_BYTES * edges_of(sizes)
    if name == "tokenizer":
        written = measured.committed[name]
    own = sizes.of(law.own) * turns
    if name == "clean" or (name == "index" and not _far(sizes.recipe)):  # a store tells digests unasked
        own = sizes.amounts.size
    every = sizes.of(law.every) * spread
    network = (own + written * turns + every) if machines.count > 1 else 0.0
    times = {
        "one process" if law.single else "cpu": rounds * mean,
        "longest unit": longest,
        "network": network / spread / machines.network,
        "planning": startup.plan_unit_s * units,
        "start": startup.here_s + startup.round * units
        if here
        else jobs
        * startup.pipeline_s(workers if machines.count == 1 else 1, rounds / jobs, cluster=machines.count > 1),
    }
    wall = max(times["one process" if law.single else "cpu"], longest, times["network"])
    worker = _memory(name, cost, measured, sizes)
    return Line(
        phase=name,
        scales=law.scales,
        units=units,
        jobs=jobs,
        workers=workers,
        here=here,
        cpu_s=cpu,
        wall_s=wall + times["planning"] + times["start"],
        worker_memory=worker,
        memory=worker * -(-workers // machines.count),
        written=written,
        network=network,
        shuffled=every if machines.count > 1 else 0.0,
        held=sizes.of(law.every),
        parts_s=times,
        source=source,
    )


def _job(units: float, machines: Machines) -> float:
    """Units of the largest job: those of a phase (in `stars` of a round) are cut where workers are elsewhere."""
    return units if machines.count == 1 else min(units, float(JOB_UNITS))


def _size(name: str, law: Law, sizes: Sizes) -> float:
    """Bytes by which the working process decides whether one worker does a phase."""
    if name in ("index", "clean"):
        return sizes.amounts.size
    return sizes.of(tuple(kind for kind in law.own or law.every if kind[0] != "exact"))


def _cpu(
    name: str, law: Law, cost: PhaseCost, measured: Measured, sizes: Sizes, scale: float, units: float, workers: float
) -> tuple[float, str]:
    """CPU seconds of the units, and where the figure comes from; `workers` begin, each job anew."""
    grown = scale / measured.sampled
    amounts = sizes.amounts
    looks = law_looks(law, measured, sizes, units, workers) - law_looks_in(law, measured, cost)
    if name == "clean":
        fixed = laws.UNIT_S[name]
        reading = max(0.0, cost.cpu_s - measured.stage_cpu_s - fixed * cost.units)
        return reading * scale + measured.stage_cpu_s * grown + fixed * units, "run"
    if name == "index":
        return cost.cpu_s * amounts.size / measured.indexed, "run"
    if name == "stars":
        return laws.STARS_CPU_S * amounts.signed, "bench"
    if name == "tokenizer":
        return _tokenizer(cost, measured, sizes), "bench"
    if name in laws.WHOLE and measured.amounts.signed < laws.LARGE:
        whole = laws.WHOLE[name]
        documents = amounts.survivors if name == "plan" else amounts.signed
        opening = laws.OPEN_TABLES_S * sizes.parts if name == "exact" else 0.0
        return whole.fixed_s + whole.cpu_s * documents + opening + max(0.0, looks), "bench"
    if name == "join" and measured.amounts.signed < laws.LARGE:
        bands = laws.bands_of(sizes.recipe)
        return laws.JOIN_FIXED_S * units + laws.FIRST_S[
            name
        ] * workers + laws.JOIN_CPU_S * bands * amounts.signed + max(0.0, looks), "bench"
    if name == "shard":
        return cost.cpu_s * amounts.shard_tokens / max(1.0, measured.amounts.shard_tokens), "run"
    fixed, first = laws.UNIT_S.get(name, 0.0), laws.FIRST_S.get(name, 0.0)
    theirs = sum(one.workers for one in cost.outside.pipelines) if cost.outside else 1
    beside = fixed * cost.units + first * theirs
    less = min(1.0, 0.9 * cost.cpu_s / beside) if beside else 1.0  # where this machine is faster than that of the bench
    work = cost.cpu_s - less * beside
    return work * grown + less * (fixed * units + first * workers) + max(0.0, looks), "run"


def _crowded(cost: PhaseCost, measured: Measured, busy: float) -> float:
    """By what the run's own CPU time had grown where several of its cores worked at once."""
    if measured.run is None or not measured.run.local or cost.outside is None:
        return 1.0
    return Machines(1, measured.run.cores, busy=busy).crowded(max(one.workers for one in cost.outside.pipelines))


def law_looks(law: Law, measured: Measured, sizes: Sizes, units: float, workers: float) -> float:
    """CPU seconds in which units look into every part of a phase, and read its rows: it grows with units × parts."""
    found = 0.0
    for name in law.looks:
        found += laws.LOOK_S * units * units_of(name, sizes)
    for name in law.rows_each:
        found += laws.ROW_S * units * units_of(name, sizes)
    for name in law.rows_worker:
        found += laws.ROW_S * workers * units_of(name, sizes)
    return found


def law_looks_in(law: Law, measured: Measured, cost: PhaseCost) -> float:
    """The same of the run, which is in its figures already."""
    each = sum(laws.LOOK_S * measured.phases[name].units for name in law.looks)
    each += sum(laws.ROW_S * measured.phases[name].units for name in law.rows_each)
    return each * cost.units


def units_of(name: str, sizes: Sizes) -> float:
    """How many units a phase will have."""
    return max(1.0, LAWS[name].units(sizes))


def _tokenizer(cost: PhaseCost, measured: Measured, sizes: Sizes) -> float:
    """Training, on a sample of bounded size, and two passes over all texts to choose it."""
    here, there = measured.amounts.text, sizes.amounts.text
    passes = 2 * laws.READ_TEXT_S
    learning = max(0.0, cost.cpu_s - passes * here) * _sample(measured, sizes)
    return learning + passes * there + laws.WHOLE["tokenizer"].cpu_s * sizes.amounts.survivors


def _sample(measured: Measured, sizes: Sizes) -> float:
    """The planned tokenizer's sample in those of the run; 1 where none is trained."""
    train = sizes.recipe.tokenizer.train if sizes.recipe.tokenizer else None
    if train is None:
        return 1.0
    most = float(train.sample_bytes)
    return min(sizes.amounts.text, most) / max(1.0, min(measured.amounts.text, most))


def _memory(name: str, cost: PhaseCost, measured: Measured, sizes: Sizes) -> float:
    """Bytes that a worker holds at its peak."""
    base = float(cost.peak or max(one.peak for one in measured.phases.values()))
    amounts, here = sizes.amounts, measured.amounts
    whole = laws.WHOLE.get(name)
    if whole is not None:
        late = name in ("plan", "tokenizer")
        more = amounts.survivors - here.survivors if late else amounts.signed - here.signed
        if name == "tokenizer":  # what is above a worker's own is the sample's
            own = min(one.peak for one in measured.phases.values() if one.units)
            base += (base - own) * max(0.0, _sample(measured, sizes) - 1)
        return base + whole.memory * max(0.0, more)
    near = sizes.recipe.dedup.near if sizes.recipe.dedup else None
    if name == "join" and near is not None:
        each = 60 + 4 * near.permutations * min(1.0, 2 * here.clustered)
        return base + each * max(0.0, min(amounts.signed, RANGE_ROWS) - here.signed)
    if name == "stars":
        return base + laws.STARS_MEMORY
    chunk = laws.CHUNKS.get(name)
    if chunk is not None:
        records, most, each = chunk
        share = here.documents / max(1.0, amounts.documents)
        before = sizes_in_run(sizes, share)
        return base + each * max(0.0, min(records(sizes), most) - min(records(before), most))
    return base


def sizes_in_run(sizes: Sizes, share: float) -> Sizes:
    """The same for a crawl of this share, to tell what of a unit's memory the run has shown already."""
    return replace(sizes, written={kind: size * share for kind, size in sizes.written.items()})


def differing(run: Recipe, asked: Recipe) -> list[str]:
    """The sections of two recipes that are not alike, inputs apart; of stages and dedup, which of them."""
    one, other = (recipe.model_dump(mode="json") for recipe in (run, asked))
    found = []
    for section in one:
        if section in ("name", "inputs", "storage", "pins") or one[section] == other[section]:
            continue
        if section == "stages":
            names = {name for stages in (one, other) for stage in stages["stages"] for name in stage}
            for name in sorted(names):
                of = [[stage for stage in recipe["stages"] if name in stage] for recipe in (one, other)]
                found += [f"stages.{name}"] if of[0] != of[1] else []
            if not any(item.startswith("stages.") for item in found):
                found.append("stages (their order)")
        elif isinstance(one[section], dict) and isinstance(other[section], dict):
            keys = sorted(one[section].keys() | other[section].keys())
            found += [f"{section}.{key}" for key in keys if one[section].get(key) != other[section].get(key)]
        else:
            found.append(section)
    return found
