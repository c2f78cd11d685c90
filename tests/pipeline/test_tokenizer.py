"""SentencePiece: what goes in comes out, and training gives the same model every time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import RecipeError, UserError
from pipeline.tokenizers import Tokenizer, open_file
from pipeline.tokenizers.files import from_bytes
from pipeline.tokenizers.report import report
from pipeline.tokenizers.training import LINE_BYTES, SPECIAL, _pieces, sample, train
from stages.hashing import keyed

TEXTS = [
    "The survivor of a cluster is the document that comes first in a total order.\nEvery loser names it.\n",
    "def cut(text: str) -> list[str]:\n\tif not text:\n\t    return []\n    return text.split('</s>')  # 2024\n",
    "每一个决定都取决于文档的内容，而不是它到达的顺序。\n语料库可以追溯到每一个网页。",
    "すべての文書は、残されるか、理由とともに捨てられるかのどちらかである。",
    "Chaque document est gardé ou écarté, avec une seule raison ; rien ne dépend de l’ordre d’arrivée.\r\n\r\n",
]


def documents() -> list[tuple[bytes, str, str]]:
    return [(bytes([number]) * 16, f"s{number % 2}", text) for number, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    return {
        kind: train(documents(), vocabulary=size, type=kind, character_coverage=1.0)
        for kind, size in (("unigram", 390), ("bpe", 450))
    }


@pytest.fixture(scope="module")
def tokenizers(models: dict[str, bytes]) -> list[Tokenizer]:
    return [from_bytes(model) for model in models.values()]


awkward = st.sampled_from(
    [
        "</s>",
        "<s>",
        "<pad>",
        "<unk>",
        "<0x0A>",
        "▁",
        "▁▁ ",
        "\0",
        "\n",
        "\t",
        "\r\n",
        "  ",
        "▅",
        "⁇",
        "\ufeff",
        "\ufffd",
        "e\u0301",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.one_of(st.text(max_size=8), awkward), max_size=6).map("".join), max_size=4))
def test_every_text_comes_back_exactly(tokenizers: list[Tokenizer], texts: list[str]) -> None:
    """Otherwise what the model reads is not what the crawl held, and no token can be traced to its text."""
    for tokenizer in tokenizers:
        tokens = tokenizer.encode(pa.array(texts, pa.string()))
        assert [tokenizer.decode(each) for each in tokens.to_pylist()] == texts
        assert tokenizer.roundtrip_failures(pa.array(texts, pa.string()), tokens) == 0
        flat = set(tokens.flatten().to_pylist())
        assert not flat & set(tokenizer.special.values()), "no text turns into a special token"


def test_real_text_is_learnt(tokenizers: list[Tokenizer]) -> None:
    """Otherwise every text would be spelt in bytes, in several languages at three tokens a character."""
    for tokenizer in tokenizers:
        for text in TEXTS:
            assert len(tokenizer.encode(pa.array([text]))[0]) < 0.95 * len(text.encode())


def test_slices_chunks_and_nulls(tokenizers: list[Tokenizer]) -> None:
    """Otherwise a slice of a batch would be given its neighbours' tokens."""
    tokenizer = tokenizers[0]
    texts = pa.array(["a b", None, "c▁", ""])
    whole = tokenizer.encode(texts)
    assert whole.type == pa.list_(pa.uint16())
    assert whole[1].as_py() == []
    assert tokenizer.encode(texts.slice(2, 1)).to_pylist() == [whole[2].as_py()]
    assert tokenizer.encode(pa.chunked_array([texts, texts])).to_pylist() == whole.to_pylist() * 2
    assert tokenizer.encode(pa.array([], pa.string())).to_pylist() == []
    assert tokenizer.roundtrip_failures(texts.slice(1), whole.slice(1)) == 0
    assert tokenizer.roundtrip_failures(pa.array(["a c", "", "c▁", "x"]), whole) == 2


def test_decode_refuses_what_is_no_token(tokenizers: list[Tokenizer]) -> None:
    """Otherwise a shard of another tokenizer would be shown as text."""
    with pytest.raises(ValueError, match="token ids lie from 0 to 389, not 7 to 390"):
        tokenizers[0].decode([7, 390])
    assert tokenizers[0].decode(np.array([SPECIAL["eot"]], np.uint16)) == ""


