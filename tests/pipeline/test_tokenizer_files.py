"""Tokenizers by file: the ids are those of the library that a file is of, whoever runs it."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Library

from pipeline.errors import DamageError, UserError
from pipeline.tokenizers import Options, Tokenizer, compiled, open_file, opened
from pipeline.tokenizers.bpe import KNOWN, Core, Encoder, Tiktoken
from pipeline.tokenizers.files import from_bytes
from pipeline.tokenizers.huggingface import HuggingFace
from pipeline.tokenizers.pieces import Pieces
from pipeline.tokenizers.training_bytes import PATTERN, train
from pipeline.tokenizers.translate import NotExpressibleError, check_classes, fast
from stages.bpe import cutting

TEXTS = [
    "It's the survivor of a cluster that comes first in a total order; y'all'll see. 12,345.67 of 2024!\n\n",
    "def cut(text: str) -> list[str]:\n\tif not text:\n\t    return []\n    return text.split('</s>')  # 2024\n",
    "每一个决定都取决于文档的内容，而不是它到达的顺序。\n语料库可以追溯到每一个网页。",
    "सभी दस्तावेज़ या तो रखे जाते हैं या एक कारण के साथ हटाए जाते हैं। ทุกเอกสารถูกเก็บไว้",
    "Chaque document est gardé ou écarté, avec une seule raison ; rien ne dépend de l’ordre d’arrivée.\r\n\r\n",
]
LLAMA = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
PRE: dict[str, Any] = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "digits": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    "llama3": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "o200k": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(KNOWN["o200k"].pattern), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}


def made(pre: Any, normalizer: Any = None, model: Any = None, trainer: Any = None) -> Library:
    library = Library(model or models.BPE())
    library.pre_tokenizer = pre
    if normalizer is not None:
        library.normalizer = normalizer
    library.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|begin_of_text|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library.train_from_iterator(
        TEXTS * 2,
        trainer or trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet),
    )
    return library


def data(library: Library) -> bytes:
    return str(library.to_str()).encode()


@pytest.fixture(scope="module")
def libraries() -> dict[str, Library]:
    return {name: made(pre) for name, pre in PRE.items()}


@pytest.fixture(scope="module")
def tokenizers(libraries: dict[str, Library]) -> dict[str, HuggingFace]:
    """Each run by the fastest engine that it can be run by."""
    found = {name: HuggingFace(data(library)) for name, library in libraries.items()}
    found["ours"] = HuggingFace(train(documents(), vocabulary=580))
    for name, tokenizer in found.items():
        right = {"name": "compiled", "why": None}
        if name in ("gpt2", "digits", "o200k"):
            right = {"name": "tiktoken", "why": "its pattern is none of those that are compiled"}
        assert tokenizer.choose_engine(TEXTS) == right
    return found


def documents() -> list[tuple[bytes, str, str]]:
    return [(bytes([number]) * 16, f"s{number % 2}", text) for number, text in enumerate(TEXTS)]


awkward = st.sampled_from([
    *"<|endoftext|> </s> <|never|> \u2581 \0 \n \t \r\n 'S 'LL '\u017f  3\u00b2 \u2167 123456 e\u0301 \u0915\u093f "
    "\ufeff \ufffd \u2003 \u00a0 \u200d \U0001f468\u200d\U0001f469 ... __ //\n".split(" "),
    "ab" * 40, "ไทย" * 30, "  ", " ", "   \n  ", "\n \n", " 1", "  a",
])  # fmt: skip
hostile = st.lists(st.lists(st.one_of(st.text(max_size=8), awkward), max_size=8).map("".join), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(hostile)
def test_faster_engines_give_the_ids_of_hugging_face(
    libraries: dict[str, Library], tokenizers: dict[str, HuggingFace], texts: list[str]
) -> None:
    """Else a model that was trained with a tokenizer.json would be fed other tokens than its users feed it."""
    for name, tokenizer in tokenizers.items():
        library = libraries.get(name) or Library.from_str(json.dumps(tokenizer._json))
        library.encode_special_tokens = True
        tokens = tokenizer.encode(pa.array(texts, pa.string()))
        right = [one.ids for one in library.encode_batch(texts, add_special_tokens=False)]
        assert tokens.to_pylist() == right, name
        assert [tokenizer.decode(each) for each in right] == texts
        assert tokenizer.roundtrip_failures(pa.array(texts, pa.string()), tokens) == 0
        assert not set(tokens.flatten().to_pylist()) & set(tokenizer.special.values())


def rank_file(library: Library) -> tuple[bytes, dict[bytes, int]]:
    """A tiktoken file with the ranks of a byte-level BPE."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    pieces = HuggingFace(data(library)).pieces
    assert pieces is not None
    for left, right in json.loads(data(library))["model"]["merges"]:
        ids = [library.token_to_id(left), library.token_to_id(right)]
        ranks.setdefault(pieces[ids[0]] + pieces[ids[1]], len(ranks))
    lines = [base64.b64encode(piece) + b" %d" % rank for piece, rank in ranks.items()]
    return b"\n".join(lines) + b"\n", ranks


