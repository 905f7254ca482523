"""Released speech models as unitok checkpoints: tiny random CSM, Llasa, Orpheus, in the files transformers writes."""

import json
import re
import shlex
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from unitok.api import load
from unitok.checkpoint import load_checkpoint, save_checkpoint
from unitok.cli.main import main
from unitok.convert.speech_models import init_from_speech_model
from unitok.errors import CheckpointError, MissingWeightsError, TokenizerError, UnitokError
from unitok.generation.scoring import score_sequences
from unitok.sequence import collate
from unitok.testing import ToyAudioTokenizer

transformers = pytest.importorskip("transformers")

TEXT, CODES, FRAMES = 310, 16, 9
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 6}
SIZES |= {"num_key_value_heads": 2, "max_position_embeddings": 256, "initializer_range": 0.4, "rms_norm_eps": 1e-6}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3["original_max_position_embeddings"] = 32
AUDIO_TOKEN, AUDIO_END_TOKEN, PAD_CODES = 301, 302, [16, 17, 18]
TEXTS = ("the quick brown fox", "the lazy dog: 東京", "fox and dog, and the fox")
LLAMA_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
CHAT_TEMPLATE = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '<|eot_id|>' }}"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
)


def write_tokenizer(folder, added=(), suffix="", chat_template=None):
    """Save a trained byte-level tokenizer, whose special tokens stand around a text as those of Llama 3 do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    # The fast path of GPT-4 and Llama 3: a word may take one sign in front of it, so that "]the" is one piece.
    split = pre_tokenizers.Split(_regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|\s+|."), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=LLAMA_SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["the quick brown fox and the lazy dog", "[0]the fox", ": the dog"] * 9, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<|begin_of_text|> $A {suffix}".strip(),
        special_tokens=[("<|begin_of_text|>", 0), ("<|end_of_text|>", 1)],
    )
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|begin_of_text|>")
    theirs.add_tokens(list(added))
    theirs.chat_template = chat_template
    theirs.save_pretrained(folder)
    return theirs


def _regex(pattern):
    from tokenizers import Regex

    return Regex(pattern)


def randomized(model):
    """Draw norm weights too, which begin at 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "codec" not in name:
                parameter.copy_(torch.rand_like(parameter) + 0.5)
    return model.eval()


def write_csm(folder, K=3, seed=0, ends=False):
    """Save a random CSM with its codec; with `ends` code 0 is likely, so that audio comes to an end."""
    torch.manual_seed(seed)
    codec = transformers.MimiConfig(
        hidden_size=16, num_filters=2, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
        intermediate_size=16, codebook_size=CODES, codebook_dim=8, vector_quantization_hidden_dimension=8,
        num_quantizers=K, num_semantic_quantizers=1, upsample_groups=16,
    )  # fmt: skip
    depth = transformers.CsmDepthDecoderConfig(
        num_codebooks=K, vocab_size=CODES + 3, backbone_hidden_size=24, hidden_size=20, intermediate_size=28,
        num_hidden_layers=2, num_attention_heads=5, num_key_value_heads=1, initializer_range=0.4,
        rope_parameters=LLAMA3,
    )  # fmt: skip
    config = transformers.CsmConfig(
        **SIZES, vocab_size=CODES + 3, text_vocab_size=TEXT, num_codebooks=K, depth_decoder_config=depth.to_dict(),
        codec_config=codec.to_dict(), rope_parameters=LLAMA3, codebook_pad_token_id=18, codebook_eos_token_id=0,
        audio_token_id=AUDIO_TOKEN, audio_eos_token_id=AUDIO_END_TOKEN, pad_token_id=300, bos_token_id=0,
    )  # fmt: skip
    model = randomized(transformers.CsmForConditionalGeneration(config))
    for name, buffer in model.codec_model.named_buffers():
        if name.endswith("embed_sum"):  # codes begin at 0, and would all sound alike
            buffer.normal_()
    if ends:
        with torch.no_grad():
            model.lm_head.weight[0] *= 2.5
            model.depth_decoder.codebooks_head.weight[:, :, 0] *= 2.5
            # transformers stops at zeros in all codebooks but the last; make that all zeros.
            model.depth_decoder.codebooks_head.weight[-1, :, 0] *= 9
    model.save_pretrained(folder)
    write_tokenizer(folder, suffix="<|end_of_text|>")
    return model


