"""Models from and to Hugging Face's formats: the same logits, and the same weights on the way back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import yaml
from model_inputs import V, config_of, logits_of, made
from small_corpus import small_lengths, write_corpus
from torch import nn
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import DamageError, RecipeError, UserError
from trainer import hugging_face
from trainer.checkpoint import load_state
from trainer.config import load_config
from trainer.hugging_face import begin_from, nearest_format, read_config, read_weights, write
from trainer.model import Inputs, Model
from trainer.model_settings import ModelConfig
from trainer.run import train

transformers = pytest.importorskip("transformers")


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": None, "original_max_position_embeddings": 16}
T5 = {"d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "vocab_size": V}
LLAMA = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": V,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
BERT = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": V,
    "max_position_embeddings": 32,
}  # fmt: skip
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": V}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", GPT2),
    "gpt2-untied": ("GPT2", GPT2 | {"tie_word_embeddings": False, "activation_function": "relu", "n_inner": 20}),
    "llama": ("Llama", LLAMA),
    "llama3": ("Llama", LLAMA | {"rope_parameters": LLAMA3, "tie_word_embeddings": True, "head_dim": 6}),
    "llama-yarn": ("Llama", LLAMA | {"rope_parameters": YARN}),
    "llama-bias": ("Llama", LLAMA | {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"}),
    "bert": ("Bert", BERT),
    "t5": ("T5", T5),
    "t5-gated": ("T5", T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
}
CLASSES = {
    "GPT2": "GPT2LMHeadModel",
    "Llama": "LlamaForCausalLM",
    "Bert": "BertForMaskedLM",
    "T5": "T5ForConditionalGeneration",
}


def theirs_of(name: str, **more: Any) -> nn.Module:
    family, settings = MODELS[name]
    torch.manual_seed(0)
    model = getattr(transformers, CLASSES[family])(getattr(transformers, f"{family}Config")(**settings, **more))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def tokens_of(T: int = 24) -> torch.Tensor:
    return torch.randint(0, V, (2, T), generator=torch.Generator().manual_seed(1))


def their_logits(model: nn.Module, tokens_BT: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        if model.config.model_type == "t5":
            return model(input_ids=tokens_BT[:, :10], decoder_input_ids=tokens_BT[:, 10:]).logits
        return model(tokens_BT).logits


def our_logits(model: Model, tokens_BT: torch.Tensor) -> torch.Tensor:
    def plain(tokens_BT: torch.Tensor) -> Inputs:
        return Inputs(tokens_BT, torch.arange(tokens_BT.shape[1]).expand(tokens_BT.shape), torch.zeros_like(tokens_BT))

    with torch.no_grad():
        if model.encoder is not None:
            return logits_of(model, plain(tokens_BT[:, 10:])._replace(encoder=plain(tokens_BT[:, :10])))
        return logits_of(model, plain(tokens_BT))


def ours_of(folder: Path) -> Model:
    form, config = read_config(folder)
    model = Model(config, config.vocabulary or 0)
    unset = model.load_state_dict(read_weights(folder, form, config), strict=False)
    assert not unset.unexpected_keys
    assert set(unset.missing_keys) <= {"head.weight"}
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_their_weights_give_their_logits_here(name: str, tmp_path: Path) -> None:
    """Else an imported model would be another one."""
    theirs, tokens_BT = theirs_of(name), tokens_of()
    theirs.save_pretrained(tmp_path)
    model = ours_of(tmp_path)
    assert torch.allclose(our_logits(model, tokens_BT), their_logits(theirs, tokens_BT), atol=1e-5)
    if name == "t5-gated":
        assert model.readout == 1


@pytest.mark.parametrize("name", MODELS)
def test_our_weights_come_back_as_theirs(name: str, tmp_path: Path) -> None:
    """Else an exported model would be another one, or `transformers` would not open it."""
    theirs = theirs_of(name)
    theirs.save_pretrained(tmp_path / "theirs")
    model = ours_of(tmp_path / "theirs")
    if name == "t5-gated":  # theirs ties what it does not scale, as no format before did
        model.config = model.config.model_copy(update={"tied": False})
        model.head.weight = nn.Parameter(model.embedding.weight.detach().clone())
    write(tmp_path / "ours", model.config, dict(model.state_dict()), {"eot": 3}, 64)
    back, told = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert back.config.eos_token_id == 3
    expected = theirs.state_dict()
    assert back.state_dict().keys() == expected.keys()
    assert all(weight.equal(expected[key]) for key, weight in back.state_dict().items())
    tokens_BT = tokens_of()
    assert torch.allclose(their_logits(back.eval(), tokens_BT), our_logits(model, tokens_BT), atol=1e-5)


def test_files_in_parts_and_of_the_model_alone(tmp_path: Path) -> None:
    """Else large models, and those without a head, could not be read."""
    theirs = theirs_of("gpt2")
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="4KB")
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    theirs.transformer.save_pretrained(tmp_path / "alone")
    for folder in ("parts", "alone"):
        found = our_logits(ours_of(tmp_path / folder), tokens_of())
        assert torch.allclose(found, their_logits(theirs, tokens_of()), atol=1e-5)


@pytest.mark.parametrize("scaling", ["linear", "dynamic", "yarn", "llama3"])
def test_scaled_rope_goes_there_and_back(scaling: str, tmp_path: Path) -> None:
    """Else a stretched model would be read as one that is not."""
    stretched: dict[str, Any] = {"kind": scaling, "factor": 2.0}
    if scaling != "linear":
        stretched["original"] = 16
    config = config_of(hidden=24, tied=False, positions={"kind": "rope", "base": 300.0, "scaling": stretched})
    torch.manual_seed(0)
    model = Model(config, V).eval()
    write(tmp_path, config, dict(model.state_dict()), {}, 32)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.allclose(their_logits(theirs, tokens_of()), our_logits(model, tokens_of()), atol=1e-5)
    assert not hugging_face.differences(read_config(tmp_path)[1], config)


def test_an_untied_t5_goes_there_and_back(tmp_path: Path) -> None:
    """Else T5 1.1, whose output projection is a matrix of its own, would be written or read with the embedding's."""
    config = config_of(
        arrangement="encoder-decoder", kv_heads=None, encoder_layers=3, hidden=24, positions={"kind": "relative"},
        norm_epsilon=1e-6, activation="geglu-tanh", attention_scale=1.0, tied=False,
    )  # fmt: skip
    model = made(config)
    write(tmp_path, config, dict(model.state_dict()), {"eot": 3, "pad": 0}, 64)
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert not theirs.lm_head.weight.equal(theirs.shared.weight)
    assert torch.allclose(their_logits(theirs, tokens_of()), our_logits(model, tokens_of()), atol=1e-5)
    assert not hugging_face.differences(read_config(tmp_path)[1], config)
    assert torch.allclose(our_logits(ours_of(tmp_path), tokens_of()), our_logits(model, tokens_of()), atol=1e-5)
    theirs.save_pretrained(tmp_path / "back")  # transformers 5 says that all of them are tied
    with pytest.raises(UserError, match=r"but holds another lm_head\.weight"):
        ours_of(tmp_path / "back")


