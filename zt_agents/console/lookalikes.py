"""Words that are not what they seem: letters of several scripts in one, or letters that pass for others.

It marks, and decides nothing: words of one script are left alone unless all their letters look like Latin ones.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

_LOOK_LATIN = frozenset(
    "АВЕЅІЈКМНОРСТУХԌԚԜаеѕіјорсухһԁԛԝԍѵӏ"  # Cyrillic
    "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαικνορυχ"  # Greek
    "ՕՏՍԼհոօսցզ"  # Armenian
    "ᎠᎡᎢᎪᎫᎬᎳᎷᎻᏀᏃᏎᏒᏔᏙᏚᏞᏟᏢᏦ"  # Cherokee
    "ꓐꓑꓒꓓꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓤꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ"  # Lisu
)
_LATIN_TWINS = frozenset("ıɡɑɩȷǀǃꞌʟɪʏ")
"""Latin letters that pass for those of ASCII."""
_SIGNS = {
    "∕": "/", "⁄": "/", "⧸": "/", "╱": "/", "‐": "-", "‑": "-", "‒": "-", "−": "-", "˗": "-", "꞉": ":", "∶": ":",
    "׃": ":", "ː": ":", "․": ".", "ꓸ": ".", "。": ".", "·": ".", "‚": ",", "ʼ": "'", "′": "'", "∗": "*", "⁎": "*",
    "‹": "<", "›": ">", "ǃ": "!", "＿": "_", "‗": "_", "⎯": "-",
}  # fmt: skip
_TOGETHER = (
    frozenset({"Cjk", "Hiragana", "Katakana"}),
    frozenset({"Cjk", "Hangul"}),
    frozenset({"Cjk", "Bopomofo"}),
)
"""Scripts that languages write together in one word."""


class Token(NamedTuple):
    """A part of a text."""

    text: str
    note: str = ""
    """What is odd about it, as the end of a sentence; empty where nothing is."""


def tokens(text: str) -> Iterator[Token]:
    """Yield the parts of *text*, which make it up."""
    if text.isascii():
        yield Token(text)
        return
    start = 0
    while start < len(text):
        end = start + 1
        if _is_of_word(text[start]):
            while end < len(text) and _is_of_word(text[end]):
                end += 1
            word = text[start:end]
            yield Token(word, "" if word.isascii() else oddity(word))
        else:
            yield Token(text[start], _odd_sign(text[start]))
        start = end


def oddity(word: str) -> str:
    """Return what is odd about a word, or an empty text."""
    letters = [character for character in word if unicodedata.category(character)[0] == "L"]
    if any(not c.isascii() and unicodedata.category(c) == "Nd" for c in word):
        return "digits that are not 0 to 9"
    plain = unicodedata.normalize("NFKC", word)
    if any(_is_variant(character) for character in word):
        return f"styled letters that stand for “{plain}”" if plain.isascii() else "styled letters"
    scripts = {_script(letter) for letter in letters}
    if len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER):
        return f"{' and '.join(sorted(scripts))} letters in one word"
    foreign = [letter for letter in letters if not letter.isascii()]
    if foreign and all(letter in _LOOK_LATIN for letter in letters):
        return f"{' and '.join(sorted(scripts))} letters that look like Latin ones"
    if any(letter in _LATIN_TWINS for letter in letters):
        return "rare letters that look like others"
    return ""


def _odd_sign(character: str) -> str:
    meant = _SIGNS.get(character, "")
    if not meant and not character.isascii():
        plain = unicodedata.normalize("NFKC", character)
        meant = plain if len(plain) == 1 and plain.isascii() and plain.isprintable() and plain != " " else ""
    return f"a sign that looks like “{meant}”" if meant else ""


def _is_of_word(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LNM"


@lru_cache(maxsize=4096)
def _is_variant(character: str) -> bool:
    if character.isascii() or unicodedata.category(character)[0] != "L":
        return False
    plain = unicodedata.normalize("NFKC", character)
    return plain != character and plain.isascii()


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0].capitalize()
