"""Text tokenizers: SentencePiece, bytes, characters, phonemes."""

import random

import pytest

from unitok.errors import CardError, MissingWeightsError, TokenizerError
from unitok.tokenizers import TextTokenizer, load_text_tokenizer, save_tokenizer
from unitok.tokenizers.bytes import ByteTokenizer
from unitok.tokenizers.characters import CharacterTokenizer, PhonemeTokenizer
from unitok.tokenizers.lexicon import Pronounced
from unitok.tokenizers.sentencepiece import SentencePieceTokenizer

WORDS = (
    "the quick brown fox jumps over a lazy dog while seven old wizards make toxic brew for evil queens "
    "behind grey walls made of stone"
)


def sentences(n=400, seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS.split(), k=draw.randint(3, 9))) for _ in range(n)]


@pytest.fixture(scope="module")
def spm():
    return SentencePieceTokenizer.train(sentences(), 308, name="words")


def test_both_satisfy_the_protocol(spm):
    assert isinstance(spm, TextTokenizer)
    assert isinstance(ByteTokenizer(), TextTokenizer)


def test_sentencepiece_learns_words_and_gives_text_back(spm):
    text = "the lazy wizards jumps"
    ids = spm.encode(text)
    assert spm.size == 308
    assert spm.decode(ids) == text
    assert [spm.piece(id) for id in ids] == ["▁the", "▁lazy", "▁wizards", "▁jumps"]


@pytest.fixture(scope="module")
def letters():
    return SentencePieceTokenizer.train(sentences(), 285, name="letters", normalization="nmt_nfkc_cf")


def test_a_grown_tokenizer_needs_fewer_ids_and_the_old_ones_stay(letters, tmp_path):
    grown = letters.grown(sentences(), 305, name="more")
    assert (grown.name, grown.size, letters.size) == ("more", 305, 285)
    assert grown.begins_as(letters)
    assert not letters.begins_as(grown)
    assert [grown.piece(id) for id in range(285)] == [letters.piece(id) for id in range(285)]
    text = "The lazy Wizards jumps, Zürich"
    assert len(grown.encode(text)) < len(letters.encode(text))
    assert grown.decode(grown.encode(text)) == letters.decode(letters.encode(text))
    assert grown.model == letters.grown(sentences(), 305).model
    again = load_text_tokenizer(save_tokenizer(grown, tmp_path / "grown"))
    assert (again.fingerprint, again.encode(text)) == (grown.fingerprint, grown.encode(text))
    assert grown.fingerprint != SentencePieceTokenizer(grown.model).fingerprint


def test_words_as_they_are_said_are_spelled_as_before_it_grew(letters):
    grown = letters.grown(sentences(), 300).grown(sentences(seed=1), 305)
    said = "the lazy kwɪk wizards"
    assert grown.encode(Pronounced(said)) == letters.encode(said) != grown.encode(said)


def test_new_pieces_are_spelled_by_the_ids_that_stood_for_them(letters):
    grown = letters.grown(sentences(), 305)
    for id in range(285, 305):
        spelled = letters.spelled(grown.piece(id))
        assert len(spelled) > 1
        assert "".join(letters.piece(part) for part in spelled) == grown.piece(id)


def test_what_cannot_grow_says_so(letters):
    with pytest.raises(TokenizerError, match="size is 285, tokenizer 'letters' has 285 ids"):
        letters.grown(sentences(), 285)
    with pytest.raises(TokenizerError, match="'letters' cannot grow to 900 ids: the texts give too few pieces"):
        letters.grown(sentences(), 900)
    with pytest.raises(TokenizerError, match="'bpe' cannot grow: it is of another model type than unigram"):
        SentencePieceTokenizer.train(sentences(), 285, model_type="bpe", name="bpe").grown(sentences(), 300)


@pytest.mark.parametrize("text", ["Zürich 東京 🦊 naïve", "a\tb", "", "QUICK"])
def test_byte_fallback_spells_what_was_never_seen(spm, text):
    ids = spm.encode(text)
    assert 0 not in ids
    assert spm.decode(ids) == text.replace("\t", " ")


def test_without_byte_fallback_the_unseen_is_unknown():
    tokenizer = SentencePieceTokenizer.train(sentences(), 50, byte_fallback=False)
    assert 0 in tokenizer.encode("東")
    assert tokenizer.piece(0) == "<unk>"


