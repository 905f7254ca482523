"""Models of transformers as embedders and recognisers of `unitok evaluate`."""

import json

import pytest
import torch
from toy_checkpoint import tone

from unitok.audio import Audio
from unitok.errors import MissingWeightsError
from unitok.evaluation.metric import find_metric
from unitok.evaluation.recognizer import load_recognizer
from unitok.evaluation.tools import Tools

transformers = pytest.importorskip("transformers")
RATE = 16000


def test_an_xvector_is_that_of_transformers(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 4), "num_conv_pos_embeddings": 8}
    heads = {"tdnn_dim": (16, 16), "tdnn_kernel": (5, 3), "tdnn_dilation": (1, 2), "xvector_output_dim": 12}
    config = transformers.Wav2Vec2Config(**sizes, **convolutions, **heads, num_conv_pos_embedding_groups=2)
    model = transformers.Wav2Vec2ForXVector(config).eval()
    model.save_pretrained(tmp_path)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE)
    extractor.save_pretrained(tmp_path)
    pair = [Audio.of(tone()), Audio.of(tone(0.7))]
    with torch.inference_mode():
        one, other = (
            model(**extractor(a.samples[0].numpy(), sampling_rate=RATE, return_tensors="pt")).embeddings[0]
            for a in pair
        )
    tools = Tools(embedders={"speaker": f"xvector:{tmp_path}"})
    assert tools.embedded("speaker", pair[0])[0] == pytest.approx(one.numpy(), abs=1e-5)
    found = find_metric("speaker_similarity").estimate([pair[0]], [pair[1]], tools).value
    assert found == pytest.approx(float(torch.cosine_similarity(one, other, dim=0)), abs=1e-4)


def test_embedders_without_weights_say_where_they_go(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"name its folder: xvector:FOLDER"):
        Tools(embedders={"speaker": f"xvector:{tmp_path}"}).embedder("speaker")


def test_a_recogniser_of_transformers_hears_what_its_logits_say(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 160), "num_conv_pos_embeddings": 8}
    letters = {letter: i for i, letter in enumerate(["<pad>", "<unk>", "<s>", "</s>", "|", "a", "b", "c", "d"])}
    (tmp_path / "vocab.json").write_text(json.dumps(letters))
    config = transformers.Wav2Vec2Config(
        **sizes, **convolutions, num_conv_pos_embedding_groups=2, vocab_size=len(letters), pad_token_id=0
    )
    model = transformers.Wav2Vec2ForCTC(config).eval()
    model.lm_head.weight.data.normal_(std=3.0)
    model.save_pretrained(tmp_path)
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    tokenizer.save_pretrained(tmp_path)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE)
    extractor.save_pretrained(tmp_path)
    audio = Audio.of(tone())
    with torch.inference_mode():
        logits = model(**extractor(audio.samples[0].numpy(), sampling_rate=RATE, return_tensors="pt")).logits
    recognizer = load_recognizer(f"transformers:{tmp_path}")
    assert recognizer.transcribe(audio) == tokenizer.decode(logits[0].argmax(-1)).strip()
    assert recognizer.hears("es")