def test_presets_are_of_the_formats() -> None:
    """Else a model of a known shape could not be carried to the tools that know it."""
    for preset, name in (("gpt2", "gpt2"), ("llama-3.2-1b", "llama"), ("llama-2-7b", "llama"), ("bert-base", "bert")):
        assert nearest_format(ModelConfig.model_validate({"preset": preset})).name == name
    assert nearest_format(ModelConfig.model_validate({"preset": "t5-small"})).name == "t5"


@pytest.mark.parametrize(
    ("preset", "family", "values"),
    [
        ("gpt2", "GPT2", {}),
        ("llama-2-7b", "Llama", {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096}),
        ("bert-base", "Bert", {}),
        ("t5-small", "T5", {}),
    ],
)
def test_presets_are_their_defaults(preset: str, family: str, values: dict[str, Any], tmp_path: Path) -> None:
    """Else a preset would be another model than its name says, with as many weights."""
    getattr(transformers, f"{family}Config")(**values).save_pretrained(tmp_path)
    ours, theirs = ModelConfig.model_validate({"preset": preset}), read_config(tmp_path)[1]
    assert not hugging_face.differences(ours, theirs)
    assert ours.vocabulary == theirs.vocabulary
    if preset != "gpt2":  # whose dropout the preset leaves out
        assert ours.dropout == theirs.dropout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qk_norm": True}, "Nearest is llama, but: model.qk_norm is True, there False"),
        ({"window": 8}, "model.window is 8, there None"),
        ({"experts": {"number": 2}}, "model.experts is {"),
        ({"initialisation": {"kind": "mup", "base_width": 4}}, "model.logit_scale is 0.25, there 1.0"),
        ({"positions": {"kind": "alibi"}}, "model.positions is {'kind': 'alibi'}"),
    ],
)
def test_what_no_format_can_hold_is_refused(changes: dict[str, Any], message: str) -> None:
    """Else the exported model would silently be another one."""
    with pytest.raises(UserError) as caught:
        nearest_format(config_of(**changes))
    assert message in str(caught.value)