@pytest.mark.parametrize(
    ("model_type", "size", "byte_fallback"),
    [("unigram", 308, True), ("bpe", 308, True), ("char", 28, False), ("word", 26, False)],
)
def test_every_model_type_trains(model_type, size, byte_fallback):
    tokenizer = SentencePieceTokenizer.train(sentences(), size, model_type=model_type, byte_fallback=byte_fallback)
    assert tokenizer.size == size
    text = "seven old queens"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    if model_type in ("char", "word"):
        assert len(tokenizer.encode(text)) == (len(text) + 1 if model_type == "char" else 3)


def test_identity_normalisation_keeps_every_space():
    tokenizer = SentencePieceTokenizer.train(sentences(), 308, normalization="identity")
    for text in ("  two  spaces ", "ﬁ ½ Ⅳ"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_case_folding_is_a_choice():
    tokenizer = SentencePieceTokenizer.train(sentences(), 308, normalization="nmt_nfkc_cf")
    assert tokenizer.encode("The FOX") == tokenizer.encode("the fox")


def test_training_is_deterministic_from_texts_and_from_a_file(spm, tmp_path):
    file = tmp_path / "sentences.txt"
    file.write_text("\n".join(sentences()) + "\n", encoding="utf-8")
    again, from_file = (SentencePieceTokenizer.train(source, 308) for source in (sentences(), file))
    assert again.fingerprint == spm.fingerprint
    probe = " ".join(sentences(20, seed=1))
    assert from_file.encode(probe) == spm.encode(probe)
    other = SentencePieceTokenizer.train(sentences(seed=2), 308)
    assert other.fingerprint != spm.fingerprint


def test_long_lines_are_not_left_out():
    """SentencePiece skips lines over 4192 bytes unless told otherwise, without a word."""
    tokenizer = SentencePieceTokenizer.train([*sentences(50), "zymurgy " * 2000], 308)
    assert len(tokenizer.encode("zymurgy")) <= 2


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (5000, {}, r"size is 5000, these texts give at most \d+ ids. Use size=\d+ or less"),
        (100, {}, r"size is 100, at least \d+ ids are needed \(256 of them bytes; byte_fallback=False"),
        (10, {"byte_fallback": False}, r"size is 10, at least \d+ ids are needed\. Use size=\d+ or more"),
        (
            308,
            {"model_type": "unigam"},
            "model_type is 'unigam', allowed: unigram, bpe, char, word. Did you mean 'unigram'",
        ),
        (308, {"normalization": "none"}, "normalization is 'none', allowed: nmt_nfkc"),
    ],
)
def test_impossible_training_says_what_would_do(size, options, message):
    with pytest.raises(TokenizerError, match=message):
        SentencePieceTokenizer.train(sentences(), size, **options)


def test_the_size_that_an_error_names_works():
    with pytest.raises(TokenizerError) as caught:
        SentencePieceTokenizer.train(sentences(), 100)
    size = int(str(caught.value).split("size=")[1].split()[0])
    assert SentencePieceTokenizer.train(sentences(), size).size == size


def test_no_text_is_no_vocabulary(tmp_path):
    with pytest.raises(TokenizerError, match="could not train with size=308"):
        SentencePieceTokenizer.train([], 308)
    with pytest.raises(TokenizerError, match=r"text file '.*none.txt' does not exist"):
        SentencePieceTokenizer.train(tmp_path / "none.txt", 308)


def test_a_saved_model_comes_back(spm, tmp_path):
    folder = save_tokenizer(spm, tmp_path / "text")
    assert sorted(path.name for path in folder.iterdir()) == ["card.yaml", "text.model"]
    for loaded in (load_text_tokenizer(folder), SentencePieceTokenizer.load(folder)):
        assert (loaded.name, loaded.size, loaded.fingerprint) == ("words", 308, spm.fingerprint)
        assert loaded.encode("the fox") == spm.encode("the fox")


def test_a_card_names_a_model_beside_it(spm, tmp_path):
    (tmp_path / "my.model").write_bytes(spm.model)
    (tmp_path / "mine.yaml").write_text("name: mine\nkind: sentencepiece\nmodel: my.model\n")
    assert load_text_tokenizer(tmp_path / "mine.yaml").fingerprint == spm.fingerprint
    (tmp_path / "my.model").unlink()
    with pytest.raises(MissingWeightsError, match=r"model '.*my.model' does not exist. Put it there"):
        load_text_tokenizer(tmp_path / "mine.yaml")
    (tmp_path / "my.model").write_bytes(b"not a model")
    with pytest.raises(TokenizerError, match="tokenizer 'mine': its model is no SentencePiece model"):
        load_text_tokenizer(tmp_path / "mine.yaml")