def write_llasa(folder, size=8, tied=True, seed=0, **changes):
    marks = [
        f"<|{what}_{verb}_{edge}|>"
        for what, verb in (("TEXT", "UNDERSTANDING"), ("SPEECH", "GENERATION"))
        for edge in ("START", "END")
    ]
    added = [*marks, *(f"<|s_{code}|>" for code in range(size))]
    tokenizer = write_tokenizer(folder, added, chat_template=CHAT_TEMPLATE)
    return write_llama(folder, tokenizer, tied, seed, end="<|SPEECH_GENERATION_END|>", **changes), tokenizer


def write_orpheus(folder, K=4, size=8, tied=False, seed=0, **changes):
    tokenizer = write_tokenizer(folder, [f"<custom_token_{i}>" for i in range(10 + K * size)])
    return write_llama(folder, tokenizer, tied, seed, end="<custom_token_2>", **changes), tokenizer


def write_llama(folder, tokenizer, tied, seed, end, **changes):
    """Save a random Llama, with two ids more than its tokenizer has, as Orpheus has them."""
    torch.manual_seed(seed)
    sizes = SIZES | {"vocab_size": len(tokenizer) + 2, "tie_word_embeddings": tied} | changes
    model = randomized(transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, rope_parameters=LLAMA3)))
    with torch.no_grad():
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(end)] *= 1.5  # now and then the likeliest
    model.save_pretrained(folder)
    return model


def toy_codec(n_codebooks):
    codec = ToyAudioTokenizer()
    codec.set_codebooks(n_codebooks)
    return codec


def saved(folder, codec=None):
    """Import a folder, save the checkpoint and load it again."""
    save_checkpoint(folder / "ours", init_from_speech_model(folder, codec))
    return load(folder / "ours", device="cpu")


def greedy(model, max_frames=FRAMES, **conditions):
    """Return codes `[K, T]` of the speech, and why it stopped."""
    seconds = (max_frames + 0.5) / model.tokenizers.audio.frame_rate_hz
    request = model.request("tts", greedy=True, max_seconds=seconds, **conditions)
    [result] = model.engine.generate([request])
    return result.sequence.codes("speech"), result


def prompt_logits(model, **conditions):
    """Return logits of slot 0 at each position of a prompt, `[S, V]`."""
    batch = collate([model.builder.build(model.tasks["tts"], conditions, targets=False)])
    return model.lm.slot0_logits(model.lm.hidden(batch.tokens))[0]