def edited(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    """Else a wrong folder would end in a traceback, or in another model."""

    def refused(**values: Any) -> str:
        theirs_of("llama").save_pretrained(tmp_path)
        edited(tmp_path, **values)
        with pytest.raises(UserError) as caught:
            read_weights(tmp_path, *read_config(tmp_path))
        return str(caught.value)

    assert "holds a model of type mamba; gpt2, llama, bert, t5 can be read" in refused(model_type="mamba")
    assert "mlp_bias is True; only False can be read" in refused(mlp_bias=True)
    assert "hidden_act is 'mish'" in refused(hidden_act="mish")
    assert "rope_scaling is of type 'longrope'" in refused(rope_parameters={"rope_type": "longrope"})
    assert "holds no weight model.layers.2.input_layernorm.weight" in refused(num_hidden_layers=3)
    assert "holds weights that a LlamaForCausalLM has not: model.layers.1." in refused(num_hidden_layers=1)
    assert "model.layers.0.mlp.gate_proj.weight has the shape (24, 16)" in refused(intermediate_size=32)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(DamageError, match="cannot be read"):
        read_weights(tmp_path, *read_config(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="must be made safetensors"):
        read_weights(tmp_path, *read_config(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"holds no config\.json"):
        read_config(tmp_path)


def call(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    return done.exit_code, done.output


def test_a_run_begins_with_imported_weights_and_is_exported(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a pretrained model could not be trained on, or not be used elsewhere."""
    theirs = theirs_of("llama")  # of 40 tokens; the corpus has 64
    theirs.save_pretrained(tmp_path / "theirs")
    out = tmp_path / "import.yaml"
    code, text = call("import-model", tmp_path / "theirs", out, "--config", config_file())
    assert code == 0, text
    assert f"{sum(w.numel() for w in theirs.parameters()):,} weights" in text
    values = yaml.safe_load(out.read_text())
    assert values["steps"] == 20
    lines: list[str] = []
    with pytest.raises(UserError, match="vocabulary of 64, the model of 40"):
        train(out, say=lines.append)
    settings = ["model.vocabulary=64", "optimizer.learning_rate=1e-12", "steps=1", "schedule.warmup=0"]
    assert train(out, settings, say=lines.append) == 0
    assert "24 token ids above the 40" in " ".join(lines)
    folder = load_config(out).checkpoint.folder
    state = load_state(folder / "step-00000001")["model"]
    expected = theirs.state_dict()
    assert torch.allclose(state["embedding.weight"][:40], expected["model.embed_tokens.weight"], atol=1e-6)
    assert torch.allclose(state["blocks.1.attention.query.weight"], expected["model.layers.1.self_attn.q_proj.weight"])
    # a resume does not read it again
    (tmp_path / "theirs").rename(tmp_path / "gone")
    lines.clear()
    assert train(out, [*settings, "steps=2"], say=lines.append) == 0
    assert not any("beginning with" in line for line in lines)

    code, text = call("export-model", folder, tmp_path / "exported")
    assert code == 0, text
    assert "a LlamaForCausalLM of step 2" in text
    assert "without a tokenizer" in text
    back = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "exported").eval()
    model = Model(load_config(out, ["model.vocabulary=64"]).model, 64).eval()
    begin_from(model, folder, lines.append)
    assert torch.allclose(their_logits(back, tokens_of()), our_logits(model, tokens_of()), atol=1e-5)
    code, text = call("export-model", folder, tmp_path / "exported")
    assert code != 0
    assert "is not an empty folder" in text


def test_the_mean_of_the_weights_is_exported(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else the better weights of a run that keeps them could be measured and never used."""
    path = config_file("averaged", model={"layers": 1, "width": 16, "heads": 2}, average={"decay": 0.9}, steps=4)
    assert train(path, ["evaluation.every=null"], say=lambda line: None) == 0
    folder = load_config(path).checkpoint.folder
    code, text = call("export-model", folder, tmp_path / "mean", "--average")
    assert code == 0, text
    assert "of step 4, the running mean of its weights" in text
    state = load_state(folder / "step-00000004")
    mean = state["average"]["model"]
    assert not mean["embedding.weight"].equal(state["model"]["embedding.weight"])
    found = read_weights(tmp_path / "mean", *read_config(tmp_path / "mean"))
    assert all(weight.equal(mean[name]) for name, weight in found.items())
    code, text = call("generate", tmp_path / "mean", "--average")
    assert (code, "holds no running mean; leave --average out" in text) == (1, True)


def test_a_beginning_of_another_shape_is_refused(tmp_path: Path) -> None:
    """Else a run would begin with half of a model."""
    theirs_of("llama").save_pretrained(tmp_path)
    shape = {"hidden": 24, "tied": False, "norm_epsilon": 1e-6}
    with pytest.raises(RecipeError, match=r"model\.layers 2 there, 3 here"):
        begin_from(Model(config_of(layers=3, **shape), V), tmp_path, print)
    with pytest.raises(RecipeError, match="has a vocabulary of 40, the model of 39"):
        begin_from(Model(config_of(**shape), V - 1), tmp_path, print)
    with pytest.raises(RecipeError, match="there is no folder"):
        begin_from(Model(config_of(**shape), V), tmp_path / "none", print)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="neither a checkpoint nor"):
        begin_from(Model(config_of(**shape), V), tmp_path, print)


def pieces_of(*more: str) -> str:
    """A tokenizer.json of 40 pieces and these behind them; those in brackets are special."""
    pieces = {name: number for number, name in enumerate([*(f"p{number}" for number in range(40)), *more])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(pieces, []))
    tokenizer.add_special_tokens([name for name in more if name.startswith("[")])
    return str(tokenizer.to_str())


def test_a_beginning_of_another_tokenizer_is_refused(config_file: Callable[..., Path], tmp_path: Path) -> None:
    """Else a run would go on with embeddings that stand for other words, and nobody would know why it is so bad."""

    def corpus_of(name: str, tokenizer: str | None, digest: str = "t0") -> dict[str, Any]:
        folder = write_corpus(tmp_path / name, small_lengths(), tokenizer=digest)
        if tokenizer is not None:
            meta = json.loads((folder / "corpus.json").read_text())
            meta["tokenizer"] |= {"kind": "huggingface", "file": "tokenizer/tokenizer.model"}
            (folder / "corpus.json").write_text(json.dumps(meta))
            (folder / "tokenizer").mkdir()
            (folder / "tokenizer" / "tokenizer.model").write_text(tokenizer)
        return {"corpus": str(folder)}

    def begun(folder: Path, data: dict[str, Any]) -> None:
        shape = read_config(theirs)[1].model_dump(mode="json", exclude_defaults=True)
        model = shape | {"init_from": str(folder), "vocabulary": 64}
        path = config_file(name=Path(data["corpus"]).name, model=model, data=data, steps=1, schedule={"warmup": 0})
        assert train(path, ["evaluation.every=null"], say=lambda line: None) == 0

    theirs = tmp_path / "theirs"
    theirs_of("llama").save_pretrained(theirs)
    begun(theirs, corpus_of("plain", None))  # nothing is known of either
    (theirs / "tokenizer.json").write_text(pieces_of("[UNK]", "more"))
    begun(theirs, corpus_of("unread", None))
    begun(theirs, corpus_of("same", pieces_of("[MASK]", "more", "and more")))
    with pytest.raises(
        RecipeError, match=r"model\.init_from: .*tokenizer\.json is another .* token 41 is 'more' there, 'so'"
    ):
        begun(theirs, corpus_of("other", pieces_of("[MASK]", "so")))
    (theirs / "tokenizer.json").write_text("{")
    begun(theirs, corpus_of("damaged", pieces_of("[MASK]", "so")))

    own = tmp_path / "same" / "checkpoints"
    begun(own, corpus_of("again", None))
    with pytest.raises(RecipeError, match=r"model\.init_from: .* tokens of another tokenizer \(t0, .* has t1\)"):
        begun(own, corpus_of("retokenised", None, "t1"))


@pytest.mark.parametrize(("kind", "name"), [("huggingface", "tokenizer.json"), ("sentencepiece", "tokenizer.model")])
def test_the_tokenizer_goes_along(
    kind: str, name: str, config_file: Callable[..., Path], corpus_folder: Path, tmp_path: Path
) -> None:
    """Else an exported model could not read a text."""
    copy = shutil.copytree(corpus_folder, tmp_path / "corpus")
    meta = json.loads((copy / "corpus.json").read_text())
    meta["tokenizer"] |= {"kind": kind, "file": "tokenizer/t"}
    (copy / "corpus.json").write_text(json.dumps(meta))
    (copy / "tokenizer").mkdir()
    (copy / "tokenizer" / "t").write_text("{}")
    path = config_file(data={"corpus": str(copy)})
    assert train(path, ["steps=1", "schedule.warmup=0", "evaluation.every=null"], say=lambda line: None) == 0
    code, text = call("export-model", load_config(path).checkpoint.folder, tmp_path / "out")
    assert code == 0, text
    assert (tmp_path / "out" / name).read_text() == "{}"
