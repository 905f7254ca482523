"""The English-Spanish corpus: forms, agreement, splits, one translation per sentence, and sound."""

import random
import re
import shutil
from collections import defaultdict

import pytest

from unitok.data.synth.inflection import english_degree, english_form
from unitok.data.synth.translation import Derivation, ParallelGrammar
from unitok.data.synth.translation_corpus import SPANISH_VOICES, TranslationCorpus
from unitok.data.synth.translation_lexicon import Nominal, Noun, Verb

PERSONS = ["yo", "tú", "él", "nosotros", "ellos"]


@pytest.fixture(scope="module")
def grammar() -> ParallelGrammar:
    return ParallelGrammar.load()


@pytest.fixture(scope="module")
def train(grammar: ParallelGrammar) -> list[Derivation]:
    return [grammar.derive(0, i) for i in range(4000)]


@pytest.fixture(scope="module")
def held_out(grammar: ParallelGrammar) -> list[Derivation]:
    return [grammar.derive(0, i, "held_out") for i in range(150)]


def noun(grammar: ParallelGrammar, english: str) -> Noun:
    return next(n for nouns in grammar.lexicon.nouns.values() for n in nouns if n.english[0] == english)


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def test_a_pair_depends_on_seed_index_and_split_alone(grammar: ParallelGrammar) -> None:
    assert grammar.pair(3, 17) == ParallelGrammar.load().pair(3, 17)
    assert grammar.pair(3, 17) != grammar.pair(4, 17)
    assert len({grammar.pair(3, i) for i in range(50)}) > 45


def test_the_lexicon_is_wide(grammar: ParallelGrammar, train: list[Derivation]) -> None:
    entries = {(n.english[0], n.spanish[0]) for nouns in grammar.lexicon.nouns.values() for n in nouns}
    entries |= {(v.english, v.spanish) for listed in grammar.lexicon.predicates.values() for v, _ in listed}
    for pool in grammar.lexicon.pools.values():
        entries |= {(v.english, v.spanish if isinstance(v.spanish, str) else v.spanish[0]) for v in pool}  # type: ignore[union-attr]
    assert len(entries) >= 1500
    assert len({word for d in train for word in words(d.pair.english)}) >= 1500
    assert len({word for d in train for word in words(d.pair.spanish)}) >= 1500
    assert len(grammar.frames) >= 40


@pytest.mark.parametrize(
    ("infinitive", "tense", "forms"),
    [
        ("hablar", "present", "hablo hablas habla hablamos hablan"),
        ("comer", "preterite", "comí comiste comió comimos comieron"),
        ("vivir", "future", "viviré vivirás vivirá viviremos vivirán"),
        ("comer", "conditional", "comería comerías comería comeríamos comerían"),
        ("hablar", "imperfect", "hablaba hablabas hablaba hablábamos hablaban"),
        ("buscar", "preterite", "busqué buscaste buscó buscamos buscaron"),
        ("empezar", "subjunctive", "empiece empieces empiece empecemos empiecen"),
        ("jugar", "present", "juego juegas juega jugamos juegan"),
        ("dormir", "preterite", "dormí dormiste durmió dormimos durmieron"),
        ("pedir", "subjunctive", "pida pidas pida pidamos pidan"),
        ("seguir", "present", "sigo sigues sigue seguimos siguen"),
        ("seguir", "subjunctive", "siga sigas siga sigamos sigan"),
        ("proteger", "present", "protejo proteges protege protegemos protegen"),
        ("conocer", "present", "conozco conoces conoce conocemos conocen"),
        ("conducir", "preterite", "conduje condujiste condujo condujimos condujeron"),
        ("construir", "present", "construyo construyes construye construimos construyen"),
        ("construir", "preterite", "construí construiste construyó construimos construyeron"),
        ("leer", "preterite", "leí leíste leyó leímos leyeron"),
        ("oír", "preterite", "oí oíste oyó oímos oyeron"),
        ("oír", "subjunctive", "oiga oigas oiga oigamos oigan"),
        ("esquiar", "present", "esquío esquías esquía esquiamos esquían"),
        ("sonreír", "future", "sonreiré sonreirás sonreirá sonreiremos sonreirán"),
        ("tener", "present", "tengo tienes tiene tenemos tienen"),
        ("tener", "subjunctive", "tenga tengas tenga tengamos tengan"),
        ("poner", "future", "pondré pondrás pondrá pondremos pondrán"),
        ("hacer", "preterite", "hice hiciste hizo hicimos hicieron"),
        ("traer", "preterite", "traje trajiste trajo trajimos trajeron"),
        ("ir", "imperfect", "iba ibas iba íbamos iban"),
        ("ser", "present", "soy eres es somos son"),
        ("estar", "preterite", "estuve estuviste estuvo estuvimos estuvieron"),
        ("dar", "subjunctive", "dé des dé demos den"),
        ("levantarse", "present", "me levanto te levantas se levanta nos levantamos se levantan"),
    ],
)
def test_spanish_verbs_are_conjugated(grammar: ParallelGrammar, infinitive: str, tense: str, forms: str) -> None:
    made = [grammar.lexicon.verbs.conjugate(infinitive, tense, person) for person in range(len(PERSONS))]
    assert " ".join(made) == forms


