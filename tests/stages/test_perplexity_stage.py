"""Perplexities by n-gram models: as computed by hand, as KenLM computes them, and what the stage makes of them."""

from __future__ import annotations

import gzip
import io
import math
import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from stage_helpers import batch, reasons

from stages.base import Outcome
from stages.perplexity import LanguageModel, Perplexity
from stages.perplexity.ngrams import read
from stages.perplexity.normal import normal
from stages.perplexity.score import score
from stages.registry import make
from stages.text.column import texts

DATA = Path(__file__).parents[1] / "data" / "ngram"
ARPA = (DATA / "tiny.arpa").read_bytes()


class Plain:
    """An n-gram model with back-off in plain Python (Katz 1987), read from an ARPA file."""

    def __init__(self, data: bytes) -> None:
        self.grams: dict[tuple[str, ...], tuple[float, float]] = {}
        for line in data.decode().split("\n"):
            parts = line.split("\t")
            if len(parts) > 1:
                self.grams[tuple(parts[1].split(" "))] = (float(parts[0]), float(parts[2]) if parts[2:] else 0.0)
        self.order = max(map(len, self.grams))

    def chance(self, before: tuple[str, ...], word: str) -> float:
        found = self.grams.get((*before, word))
        if found is not None:
            return found[0]
        return self.grams.get(before, (0.0, 0.0))[1] + self.chance(before[1:], word)

    def score(self, sentence: str) -> float:
        words = [word if (word,) in self.grams else "<unk>" for word in sentence.split()]
        said = ["<s>", *words, "</s>"]
        return sum(self.chance(tuple(said[max(at - self.order + 1, 0) : at]), said[at]) for at in range(1, len(said)))


def run(given: list[str | None], languages: list[str | None] | None = None, **fields: Any) -> Outcome:
    fields = {"models": {"en": LanguageModel(lm="tiny.arpa")}} | fields
    made = Perplexity(**fields)
    files = {role: ARPA if role.endswith(".lm") else PIECES for role in made.files()}
    return made.bind(files)(batch(given, language=languages or ["en"] * len(given)))


def perplexities(outcome: Outcome) -> list[float | None]:
    found = outcome.batch.column("perplexity").to_pylist()
    return [value and round(value, 1) for value in found]


# Sums of logarithms by hand, from the file: what each word has after those before it, or the back-off of these.
BY_HAND = {
    "the": (-0.25 - 0.0625 - 0.25 - 0.75, 2),  # </s>: no `<s> the </s>`, no `the </s>`: two back-offs
    "the cat": (-0.25 - 0.125 - 0.1875, 3),
    "the cat ▁sat": (-0.25 - 0.125 - 0.03125 - 0.875 - 0.75, 4),
    "dog": (-0.5 - 1.0 - 0.75, 2),  # unknown, behind the begin of a sentence
    "cat cat the the cat": (-0.5 - 1.5 - 0.125 - 1.5 - 0.125 - 0.5 - 0.25 - 0.5 - 0.375 - 0.1875, 6),
}


NAMES = ["tiny.arpa", "tiny.arpa.gz", "tiny.probing.bin"]
MODELS = {name: read(gzip.compress(ARPA) if name.endswith(".gz") else (DATA / name).read_bytes()) for name in NAMES}