@pytest.fixture(scope="module")
def rank_files(libraries: dict[str, Library]) -> list[tuple[tiktoken.Encoding, Tokenizer]]:
    """Theirs and ours, with each pattern."""
    file, ranks = rank_file(libraries["llama3"])
    end = {"<|endoftext|>": len(ranks)}
    found = [
        (
            tiktoken.Encoding(name, pat_str=KNOWN[name].pattern, mergeable_ranks=ranks, special_tokens=end),
            from_bytes(file, options=Options(name, end)),
        )
        for name in ("gpt2", "cl100k", "o200k")
    ]
    for _, ours in found:
        ours.choose_engine(TEXTS)
    return found


@settings(max_examples=150, deadline=None)
@given(texts=hostile)
def test_a_rank_file_gives_the_ids_of_tiktoken(
    rank_files: list[tuple[tiktoken.Encoding, Tokenizer]], texts: list[str]
) -> None:
    """Else a corpus for a model of the GPT family would hold other tokens than tiktoken gives."""
    for theirs, ours in rank_files:
        assert ours.engine["name"] == ("compiled" if theirs.name == "cl100k" else "tiktoken")
        tokens = ours.encode(pa.array(texts, pa.string()))
        assert tokens.to_pylist() == [theirs.encode_ordinary(text) for text in texts]
        assert ours.roundtrip_failures(pa.array(texts, pa.string()), tokens) == 0
        assert ours.special == {"eot": theirs.eot_token}


