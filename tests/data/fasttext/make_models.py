"""Trains the small models beside this file, with the package fasttext-wheel.

One thread and a fixed order, so that the same release of fastText on the same machine writes the same files.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
from pathlib import Path

import fasttext

HERE = Path(__file__).parent
TOPICS = {
    "cooking": [
        "bake the bread", "boil the soup", "chop an onion", "a pinch of salt", "the oven is hot", "煮 面条", "炒 青菜",
    ],
    "science": [
        "the cell divides", "measure the mass", "an atom of iron", "the star is hot", "a new theory", "观察 星星",
    ],
    "sports": [
        "score a goal", "the team lost", "run a mile", "pass the ball", "the match was hot", "踢 足球", "naïve défense",
    ],
}  # fmt: skip
TEXTS = [
    "bake an onion in the hot oven", "the team measured a star", "踢 足球 的 人", "炒", "a", "",
    "unknown words entirely ¿qué?", "the cell divides, the team lost\nrun a mile\tboil", "hot hot hot " * 50,
    "naïve DÉFENSE défense", "</s> __label__sports goal",
]  # fmt: skip


def main() -> None:
    chance = random.Random(0)
    lines = []
    for label, phrases in TOPICS.items():
        for first, second in itertools.product(phrases, repeat=2):
            lines.append(f"__label__{label} {first} {second} {chance.choice(phrases)}\n")
    chance.shuffle(lines)
    told: dict[str, dict[str, list[float]]] = {}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(lines)
        file.flush()
        for name, loss in (("softmax", "softmax"), ("tree", "hs"), ("each", "ova")):
            model = fasttext.train_supervised(
                file.name,
                dim=6,
                epoch=20,
                lr=0.5,
                wordNgrams=2,
                minn=2,
                maxn=3,
                bucket=400,
                loss=loss,
                thread=1,
                verbose=0,
            )
            model.save_model(str(HERE / f"{name}.bin"))
            told[f"{name}.bin"] = scores(model)
            model.quantize(file.name, cutoff=300, retrain=True, qnorm=True, thread=1, dsub=2)
            model.save_model(str(HERE / f"{name}.ftz"))
            told[f"{name}.ftz"] = scores(model)
    (HERE / "scores.json").write_text(json.dumps({"texts": TEXTS, "scores": told}, ensure_ascii=False, indent=1) + "\n")


def scores(model: fasttext.FastText._FastText) -> dict[str, list[float]]:
    """The probability of each label for each text, as the library has it; 0 for labels that it does not name."""
    found = {label: [0.0] * len(TEXTS) for label in TOPICS}
    for number, text in enumerate(TEXTS):
        for label, chance in zip(*model.predict(text.replace("\n", " "), k=-1), strict=True):
            found[label.removeprefix("__label__")][number] = round(float(chance), 6)
    return found


if __name__ == "__main__":
    main()