def scores(name: str, lines: list[str]) -> list[tuple[float, int]]:
    sums, tokens = score(MODELS[name], texts(pa.array(lines)))
    return list(zip(sums.tolist(), tokens.tolist(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_computed_by_hand(name: str) -> None:
    """Back-off, unknown words or the ends of sentences would be weighed otherwise than in CCNet."""
    assert scores(name, list(BY_HAND)) == list(BY_HAND.values())
    (one, n), (two, m) = BY_HAND["the cat"], BY_HAND["dog"]
    assert scores(name, ["the cat\n dog", "", " "]) == [(one + two, n + m), (0.0, 0), (-1.25, 1)]


def random_model(seed: int, order: int) -> bytes:
    """An ARPA file of n-grams of a random text, as its words follow each other."""
    chance = random.Random(seed)
    grams: list[set[tuple[str, ...]]] = [set() for _ in range(order)]
    grams[0] = {("<unk>",), ("<s>",), ("</s>",)}
    for _ in range(30):
        inner = chance.choices(["a", "b", "字", "é", "longer-than-eight", "eight888"], k=chance.randint(0, 8))
        said = ["<s>", *inner, "</s>"]
        for size in range(1, order + 1):
            grams[size - 1] |= {tuple(said[at : at + size]) for at in range(len(said) - size + 1)}
    lines = ["\\data\\", *(f"ngram {n}={len(found)}" for n, found in enumerate(grams, 1)), ""]
    for n, found in enumerate(grams, 1):
        lines.append(f"\\{n}-grams:")
        for gram in sorted(found):
            back = f"\t{-chance.random():.6f}" if n < order and chance.random() < 0.8 else ""
            lines.append(f"{-3 * chance.random():.6f}\t{' '.join(gram)}{back}")
        lines.append("")
    return "\n".join([*lines, "\\end\\", ""]).encode()


SENTENCES = st.lists(
    st.sampled_from(["a", "b", "字", "é", "longer-than-eight", "eight888", "unseen", "a a", "<s>", "</s>"]), max_size=12
).map(" ".join)


@given(st.integers(0, 50), st.integers(2, 5), st.lists(SENTENCES, max_size=4))
def test_scores_are_those_of_plain_python(seed: int, order: int, lines: list[str]) -> None:
    """The sentences that were computed by hand might be the only ones that are scored right."""
    data = random_model(seed, order)
    plain = Plain(data)
    sums, tokens = score(read(data), texts(pa.array([line or " " for line in lines], pa.string())))
    assert sums.tolist() == pytest.approx([plain.score(line) for line in lines], abs=1e-4)
    assert tokens.tolist() == [len(line.split()) + 1 for line in lines]


@given(st.integers(0, 50), st.integers(2, 5), SENTENCES)
def test_scores_are_kenlm_s(seed: int, order: int, line: str) -> None:
    """Both of ours might read the format, or the method, in the same wrong way."""
    kenlm = pytest.importorskip("kenlm", reason="KenLM is not installed")
    data = random_model(seed, order)
    settings = kenlm.Config()
    settings.show_progress = False
    settings.arpa_complain = kenlm.ARPALoadComplain.NONE
    with tempfile.NamedTemporaryFile(suffix=".arpa") as file:
        file.write(data)
        file.flush()
        theirs = kenlm.Model(file.name, settings).score(line)
    sums, _ = score(read(data), texts(pa.array([line or " "])))
    assert sums[0] == pytest.approx(theirs, abs=1e-4)


def test_documents_get_the_perplexity_of_their_lines() -> None:
    """A document's figure would not be CCNet's: ten to the mean of the negative logarithms, ends of lines included."""
    (one, n), (two, m) = BY_HAND["the cat"], BY_HAND["dog"]
    outcome = run(["The cat\n\n  \nDOG", "the cat", "", " \n", None], ["en-US", "en", "en", "en", "en"])
    assert perplexities(outcome) == [
        round(10 ** (-(one + two) / (n + m)), 1), round(10 ** (-one / n), 1), None, None,
    ]  # fmt: skip
    assert reasons(outcome) == [(4, "no_text")]
    assert perplexities(run(["the\ncat"], join_lines=True, normalize=False)) == [round(10 ** (-one / n), 1)]
    joined = run(["the\ncat"], join_lines=True)  # as CCNet's code has it: `thecat`
    assert perplexities(joined) == [round(10 ** (2.25 / 2), 1)]


def test_other_languages_are_kept_or_dropped_by_choice() -> None:
    """A language without a model would be scored by another's, or vanish without a reason."""
    given: list[str | None] = ["the cat", "die Katze", "the cat"]
    languages = ["en", "de", None]
    kept = run(given, languages)
    assert perplexities(kept) == [1.5, None, None]
    assert not kept.dropped
    assert reasons(run(given, languages, no_model="drop")) == [(1, "no_model"), (2, "no_model")]


def test_limits_and_buckets() -> None:
    """Documents out of bounds would stay; or one just at a limit would go by a rounding."""
    texts: list[str | None] = ["the cat", "the", "dog"]  # 1.5, 4.5, 13.3
    named = {"en": LanguageModel(lm="tiny.arpa", head=2, tail=13.3), "de": LanguageModel(lm="x", max_perplexity=2)}
    outcome = run(texts, models=named)
    assert perplexities(outcome) == [1.5, 4.5, 13.3]
    assert outcome.batch.column("perplexity_bucket").to_pylist() == ["head", "middle", "tail"]
    high = run([*texts, "the"], ["en", "en", "en", "de"], models=named, max_perplexity=13.3)
    assert [(row, why, value, limit) for row, why, value, limit in high.dropped] == [(3, "high_perplexity", 4.5, 2.0)]
    assert [row for row, *_ in run(texts, max_perplexity=13.2).dropped] == [2]
    low = run(texts, min_perplexity=1.6, models=named)
    assert reasons(low) == [(0, "low_perplexity")]
    assert low.measures["min_perplexity"].tolist() == [1.5, 4.5, 13.3]
    assert run(texts).measures["max_perplexity"].tolist() == [1.5, 4.5, 13.3]  # for `inspect --rules`
    assert "perplexity_bucket" not in run(texts).batch.schema.names
    limits = {"models": named, "max_perplexity": 5.0}
    whole, single = run(texts, **limits), [run([text], **limits) for text in texts]
    rows = [part.batch.drop_columns("id").to_pylist() for part in single]
    assert whole.batch.drop_columns("id").to_pylist() == [row for part in rows for row in part]
    assert run([], **limits).measures.keys() == whole.measures.keys()


def pieces() -> bytes:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the cat", "the the cat cat sat"] * 20), model_writer=out, vocab_size=14,
        model_type="unigram", num_threads=1, minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    return out.getvalue()


PIECES = pieces()


def test_pieces_of_sentencepiece_are_the_tokens() -> None:
    """CCNet's models, which know pieces alone, would find every word unknown."""
    named = {"en": LanguageModel(lm="tiny.arpa", sentencepiece="en.sp.model")}
    split = sentencepiece.SentencePieceProcessor(model_proto=PIECES)
    tokens = split.encode("the cat sat", out_type=str)
    assert "▁sat" in tokens or len(tokens) > 3
    total = Plain(ARPA).score(" ".join(tokens))
    assert perplexities(run(["The cat sat"], models=named)) == [round(10 ** (-total / (len(tokens) + 1)), 1)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  The Café №１23 ٣ ", "the cafe №000 0"),
        ("“Ja”, sagte — er…\x07\x85", '"ja", sagte  -  er...'),
        ("「今天」，２０２６年！", '"今天",0000年!'),
        ("", ""),
    ],
)
def test_lines_are_written_as_ccnet_does(line: str, expected: str) -> None:
    """CCNet's models would meet words that they have never seen."""
    assert normal(line, accents=False) == expected
    assert normal("Café", accents=True) == "café"


@pytest.mark.parametrize("text", ["a" * 200_000, "字" * 200_000, "the " * 50_000, "\0", "\n" * 1000, "\u0301" * 50])
def test_texts_of_one_character_are_scored(text: str) -> None:
    """A worthless page would stop a run."""
    found = perplexities(run([text]))
    assert len(found) == 1
    assert found[0] is None or (found[0] >= 1 and math.isfinite(found[0]))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"models": {"en": {"lm": "a", "tail": 5}}}, "head and tail are set together"),
        ({"models": {"en": {"lm": "a", "head": 6, "tail": 5}}}, r"models.en: head \(6.0\) is above tail \(5.0\)"),
        ({"models": {"en": {"lm": "a", "min_perplexity": 6, "max_perplexity": 5}}}, r"models.en.min_perplexity \(6"),
        ({"min_perplexity": 6, "max_perplexity": 5}, r"min_perplexity \(6.0\) is above max_perplexity \(5.0\)"),
        ({"models": {"en_US": {"lm": "a"}}}, "'en_US' is no code of a language"),
        ({"models": {"en": {"lm": "a", "heads": 5}}}, "heads"),
        ({"models": {"en": {"sentencepiece": "a"}}}, "lm"),
    ],
)
def test_settings_that_cannot_be_meant_are_errors(settings: dict[str, Any], says: str) -> None:
    """A run would be made with limits that drop everything, or a model that is never asked."""
    with pytest.raises(ValidationError, match=says):
        make(Perplexity, settings)


