"""What other readers find in our shards and exports: one process for all, since each would load torch anew.

Called with a JSON object of {reader: {name: path}}, after `.peers` has been put into its path. Prints JSON of the same
shape with what they read. Packages whose own beginning loads what is not needed here (vision kits, transformers,
kernels for GPUs) are entered behind it: the modules that read are theirs, untouched.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


def skip_beginning(package: str) -> None:
    """Makes a package importable without running its `__init__`."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    module = types.ModuleType(package)
    module.__path__ = list(spec.submodule_search_locations or [])
    sys.modules[package] = module


def stand_in(name: str, **names: Any) -> None:
    """A module that is imported for the names of its types only."""
    module = types.ModuleType(name)
    vars(module).update(names, __path__=[])
    sys.modules[name] = module


def megatron(stem: str) -> dict[str, Any]:
    """megatron-core: all documents, and a cut out of the middle of one."""
    if "megatron.core" not in sys.modules:
        skip_beginning("megatron.core")
        skip_beginning("megatron.core.datasets")
        importlib.import_module("megatron.core.parallel_state")  # the first of a ring of imports
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    found: dict[str, Any] = {}
    for mmap in (True, False):
        data = IndexedDataset(stem, mmap=mmap)
        found |= {
            "dtype": str(data[0].dtype),
            f"documents-{mmap}": [data[i].tolist() for i in range(len(data))],
            "boundaries": data.document_indices.tolist(),
            "lengths": data.sequence_lengths.tolist(),
            f"middle-{mmap}": data.get(1, offset=2, length=5).tolist(),
        }
    return found


def datatrove(folder: str, token_size: int) -> dict[str, Any]:
    """datatrove's folder dataset: all windows, and each token's place in its document."""
    from datatrove.utils.dataset import DatatroveFolderDataset

    data = DatatroveFolderDataset(folder, seq_len=15, token_size=token_size, return_positions=True)
    items = [data[i] for i in range(len(data))]
    return {
        "tokens": [item["input_ids"].tolist() for item in items],
        "positions": [item["positions"].tolist() for item in items],
    }


def mds(folder: str, split: str, again: str) -> dict[str, Any]:
    """MosaicML Streaming: the samples, as its dataset gives them, and the files as its writer writes them."""
    import numpy as np

    if "streaming" not in sys.modules:
        stand_in("transformers")
        stand_in("transformers.feature_extraction_utils", BatchFeature=type("BatchFeature", (), {}))
        stand_in("transformers.tokenization_utils_base", BatchEncoding=type("BatchEncoding", (), {}))
        skip_beginning("streaming")
    from streaming.base import LocalDataset, MDSWriter

    data = LocalDataset(folder, split=split)
    samples = [data[i] for i in range(len(data))]
    columns = dict(zip(data.shards[0].column_names, data.shards[0].column_encodings, strict=True))
    with MDSWriter(columns=columns, out=again, hashes=["sha256"]) as writer:
        for sample in samples:
            writer.write(sample)
    for shard in data.shards:
        assert shard.validate(False) is None
    texts = [{name: value for name, value in sample.items() if not isinstance(value, np.ndarray)} for sample in samples]
    tokens = [sample["tokens"] for sample in samples]
    return {"tokens": [t.tolist() for t in tokens], "texts": texts, "dtypes": sorted({str(t.dtype) for t in tokens})}


def torchdata(corpus: str) -> dict[str, Any]:
    """torchdata's StatefulDataLoader over our stream: stopped in the middle, and gone on with in a new one."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    from trainer.datasets import StreamingDataset

    def loader(workers: int) -> Any:
        data = StreamingDataset(corpus, sequence_length=32, global_batch=4, seed=3, steps=12)
        return StatefulDataLoader(data, batch_size=None, num_workers=workers)

    found: dict[str, Any] = {}
    for workers in (0, 2):
        first = loader(workers)
        batches = iter(first)
        read = [next(batches)["tokens"].tolist() for _ in range(5)]
        state = first.state_dict()
        later = loader(workers)
        later.load_state_dict(state)
        found[f"workers-{workers}"] = read + [batch["tokens"].tolist() for batch in later]
    return found


READERS: dict[str, Callable[..., dict[str, Any]]] = {f.__name__: f for f in (megatron, datatrove, mds, torchdata)}

if __name__ == "__main__":
    found: dict[str, dict[str, Any]] = {}
    for reader, cases in json.loads(sys.argv[1]).items():
        found[reader] = {name: READERS[reader](*arguments) for name, arguments in cases.items()}
    Path(sys.argv[2]).write_text(json.dumps(found))
