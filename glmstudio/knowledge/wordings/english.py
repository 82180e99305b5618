"""How an English question is asked in other words. Where its grammar is not sure, it is left as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glmstudio.knowledge.wordings.english_clauses import DEGREES, DONE_BY, FRONTED, HOW_TO, embedded, is_wh
from glmstudio.knowledge.wordings.english_phrases import (
    DETERMINERS,
    POINTERS,
    is_noun_phrase,
    is_owner,
    last_word,
    listed,
    owners,
    uncapitalized,
)

# What can be told as it is: "Tell me the capital of France."
_ATTRIBUTES = listed(
    "name names capital currency population area height length width depth weight size age price cost colour color "
    "address date birthday birthplace deadline language formula symbol number title motto slogan distance speed "
    "temperature email password nickname surname location difference meaning abbreviation anthem mascot profession "
    "job hobby salary budget duration frequency voltage diameter altitude elevation"
)
_NOT_OWNED = listed("rest middle kind type sort half part end number amount use lack top bottom front one date")
_KIN = listed("wife husband mother father sister brother uncle aunt grandmother grandfather son daughter")
_ROLES = listed(
    "mayor ceo president director founder head principal headteacher manager captain owner chairman chairwoman "
    "chairperson chair editor king queen coach leader boss governor chancellor conductor rector dean"
)
_ORDERS = ("tell", "name", "give", "list", "explain", "describe", "say", "show")
_NAME = re.compile(r"[A-Z][\w'’.-]*(?: (?:de|del|der|di|da|la|le|van|von|bin|al|[A-Z][\w'’.-]*)){0,4}")
_NOBODY = re.compile(r"(?:nobody|no one|unknown|none|yes|no|not|the)\b", re.IGNORECASE)
_WHETHER_KNOWN = re.compile(r"(?:do you know|(?:can|could) you tell me) (?P<what>.+)", re.IGNORECASE)
_OF = re.compile(r"(?P<wh>who|what) (?P<be>is|was) the (?P<what>[\w' -]+?) of (?P<of>.+)", re.IGNORECASE)
_OWNED = re.compile(r"(?P<wh>who|what) (?P<be>is|was) (?P<of>.+?)['’]s (?P<what>[\w -]+)", re.IGNORECASE)


def wordings(question: str) -> Iterator[str]:
    """Other wordings, the best first."""
    stem = re.sub(r"^(?:hi|hello|hey)(?: there)?[,!.] +", "", question, flags=re.IGNORECASE)
    stem = stem.rstrip(" ?!.").replace("’", "'")
    if len(stem.split()) < 2:
        return
    words, is_marked = _long(stem).split(), question.endswith("?")
    is_asked = is_wh(words) and not question.endswith((".", "!"))
    stem = " ".join(words)
    if words[0].lower() in _ORDERS and not is_marked:
        yield from (
            f"Please {uncapitalized(stem)}.",
            f"Could you {uncapitalized(stem)}?",
            f"Can you {uncapitalized(stem)}?",
        )
    elif re.search(r"(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)[.?!:;] ", stem):
        yield from (f"I have a question. {stem}?", f"Here is my question. {stem}?") if is_marked else ()
    elif (found := _WHETHER_KNOWN.fullmatch(stem)) and is_wh(found["what"].split()):
        yield from _framed(found["what"], found["what"].split()[0].lower())
    elif found := re.fullmatch(r"(?:can|could|would|will) you (?P<what>.+)", stem, re.IGNORECASE):
        yield from _requested(found["what"], stem) if is_marked else ()
    elif stem.isupper() or not is_asked:
        yield from _as_it_stands(stem) if is_marked or is_asked else ()
    else:
        yield from _recast(words, stem)
        clause = embedded(words)
        yield from _framed(clause, words[0].lower()) if clause else _as_it_stands(stem)


def turned(question: str, answer: str) -> tuple[str, str] | None:
    """The question the other way round: "Who is the mayor of Aurora?", "Anna Berg" asks what she is the mayor of."""
    stem = _long(question.rstrip(" ?!.").replace("’", "'"))
    found = _OF.fullmatch(stem) or _OWNED.fullmatch(stem)
    if found is None:
        return None
    wh, be, what, of = (found[name] for name in ("wh", "be", "what", "of"))
    who = _named(answer.rstrip(" ."), what, of)
    if who is None or not is_owner(of.split(), ends_in_s=True) or of.split()[0].lower() in POINTERS:
        return None
    be, kind = be.lower(), what.lower()
    if wh.lower() == "who" and kind in _KIN and _NAME.fullmatch(of):
        return f"Whose {what} {be} {who}?", of
    is_sure = kind in _ROLES if wh.lower() == "who" else kind in ("capital", "capital city")
    return (f"What {be} {who} the {what} of?", of) if is_sure else None


def _named(answer: str, what: str, of: str) -> str | None:
    """The name in an answer: alone, or in a sentence that says the question again."""
    held = rf"(?:the {re.escape(what)} of {re.escape(of)}|{re.escape(of)}['’]s {re.escape(what)})"
    for form in (r"(?P<name>.+)", rf"(?P<name>.+?) (?:is|was) {held}", rf"{held} (?:is|was) (?P<name>.+)"):
        if (
            (found := re.fullmatch(form, answer, re.IGNORECASE))
            and _NAME.fullmatch(found["name"])
            and not _NOBODY.match(found["name"])
        ):
            return found["name"]
    return None


def _recast(words: list[str], stem: str) -> Iterator[str]:
    """The question with other words and another grammar, where that is sure."""
    if found := _OF.fullmatch(stem):
        yield from _of_something(*(found[name] for name in ("wh", "be", "what", "of")))
    elif found := _OWNED.fullmatch(stem):
        yield from _owned(*(found[name] for name in ("wh", "be", "what", "of")))
    first = words[0].lower()
    yield from _recast_how(words) if first == "how" else _recast_place(words) if first == "where" else ()
    if first == "when" and _starts(words, "when was") and words[-1].lower() == "born":
        yield from (f"What is {who}'s date of birth?" for who in owners(words[2:-1]))
    if first in FRONTED and _starts(words[1:], "which year"):
        yield f"{words[0]} what year {' '.join(words[3:])}?"
        yield f"When {' '.join(words[3:])}?"
    if first == "who" and len(words) > 2 and (done := DONE_BY.get(words[1].lower())):
        yield from _done_by(words[2:], *done)


def _of_something(wh: str, be: str, what: str, of: str) -> Iterator[str]:
    """ "What is the X of Y?" """
    if any(word[0].isupper() and not word.isupper() for word in what.split()):
        return  # a name, as in "the Battle of Hastings"
    if last_word(what) not in _NOT_OWNED and is_owner(of.split()):
        yield f"{wh.capitalize()} {be.lower()} {of}'s {what}?"
    if wh.lower() == "what" and last_word(what) in _ATTRIBUTES:
        yield f"Tell me the {what} of {of}."
        yield f"Can you tell me the {what} of {of}?"


def _owned(wh: str, be: str, what: str, of: str) -> Iterator[str]:
    """ "What is Y's X?" """
    if not is_owner(of.split()):
        return
    if wh.lower() == "who" and what.lower() in _ROLES:
        yield f"Who {be.lower()} the {what} of {of}?"
    if wh.lower() == "what" and last_word(what) in _ATTRIBUTES:
        yield f"Tell me {of}'s {what}."
        yield f"Can you tell me {of}'s {what}?"


def _recast_how(words: list[str]) -> Iterator[str]:
    """ "How do I …", "How much is …", "How tall is …" """
    stem = " ".join(words)
    if found := HOW_TO.fullmatch(stem):
        yield f"How can {'I' if found[1].lower() == 'i' else found[1].lower()} {found['what']}?"
    if (found := re.fullmatch(r"how much does (?P<what>.+) cost", stem, re.IGNORECASE)) or (
        found := re.fullmatch(r"how much is (?P<what>.+)", stem, re.IGNORECASE)
    ):
        if is_noun_phrase(found["what"].split()) and is_owner(found["what"].split(), ends_in_s=True):
            yield f"What is the price of {found['what']}?"
            yield f"What does {found['what']} cost?"
    elif len(words) > 3 and words[2].lower() == "is" and (noun := DEGREES.get(words[1].lower())):
        what = words[3:]
        if is_noun_phrase(what) and what[0].lower() in DETERMINERS:
            yield f"What is the {noun} of {' '.join(what)}?"
        elif is_noun_phrase(what):
            yield from (f"What is {owner}'s {noun}?" for owner in owners(what) if noun != "length")


def _recast_place(words: list[str]) -> Iterator[str]:
    """ "Where is …", "Where was … born" """
    if _starts(words, "where was") and words[-1].lower() == "born":
        yield from (f"What is {who}'s birthplace?" for who in owners(words[2:-1]))
    elif len(words) > 2 and words[1].lower() in ("is", "are"):
        what = words[2:-1] if words[-1].lower() == "located" else words[2:]
        if is_noun_phrase(what) and what[0].lower() in DETERMINERS:
            yield f"Where can I find {' '.join(what)}?"


def _done_by(what: list[str], participle: str, doer: str) -> Iterator[str]:
    """ "Who wrote X?" """
    told = " ".join(what)
    is_title = re.fullmatch(r"(?:the \w+ )?\"[^\"]+\"", told) is not None
    if is_title or (is_noun_phrase(what) and is_owner(what)):
        yield f"Who was {told} {participle} by?"
        if doer:
            yield f"Who is the {doer} of {told}?"


def _framed(clause: str, first: str) -> Iterator[str]:
    """A question within a question."""
    if re.search(r"\b(?:you|your|yours)\b", clause, re.IGNORECASE):
        yield from (f"Can you tell me {clause}?", f"May I ask {clause}?")
    elif first in ("why", "how") and not re.match(r"how (?:" + "|".join(DEGREES) + r")\b", clause):
        yield from (f"Can you explain {clause}?", f"Do you know {clause}?")
    else:
        yield from (f"Do you know {clause}?", f"Can you tell me {clause}?")
    yield from (f"Please tell me {clause}.", f"I'd like to know {clause}.")


def _requested(what: str, stem: str) -> Iterator[str]:
    """A wish in the form of a question; without "me", it may as well ask for an ability."""
    if re.search(r"\bme\b", what):
        yield from (f"Please {what}.", f"Can you {what}?", f"Could you {what}?")
    else:
        yield from (f"Quick question: {uncapitalized(stem)}?", f"I have a question: {uncapitalized(stem)}?")


def _as_it_stands(stem: str) -> Iterator[str]:
    asked = uncapitalized(stem) if stem.split(maxsplit=1)[0].lower() != "i" else stem
    yield from (f"Could you tell me: {asked}?", f"Quick question: {asked}?", f"I'd like to know: {asked}?")
    yield f"I have a question: {asked}?"


def _starts(words: list[str], begin: str) -> bool:
    return " ".join(words[:2]).lower() == begin and len(words) > 3


def _long(stem: str) -> str:
    """ "What's the …" in full."""
    return re.sub(rf"^(who|what|where|when)'s (?=(?:{'|'.join(DETERMINERS)})\b)", r"\1 is ", stem, flags=re.IGNORECASE)
