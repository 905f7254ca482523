"""Text models of transformers as unitok checkpoints: tiny random ones, in the files that transformers writes."""

import json
import sys
import types

import pytest
import torch
from toy_checkpoint import toy_parts

from unitok.checkpoint import load_checkpoint, save_checkpoint
from unitok.cli.main import main
from unitok.convert.files import open_weights
from unitok.convert.text_models import export_text_model, init_from_text_model
from unitok.errors import CheckpointError, MissingDependencyError, MissingWeightsError
from unitok.sequence import collate
from unitok.tasks import SequenceBuilder, Task
from unitok.testing import ToyAudioTokenizer

transformers = pytest.importorskip("transformers")

VOCAB = 310
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 6}
SIZES |= {"num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.4, "rms_norm_eps": 1e-6}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3["original_max_position_embeddings"] = 32
FAMILIES = {
    "llama": ("Llama", {}),
    "llama-3": ("Llama", {"rope_parameters": LLAMA3}),
    "smollm": ("Llama", {"tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 10}),
}
TASKS = [Task.load("tts"), Task.load("asr")]


def write_text_model(folder, kind="Llama", **changes):
    """Save a random model and a trained byte-level tokenizer as transformers does."""
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**(SIZES | {"vocab_size": VOCAB} | changes))
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases begin at 0, norms at 1: draw them too
                parameter.copy_(torch.rand_like(parameter) + 0.5)
    model.save_pretrained(folder, max_shard_size=changes.pop("max_shard_size", "1GB"))
    write_tokenizer(folder)
    return model


def write_tokenizer(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["the quick brown fox and the lazy dog", "Zürich, the fox"] * 9, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )


def text_logits(checkpoint, ids):
    vocabulary = checkpoint.vocabulary
    tokens = torch.zeros(*ids.shape, vocabulary.n_codebooks, dtype=torch.int64)
    tokens[..., 0] = vocabulary.ids_of("text")[ids]
    return checkpoint.lm.slot0_logits(checkpoint.lm.hidden(tokens))[..., vocabulary.ids_of("text")]


def begun(folder, **settings):
    return init_from_text_model(folder, ToyAudioTokenizer(), TASKS, ["en"], settings)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_on_text_equal_transformers_and_survive_the_way_back(family, tmp_path):
    kind, changes = FAMILIES[family]
    theirs = write_text_model(tmp_path / "text", kind, **changes)
    save_checkpoint(tmp_path / "ours", begun(tmp_path / "text"))
    checkpoint = load_checkpoint(tmp_path / "ours")

    ids = torch.randint(VOCAB, (2, 40))
    expected = theirs(ids).logits
    assert expected.std() > 0.5
    torch.testing.assert_close(text_logits(checkpoint, ids), expected, rtol=1e-4, atol=1e-4)

    export_text_model(checkpoint, tmp_path / "back")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back").eval()
    assert type(back) is type(theirs) or family == "mistral"  # a Mistral without a window is a Llama
    torch.testing.assert_close(back(ids).logits, expected)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "back").decode([70, 71]) != ""


def test_text_becomes_the_ids_that_it_has_in_transformers(tmp_path):
    write_text_model(tmp_path)
    ours, theirs = begun(tmp_path).text_tokenizer, transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the quick brown fox", "Zürich 東京 🦊", " two  spaces\n", ""):
        assert ours.encode(text) == theirs(text, add_special_tokens=False).input_ids
        assert ours.decode(ours.encode(text)) == text
    assert ours.size == len(theirs) < VOCAB
    assert 1 not in ours.encode("</s>"), "what looks like a special token is spelled"
    assert ours.decode([*ours.encode("fox"), 1]) == "fox"


def test_a_folder_of_cards_is_not_taken_for_the_package(monkeypatch, tmp_path):
    """Where the package is not installed, a checkout's folder `tokenizers/` is imported under its name."""
    write_text_model(tmp_path / "theirs")
    monkeypatch.setitem(sys.modules, "tokenizers", types.ModuleType("tokenizers"))
    with pytest.raises(MissingDependencyError, match=r"need the package 'tokenizers'. Run pip install 'unitok\[hf\]'"):
        begun(tmp_path / "theirs")


def test_many_files_are_read_as_one(tmp_path):
    write_text_model(tmp_path / "many", max_shard_size="20KB")
    write_text_model(tmp_path / "one")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    ids = torch.arange(9)[None]
    torch.testing.assert_close(text_logits(begun(tmp_path / "many"), ids), text_logits(begun(tmp_path / "one"), ids))


@pytest.mark.parametrize("family", ["llama", "smollm"])
def test_new_ids_begin_among_the_text_and_learn(family, tmp_path):
    kind, changes = FAMILIES[family]
    write_text_model(tmp_path, kind, **changes)
    checkpoint = begun(tmp_path)
    lm, vocabulary, table = checkpoint.lm, checkpoint.vocabulary, checkpoint.lm.embedding.weight.detach()
    text = table[vocabulary.ids_of("text")]
    frames = sum(table[vocabulary.ids_of(f"audio.{k}")] for k in range(vocabulary.n_codebooks))
    new = table[vocabulary.bos_id : vocabulary.ids_of("text")[0]]
    for rows in (frames, new):
        assert rows.std(dim=0).mean() == pytest.approx(float(text.std(dim=0).mean()), rel=0.5)
        assert (rows.mean(dim=0) - text.mean(dim=0)).norm() < text.norm(dim=1).mean()
    assert not table[vocabulary.empty_id].any()
    assert torch.equal(begun(tmp_path).lm.embedding.weight, table)

    builder = SequenceBuilder(vocabulary, checkpoint.text_tokenizer, 25.0, lm.pattern)
    codes = torch.randint(8, (vocabulary.n_codebooks, 12))
    batch = collate([builder.build(TASKS[0], {"text": "the fox", "speech": codes}, lang="en")])
    lm.train()
    lm.loss(batch).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in lm.parameters())