def test_training_again_elsewhere_gives_the_same_model(models: dict[str, bytes]) -> None:
    """The promise of reproducibility: one other score changes every shard."""
    code = (
        "import sys; sys.path.insert(0, 'tests/pipeline'); import test_tokenizer as t\n"
        "for kind, size in (('unigram', 390), ('bpe', 450)):\n"
        "    model = t.train(t.documents(), vocabulary=size, type=kind, character_coverage=1.0)\n"
        "    print(t.from_bytes(model).digest)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [from_bytes(model).digest for model in models.values()]
    assert done.stderr == "", "SentencePiece's own log is kept from the user"


def test_the_digest_tells_models_apart(models: dict[str, bytes]) -> None:
    """Otherwise shards of two tokenizers could be read as one corpus."""
    other = train(documents(), vocabulary=389, type="unigram", character_coverage=1.0)
    digests = {from_bytes(model).digest for model in (*models.values(), other)}
    assert len(digests) == 3


def test_special_ids_are_fixed(tokenizers: list[Tokenizer]) -> None:
    """Otherwise shards of two runs would be bounded by different tokens."""
    for tokenizer in tokenizers:
        assert tokenizer.special == SPECIAL == {"unk": 0, "bos": 1, "eot": 2, "pad": 3}


def test_a_vocabulary_that_the_text_does_not_give_is_refused_with_the_one_that_it_does() -> None:
    """Otherwise the user guesses a number, run by run."""
    for kind in ("unigram", "bpe"):
        with pytest.raises(
            UserError, match=r"vocabulary 9,000 is more than .* bytes of 's0'.* possible is (\d+)"
        ) as caught:
            train(documents(), vocabulary=9000, type=kind, character_coverage=1.0)
        most = int(str(caught.value).split("possible is ")[1].split(";")[0].replace(",", ""))
        assert from_bytes(train(documents(), vocabulary=most, type=kind, character_coverage=1.0)).vocabulary == most
    with pytest.raises(UserError, match=r"vocabulary 300 is too small: .* need (\d+)") as caught:
        train(documents(), vocabulary=300, character_coverage=1.0)
    least = int(str(caught.value).split("need ")[1].split(".")[0])
    assert from_bytes(train(documents(), vocabulary=least + 5, character_coverage=1.0)).vocabulary == least + 5


def test_no_text_and_wrong_order() -> None:
    """Otherwise an empty corpus ends in SentencePiece's own words, or an unordered sample in another model."""
    for nothing in ([], [(b"a", "s", "\n\t\0")]):
        with pytest.raises(UserError, match="no text to train"):
            train(nothing, vocabulary=300)
    with pytest.raises(ValueError, match="ascending order of ids"):
        train(documents()[::-1], vocabulary=300)


@settings(max_examples=30, deadline=None)
@given(st.text(st.sampled_from("ab 中ñ🙂"), min_size=1), st.integers(1, 2000))
def test_long_lines_are_cut_and_not_skipped(text: str, times: int) -> None:
    """Otherwise SentencePiece learns nothing from a book that is one line."""
    line = (text * times).encode()
    pieces = list(_pieces(line))
    assert b"".join(pieces) == line
    assert all(len(piece) <= LINE_BYTES and piece.decode() for piece in pieces)


def test_a_document_of_one_long_line_is_trained_on() -> None:
    """Otherwise the longest documents of a corpus would be the ones that its tokenizer has not seen."""
    words = " ".join(f"werk{'abcdefgh'[n % 8]}{'stuvwxyz'[n // 8 % 8]}" for n in range(5_000))
    model = train([(b"0", "s", words)], vocabulary=298, character_coverage=1.0)
    assert len(from_bytes(model).encode(pa.array([words]))[0]) < 3.5 * 5_000


def model_file(path: Path, **settings: object) -> Path:
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["one two three four five six seven eight nine ten"] * 3),
            model_writer=file,
            vocab_size=30,
            hard_vocab_limit=False,
            minloglevel=2,
            **settings,
        )
    return path


