"""datatrove's FineWeb example over WARC files, in an environment of its own: it imports nothing of ours.

`python datatrove_fineweb.py FOLDER OUT LID_MODEL WORKERS`: the steps and settings of `examples/fineweb.py` (version
0.10.1) up to deduplication, and its PII step; block lists as they ship with it.
"""

import sys

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    LanguageFilter,
    URLFilter,
)
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import WarcReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils import lid


def main(folder: str, out: str, model: str, workers: str) -> None:
    lid.cached_asset_path_or_download = lambda *_, **__: model  # it would be fetched from the network
    LocalPipelineExecutor(
        pipeline=[
            WarcReader(folder, glob_pattern="*.warc.gz", default_metadata={"dump": "bench"}),
            URLFilter(),
            Trafilatura(favour_precision=True, timeout=30),  # its second on the wall drops pages of a busy machine
            LanguageFilter(),
            GopherRepetitionFilter(),
            GopherQualityFilter(),
            C4QualityFilter(filter_no_terminal_punct=False),
            FineWebQualityFilter(),
            PIIFormatter(),
            JsonlWriter(out),
        ],
        tasks=int(workers),
        workers=int(workers),
        logging_dir=f"{out}-logs",
        start_method="fork",  # so that workers have the model, too
    ).run()


if __name__ == "__main__":
    main(*sys.argv[1:5])