def test_settings_choose_the_pattern(tmp_path):
    write_text_model(tmp_path)
    assert begun(tmp_path, pattern="delay").lm.pattern.name == "delay"
    with pytest.raises(ValueError, match="'transformer' is the text model's own"):
        begun(tmp_path, transformer={})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["LlamaForCausalML"]}, "is LlamaForCausalML, unitok takes LlamaForCausalLM, .*Did you mean"),
        ({"hidden_act": "gelu", "mlp_bias": True}, "does not compute hidden_act='gelu', mlp_bias=True"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "does not compute rope_type='yarn'"),
        ({"intermediate_size": 48}, r"has shape \[40, 24\], config.json makes it \[48, 24\]"),
        ({"num_hidden_layers": 2}, "has no place for 9 of its tensors, the first is 'model.layers.2"),
        ({"num_hidden_layers": 4}, "the weights have no 'model.layers.3"),
    ],
)
def test_what_cannot_be_taken_is_said(change, message, tmp_path):
    write_text_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        begun(tmp_path)


def test_missing_files_are_said(tmp_path, monkeypatch):
    monkeypatch.setenv("UNITOK_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match="no folder 'owner/name', and UNITOK_OFFLINE is set"):
        begun("owner/name")
    with pytest.raises(MissingWeightsError, match="there is no folder 'nowhere'"):
        begun("nowhere")
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        begun(tmp_path)
    write_text_model(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(MissingWeightsError, match="has neither tokenizer.json nor tokenizer.model"):
        begun(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="Its weights are pickles"):
        begun(tmp_path)


def test_only_what_transformers_computes_is_exported(tmp_path):
    with pytest.raises(CheckpointError, match="no text model of transformers computes"):
        export_text_model(toy_parts(prefix_lm=True), tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="exists and is not empty"):
        export_text_model(toy_parts(), tmp_path)


def test_the_commands(tmp_path, capsys):
    write_text_model(tmp_path / "text")
    (tmp_path / "text" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    begin = ["init", "--from", str(tmp_path / "text"), "--tokenizer", "toy_audio", "--tasks", "tts", "--langs", "en"]
    assert main([*begin, "--pattern", "flatten", "--codebooks", "2", "--out", str(tmp_path / "ours")]) == 0
    said = capsys.readouterr().out
    assert "its licence: apache-2.0" in said
    assert "flatten" in said
    assert load_checkpoint(tmp_path / "ours").vocabulary.n_codebooks == 2
    assert (
        main(["export", "--model", str(tmp_path / "ours"), "--to", "transformers", "--out", str(tmp_path / "back")])
        == 0
    )
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back").config.vocab_size == VOCAB
    (tmp_path / "settings.yaml").write_text("ar_codebooks: 9\n")
    assert main([*begin, "--settings", str(tmp_path / "settings.yaml"), "--out", str(tmp_path / "no")]) == 2
    assert "ar_codebooks=9" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_index_of_weights_is_named(content, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json is damaged"):
        open_weights(tmp_path).__enter__()