def test_the_shipped_template_says_how_to_train():
    with pytest.raises(MissingWeightsError, match=r"names no model.*SentencePieceTokenizer.train\(texts, size\)"):
        load_text_tokenizer("sentencepiece")


@pytest.mark.parametrize("text", ["plain", "Zürich 東京 🦊", "", "\x00\n"])
def test_bytes_give_every_text_back(text):
    tokenizer = load_text_tokenizer("bytes")
    assert tokenizer.encode(text) == list(text.encode())
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.size == 256


def test_bytes_show_what_can_be_shown(tmp_path):
    tokenizer = ByteTokenizer()
    assert [tokenizer.piece(id) for id in "A é".encode()] == ["A", "▁", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode([0x41, 0xC3]) == "A\ufffd"
    assert load_text_tokenizer(save_tokenizer(tokenizer, tmp_path / "text")).fingerprint == tokenizer.fingerprint
    with pytest.raises(TokenizerError, match="half a character"):
        tokenizer.encode("\ud800")


def test_wrong_ids_and_texts_are_refused(spm):
    for tokenizer, size in ((spm, 308), (ByteTokenizer(), 256)):
        for wrong in (size, -1):
            with pytest.raises(TokenizerError, match=rf"id {wrong} is not in \[0, {size}\).*tokens_to_text"):
                tokenizer.decode([0, wrong])
            with pytest.raises(TokenizerError, match=rf"id {wrong} is not in"):
                tokenizer.piece(wrong)
        with pytest.raises(TokenizerError, match="text is bytes, allowed: str"):
            tokenizer.encode(b"abc")


def test_an_audio_card_is_no_text_tokenizer():
    with pytest.raises(CardError, match="'dac' is an audio tokenizer, a text one is needed"):
        load_text_tokenizer("dac_16khz")


def characters(**changes):
    return CharacterTokenizer.from_card({"name": "c", "kind": "characters", "symbols": " abc", **changes})


def test_characters_have_an_id_each_and_the_rest_have_one_together():
    tokenizer = characters()
    assert isinstance(tokenizer, TextTokenizer)
    assert tokenizer.size == 5
    assert tokenizer.encode("cab A") == [4, 2, 3, 1, 0]
    assert tokenizer.decode([4, 2, 3, 1, 0]) == "cab \ufffd"
    assert [tokenizer.piece(id) for id in range(5)] == ["<unk>", "▁", "a", "b", "c"]
    assert characters(lower=True).encode("A") == [2]
    assert characters(symbols="ü").encode("u\u0308") == [1], "composed and decomposed letters are the same"
    with pytest.raises(CardError, match="symbols: has 'a' more than once"):
        characters(symbols="aba")
    assert (
        len({characters().fingerprint, characters(lower=True).fingerprint, characters(symbols="ab ").fingerprint}) == 3
    )


@pytest.mark.parametrize("name", ["characters_en", "phonemes_en", "phonemes_es"])
def test_shipped_symbols_cover_what_people_write(name, tmp_path):
    tokenizer = load_text_tokenizer(name)
    texts = {
        "phonemes_es": ["¿Dónde está el niño? Cuesta veinticinco euros; guitarra, pingüino, ciudad, lluvia."],
    }.get(name, ["The doctor's in the garden - isn't she? It costs £25, on 3 May: “thirty-two & more”!"])
    for text in texts:
        ids = tokenizer.encode(text)
        assert 0 not in ids
        assert len(ids) > 30
    save_tokenizer(tokenizer, tmp_path / "saved")
    loaded = load_text_tokenizer(tmp_path / "saved")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(texts[0]) == tokenizer.encode(texts[0])


def test_phonemes_are_those_of_the_language():
    english, spanish = load_text_tokenizer("phonemes_en"), load_text_tokenizer("phonemes_es")
    assert english.decode(english.encode("the quick brown fox, 5 dogs.")) == "ðə kwˈɪk bɹˈaʊn fˈɑːks, fˈaɪv dˈɑːɡz."
    assert spanish.decode(spanish.encode("cinco perros")) == "θˈinko pˈeros"
    assert english.encode("") == []
    plain = PhonemeTokenizer.from_card({"name": "p", "kind": "phonemes", "language": "en-us", "stress": False})
    assert plain.phonemes("quick") == "kwɪk"
    with pytest.raises(CardError, match="language: is 'klingonn', which espeak-ng does not speak"):
        PhonemeTokenizer.from_card({"name": "p", "kind": "phonemes", "language": "klingonn"}).encode("a")