@pytest.mark.parametrize(
    ("infinitive", "forms"),
    [
        ("cerrar", "cerrando cerrado cierra"),
        ("dormir", "durmiendo dormido duerme"),
        ("leer", "leyendo leído lee"),
        ("escribir", "escribiendo escrito escribe"),
        ("decir", "diciendo dicho di"),
        ("poner", "poniendo puesto pon"),
        ("ir", "yendo ido ve"),
        ("volver", "volviendo vuelto vuelve"),
        ("traer", "trayendo traído trae"),
    ],
)
def test_spanish_verbs_have_gerund_participle_and_imperative(
    grammar: ParallelGrammar, infinitive: str, forms: str
) -> None:
    made = [grammar.lexicon.verbs.conjugate(infinitive, tense) for tense in ("gerund", "participle", "imperative")]
    assert " ".join(made) == forms


@pytest.mark.parametrize(
    ("verb", "forms"),
    [
        ("play", "plays played played playing"),
        ("carry", "carries carried carried carrying"),
        ("wash", "washes washed washed washing"),
        ("dance", "dances danced danced dancing"),
        ("hug", "hugs hugged hugged hugging"),
        ("see", "sees saw seen seeing"),
        ("go", "goes went gone going"),
        ("have", "has had had having"),
        ("visit", "visits visited visited visiting"),
    ],
)
def test_english_verbs_are_inflected(grammar: ParallelGrammar, verb: str, forms: str) -> None:
    tenses = ("present", "past", "participle", "gerund")
    assert " ".join(english_form(verb, tense, 2, grammar.lexicon.english_irregular) for tense in tenses) == forms


@pytest.mark.parametrize(
    ("adjective", "comparative"),
    [("tall", "taller"), ("fat", "fatter"), ("lazy", "lazier"), ("wise", "wiser"), ("famous", "more famous")],
)
def test_english_adjectives_are_compared(adjective: str, comparative: str) -> None:
    assert english_degree(adjective, "more") == comparative


@pytest.mark.parametrize(
    ("english", "plural", "spanish_plural"),
    [
        ("dog", "dogs", "perros"),
        ("city", "cities", "ciudades"),
        ("mouse", "mice", "ratones"),
        ("plane", "planes", "aviones"),
        ("pencil", "pencils", "lápices"),
        ("umbrella", "umbrellas", "paraguas"),
        ("trunk", "trunks", "baúles"),
        ("bus", "buses", "autobuses"),
        ("train station", "train stations", "estaciones de tren"),
    ],
)
def test_nouns_have_plurals(grammar: ParallelGrammar, english: str, plural: str, spanish_plural: str) -> None:
    found = noun(grammar, english)
    assert (found.english[1], found.spanish[1]) == (plural, spanish_plural)