def test_published_patterns_are_those_of_tiktoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `pattern: cl100k` would cut text otherwise than the encoding of that name."""
    from tiktoken_ext import openai_public

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
    monkeypatch.setattr(openai_public, "data_gym_to_mergeable_bpe_ranks", lambda *_, **__: {})
    theirs = {"gpt2": "gpt2", "r50k": "r50k_base", "p50k": "p50k_base", "cl100k": "cl100k_base", "o200k": "o200k_base"}
    for name, published in theirs.items():
        facts = openai_public.ENCODING_CONSTRUCTORS[published]()
        assert KNOWN[name].pattern == facts["pat_str"]
        assert KNOWN[name].special == facts["special_tokens"]


ODD: dict[str, tuple[Any, str]] = {
    "lower case": (lambda: made(PRE["gpt2"], normalizers.Lowercase()), "normalises text by Lowercase"),
    "a space in front": (lambda: made(pre_tokenizers.ByteLevel(add_prefix_space=True)), "puts a space before the text"),
    "two patterns": (
        lambda: made(
            pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated"), *list(PRE["llama3"])])
        ),
        "Split [+] Split [+] ByteLevel, not one pattern",
    ),
    "dropout": (lambda: made(PRE["gpt2"], model=models.BPE(dropout=0.1)), "model has dropout"),
    "words": (
        lambda: made(
            pre_tokenizers.Whitespace(),
            model=models.WordLevel(unk_token="<unk>"),
            trainer=trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"]),
        ),
        "model is WordLevel, not BPE",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_tiktoken_cannot_run_is_run_by_hugging_face_with_a_reason(name: str) -> None:
    """Else such a tokenizer would give wrong tokens, or stop the run, or be slow without anyone knowing why."""
    make, why = ODD[name]
    library = make()
    tokenizer = HuggingFace(data(library))
    engine = tokenizer.choose_engine(TEXTS)
    assert engine["name"] == "tokenizers"
    assert re.search(why, engine["why"])
    if name != "dropout":
        library.encode_special_tokens = True
        right = [one.ids for one in library.encode_batch(TEXTS, add_special_tokens=False)]
        assert tokenizer.encode(pa.array(TEXTS)).to_pylist() == right


def test_a_difference_that_only_texts_show_is_found() -> None:
    """Else merges in an order that tiktoken does not follow would go unseen."""
    library = made(PRE["gpt2"])
    parts = json.loads(data(library))
    written = parts["model"]["merges"]
    with pytest.raises(NotExpressibleError, match="several places"):
        fast(parts | {"model": parts["model"] | {"merges": [*written, written[0]]}}, library)
    lines = pre_tokenizers.Split(Regex(r"^.+$|\s+|\S+"), "isolated")
    with pytest.raises(NotExpressibleError, match="differ between the two in lines"):
        check_classes(r"^.+$|\s+|\S+")
    tokenizer = HuggingFace(data(made(pre_tokenizers.Sequence([lines, list(PRE["llama3"])[1]]))))
    assert tokenizer.choose_engine(TEXTS)["name"] == "tokenizers"
    with pytest.raises(NotExpressibleError, match=r"\\[wW] means other characters to tiktoken, as U\+"):
        check_classes(r"\w+|\W+")


def test_texts_that_only_the_original_gets_right_go_to_it() -> None:
    """Else Qwen's normalisation, or tokens that were added for code or chat, would be lost on the fast way."""
    library = made(PRE["llama3"], normalizers.NFC())
    library.add_tokens(["<tool>", "    "])
    tokenizer = HuggingFace(data(library))
    assert tokenizer.choose_engine(TEXTS)["name"] == "compiled"
    library.encode_special_tokens = True
    texts = ["e\u0301te\u0301", "\u00e9t\u00e9", "a <tool> b", "    if x:", "plain", "", "<|endoftext|>"]
    right = [one.ids for one in library.encode_batch(texts, add_special_tokens=False)]
    tokens = tokenizer.encode(pa.array(texts))
    assert tokens.to_pylist() == right
    assert tokenizer.roundtrip_failures(pa.array(texts), tokens) == 1, "the text that NFC changes"
    assert library.token_to_id("<tool>") in tokens.to_pylist()[2]


def test_a_file_may_leave_out_what_it_has_none_of() -> None:
    """Else a tokenizer.json that its own library opens would end the run with a KeyError."""
    parts = json.loads(data(made(PRE["gpt2"])))
    bare = {name: value for name, value in parts.items() if name not in ("normalizer", "decoder", "pre_tokenizer")}
    for one in (bare, bare | {"pre_tokenizer": {"type": "Sequence", "pretokenizers": []}}):
        tokenizer = HuggingFace(json.dumps(one).encode())
        engine = tokenizer.choose_engine(TEXTS)
        assert engine == {"name": "tokenizers", "why": "its pre-tokenizer is none, not ByteLevel"}
        assert tokenizer.pieces is None
    assert HuggingFace(json.dumps(bare | {"pre_tokenizer": parts["pre_tokenizer"]}).encode()).choose_engine(TEXTS)


def test_nothing_is_added_cut_or_filled_up() -> None:
    """Else each text would begin with [CLS], be cut at 512 tokens, or end in padding."""
    library = made(PRE["gpt2"])
    library.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0), ("<|begin_of_text|>", 1)]
    )
    library.enable_truncation(5)
    library.enable_padding(length=300)
    tokenizer = HuggingFace(data(library))
    for _ in range(2):
        tokens = tokenizer.encode(pa.array(TEXTS))
        assert tokenizer.roundtrip_failures(pa.array(TEXTS), tokens) == 0
        assert tokenizer.choose_engine(TEXTS)["name"] == "tiktoken"


def test_special_tokens_in_a_text_are_text_even_where_they_are_pieces() -> None:
    """Else a page about tokenizers would end in the middle, for the model that reads it."""
    library = made(
        pre_tokenizers.WhitespaceSplit(),
        model=models.WordLevel({"<unk>": 0, "</s>": 1, "the": 2, "/s>": 3}, unk_token="<unk>"),
        trainer=trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"]),
    )
    tokenizer = HuggingFace(data(library))
    assert tokenizer.special == {"unk": 0, "eot": 1}
    assert 1 not in tokenizer.encode(pa.array(["the </s> the", "</s>"])).flatten().to_pylist()


