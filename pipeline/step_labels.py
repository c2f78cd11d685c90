"""What the books of a run call its steps that are no stages, and counts that are no drops."""

from __future__ import annotations

READ_LABEL = "read"
HOST_LABEL = "host"
DEDUP_LABEL = "dedup"
SUBSTRINGS_LABEL = "substrings"
NOT_SAMPLED = "not_sampled"
"""The reader's count of records that a trial run's sample left out."""
PASSED = "of_other_sources"
"""The count of documents that passed a stage because it is not for their source."""