def test_articles_and_adjectives_agree_with_every_noun(grammar: ParallelGrammar) -> None:
    endings = {(False, False): "o", (True, False): "a", (False, True): "os", (True, True): "as"}
    articles = {(False, False): "el", (True, False): "la", (False, True): "los", (True, True): "las"}
    for kind, nouns in grammar.lexicon.nouns.items():
        groups = " ".join(grammar.lexicon.settings[kind].get(setting, "") for setting in ("traits", "states")).split()
        adjectives = [adjective for group in groups for adjective in grammar.lexicon.adjectives[group]]
        for found in nouns:
            for adjective in adjectives:
                for plural in (False, True):
                    phrase = grammar.noun_phrase(found, "the", plural, adjective).spanish.split()
                    agreed = (found.feminine, plural)
                    el = found.takes_el and not plural and not adjective.prenominal
                    assert phrase[0] == ("el" if el else articles[agreed]), phrase
                    form = phrase[1] if adjective.prenominal else phrase[-1]
                    if adjective.spanish[0].endswith("o"):
                        short = adjective.prenominal and agreed == (False, False)
                        assert form == adjective.spanish[0][:-1] + ("" if short else endings[agreed]), phrase
                    else:
                        assert form.endswith("s") or not plural, phrase


@pytest.mark.parametrize(
    ("english", "determiner", "plural", "pair"),
    [
        ("water", "the", False, ("the water", "el agua")),
        ("eagle", "a", False, ("a eagle", "un águila")),
        ("eagle", "this", False, ("this eagle", "esta águila")),
        ("eagle", "the", True, ("the eagles", "las águilas")),
        ("book", 21, True, ("twenty one books", "veintiún libros")),
        ("shirt", 31, True, ("thirty one shirts", "treinta y una camisas")),
        ("house", "our", True, ("our houses", "nuestras casas")),
        ("car", Nominal("Maria", "María"), False, ("Maria's car", "el coche de María")),
    ],
)
def test_determiners(grammar: ParallelGrammar, english: str, determiner, plural: bool, pair: tuple[str, str]) -> None:
    phrase = grammar.noun_phrase(noun(grammar, english), determiner, plural)
    assert (" ".join(phrase.english.split()), " ".join(phrase.spanish.split())) == pair


@pytest.mark.parametrize(
    ("frame", "english", "spanish"),
    [
        (
            "{who} {verb past} {object}. | {who} {verb preterite} {object}.",
            "Ana went to the park.",
            "Ana fue al parque.",
        ),
        (
            "Did {who} {verb base} {object}? | ¿{verb preterite} {who} {object}?",
            "Did Ana go to the park?",
            "¿Fue Ana al parque?",
        ),
        ("{verb base} {object}. | {verb imperative} {object}.", "Go to the park.", "Ve al parque."),
        (
            "Do not {verb base} {object}. | No {verb subjunctive you} {object}.",
            "Do not go to the park.",
            "No vayas al parque.",
        ),
        (
            "{who} {like present} to {verb base} {object}. | {who dative} gusta {verb infinitive} {object}.",
            "Ana likes to go to the park.",
            "A Ana le gusta ir al parque.",
        ),
        ("{who} is a {work}. | {who} es {work}.", "Ana is an architect.", "Ana es arquitecta."),
        (
            "{who} is from {thing}. | {who} es de {thing}.",
            "Ana is from the town.",
            "Ana es del pueblo.",
        ),
        ("{who} and Irene. | {who} y Irene.", "Ana and Irene.", "Ana e Irene."),
    ],
)
def test_both_sides_are_read_off_one_derivation(
    grammar: ParallelGrammar, frame: str, english: str, spanish: str
) -> None:
    park, town = (grammar.noun_phrase(noun(grammar, word)) for word in ("park", "town"))
    values = {
        "who": Nominal("Ana", "Ana", feminine=True),
        "verb": Verb("go to", "ir a"),
        "object": park._replace(spanish=f"a {park.spanish}"),
        "work": next(a for a in grammar.lexicon.adjectives["work"] if a.english == "architect"),
        "thing": town,
    }
    assert Derivation(grammar.lexicon, frame, values).pair == (english, spanish)


