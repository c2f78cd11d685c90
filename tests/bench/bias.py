"""Identity terms: what is seen in CrowS-Pairs and Winogender, and CPU a document."""

from __future__ import annotations

import csv
import time
from collections import Counter

import numpy as np
import pyarrow as pa

from stages.bias import Bias
from stages.bias.terms import GROUPS
from tests.bench.decontaminate import clean
from tests.stages.stage_helpers import SHARED, batch, bound

_NAMES = {
    "race-color": "race",
    "sexual-orientation": "orientation",
    "socioeconomic": "class",
    "physical-appearance": "appearance",
}
LANGUAGES = {"poetry_zh": "zh", "science_zh": "zh", "docs_zh": "zh", "docs_es": "es", "docs_fr": "fr"}


def _english(texts: list[str], **settings: object) -> pa.RecordBatch:
    return bound(Bias(**settings))(batch(list(texts), language=["en"] * len(texts))).batch


def main() -> None:
    """Prints the figures."""
    if not SHARED.is_dir():
        print("bias: the large test data is not here")
        return
    with (SHARED / "bias" / "crows_pairs_anonymized.csv").open() as file:
        rows = list(csv.DictReader(file))
    more, less = (_english([row[side] for row in rows]) for side in ("sent_more", "sent_less"))
    seen, there = Counter[str](), Counter[str]()
    for row, one, other in zip(
        rows, more["identity_terms"].to_pylist(), less["identity_terms"].to_pylist(), strict=True
    ):
        group = _NAMES.get(row["bias_type"], row["bias_type"])
        there[group] += 1
        seen[group] += one[group] + other[group] > 0
    shown = ", ".join(f"{group} {seen[group] / there[group]:.0%}" for group in GROUPS)
    print(f"bias: pairs of CrowS-Pairs with a term of their group: {seen.total() / len(rows):.0%} ({shown})")
    stereo = np.array([row["stereo_antistereo"] == "stereo" for row in rows])
    one, other = (np.asarray(part["stereotypes"]) for part in (more, less))
    print(
        f"  stereotypes in their stereotyping sentences {np.where(stereo, one, other).sum()}, "
        f"in the others {np.where(stereo, other, one).sum()}"
    )
    with (SHARED / "bias" / "winogender" / "all_sentences.tsv").open() as file:
        sentences = {row["sentid"]: row["sentence"] for row in csv.DictReader(file, delimiter="\t")}
    for side, opposite in (("male", "female"), ("female", "male")):
        names = [name for name in sentences if f".{side}." in name]
        made = _english([sentences[name] for name in names], mode="swap", swap_share=1.0)["text"].to_pylist()
        wanted = [sentences[name.replace(f".{side}.", f".{opposite}.")] for name in names]
        right = sum(map(str.__eq__, made, wanted))
        print(f"  Winogender, {side} to {opposite}: {right} of {len(names)} right")
    documents = clean()
    for mode in ("tag", "swap"):
        process = bound(Bias(mode=mode))
        work = [
            batch([text for _, text in part], language=[LANGUAGES.get(source, "en") for source, _ in part])
            for part in (documents[at : at + 64] for at in range(0, len(documents), 64))
        ]
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()
            for one_batch in work:
                process(one_batch)
            best = min(best, time.process_time() - begun)
        letters = sum(len(text) for _, text in documents)
        print(f"  {mode}: {best / letters * 2500 * 1e6:.0f} us for 2,500 characters")


if __name__ == "__main__":
    main()
