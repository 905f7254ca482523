"""Forms of Spanish and English words: plural, feminine, conjugation, degree, by rule, with tables of exceptions.

Not here: which form a sentence asks for (`translation.py`), and the tables (`english_spanish.yaml`). Persons are
numbered 0 yo, 1 tú, 2 él, 3 nosotros, 4 ellos.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from unitok.data.synth.grammar import plural as english_plural

__all__ = ["SpanishVerbs", "english_degree", "english_form", "spanish_feminine", "spanish_plural"]

_PLAIN = str.maketrans("áéíóú", "aeiou")
_STEM_VOWELS = {"ie": ("e", "ie"), "ue": ("[ou]", "ue"), "i": ("e", "i"), "í": ("i", "í")}
_CLITICS = ["me", "te", "se", "nos", "se"]


def spanish_plural(word: str) -> str:
    """Return the plural of a Spanish noun or adjective; of several words, the first is inflected."""
    head, _, rest = word.partition(" ")
    if rest:
        return f"{spanish_plural(head)} {rest}"
    if re.search(r"[aeiouáéíóú].*[aeiou]s$", word):
        return word
    if re.search(r"[aeiouáéó]$", word):
        return word + "s"
    if word.endswith("z"):
        return word[:-1] + "ces"
    if word == "joven":
        return "jóvenes"
    if re.search(r"([áéó]|[^aeiou][íú])[ns]$", word):
        word = word.translate(_PLAIN)
    return word + "es"


def spanish_feminine(word: str) -> str:
    """Return the feminine of a Spanish adjective or occupation of one word."""
    if word.endswith("o"):
        return word[:-1] + "a"
    return word.translate(_PLAIN) + "a" if re.search(r"([^aeiou]or|[áéíó][ns])$", word) else word


class SpanishVerbs:
    """Conjugates by rule, with tables for what no rule makes.

    Args:
        endings: Tense -> endings of -ar, of -er, of -ir.
        stems: Vowel change (`ie`, `ue`, `i`, `í`) -> infinitives that have it.
        irregular: Infinitive -> forms, or the stems they are made from; see the word file.
    """

    def __init__(
        self, endings: Mapping[str, list[str]], stems: Mapping[str, str], irregular: Mapping[str, dict[str, str]]
    ):
        self.endings = {tense: [group.split() for group in groups] for tense, groups in endings.items()}
        self.change = {infinitive: change for change, verbs in stems.items() for infinitive in verbs.split()}
        self.irregular = irregular

    def conjugate(self, infinitive: str, tense: str, person: int = 2) -> str:
        """Return one form, with its reflexive pronoun.

        Args:
            infinitive: Of one word; with `se` if reflexive.
            tense: `infinitive`, `imperative` (of tú) or one of the `endings`; `subjunctive` is the present one.
            person: 0 to 4.
        """
        if infinitive.endswith("se"):
            form, clitic = self.conjugate(infinitive[:-2], tense, person), _CLITICS[person]
            if tense == "gerund":
                return re.sub("(a|e)ndo$", lambda m: {"a": "á", "e": "é"}[m[1]] + "ndo", form) + clitic
            return form + clitic if tense == "infinitive" else f"{clitic} {form}"
        table = self.irregular.get(infinitive, {})
        if tense in table:
            return table[tense].split()[person if " " in table[tense] else 0]
        if tense == "infinitive":
            return infinitive
        if tense == "imperative":
            return self.conjugate(infinitive, "present", 2)
        if tense == "present" and person == 0 and "yo" in table:
            return table["yo"]
        if tense == "preterite" and "strong" in table:
            return (table["strong"] + ["e", "iste", "o", "imos", "ieron"][person]).replace("jie", "je")
        endings = self.endings[tense]["aei".index(infinitive.translate(_PLAIN)[-2])]
        ending = endings[min(person, len(endings) - 1)]
        if tense in {"future", "conditional"}:
            return table.get("future_stem", infinitive.translate(_PLAIN)) + ending
        return _join(infinitive, self._stem(infinitive, tense, person, ending), ending)

    def _stem(self, infinitive: str, tense: str, person: int, ending: str) -> str:
        """Return the stem with its vowel changed as tense and person ask: cierr-, durm-, construy-."""
        stem, change = infinitive[:-2], self.change.get(infinitive)
        if tense == "subjunctive" and not (person == 3 and change and "yo" not in self.irregular.get(infinitive, {})):
            return self.conjugate(infinitive, "present", 0)[:-1]
        if tense == "present" and person != 3:
            if _ends_in_uir(infinitive):
                return stem + "y"
            if change:
                old, new = _STEM_VOWELS[change]
                return re.sub(rf"{old}(?=[^aeiou]*u?$)", new, stem)
        weak = tense in {"gerund", "subjunctive"} or ending in {"ió", "ieron"}
        if weak and change and infinitive.endswith("ir"):
            return re.sub(r"[eo](?=[^aeiou]*u?$)", lambda m: {"e": "i", "o": "u"}[m[0]], stem)
        return stem


def _ends_in_uir(infinitive: str) -> bool:
    return bool(re.search("[^gq]uir$", infinitive))


def _join(infinitive: str, stem: str, ending: str) -> str:
    """Put stem and ending together and keep the sound: busqué, sigo, conozco, leyó, caído."""
    if infinitive.endswith("ar"):
        if ending[0] in "eé":
            stem = re.sub("[cgz]$", lambda m: {"c": "qu", "g": "gu", "z": "c"}[m[0]], stem)
        return stem + ending
    sound = re.search("(gu|g|(?<=[aeiou])c)$", stem)
    if ending[0] in "oa" and sound and infinitive[:-2].endswith(sound[0]):
        stem = stem[: sound.start()] + {"gu": "g", "g": "j", "c": "zc"}[sound[0]]
    open_stem = re.search("[aeo]$", stem)
    if (open_stem or _ends_in_uir(infinitive)) and re.match("i[óe]", ending):
        ending = "y" + ending[1:]
    elif open_stem and ending[0] == "i":
        ending = "í" + ending[1:]
    return stem + ending


_BE = {"present": "am are is are are", "past": "was were was were were"}


def english_form(verb: str, tense: str, person: int, irregular: Mapping[str, tuple[str, str]]) -> str:
    """Return `base`, `present`, `past`, `participle` or `gerund` of an English verb of one word."""
    if verb == "be" and tense in _BE:
        return _BE[tense].split()[person]
    if tense == "present":
        if person != 2:
            return verb
        return "has" if verb == "have" else verb + "es" if verb.endswith("o") else english_plural(verb)
    if tense in {"past", "participle"} and verb in irregular:
        return irregular[verb][tense == "participle"]
    doubled = verb + verb[-1] if re.fullmatch(r"[^aeiou]*[aeiou][bdgmnprt]", verb) else verb
    if tense == "gerund":
        return re.sub(r"(?<=[^e])e$", "", doubled) + "ing"
    if tense in {"past", "participle"}:
        return re.sub(r"(?<=[^aeiou])y$", "i", re.sub("e$", "", doubled)) + "ed"
    return verb


def english_degree(adjective: str, degree: str) -> str:
    """Return comparative (`more`) or superlative (`most`) of an English adjective: taller, more patient."""
    syllables = len(re.findall("[aeiouy]+", re.sub("e$", "", adjective)))
    if syllables > 2 or (syllables == 2 and not adjective.endswith("y")):
        return f"{degree} {adjective}"
    stem = re.sub(r"([^aeiou][aeiou])([bdgmnpt])$", r"\1\2\2", re.sub("e$", "", adjective))
    return re.sub("y$", "i", stem) + {"more": "er", "most": "est"}[degree]
