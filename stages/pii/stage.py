"""Personal data out of the text."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import phonenumbers
import pyarrow as pa
from annotated_types import Ge

from stages.base import Outcome, Stage
from stages.pii.fakes import fake
from stages.pii.find import find
from stages.pii.found import TYPES, Found
from stages.pii.plans import regions_of
from stages.pii.replace import Mode, replaced
from stages.pii.scan import places
from stages.rows import strings
from stages.text.characters import classes
from stages.text.column import texts


@dataclass(frozen=True, kw_only=True)
class Pii(Stage):
    """Replaces structured personal data: e-mail and public IP addresses, phone and card numbers, IBANs, ID numbers.

    A number must prove what it is: check digits and issuer ranges of cards, the length and check of IBANs, numbering
    plans of phones, the public rules of thirty states' ID numbers; where a shape is common (eleven digits), a word
    beside it must name it. Order numbers, ISBN, dates, prices, versions, hashes stay; so do private, loopback and
    documentation addresses, example.com, the card schemes' test numbers. Names and street addresses are not looked
    for. Text without spaces and full-width digits are read as any other.

    Writes `pii`: a list of (type, start, end) in code points of the text as it leaves the stage. Counts finds by type
    and `characters_cut`, those of the values that were replaced.
    """

    name: ClassVar[str] = "pii"
    version: ClassVar[int] = 2
    packages: ClassVar[tuple[str, ...]] = ("phonenumbers", "regex", "tldextract")

    types: tuple[str, ...] = TYPES
    """What is looked for: `email`, `ip`, `phone`, `card`, `iban`, `national_id`."""
    mode: Mode = "placeholder"
    """`placeholder`: the type's placeholder; `fake`: a value of valid form that is nobody's, the same for the same
    value within a document; `drop`: documents with more than `max_found` finds go as `found`; `tag`: only
    the column."""
    placeholders: dict[str, str] = field(default_factory=dict)
    """Type to what stands in its place; where not set `<EMAIL>`, `<IP>`, `<PHONE>`, `<CARD>`, `<IBAN>`,
    `<NATIONAL_ID>`."""
    max_found: Annotated[int, Ge(0)] = 0
    """Most finds that a document may have with `mode: drop`."""
    regions: tuple[str, ...] = ()
    """Countries (ISO 3166, such as `DE`) whose national form of phone numbers is looked for even where no word beside
    it says phone; empty: those of the document's language, US and CN where it has none."""

    def __post_init__(self) -> None:
        for key, names in (("types", self.types), ("placeholders", tuple(self.placeholders))):
            for name in names:
                _known(key, name, TYPES)
        for region in self.regions:
            _known("regions", region, sorted(phonenumbers.SUPPORTED_REGIONS))

    def process(self, batch: pa.RecordBatch) -> Outcome:
        column = texts(batch.column("text"))
        found: dict[int, tuple[str, list[Found]]] = {}
        spots = places(column, classes())
        if len(spots):
            rows, starts = np.unique(spots[:, 0], return_index=True)
            languages = strings(batch, "language")
            bounds = [*starts.tolist(), len(spots)]
            for number, row in enumerate(rows.tolist()):
                text = column.data[column.offsets[row] : column.offsets[row + 1]].tobytes().decode()
                here = spots[bounds[number] : bounds[number + 1], 1:].tolist()
                finds = find(text, here, self.types, self.regions or regions_of(languages[row]))
                if finds:
                    found[row] = text, finds
        written = None
        if self.mode == "placeholder":
            names = {name: self.placeholders.get(name, f"<{name.upper()}>") for name in TYPES}
            written = lambda row, one: names[one.type]  # noqa: E731
        elif self.mode == "fake" and found:
            ids = batch.column("id")
            written = lambda row, one: fake(ids[row].as_py() or b"", one)  # noqa: E731
        return replaced(batch, found, written, "pii", ("found", self.max_found) if self.mode == "drop" else None)


def _known(key: str, name: str, there: tuple[str, ...] | list[str]) -> None:
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1, cutoff=0.4) or difflib.get_close_matches(
            name.upper(), there, n=1
        )
        hint = f"Did you mean '{near[0]}'?" if near else f"There are: {', '.join(there[:12])}."
        raise ValueError(f"{key}: there is no '{name}'. {hint}")
