"""Objectives as settings: what they need of model, vocabulary and tokenizer, and training with them."""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from small_corpus import VOCABULARY, small_lengths, write_corpus

from pipeline.errors import DamageError, RecipeError, UserError
from pipeline.shards import Corpus
from stages.words import _SCRIPTS as STAGES_SCRIPTS
from trainer.batch import IGNORED
from trainer.checkpoint import FORMAT_VERSION, digest_of
from trainer.config import TrainConfig, load_config
from trainer.metrics import read
from trainer.objectives import facts_of, vocabulary_of
from trainer.run import checked, train
from trainer.vocabulary import Tokens, ids_of, tokens_of
from trainer.words import SCRIPTS, Words

FITTING = {
    "causal": ("decoder", {}),
    "prefix": ("decoder", {}),
    "fim": ("decoder", {}),
    "masked": ("encoder", {}),
    "span": ("encoder-decoder", {}),
    "denoising": ("encoder-decoder", {"permutation": 0.0}),
}
EXTRA = {"causal": 0, "prefix": 0, "fim": 3, "masked": 1, "span": 100, "denoising": 1}
"""Tokens that the small corpus's tokenizer lacks; span: as many as T5 adds."""


def configured(
    config_file: Callable[..., Path], objective: dict[str, Any], arrangement: str, **more: Any
) -> TrainConfig:
    shape = {"layers": 1, "width": 16, "heads": 2, "arrangement": arrangement} | more
    return load_config(config_file("objective", objective=objective, model=shape))


@pytest.mark.parametrize("kind", FITTING)
def test_a_model_of_another_arrangement_is_refused(config_file: Callable[..., Path], kind: str) -> None:
    """Else a causal loss would be taken of an encoder that sees the answer."""
    arrangement, more = FITTING[kind]
    for other in {"decoder", "encoder", "encoder-decoder"} - {arrangement}:
        with pytest.raises(
            RecipeError, match=rf"objective\.kind {kind} trains a model\.arrangement of {arrangement}, not {other};"
        ):
            configured(config_file, {"kind": kind, **more}, other)
        mixed = {"kind": "mix", "parts": [{"weight": 1.0, "objective": {"kind": kind, **more}}]}
        with pytest.raises(RecipeError, match=f"For {other} there are: .*mix"):
            configured(config_file, mixed, other)
    configured(config_file, {"kind": kind, **more}, arrangement)


@pytest.mark.parametrize("kind", FITTING)
def test_the_vocabulary_has_room_for_what_an_objective_adds(
    config_file: Callable[..., Path], corpus: Corpus, kind: str
) -> None:
    """Else masks and sentinels would have the ids of ordinary tokens, or ids that no embedding has."""
    arrangement, more = FITTING[kind]
    config = configured(config_file, {"kind": kind, **more}, arrangement)
    assert vocabulary_of(config, corpus) == VOCABULARY + EXTRA[kind]
    source = checked(config).train
    batch = source.batch(np.arange(source.plan.sequences))
    found = [batch.tokens_BT, batch.targets_BT] + ([batch.encoder.tokens_BS] if batch.encoder else [])
    assert max(int(array.max()) for array in found) == VOCABULARY + EXTRA[kind] - 1 or EXTRA[kind] == 0
    larger = configured(config_file, {"kind": kind, **more}, arrangement, vocabulary=VOCABULARY + 160)
    assert vocabulary_of(larger, corpus) == VOCABULARY + 160
    if EXTRA[kind]:
        smaller = configured(config_file, {"kind": kind, **more}, arrangement, vocabulary=VOCABULARY + EXTRA[kind] - 1)
        with pytest.raises(RecipeError, match=f"raise model.vocabulary to {VOCABULARY + EXTRA[kind]} or more"):
            checked(smaller)