def test_every_frame_is_filled_on_both_sides(grammar: ParallelGrammar) -> None:
    for frame in grammar.frames:
        for seed in range(5):
            english, spanish = Derivation(grammar.lexicon, frame, grammar._fill(frame, random.Random(seed))).pair
            assert not re.search(r"[{}|_=]|  | [.,?]", english + spanish), (english, spanish)
            assert english[0].isupper()
            assert english[-1] in ".?"
            assert re.match(r"¿?[A-ZÁÉÍÓÚ]", spanish), spanish
            assert english[-1] == spanish[-1]
            assert ("¿" in spanish) == english.endswith("?")


def test_contractions_are_made_everywhere(train: list[Derivation]) -> None:
    for derivation in train:
        assert not re.search(r"\b(a|de) el\b|\by h?i[^e]", derivation.pair.spanish.lower())
        assert not re.search(r"\ba [aeio]", derivation.pair.english.lower())
    spanish = " ".join(d.pair.spanish for d in train)
    assert " al " in spanish
    assert " del " in spanish


def test_sentences_have_2_to_14_words(train: list[Derivation]) -> None:
    assert all(2 <= len(side.split()) <= 14 for derivation in train for side in derivation.pair)


def test_the_splits_never_share_a_combination_of_lemmas(train: list[Derivation], held_out: list[Derivation]) -> None:
    assert not {tuple(d.lemmas) for d in train} & {tuple(d.lemmas) for d in held_out}
    assert all(d.is_held_out for d in held_out)
    assert not any(d.is_held_out for d in train)


def test_a_twentieth_of_the_combinations_is_held_out(grammar: ParallelGrammar) -> None:
    rng = random.Random(0)
    drawn = [d for d in (grammar.draw(rng) for _ in range(2000)) if len(d.lemmas) > 1]
    assert sum(d.is_held_out for d in drawn) / len(drawn) == pytest.approx(0.05, abs=0.015)


def test_held_out_words_occur_in_train(
    grammar: ParallelGrammar, train: list[Derivation], held_out: list[Derivation]
) -> None:
    known = {lemma for d in [*train, *(grammar.derive(1, i) for i in range(10000))] for lemma in d.lemmas}
    unknown = {lemma for d in held_out for lemma in d.lemmas} - known
    assert not unknown


def test_a_sentence_has_one_translation(train: list[Derivation], held_out: list[Derivation]) -> None:
    spanish, english = defaultdict(set), defaultdict(set)
    for derivation in [*train, *held_out]:
        spanish[derivation.pair.english].add(derivation.pair.spanish)
        english[derivation.pair.spanish].add(derivation.pair.english)
    assert all(len(sides) == 1 for sides in [*spanish.values(), *english.values()])


def test_words_of_one_class_have_one_translation(grammar: ParallelGrammar) -> None:
    for nouns in grammar.lexicon.nouns.values():
        for side in ("english", "spanish"):
            forms = [form for n in nouns for form in set(getattr(n, side))]
            assert len(forms) == len(set(forms)), forms


def test_both_directions_and_all_voices_are_drawn() -> None:
    corpus = TranslationCorpus(seed=1)
    sides = [corpus.sides(i) for i in range(200)]
    assert 70 < sum(source["lang"] == "en" for source, _ in sides) < 130
    assert {source["lang"] + target["lang"] for source, target in sides} == {"enes", "esen"}
    spanish = {side["speaker"] for pair in sides for side in pair if side["lang"] == "es"}
    assert spanish == set(SPANISH_VOICES)
    assert sides[7] == TranslationCorpus(seed=1).sides(7)


@pytest.mark.skipif(not (shutil.which("flite") and shutil.which("espeak-ng")), reason="flite or espeak-ng is missing")
def test_an_item_has_both_audios() -> None:
    item = TranslationCorpus(english_voices=("kal16",)).item(0)
    assert set(item.audio) == {"audio", "target_audio"}
    assert set(item.fields) == {"text", "target_text", "speaker", "target_speaker", "lang", "target_lang"}
    assert {item.fields["lang"], item.fields["target_lang"]} == {"en", "es"}
    for audio in item.audio.values():
        assert audio.sample_rate_hz == 16000
        assert audio.duration_s > 0.5
        assert audio.samples.abs().max() > 0.05