def csm_frames(theirs, max_frames=FRAMES, **inputs):
    """Return the frames `[K, T]` that transformers generates, and whether they ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = theirs.generate(
            **inputs, do_sample=False, depth_decoder_do_sample=False, max_new_tokens=max_frames + 1,
            suppress_tokens=PAD_CODES, depth_decoder_suppress_tokens=PAD_CODES,
        )[0]  # fmt: skip
    ends = (frames == 0).all(dim=1).nonzero()[:, 0].tolist()
    return frames[: ends[0] if ends else max_frames].T, bool(ends)


def llama_codes(theirs, ids, codes, end, max_frames=FRAMES):
    """Return codes `[K, T]` that transformers generates where position n says codebook n mod K, or the end."""
    K = len(codes)

    def allowed(_, past):
        k = (len(past) - len(ids)) % K
        return codes[k].tolist() + ([end] if k == 0 and len(past) > len(ids) else [])

    out = theirs.generate(
        torch.tensor([ids]), do_sample=False, eos_token_id=end, pad_token_id=end, max_new_tokens=max_frames * K,
        prefix_allowed_tokens_fn=allowed,
    )[0, len(ids) :]  # fmt: skip
    ended = int(out[-1]) == end
    frames = out[: len(out) - ended].unflatten(0, (-1, K))
    return torch.stack([frames[:, k] - codes[k, 0] for k in range(K)]), ended


def llasa_prompt(tokenizer, text, speech=()):
    """Return the ids of the published prompt, on the day that the chat template falls back to."""
    user = f"Convert the text to speech:<|TEXT_UNDERSTANDING_START|>{text}<|TEXT_UNDERSTANDING_END|>"
    said = "<|SPEECH_GENERATION_START|>" + "".join(f"<|s_{code}|>" for code in speech)
    chat = [{"role": "user", "content": user}, {"role": "assistant", "content": said}]
    settings = {"tokenize": False, "continue_final_message": True, "date_string": "26 Jul 2024"}
    return tokenizer(tokenizer.apply_chat_template(chat, **settings), add_special_tokens=False).input_ids


def code_ids(tokenizer, form, first, K, size):
    names = [[form.format(first + k * size + code) for code in range(size)] for k in range(K)]
    return torch.tensor([tokenizer.convert_tokens_to_ids(of) for of in names])


@torch.no_grad()
def test_csm_says_what_it_says_in_transformers(tmp_path):
    theirs, ended = write_csm(tmp_path, seed=13, ends=True), set()
    model, tokenizer = saved(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    for voice, text in zip("072", TEXTS, strict=True):
        ids = tokenizer(f"[{voice}]{text}", return_tensors="pt").input_ids
        logits = prompt_logits(model, text=text, voice=voice)
        expected = theirs(input_ids=ids).logits[0, :, :CODES]
        assert expected.std() > 0.5
        torch.testing.assert_close(logits[:, model.vocabulary.ids_of("audio.0")], expected, rtol=1e-4, atol=1e-4)
        assert (logits.isfinite().sum(dim=1) == CODES).all(), "it predicts nothing but codes"
        frames, ends = csm_frames(theirs, input_ids=ids)
        codes, result = greedy(model, text=text, voice=voice)
        assert torch.equal(codes, frames)
        assert result.stop == ("end" if ends else "limit")
        ended.add(ends)
    assert ended == {True, False}, "the test shows nothing where all end alike"


@torch.no_grad()
def test_csm_goes_on_after_a_turn_that_was_spoken(tmp_path):
    theirs = write_csm(tmp_path, seed=1)
    model, tokenizer = saved(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    wav = 0.3 * torch.randn(1, 1, 4 * 1920)
    spoken, text = (tokenizer(f"[0]{text}").input_ids for text in TEXTS[:2])
    ids = torch.tensor([[*spoken, *[AUDIO_TOKEN] * 4, AUDIO_END_TOKEN, *text]])
    frames, _ = csm_frames(theirs, input_ids=ids, input_values=wav, input_values_cutoffs=torch.tensor([[4 * 1920]]))
    codes, _ = greedy(model, text=TEXTS[1], prompt_text=TEXTS[0], prompt=(wav[0], 24000))
    assert torch.equal(codes, frames)
    assert not torch.equal(codes, greedy(model, text=TEXTS[1])[0])


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_llasa_says_what_it_says_in_transformers(tied, tmp_path):
    theirs, tokenizer = write_llasa(tmp_path, tied=tied)
    model, ended = saved(tmp_path, toy_codec(1)), set()
    codes, end = code_ids(tokenizer, "<|s_{}|>", 0, 1, 8), tokenizer.convert_tokens_to_ids("<|SPEECH_GENERATION_END|>")
    for text in TEXTS:
        ids = llasa_prompt(tokenizer, text)
        logits, expected = prompt_logits(model, text=text), theirs(torch.tensor([ids])).logits[0]
        torch.testing.assert_close(logits[:, model.vocabulary.ids_of("audio.0")], expected[:, codes[0]])
        torch.testing.assert_close(
            logits[:, model.vocabulary.ids_of("text")], expected[:, : model.vocabulary.text_size]
        )
        frames, ends = llama_codes(theirs, ids, codes, end)
        ours, result = greedy(model, text=text)
        assert torch.equal(ours, frames)
        assert result.stop == ("end" if ends else "limit")
        ended.add(ends)
    assert ended == {True, False}


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
def test_orpheus_says_what_it_says_in_transformers(tied, tmp_path):
    theirs, tokenizer = write_orpheus(tmp_path, tied=tied, seed=5)
    model, ended = saved(tmp_path, toy_codec(4)), set()
    codes, end = code_ids(tokenizer, "<custom_token_{}>", 10, 4, 8), tokenizer.convert_tokens_to_ids("<custom_token_2>")
    for voice, text in zip((None, "leah", "zoe"), TEXTS, strict=True):
        around = tokenizer.convert_tokens_to_ids(
            ["<custom_token_3>", "<|eot_id|>", "<custom_token_4>", "<custom_token_5>", "<custom_token_1>"]
        )
        ids = [around[0], *tokenizer(f"{voice or 'tara'}: {text}").input_ids, *around[1:]]
        values = {"text": text} if voice is None else {"text": text, "voice": voice}
        logits, expected = prompt_logits(model, **values), theirs(torch.tensor([ids])).logits[0]
        torch.testing.assert_close(logits[:, model.vocabulary.ids_of("audio.0")], expected[:, codes[0]])
        frames, ends = llama_codes(theirs, ids, codes, end)
        ours, result = greedy(model, **values)
        assert torch.equal(ours, frames)
        assert result.stop == ("end" if ends else "limit")
        ended.add(ends)
    assert ended == {True, False}


@torch.no_grad()
def test_llasa_goes_on_in_the_voice_of_a_prompt(tmp_path):
    theirs, tokenizer = write_llasa(tmp_path)
    model = saved(tmp_path, toy_codec(1))
    codes, end = code_ids(tokenizer, "<|s_{}|>", 0, 1, 8), tokenizer.convert_tokens_to_ids("<|SPEECH_GENERATION_END|>")
    spoken = [3, 1, 4, 1, 5]
    ids = llasa_prompt(tokenizer, "the dog and the fox", spoken)
    prompt = torch.tensor([spoken])
    sequence = model.sequence("tts", prompt_text="the dog", text=" and the fox", prompt=prompt)
    assert model.vocabulary.tokens_to_text(sequence.tokens[:-5, 0]) == ids[:-5]
    expected = theirs(torch.tensor([ids])).logits[0]
    logits = prompt_logits(model, prompt_text="the dog", text=" and the fox", prompt=prompt)
    torch.testing.assert_close(logits[:, model.vocabulary.ids_of("audio.0")], expected[:, codes[0]])
    said, _ = greedy(model, prompt_text="the dog", text=" and the fox", prompt=prompt)
    allowed = [*codes[0].tolist(), end]
    step = theirs.generate(
        torch.tensor([ids]), do_sample=False, eos_token_id=end, max_new_tokens=FRAMES, pad_token_id=end,
        prefix_allowed_tokens_fn=lambda _, past: allowed[: None if len(past) > len(ids) else 8],
    )[0, len(ids) :]  # fmt: skip
    assert (step[step != end] - codes[0, 0]).tolist() == said[0].tolist()


def test_a_sequence_shows_its_parts_and_gives_its_codes_back(tmp_path):
    write_csm(tmp_path)
    model = saved(tmp_path)
    codes = torch.randint(CODES, (3, 5))
    sequence = model.sequence("tts", text="the fox", speech=codes)
    assert str(sequence).startswith("<text> [ 0 ]the")
    assert str(sequence).endswith("</text> <audio> [3 × 5 frames, 0.4 s] </audio>")
    assert torch.equal(sequence.codes("speech"), codes)
    assert sequence.split()["text"] == "[0]the fox"
    assert sequence.frame_mask.tolist() == sequence.loss_mask.tolist()
    assert int(sequence.loss_mask.sum()) == 6, "five frames and the one that ends them"
    sequence.plot()


@pytest.mark.parametrize("kind", ["csm", "llasa", "orpheus"])
def test_a_batch_says_what_each_says_alone_and_training_reaches_every_weight(kind, tmp_path):
    write, codec = {
        "csm": (write_csm, None),
        "llasa": (write_llasa, toy_codec(1)),
        "orpheus": (write_orpheus, toy_codec(4)),
    }[kind]
    write(tmp_path, seed=13, **({"ends": True} if kind == "csm" else {}))
    model = saved(tmp_path, codec)
    seconds = (FRAMES + 0.5) / model.tokenizers.audio.frame_rate_hz
    requests = [model.request("tts", text=text, seed=i, max_seconds=seconds) for i, text in enumerate(TEXTS)]
    together = model.engine.generate(requests)
    assert "end" in {result.stop for result in together}
    for request, result in zip(requests, together, strict=True):
        [alone] = model.engine.generate([request])
        assert torch.equal(alone.sequence.tokens, result.sequence.tokens)
        if result.stop == "end":
            score, _ = score_sequences(model.lm, [result.sequence])
            assert float(score) == pytest.approx(result.log_probability, abs=1e-3)
    codes = torch.randint(model.vocabulary.size_of("audio.0"), (model.vocabulary.n_codebooks, 6))
    model.lm.train()
    model.lm.loss(collate([model.sequence("tts", text=TEXTS[0], speech=codes)])).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.lm.parameters())


def test_the_commands_for_csm_whose_codec_is_in_its_folder(tmp_path, capsys):
    write_csm(tmp_path / "csm")
    assert main(["init", "--from", str(tmp_path / "csm"), "--out", str(tmp_path / "ours")]) == 0
    said = capsys.readouterr().out
    assert "multiscale" in said
    assert "its licence: not stated in its README.md" in said
    assert "its codec: mimi_of_csm" in said
    speak = ["generate", "--model", str(tmp_path / "ours"), "--task", "tts", "--text", "the fox", "--voice", "3"]
    speak += ["--greedy", "--max-seconds", "0.4", "--json", "--device", "cpu"]
    assert main([*speak, "--out", str(tmp_path / "fox.wav")]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["seconds"] == pytest.approx(5 / 12.5)
    prompt = ["--prompt", str(tmp_path / "fox.wav"), "--prompt_text", "the dog"]
    assert main([*speak, *prompt, "--out", str(tmp_path / "again.wav")]) == 0
    assert (tmp_path / "again.wav").read_bytes() != (tmp_path / "fox.wav").read_bytes()
    assert main(["init", "--from", str(tmp_path / "csm"), "--tasks", "asr", "--langs", "en", "--out", "no"]) == 2
    assert "speaks already, in a way of its own: leave out --tasks, --langs" in capsys.readouterr().err


def test_the_commands_for_orpheus_with_a_codec_of_ones_own(tmp_path, capsys):
    pytest.importorskip("snac")
    model = {"encoder_dim": 4, "encoder_rates": [2, 4], "decoder_dim": 16, "decoder_rates": [4, 2], "codebook_size": 16}
    card = {"name": "snac", "kind": "snac", "sample_rate_hz": 8000, "weights": "random", "model": model}
    (tmp_path / "snac.yaml").write_text(yaml.safe_dump(card))
    write_orpheus(tmp_path / "orpheus-3b-0.1-ft", K=7, size=16)
    begin = ["init", "--from", str(tmp_path / "orpheus-3b-0.1-ft"), "--tokenizer", str(tmp_path / "snac.yaml")]
    assert main([*begin, "--out", str(tmp_path / "ours")]) == 0
    assert "flatten" in capsys.readouterr().out
    speak = ["generate", "--model", str(tmp_path / "ours"), "--task", "tts", "--text", "the fox", "--voice", "leo"]
    speak += ["--max-seconds", "0.02", "--out", str(tmp_path / "fox.wav"), "--device", "cpu"]
    assert main(speak) == 0
    assert (tmp_path / "fox.wav").is_file()


def test_licences_are_told(tmp_path):
    write_orpheus(tmp_path / "canopylabs" / "orpheus")
    config = json.loads((tmp_path / "canopylabs" / "orpheus" / "config.json").read_text())
    config["_name_or_path"] = "canopylabs/orpheus-3b-0.1-ft"
    (tmp_path / "canopylabs" / "orpheus" / "config.json").write_text(json.dumps(config))
    begun = init_from_speech_model(tmp_path / "canopylabs" / "orpheus", toy_codec(4))
    assert begun.notes["its licence"].startswith("not stated in its README.md; as known: apache-2.0")
    (tmp_path / "canopylabs" / "orpheus" / "README.md").write_text("---\nlicense: mit\n---\n")
    begun = init_from_speech_model(tmp_path / "canopylabs" / "orpheus", toy_codec(4))
    assert begun.notes["its licence"] == "mit"


def test_configs_of_transformers_4_are_read(tmp_path):
    write_csm(tmp_path)
    expected = init_from_speech_model(tmp_path).lm.config
    config = json.loads((tmp_path / "config.json").read_text())
    for part in (config, config["depth_decoder_config"]):
        rope = part.pop("rope_parameters")
        part |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert init_from_speech_model(tmp_path).lm.config == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu"}, "does not compute hidden_act='gelu'"),
        ({"intermediate_size": 48}, r"has shape \[40, 24\], config.json makes it \[48, 24\]"),
        ({"num_hidden_layers": 2}, "has no place for 9 of its tensors, the first is 'backbone_model.layers.2"),
        ({"codebook_eos_token_id": 17}, "has 16 codes in a .* trained with 16, says 19 and ends with code 17"),
    ],
)
def test_what_cannot_be_taken_of_csm_is_said(change, message, tmp_path):
    write_csm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnitokError, match=message):
        init_from_speech_model(tmp_path)


def test_another_codec_than_the_model_s_is_refused(tmp_path):
    write_csm(tmp_path / "csm")
    with pytest.raises(TokenizerError, match="allowed: 1 to 2 for tokenizer 'toy_audio'"):
        init_from_speech_model(tmp_path / "csm", ToyAudioTokenizer(2))
    with pytest.raises(TokenizerError, match="'toy_audio' has 8 codes in a codebook, the model was trained with 16"):
        init_from_speech_model(tmp_path / "csm", ToyAudioTokenizer(3))
    write_llasa(tmp_path / "llasa")
    with pytest.raises(TokenizerError, match=r"no token '<\|s_8\|>'.* is not 'toy_audio' \(2 × 8 codes\)"):
        init_from_speech_model(tmp_path / "llasa", toy_codec(2))
    with pytest.raises(TokenizerError, match=r"has more codes than the 1 × 4 of 'toy_audio'"):
        init_from_speech_model(tmp_path / "llasa", ToyAudioTokenizer(1, codebook_size=4))


def test_missing_files_are_said(tmp_path, monkeypatch):
    write_llasa(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="has no chat template. Copy tokenizer_config.json"):
        init_from_speech_model(tmp_path, toy_codec(1))
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="holds no speech model that unitok knows: CSM, Llasa or Orpheus"):
        init_from_speech_model(tmp_path, toy_codec(1))
    write_csm(tmp_path / "csm")
    (tmp_path / "csm" / "tokenizer.json").unlink()
    with pytest.raises(MissingWeightsError, match=r"has no tokenizer\.json"):
        init_from_speech_model(tmp_path / "csm")
    monkeypatch.setenv("UNITOK_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match="no folder 'sesame/csm-1b', and UNITOK_OFFLINE is set"):
        init_from_speech_model("sesame/csm-1b")


def test_a_config_may_name_other_weights(tmp_path):
    """As that of sesame/csm-1b does, whose `model.safetensors` is in another format."""
    write_csm(tmp_path)
    expected = init_from_speech_model(tmp_path).lm.state_dict()
    (tmp_path / "model.safetensors").rename(tmp_path / "transformers.safetensors")
    config = json.loads((tmp_path / "config.json").read_text()) | {"transformers_weights": "transformers.safetensors"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = init_from_speech_model(tmp_path).lm.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_the_hub_is_asked_for_the_weights_of_transformers_alone(tmp_path, monkeypatch):
    import huggingface_hub

    write_csm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"transformers_weights": "transformers.safetensors"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").rename(tmp_path / "transformers.safetensors")
    asked = {}

    def snapshot(source, allow_patterns):
        asked[source] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda source, file: str(tmp_path / file))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    checkpoint = init_from_speech_model("sesame/csm-1b")
    assert [name for name in asked["sesame/csm-1b"] if "safetensors" in name] == ["transformers*.safetensors"]
    assert (checkpoint.name, checkpoint.audio_tokenizer.name) == ("csm-1b", "mimi_of_csm-1b")
    assert checkpoint.notes["its licence"].endswith("as known: apache-2.0")


def test_a_saved_checkpoint_has_the_spelling(tmp_path):
    write_orpheus(tmp_path / "theirs")
    checkpoint = init_from_speech_model(tmp_path / "theirs", toy_codec(4))
    save_checkpoint(tmp_path / "ours", checkpoint)
    again = load_checkpoint(tmp_path / "ours")
    assert again.lm.config == checkpoint.lm.config
    assert again.tasks == checkpoint.tasks
    assert again.text_tokenizer.size == again.vocabulary.text_size, "codes are no text"
    assert "<custom_token_10>" not in again.text_tokenizer.model


def test_what_the_page_says_runs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parent.parent / "docs" / "released_models.md").read_text(encoding="utf-8")
    page = page[page.index("## Try it without a network") :]
    monkeypatch.chdir(tmp_path)
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        if language == "python":
            exec(compile(code, "released_models.md", "exec"), {})
        else:
            for line in code.splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
    assert (tmp_path / "you.wav").is_file()
    assert "<text> [ 3 ] H i ! </text>" in capsys.readouterr().out