def test_a_users_model(tmp_path: Path) -> None:
    """Otherwise a corpus could not be tokenised for a model that exists already."""
    tokenizer = open_file(model_file(tmp_path / "user.model"))
    assert (tokenizer.special["eot"], "pad" in tokenizer.special) == (2, False)
    texts = pa.array(["one two", "one  two", "Ω one"])
    tokens = tokenizer.encode(texts)
    assert tokenizer.decode(tokens[0].as_py()) == "one two"
    assert tokenizer.roundtrip_failures(texts, tokens) == 2
    columns = {"source": pa.array(["a", "a", "b"]), "language": pa.array(["en", "en", None]), "text": texts}
    found = report(tokenizer, pa.table(columns))
    lengths = [len(each) for each in tokens]
    en, b = found["languages"]["en"], found["sources"]["b"]
    assert found["languages"]["unknown"] == b
    assert (en["documents"], en["characters"], en["tokens"], en["unknown"]) == (2, 15, lengths[0] + lengths[1], 0)
    assert (b["documents"], b["characters"], b["tokens"], b["unknown"]) == (1, 5, lengths[2], 1)


def test_broken_model_files_are_refused_by_name(tmp_path: Path, models: dict[str, bytes]) -> None:
    """Otherwise a wrong path is found out after the crawl was cleaned."""
    missing = tmp_path / "missing.model"
    with pytest.raises(UserError, match=r"missing.model cannot be read: No such file"):
        open_file(missing)
    for name, content in (("empty", b""), ("text", b"no model"), ("cut", models["bpe"][:5000])):
        path = tmp_path / f"{name}.model"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}.model is no SentencePiece model"):
            open_file(path)
    with pytest.raises(UserError, match="no end-of-text token"):
        open_file(model_file(tmp_path / "endless.model", eos_id=-1))


def ids(count: int) -> list[bytes]:
    return [keyed("probe", number, b"id").to_bytes(16, "big") for number in range(count)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 500), st.integers(0, 9))
def test_the_sample_keeps_to_its_budget_whatever_the_order_of_rows(lengths: list[int], budget: int, seed: int) -> None:
    """Otherwise another number of parts trains another tokenizer, or training does not fit into memory."""
    names, sizes = ids(len(lengths)), np.array(lengths)
    sources = ["a" if number % 3 else "b" for number in range(len(lengths))]
    for weights in (None, {"a": 1.0, "b": 3.0} if len(lengths) > 1 else None):
        chosen = sample(names, sources, sizes, seed=seed, weights=weights, budget_bytes=budget)
        rows = np.random.default_rng(seed).permutation(len(lengths))
        again = sample(
            [names[r] for r in rows],
            [sources[r] for r in rows],
            sizes[rows],
            seed=seed,
            weights=weights,
            budget_bytes=budget,
        )
        assert chosen[rows].tolist() == again.tolist()
        for name in ("a", "b"):
            mine = np.array([source == name for source in sources])
            share = budget if weights is None else int(budget * weights[name] / 4)
            if chosen[mine].sum() > 1:
                assert sizes[mine & chosen].sum() <= share
        assert chosen.any() or int(budget / 4) == 0


def test_the_sample_follows_the_weights() -> None:
    """Otherwise a small language gets no pieces of its own, however the user weighs it."""
    sources = pa.array(["big"] * 900 + ["small"] * 100)
    chosen = sample(ids(1000), sources, np.full(1000, 10), seed=1, weights={"big": 1, "small": 1}, budget_bytes=1000)
    assert (chosen[:900].sum(), chosen[900:].sum()) == (50, 50)
    chosen = sample(ids(1000), sources, np.full(1000, 10), seed=1, weights={"small": 2}, budget_bytes=300)
    assert (chosen[:900].sum(), chosen[900:].sum()) == (0, 30)
    with pytest.raises(RecipeError, match=r"'smal'\. Did you mean 'small'"):
        sample(ids(1000), sources, np.full(1000, 10), seed=1, weights={"smal": 1}, budget_bytes=300)
    with pytest.raises(RecipeError, match="all 0"):
        sample(ids(1000), sources, np.full(1000, 10), seed=1, weights={"small": 0}, budget_bytes=300)