def test_roles_are_found_by_usual_names_or_as_the_user_says() -> None:
    """Else a tokenizer with names of its own could not be used, or documents would end in a token of another use."""
    library = made(PRE["gpt2"])
    library.add_special_tokens(["<halt>", "[PAD]"])
    assert HuggingFace(data(library)).special == {"eot": 0, "bos": 1, "pad": library.token_to_id("[PAD]")}
    own = HuggingFace(data(library), options=Options(roles={"eot": "<halt>"}))
    assert own.special["eot"] == library.token_to_id("<halt>")
    assert own.digest != HuggingFace(data(library)).digest
    with pytest.raises(UserError, match=r"tokenizer.bos: x has no special token '<hlt>'. Did you mean '<halt>'"):
        HuggingFace(data(library), "x", Options(roles={"bos": "<hlt>"}))
    nameless = Library(models.BPE())
    nameless.pre_tokenizer = PRE["gpt2"]
    nameless.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=["<stop>"]))
    with pytest.raises(UserError, match=r"no end-of-text token of a usual name.*Its special tokens: <stop>"):
        HuggingFace(data(nameless))


def test_files_are_told_by_their_contents_and_damage_is_named(tmp_path: Path, libraries: dict[str, Library]) -> None:
    """Else a wrong or broken file is found out after the crawl was cleaned, in a traceback."""
    whole = data(libraries["gpt2"])
    ranks, known = rank_file(libraries["gpt2"])
    end = Options("gpt2", {"<|endoftext|>": len(known)})
    (tmp_path / "misnamed.model").write_bytes(whole)
    assert open_file(tmp_path / "misnamed.model").kind == "huggingface"
    assert from_bytes(ranks, options=end).kind == "tiktoken"
    lines = ranks.splitlines(keepends=True)
    for file, options, problem in (
        (whole[:-40], None, "cut short or damaged"),
        (b'{"a": 1}', None, "it has no `model`"),
        (b"\n<!DOCTYPE html>\n<html>", None, "is a page of HTML, not a tokenizer"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", None, "is a pointer of Git LFS"),
        (json.dumps({str(number): number for number in range(2000)}).encode(), None, "vocab.json alone"),
        (whole.replace(b'"merges"', b'"murges"'), None, "no tokenizer.json that can be read"),
        (whole, Options("gpt2"), "tokenizer.pattern: .* says this itself"),
        (ranks, None, "tokenizer.pattern: .* does not say how text is cut"),
        (ranks, Options("gpt2"), "tokenizer.special: .* ranks, gpt2 has 50,256"),
        (ranks, Options("gtp2", end.special), "no pattern 'gtp2'. Did you mean 'gpt2'"),
        (ranks, Options("(", end.special), "cannot be used: .*parenthesis"),
        (ranks, Options("gpt2", {"<|endoftext|>": 7}), "is given the id 7, which .* has for another token"),
        (ranks, Options("", end.special), "cannot be used: its pattern '' takes nothing for a word"),
        (ranks, Options(r"\w*", end.special), "takes nothing for a word"),
        (ranks, Options("gpt2", {"<|endoftext|>": 1 << 30}), "token id 1,073,741,824; token ids lie below 16,777,216"),
        (whole.replace(b'"vocab":{', b'"vocab":{"zz":1073741824,'), None, "token id 1,073,741,824"),
        (b"".join(lines[:200]), end, "no token for the byte 0xc8"),
        (ranks[:-3] + b"x\n", end, f"damaged: line {len(lines)} is no token"),
        (ranks + lines[0], end, "repeats a token or a rank"),
        (b"\x00\x01 nonsense", None, "is no SentencePiece model.*nor is it"),
    ):
        with pytest.raises(UserError, match=problem):
            from_bytes(file, "x", options)


def test_a_committed_tokenizer_opens_as_it_was(tmp_path: Path, tokenizers: dict[str, HuggingFace]) -> None:
    """Else a run would go on with another engine than it began with, or read tokens by another tokenizer's file."""
    tokenizer = tokenizers["llama3"]
    (tmp_path / "tokenizer").mkdir()
    file = tmp_path / "tokenizer" / "tokenizer.json"
    file.write_text(json.dumps(tokenizer._json), "utf-8")
    facts = json.loads(json.dumps(tokenizer.facts()))
    again = opened(tmp_path, facts)
    assert (again.engine, again.digest) == (tokenizer.engine, tokenizer.digest)
    assert again.encode(pa.array(TEXTS)).equals(tokenizer.encode(pa.array(TEXTS)))
    with pytest.raises(DamageError, match="not the tokenizer that the ledger names"):
        opened(tmp_path, facts | {"digest": "0" * 64})
    slow = opened(tmp_path, facts | {"engine": {"name": "tokenizers", "why": "asked"}})
    assert slow.encode(pa.array(TEXTS)).equals(tokenizer.encode(pa.array(TEXTS)))


def test_training_bytes_again_gives_the_same_and_needs_text() -> None:
    """The promise of reproducibility, and a number to go by where the text gives fewer tokens than asked."""
    one, other = (train(documents(), vocabulary=500) for _ in range(2))
    assert one == other
    assert from_bytes(one).special == {"eot": 0, "bos": 1, "pad": 2}
    with pytest.raises(ValueError, match="ascending order"):
        train(documents()[::-1], vocabulary=500)
    with pytest.raises(UserError, match=r"vocabulary 9,000 is more than .* possible is [0-9,]+"):
        train(documents(), vocabulary=9000)
    assert from_bytes(train(documents(), vocabulary=9000, at_most=True)).vocabulary < 9000
    with pytest.raises(UserError, match="no text to train"):
        train([], vocabulary=500)
    assert Core({bytes([byte]): byte for byte in range(256)}, PATTERN).encode(["a1 23"])[0].tolist() == list(b"a1 23")


def test_a_text_on_which_the_regular_expression_gives_up_is_encoded_all_the_same(
    libraries: dict[str, Library],
) -> None:
    """Else one page of a million spaces ends the run in a panic of tiktoken, as its users report."""
    ranks, known = rank_file(libraries["gpt2"])
    tokenizer = from_bytes(
        ranks, options=Options(KNOWN["cl100k"].pattern.replace(r"\s++$|", ""), {"<|endoftext|>": len(known)})
    )
    assert isinstance(tokenizer, Tiktoken)
    long = " " * 1_100_000 + "x"
    with pytest.raises(ValueError, match="stack"):
        tokenizer._encoder.core._one(long)
    texts = pa.array(["a b", long, "c"])
    tokens = tokenizer.encode(texts)
    assert tokenizer.roundtrip_failures(texts, tokens) == 0
    assert tokens[0] == tokenizer.encode(texts.slice(0, 1))[0]
    beyond: list[int] = []
    tokenizer._encoder.core.encode(texts.to_pylist(), beyond)
    assert beyond == [1]


@pytest.fixture(scope="module")
def encoders(libraries: dict[str, Library]) -> list[tuple[Core, Encoder]]:
    """tiktoken's and the compiled one, for each of the forms that a pattern may have."""
    _, ranks = rank_file(libraries["llama3"])
    found = []
    for pattern in (PATTERN, KNOWN["cl100k"].pattern, LLAMA, LLAMA.replace("{1,3}", "")):
        encoder = Encoder(ranks, pattern)
        assert encoder.compile()
        found.append((Core(ranks, pattern), encoder))
    return found


long_words = st.builds(
    lambda part, times: part * times, st.text("aเ中'1 \n.\u0301sſ", min_size=1, max_size=9), st.integers(1, 60)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.one_of(st.text(max_size=8), awkward, long_words), max_size=8).map("".join), min_size=1))