def test_special_tokens_of_the_tokenizer_are_used(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a tokenizer's own mask would stay untrained beside ours."""
    folder = write_corpus(tmp_path / "corpus", small_lengths())
    with_tokenizer(folder, "huggingface", tokenizer_json(["<|fim_suffix|>", "[MASK]"]))
    found = {"fim": ([64, 62, 65], 66), "masked": ([63], 64)}
    for kind, (ids, vocabulary) in found.items():
        config = configured(config_file, {"kind": kind}, FITTING[kind][0])
        config = config.model_copy(update={"data": config.data.model_copy(update={"corpus": folder})})
        assert vocabulary_of(config, Corpus.open(folder)) == vocabulary
        source = checked(config).train
        tokens = source.batch(np.arange(source.plan.sequences)).tokens_BT
        assert {token for token in ids if (tokens == token).any()} == set(ids)


def test_sentinels_are_those_of_t5(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else an imported T5 would read other sentinels than it was trained with, on its own tokenizer."""
    span = configured(config_file, {"kind": "span"}, "encoder-decoder")
    corpus = Corpus.open(write_corpus(tmp_path / "corpus", small_lengths()))
    roles = span.objective.roles(32)
    # T5's tokenizer has 32,000 pieces, and <extra_id_0> is 32,099
    assert list(facts_of(span, corpus).ids.values()) == [VOCABULARY + 99, VOCABULARY + 98, VOCABULARY + 97]
    assert vocabulary_of(span, corpus) == VOCABULARY + 100
    many = ids_of(corpus, ["mask", *(f"sentinel_{number}" for number in range(102)), "fim_prefix"], {})
    assert many["mask"] == VOCABULARY
    assert [many[f"sentinel_{number}"] - VOCABULARY - 1 for number in (0, 1, 99, 100, 101)] == [99, 98, 0, 100, 101]
    assert many["fim_prefix"] == VOCABULARY + 1 + 102
    assert len(set(many.values())) == len(many)
    names = ["<extra_id_1>", "<extra_id_0>", "<extra_id_2>"]
    own = with_tokenizer(corpus.folder, "huggingface", tokenizer_json(names, 61))
    assert ids_of(own, roles, tokens_of(own).special) == {"sentinel_0": 62, "sentinel_1": 61, "sentinel_2": 63}


def test_sentinels_of_an_older_version_are_refused(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a run would go on, or text be asked for, with sentinels that the model never saw."""
    shape = {"layers": 1, "width": 16, "heads": 2, "arrangement": "encoder-decoder", "vocabulary": VOCABULARY + 100}
    path = config_file("span", objective={"kind": "span"}, model=shape, steps=1, schedule={"warmup": 0})
    assert train(path, say=lambda line: None) == 0
    assert train(path, ["steps=2"], say=lambda line: None) == 0
    written = tmp_path / "span" / "checkpoints" / "step-00000002" / "checkpoint.json"
    text = json.loads(written.read_text())["meta"].replace(f'"format_version":{FORMAT_VERSION}', '"format_version":5')
    written.write_text(json.dumps({"meta": text, "digest": digest_of(text)}))
    with pytest.raises(UserError, match=r"has format version 5, in which the sentinels .* had other ids"):
        train(path, ["steps=3"], say=lambda line: None)


def tokenizer_json(special: list[str], size: int = 62) -> bytes:
    """A byte-level tokenizer.json of so many pieces and these special tokens behind them."""
    pieces = ["Ġthe", "re", "Ġä½", "ł", "åĮĹäº¬", "Ġ", ".", "Ċ", "ä½łå¥½", "a"]
    pieces += [f"p{number}" for number in range(size - len(pieces))]
    added = [{"id": size + n, "content": name, "special": True} for n, name in enumerate(special)]
    model = {"type": "BPE", "vocab": {piece: n for n, piece in enumerate(pieces)}, "merges": [], "unk_token": None}
    return json.dumps(
        {
            "model": model,
            "added_tokens": added,
            "pre_tokenizer": {"type": "ByteLevel"},
            "decoder": {"type": "ByteLevel"},
        }
    ).encode()


def with_tokenizer(folder: Path, kind: str, data: bytes, options: dict[str, Any] | None = None) -> Corpus:
    meta = json.loads((folder / "corpus.json").read_text())
    (folder / "tokenizer").mkdir(exist_ok=True)
    meta["tokenizer"] |= {"file": "tokenizer/file", "kind": kind, "options": options or {}}
    (folder / "tokenizer" / "file").write_bytes(data)
    (folder / "corpus.json").write_text(json.dumps(meta))
    return Corpus.open(folder)


def test_tokens_of_every_kind_of_tokenizer(tmp_path: Path) -> None:
    """Else whole words could be masked with one kind of tokenizer alone."""
    folder = write_corpus(tmp_path / "corpus", small_lengths())
    found = tokens_of(with_tokenizer(folder, "huggingface", tokenizer_json(["[MASK]"])))
    assert [found.bytes_by_id[n].decode(errors="replace") for n in (0, 1, 4, 7)] == [" the", "re", "北京", "\n"]
    assert found.bytes_by_id[2] + found.bytes_by_id[3] == " 你".encode()
    assert found.special == {"[MASK]": 62}

    plain = {"type": "WordPiece", "vocab": {"[UNK]": 0, "un": 1, "##able": 2}, "unk_token": "[UNK]"}
    found = tokens_of(with_tokenizer(folder, "huggingface", json.dumps({"model": plain, "added_tokens": []}).encode()))
    assert found.bytes_by_id == {1: b" un", 2: b"able"}
    assert found.special == {"[UNK]": 0}

    ranks = b"\n".join(base64.b64encode(piece) + b" %d" % n for n, piece in enumerate([b"a", b" b", b"\xe4\xbd"]))
    found = tokens_of(with_tokenizer(folder, "tiktoken", ranks, {"special": {"<|endoftext|>": 3}}))
    assert found.bytes_by_id == {0: b"a", 1: b" b", 2: b"\xe4\xbd"}
    assert found.special == {"<|endoftext|>": 3}

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["an old oak, an older elm"] * 9), model_writer=model, vocab_size=290, model_type="bpe",
        byte_fallback=True, user_defined_symbols=["<extra_id_0>"], hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    found = tokens_of(with_tokenizer(folder, "sentencepiece", model.getvalue()))
    texts = set(found.bytes_by_id.values())
    assert {b" an", b"\xe4", b"\n"} <= texts
    assert found.special.keys() >= {"<extra_id_0>", "<s>", "</s>", "<unk>"}

    with pytest.raises(DamageError, match="is no tokenizer that can be read"):
        tokens_of(with_tokenizer(folder, "huggingface", b"{"))


def test_words_and_sentences_in_any_script(tmp_path: Path) -> None:
    """Else whole-word masking would hide half a word, or in Chinese a whole document."""
    corpus = with_tokenizer(write_corpus(tmp_path / "corpus", small_lengths()), "huggingface", tokenizer_json([]))
    words = Words.of(tokens_of(corpus), corpus.vocabulary)
    the, re, you_, _you, beijing, blank, dot, line, hello, a = range(10)
    for tokens, starts in (
        ([the, re, re, dot, the, blank, a, a], "10011100"),
        ([the, you_, _you, a, beijing, hello, re], "1100111"),
        ([re, line, re, dot, dot, re], "011111"),
    ):
        found = "".join(str(int(flag)) for flag in words.starts(np.array(tokens)))
        assert found[1:] == starts[1:], tokens  # the first of a document begins a word whatever it is
    sentences = words.sentences(np.array([the, dot, re, dot, the, line, re, dot, blank, a]))
    assert np.flatnonzero(sentences).tolist() == [4, 6, 8]  # no blank stands behind the first dot
    texts = {2: "你好。", 3: "再", 4: " 見", 5: "क्या।", 6: "\u0301x", 7: "end.)", 8: " (so", 9: "3.", 10: "14"}
    tokens_by_id = tokens_of(corpus).__class__({n: text.encode() for n, text in texts.items()}, {})
    words = Words.of(tokens_by_id, 11)
    assert np.flatnonzero(words.sentences(np.array([2, 3, 4, 5, 8, 7, 8, 9, 10]))).tolist() == [1, 4, 6]
    assert words.starts(np.array([2, 3, 6, 4, 9, 10]))[1:].tolist() == [True, False, True, True, True]


def test_characters_in_single_bytes_are_words_of_scripts_without_blanks() -> None:
    """Else a run of Thai, Lao or rare Chinese would be hidden as one word where the tokenizer knows its bytes alone."""
    words = Words.of(Tokens({byte: bytes([byte]) for byte in range(256)}), 256)
    for text, expected in (
        ("ไทย", ["ไ", "ท", "ย"]),
        ("ລາວ", ["ລ", "າ", "ວ"]),
        ("你好", ["你", "好"]),
        ("𠀀𠀁😀", ["𠀀", "𠀁", "😀"]),
        ("café noir", ["café", " noir"]),
        ("слово.", ["слово", "."]),
    ):
        data = text.encode()
        starts = words.starts(np.frombuffer(data, np.uint8).astype(np.int64))
        starts[0] = True
        cuts = [*np.flatnonzero(starts).tolist(), len(data)]
        assert [data[a:b].decode() for a, b in itertools.pairwise(cuts)] == expected
    whole = Words.of(Tokens({0: "ไทย".encode(), 1: "ภาษา".encode(), 2: b" the", 3: b"re", 4: "中文".encode()}), 5)
    assert whole.starts(np.array([2, 3, 0, 1, 3, 4, 4]))[1:].tolist() == [False, True, True, True, True, True]


def test_scripts_are_those_of_the_stages() -> None:
    """Else pipeline and trainer would not mean the same by a word. (The trainer imports no stage.)"""
    assert STAGES_SCRIPTS == SCRIPTS


def test_words_need_the_tokenizer_file(config_file: Callable[..., Path]) -> None:
    """Else words would be guessed, or the run would end in a traceback."""
    for objective, arrangement in (
        ({"kind": "masked", "whole_words": True}, "encoder"),
        ({"kind": "denoising"}, "encoder-decoder"),
    ):
        with pytest.raises(RecipeError, match=r"objective\.(whole_words|permutation): .* has no tokenizer file"):
            checked(configured(config_file, objective, arrangement))


def test_bad_settings_are_named(config_file: Callable[..., Path]) -> None:
    """Else a slip in a share would train something else."""
    for objective, message in (
        ({"kind": "masked", "masked": 0.9, "random": 0.2}, "masked 0.9 and random 0.2 are more than 1"),
        ({"kind": "denoising", "infilling": 0}, "infilling, masking and deletion are all 0"),
        ({"kind": "denoising", "mean_span": 0.9}, "greater than or equal to 1"),
        ({"kind": "mix", "parts": []}, "parts"),
        ({"kind": "spans"}, "spans"),
    ):
        with pytest.raises(RecipeError, match=message):
            configured(config_file, objective, "encoder")


def test_a_prefix_needs_positions_that_tell_what_is_ahead(config_file: Callable[..., Path]) -> None:
    """Else all that a prefix sees ahead would stand at one place."""
    prefix = {"kind": "prefix"}
    for objective in (prefix, {"kind": "mix", "parts": [{"weight": 1.0, "objective": prefix}]}):
        with pytest.raises(RecipeError, match=r"objective\.kind prefix lets places see ahead"):
            configured(config_file, objective, "decoder", positions={"kind": "relative"})
    configured(config_file, prefix, "decoder", positions={"kind": "alibi"})


def test_training_with_fill_in_the_middle(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else the objective would be a setting without effect, or a resume would draw otherwise."""
    objective = {"kind": "mix", "parts": [
        {"weight": 2.0, "objective": {"kind": "fim", "rate": 1.0}}, {"weight": 1.0, "objective": {"kind": "causal"}}
    ]}  # fmt: skip
    whole = config_file("whole", objective=objective, steps=6)
    assert train(whole, say=lambda line: None) == 0
    parts = config_file("parts", objective=objective, steps=6, schedule={"kind": "constant", "warmup": 2})
    straight = config_file("straight", objective=objective, steps=6, schedule={"kind": "constant", "warmup": 2})
    assert train(straight, say=lambda line: None) == 0
    assert train(parts, ["steps=3"], lambda line: None) == 0
    assert train(parts, say=lambda line: None) == 0

    def rows(name: str, kind: str = "step") -> list[dict[str, Any]]:
        found = [row for row in read(tmp_path / name / "checkpoints" / "metrics.jsonl") if row["kind"] == kind]
        return [{key: row[key] for key in ("step", "loss", "tokens")} for row in found]

    assert rows("parts") == rows("straight")
    assert len(rows("straight")) == 6
    said: list[str] = []
    with pytest.raises(Exception, match="vocabulary 67 -> 64"):
        train(config_file("parts", objective={"kind": "causal"}, steps=8), say=said.append)


def test_validation_is_the_same_at_every_evaluation(config_file: Callable[..., Path]) -> None:
    """Else its loss would move because other tokens are hidden."""
    splits = checked(configured(config_file, {"kind": "masked"}, "encoder"))
    assert splits.held_out is not None
    first = splits.held_out.batch(np.arange(4)).targets_BT
    assert (first == splits.held_out.batch(np.arange(4)).targets_BT).all()
    assert (first[2:] == splits.held_out.batch(np.arange(2, 4)).targets_BT).all()
    assert (first != IGNORED).any()


STEPS = {"masked": 200}  # so few targets in a batch, of tokens that are all as frequent


@pytest.mark.parametrize("kind", FITTING)
def test_training_with_every_objective(config_file: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    """Else what an objective prepares would not be what a model of its arrangement reads."""
    arrangement, more = FITTING[kind]
    shape = {"layers": 1, "width": 16, "heads": 2, "arrangement": arrangement}
    path = config_file(
        kind, objective={"kind": kind, **more}, model=shape, steps=STEPS.get(kind, 30), global_batch=32, micro_batch=32
    )
    assert train(path, say=lambda line: None) == 0
    losses = [row["loss"] for row in read(tmp_path / kind / "checkpoints" / "metrics.jsonl") if row["kind"] == "step"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
