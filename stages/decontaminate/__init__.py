"""Documents that hold items of a benchmark. Read `stage` first, then `benchmarks` (items from files), `index`,
`kernels`, `spans` (what is cut)."""

from stages.decontaminate.stage import Benchmark, Decontaminate

__all__ = ["Benchmark", "Decontaminate"]