def test_compiled_is_tiktoken(encoders: list[tuple[Core, Encoder]], texts: list[str]) -> None:
    """Else the fast way would give tokens that no library gives, on texts that the sample did not show."""
    for core, encoder in encoders:
        beyond: list[int] = []
        flat, lengths = encoder.encode(pa.array([None, *texts], pa.string()).slice(1), beyond)
        right, sizes = core.encode(texts)
        assert flat.tolist() == right.tolist()
        assert lengths.tolist() == sizes.tolist()
        assert not beyond


def test_a_long_word_that_is_a_token_is_that_token() -> None:
    """Else a rank file with a long token that no merges make would be encoded otherwise than tiktoken does."""
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"-" * 100: 256}
    encoder = Encoder(ranks, KNOWN["cl100k"].pattern)
    assert encoder.compile()
    assert encoder.encode(pa.array(["-" * 100]))[0].tolist() == encoder.core.encode(["-" * 100])[0].tolist() == [256]


def test_words_cut_by_category_are_tiktokens(encoders: list[tuple[Core, Encoder]]) -> None:
    """Else one letter of a script that Unicode took in lately would be cut otherwise: every character is tried, beside
    a letter, a digit, a sign and white space."""
    texts = [
        "".join(f"a{chr(code)}b 1{chr(code)}'{chr(code)}.{chr(code)} {chr(code)}\n" for code in range(at, at + 256))
        for at in (*range(0, 0xD800, 256), *range(0xE000, 0x12000, 256), 0x1D400, 0x1F600, 0xE0100)
    ]
    for core, encoder in encoders[:2]:
        flat, _ = encoder.encode(pa.array(texts))
        assert np.array_equal(flat, core.encode(texts)[0])