def test_no_model_is_an_error() -> None:
    """A recipe without models would run, and score nothing."""
    with pytest.raises(ValueError, match=r"models: none is named"):
        Perplexity().bind({})


def test_a_file_of_pieces_that_is_none_is_refused() -> None:
    """A wrong file would be found out in the middle of a run."""
    made = Perplexity(models={"en": LanguageModel(lm="tiny.arpa", sentencepiece="en.sp")})
    for data in (b"", b"garbage", PIECES[: len(PIECES) // 2]):
        with pytest.raises(ValueError, match=r"models.en.sentencepiece: 'en.sp' is no model of SentencePiece"):
            made.bind({"en.lm": ARPA, "en.sentencepiece": data})


PROBING = (DATA / "tiny.probing.bin").read_bytes()
BROKEN = [
    (b"", "begins neither as"),
    (b"garbage", "begins neither as"),
    (ARPA[:150], "cannot be meant|is cut off"),
    (ARPA.replace(b"\\end\\", b""), "it is cut off"),
    (ARPA.replace(b"ngram 2=4", b"ngram 2=5"), "it says 6, 5, 2 n-grams, and has 6, 4, 2"),
    (ARPA.replace(b"the cat\t", b"the dog\t"), "line 17 of the ARPA file cannot be meant"),
    (ARPA.replace(b"-0.375", b"0.375"), "cannot be meant"),
    (ARPA.replace(b"-0.875\tcat", b"-0.875\t</s>").replace(b"-0.625\tcat", b"-0.625\tthe"), "entry for their last 2"),
    (ARPA.replace(b"</s>", b"end"), "no <s> or no </s>"),
    (gzip.compress(ARPA)[:60], "the gzip file is broken"),
    *((PROBING[:size], "it is cut off") for size in (10, 60, 90, 110, 120, 200, 300, len(PROBING) - 60)),
    (PROBING.replace(b"version 5", b"version 4"), "of another version"),
    ((DATA / "tiny.trie.bin").read_bytes(), "a quantised array trie; the form that can be read"),
]


@pytest.mark.parametrize(("data", "says"), BROKEN, ids=range(len(BROKEN)))
def test_models_that_are_broken_are_refused(data: bytes, says: str) -> None:
    """A download that was cut off would crash a worker, or score everything alike."""
    with pytest.raises(ValueError, match=f"models.en.lm: 'tiny.arpa' is no model of KenLM.*({says})"):
        Perplexity(models={"en": LanguageModel(lm="tiny.arpa")}).bind({"en.lm": data})


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(PROBING) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_model_is_refused_or_harmless(changes: list[tuple[int, int]]) -> None:
    """A damaged file could make the kernel read memory that is not its own, or never end."""
    data = bytearray(PROBING)
    for place, value in changes:
        data[place] = value
    try:
        model = read(bytes(data))
    except ValueError:
        return
    _, tokens = score(model, texts(pa.array(list(BY_HAND))))
    assert tokens.tolist() == [count for _, count in BY_HAND.values()]
