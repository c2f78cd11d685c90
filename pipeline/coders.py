"""Arrow batches in Beam: coded as IPC streams, since pickling a slice would ship its whole parent buffer."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa


class ArrowBatchCoder(beam.coders.Coder):
    """Codes a `pyarrow.RecordBatch` as an Arrow IPC stream of one batch."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        """The IPC stream."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_batch(value)
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """The batch of an IPC stream."""
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_next_batch()

    def is_deterministic(self) -> bool:
        """Equal batches are coded equally."""
        return True

    def to_type_hint(self) -> type[pa.RecordBatch]:
        """The type that it codes."""
        return pa.RecordBatch

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


def register() -> None:
    """Makes Beam code every `pyarrow.RecordBatch` this way."""
    beam.coders.registry.register_coder(pa.RecordBatch, ArrowBatchCoder)