def test_a_word_without_end_and_a_full_table_change_no_token(
    encoders: list[tuple[Core, Encoder]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a page of one long word, or a corpus of more words than are kept, would be encoded otherwise."""
    core, _ = encoders[0]
    monkeypatch.setattr(compiled, "_WORDS", 4)
    monkeypatch.setattr(compiled, "_CHUNK", 1000)
    encoder = Encoder(*encoders[0][1]._made_of)
    assert encoder.compile()
    texts = ["ab" * 20_000, "", *("".join(f"w{a}x{b} " for b in range(60)) for a in "abcdefghij"), "c" * 40_000, "end"]
    for _ in range(2):
        flat, lengths = encoder.encode(pa.array(texts))
        right, sizes = core.encode(texts)
        assert flat.tolist() == right.tolist()
        assert lengths.tolist() == sizes.tolist()


def test_patterns_of_another_form_are_not_compiled() -> None:
    """Else a pattern that looks alike would be cut by rules that are not its own."""
    assert cutting.cut_of(PATTERN) == cutting.Cut(marks=True, digits=1, tail=False)
    assert cutting.cut_of(KNOWN["cl100k"].pattern) == cutting.Cut(marks=False, digits=3, tail=True)
    for other in (
        KNOWN["gpt2"].pattern,
        KNOWN["o200k"].pattern,
        LLAMA.replace("{1,3}", "{1,2}"),
        LLAMA.replace(r"\s*[\r\n]+", r"\s*[\r\n]*"),
        PATTERN.replace(r"[^\s\p{L}\p{M}\p{N}]", r"[^\s\p{L}\p{N}]"),
        LLAMA + "|x",
    ):
        assert cutting.cut_of(other) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=3), min_size=1, max_size=8),
    st.lists(st.tuples(st.lists(st.integers(0, 7), max_size=6), st.booleans()), max_size=6),
    st.integers(0, 3),
)
def test_spelling_is_what_joining_the_pieces_gives(
    pieces: list[bytes], rows: list[tuple[list[int], bool]], skip: int
) -> None:
    """Else texts that are lost in their tokens would be counted as whole, or the other way round."""
    table = Pieces(pieces)
    tokens, texts = [], []
    for ids, changed in rows:
        ids = [token % len(pieces) for token in ids]
        text = b"".join(pieces[token] for token in ids).decode("latin-1").encode("utf-8").decode()
        tokens.append(ids)
        texts.append(text + ("x" if changed else ""))
    right = [b"".join(pieces[token] for token in ids) == text.encode() for ids, text in zip(tokens, texts, strict=True)]
    column = pa.array(tokens, pa.list_(pa.uint16()))
    found = table.spell(pa.array(texts, pa.string()).slice(skip), column.slice(skip))
    assert found.tolist() == right[skip:]
    assert all(table.join(np.array(ids)) == b"".join(pieces[token] for token in ids) for ids in tokens)
