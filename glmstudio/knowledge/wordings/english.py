"""How an English question is asked in other words. Where its grammar is not sure, it is left as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_DO = ("do", "does", "did")
_BE = ("is", "are", "was", "were")
_MODAL = ("can", "could", "will", "would", "should", "must", "may", "might")
_AUXILIARY = (*_DO, *_BE, *_MODAL, "am", "has", "have", "had")
_PRONOUNS = ("i", "you", "we", "he", "she", "they", "it", "there")
_DETERMINERS = ("the", "a", "an", "my", "your", "our", "his", "her", "its", "their", "this", "that", "these", "those")
_POINTERS = ("this", "that", "these", "those")
_FRONTED = ("in", "on", "at", "by", "from", "to", "with", "for")
# Words between the auxiliary and the end that do not belong to the subject.
_TAILS = _listed(
    "located founded born built held published opened established made written released invented based found buried "
    "introduced launched signed discovered called named painted composed designed created developed used known open "
    "closed free available busy ready due full empty alive dead now today currently finished started cancelled "
    "celebrated produced spoken grown kept stored"
)
_PAIRED_TAILS = ("made of", "made from", "used for", "known for", "named after", "responsible for", "famous for")
_INSIDE = _listed("of in on between and for from")  # may stand within a noun phrase
_OUTSIDE = _listed(
    "that who whom whose which what when where why how like to at with about by as than if because not no so too also "
    "here there away over up down off out new right wrong better worse"
)
_NOUNS_IN_ING = _listed(
    "building meeting ring king spring thing wedding evening morning opening boiling melting freezing training meaning "
    "beginning engineering marketing painting ceiling string wing swimming dining living parking working"
)
_SMALL = _listed("of the and de del der di da la le van von bin al for in on")  # within a name
_NOUN_ENDINGS = ("tion", "sion", "ment", "ness", "ity", "ism", "sis", "logy", "nomy", "graphy")
_ASKED_NOUNS = _listed(
    "time year day colour color kind type sort language city country number date month animal size age subject team "
    "company"
)
# What can be told as it is: "Tell me the capital of France."
_ATTRIBUTES = _listed(
    "name names capital currency population area height length width depth weight size age price cost colour color "
    "address date birthday birthplace deadline language formula symbol number title motto slogan distance speed "
    "temperature email password nickname surname location difference meaning abbreviation anthem mascot profession "
    "job hobby salary budget duration frequency voltage diameter altitude elevation"
)
_NOT_OWNED = _listed("rest middle kind type sort half part end number amount use lack top bottom front one date")
_DEGREES = {
    "tall": "height", "high": "height", "long": "length", "old": "age", "deep": "depth", "wide": "width",
    "heavy": "weight", "big": "size", "large": "size", "far": "", "fast": "", "many": "", "much": "",
}  # fmt: skip
_DONE_BY = {
    "wrote": ("written", "author"), "founded": ("founded", "founder"), "invented": ("invented", "inventor"),
    "directed": ("directed", "director"), "composed": ("composed", "composer"), "painted": ("painted", ""),
    "designed": ("designed", "designer"), "discovered": ("discovered", ""), "built": ("built", ""),
    "developed": ("developed", ""), "created": ("created", "creator"),
}  # fmt: skip
_PAST = dict(
    pair.split(":")
    for pair in _listed(
        "have:had do:did live:lived work:worked mean:meant cost:cost open:opened close:closed start:started end:ended "
        "begin:began happen:happened come:came go:went make:made take:took become:became die:died need:needed "
        "study:studied play:played like:liked write:wrote win:won sell:sold build:built move:moved use:used eat:ate "
        "speak:spoke stand:stood weigh:weighed last:lasted leave:left arrive:arrived grow:grew call:called "
        "join:joined meet:met marry:married invent:invented found:founded discover:discovered publish:published "
        "release:released receive:received produce:produced teach:taught belong:belonged contain:contained "
        "keep:kept sleep:slept drink:drank drive:drove prefer:preferred want:wanted offer:offered earn:earned "
        "get:got see:saw buy:bought pay:paid finish:finished fall:fell rise:rose sit:sat lie:lay "
        "migrate:migrated purr:purred fly:flew sing:sang collect:collected store:stored lead:led "
        "connect:connected help:helped think:thought know:knew say:said change:changed break:broke cause:caused "
        "hold:held pump:pumped protect:protected carry:carried measure:measured own:owned manage:managed apply:applied "
        "run:ran form:formed host:hosted float:floated boil:boiled melt:melted freeze:froze sink:sank burn:burned "
        "shine:shone turn:turned include:included require:required provide:provided support:supported"
    )
)
_KIN = _listed("wife husband mother father sister brother uncle aunt grandmother grandfather son daughter")
_ROLES = _listed(
    "mayor ceo president director founder head principal headteacher manager captain owner chairman chairwoman "
    "chairperson chair editor king queen coach leader boss governor chancellor conductor rector dean"
)
_ORDERS = ("tell", "name", "give", "list", "explain", "describe", "say", "show")
_NAME = re.compile(r"[A-Z][\w'’.-]*(?: (?:de|del|der|di|da|la|le|van|von|bin|al|[A-Z][\w'’.-]*)){0,4}")
_NOBODY = re.compile(r"(?:nobody|no one|unknown|none|yes|no|not|the)\b", re.IGNORECASE)
_WHETHER_KNOWN = re.compile(r"(?:do you know|(?:can|could) you tell me) (?P<what>.+)", re.IGNORECASE)
_HOW_TO = re.compile(
    r"how (?:do|can) (i|we|you(?! (?:feel|like|know|think|do)\b)(?!.*\byour)) (?P<what>\w.+)", re.IGNORECASE
)
_OF = re.compile(r"(?P<wh>who|what) (?P<be>is|was) the (?P<what>[\w' -]+?) of (?P<of>.+)", re.IGNORECASE)
_OWNED = re.compile(r"(?P<wh>who|what) (?P<be>is|was) (?P<of>.+?)['’]s (?P<what>[\w -]+)", re.IGNORECASE)


def wordings(question: str) -> Iterator[str]:
    """Other wordings, the best first."""
    stem = re.sub(r"^(?:hi|hello|hey)(?: there)?[,!.] +", "", question, flags=re.IGNORECASE)
    stem = stem.rstrip(" ?!.").replace("’", "'")
    if len(stem.split()) < 2:
        return
    words, is_marked = _long(stem).split(), question.endswith("?")
    is_asked = _is_wh(words) and not question.endswith((".", "!"))
    stem = " ".join(words)
    if words[0].lower() in _ORDERS and not is_marked:
        yield from (f"Please {_small(stem)}.", f"Could you {_small(stem)}?", f"Can you {_small(stem)}?")
    elif re.search(r"(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)[.?!:;] ", stem):
        yield from (f"I have a question. {stem}?", f"Here is my question. {stem}?") if is_marked else ()
    elif (found := _WHETHER_KNOWN.fullmatch(stem)) and _is_wh(found["what"].split()):
        yield from _framed(found["what"], found["what"].split()[0].lower())
    elif found := re.fullmatch(r"(?:can|could|would|will) you (?P<what>.+)", stem, re.IGNORECASE):
        yield from _requested(found["what"], stem) if is_marked else ()
    elif stem.isupper() or not is_asked:
        yield from _as_it_stands(stem) if is_marked or is_asked else ()
    else:
        yield from _recast(words, stem)
        clause = _embedded(words)
        yield from _framed(clause, words[0].lower()) if clause else _as_it_stands(stem)


def turned(question: str, answer: str) -> tuple[str, str] | None:
    """The question the other way round: "Who is the mayor of Aurora?", "Anna Berg" asks what she is the mayor of."""
    stem = _long(question.rstrip(" ?!.").replace("’", "'"))
    found = _OF.fullmatch(stem) or _OWNED.fullmatch(stem)
    if found is None:
        return None
    wh, be, what, of = (found[name] for name in ("wh", "be", "what", "of"))
    who = _named(answer.rstrip(" ."), what, of)
    if who is None or not _is_owner(of.split(), ends_in_s=True) or of.split()[0].lower() in _POINTERS:
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
        yield from (f"What is {who}'s date of birth?" for who in _owners(words[2:-1]))
    if first in _FRONTED and _starts(words[1:], "which year"):
        yield f"{words[0]} what year {' '.join(words[3:])}?"
        yield f"When {' '.join(words[3:])}?"
    if first == "who" and len(words) > 2 and (done := _DONE_BY.get(words[1].lower())):
        yield from _done_by(words[2:], *done)


def _of_something(wh: str, be: str, what: str, of: str) -> Iterator[str]:
    """ "What is the X of Y?" """
    if any(word[0].isupper() and not word.isupper() for word in what.split()):
        return  # a name, as in "the Battle of Hastings"
    if _last(what) not in _NOT_OWNED and _is_owner(of.split()):
        yield f"{wh.capitalize()} {be.lower()} {of}'s {what}?"
    if wh.lower() == "what" and _last(what) in _ATTRIBUTES:
        yield f"Tell me the {what} of {of}."
        yield f"Can you tell me the {what} of {of}?"


def _owned(wh: str, be: str, what: str, of: str) -> Iterator[str]:
    """ "What is Y's X?" """
    if not _is_owner(of.split()):
        return
    if wh.lower() == "who" and what.lower() in _ROLES:
        yield f"Who {be.lower()} the {what} of {of}?"
    if wh.lower() == "what" and _last(what) in _ATTRIBUTES:
        yield f"Tell me {of}'s {what}."
        yield f"Can you tell me {of}'s {what}?"


def _recast_how(words: list[str]) -> Iterator[str]:
    """ "How do I …", "How much is …", "How tall is …" """
    stem = " ".join(words)
    if found := _HOW_TO.fullmatch(stem):
        yield f"How can {'I' if found[1].lower() == 'i' else found[1].lower()} {found['what']}?"
    if (found := re.fullmatch(r"how much does (?P<what>.+) cost", stem, re.IGNORECASE)) or (
        found := re.fullmatch(r"how much is (?P<what>.+)", stem, re.IGNORECASE)
    ):
        if _is_noun_phrase(found["what"].split()) and _is_owner(found["what"].split(), ends_in_s=True):
            yield f"What is the price of {found['what']}?"
            yield f"What does {found['what']} cost?"
    elif len(words) > 3 and words[2].lower() == "is" and (noun := _DEGREES.get(words[1].lower())):
        what = words[3:]
        if _is_noun_phrase(what) and what[0].lower() in _DETERMINERS:
            yield f"What is the {noun} of {' '.join(what)}?"
        elif _is_noun_phrase(what):
            yield from (f"What is {owner}'s {noun}?" for owner in _owners(what) if noun != "length")


def _recast_place(words: list[str]) -> Iterator[str]:
    """ "Where is …", "Where was … born" """
    if _starts(words, "where was") and words[-1].lower() == "born":
        yield from (f"What is {who}'s birthplace?" for who in _owners(words[2:-1]))
    elif len(words) > 2 and words[1].lower() in ("is", "are"):
        what = words[2:-1] if words[-1].lower() == "located" else words[2:]
        if _is_noun_phrase(what) and what[0].lower() in _DETERMINERS:
            yield f"Where can I find {' '.join(what)}?"


def _done_by(what: list[str], participle: str, doer: str) -> Iterator[str]:
    """ "Who wrote X?" """
    told = " ".join(what)
    is_title = re.fullmatch(r"(?:the \w+ )?\"[^\"]+\"", told) is not None
    if is_title or (_is_noun_phrase(what) and _is_owner(what)):
        yield f"Who was {told} {participle} by?"
        if doer:
            yield f"Who is the {doer} of {told}?"


def _framed(clause: str, first: str) -> Iterator[str]:
    """A question within a question."""
    if re.search(r"\b(?:you|your|yours)\b", clause, re.IGNORECASE):
        yield from (f"Can you tell me {clause}?", f"May I ask {clause}?")
    elif first in ("why", "how") and not re.match(r"how (?:" + "|".join(_DEGREES) + r")\b", clause):
        yield from (f"Can you explain {clause}?", f"Do you know {clause}?")
    else:
        yield from (f"Do you know {clause}?", f"Can you tell me {clause}?")
    yield from (f"Please tell me {clause}.", f"I'd like to know {clause}.")


def _requested(what: str, stem: str) -> Iterator[str]:
    """A wish in the form of a question; without "me", it may as well ask for an ability."""
    if re.search(r"\bme\b", what):
        yield from (f"Please {what}.", f"Can you {what}?", f"Could you {what}?")
    else:
        yield from (f"Quick question: {_small(stem)}?", f"I have a question: {_small(stem)}?")


def _as_it_stands(stem: str) -> Iterator[str]:
    asked = _small(stem) if stem.split(maxsplit=1)[0].lower() != "i" else stem
    yield from (f"Could you tell me: {asked}?", f"Quick question: {asked}?", f"I'd like to know: {asked}?")
    yield f"I have a question: {asked}?"


def _is_wh(words: list[str]) -> bool:
    asked = words[1:2] if words[0].lower() in _FRONTED else words[:1]
    return bool(asked) and asked[0].lower() in ("who", "whom", "whose", "what", "which", "when", "where", "why", "how")


def _embedded(words: list[str]) -> str | None:
    """The question as a clause, "who the mayor of Aurora is"; None where its order is not sure."""
    if found := _HOW_TO.fullmatch(" ".join(words)):
        return f"how to {found['what']}"
    at = _auxiliary_at(words)
    if at is None:
        return _small(" ".join(words)) if _asks_for_subject(words) else None
    wh, auxiliary, rest = _small(" ".join(words[:at])), words[at].lower(), words[at + 1 :]
    if not rest:
        return None
    if auxiliary in _DO:
        said = _undone(auxiliary, rest)
    elif rest[0].lower() in _PRONOUNS or (len(rest) == 1 and rest[0].lower() in _POINTERS):
        said = " ".join((rest[0], auxiliary, *rest[1:])) if auxiliary != "am" or rest[0] == "I" else None
    elif auxiliary in _BE:
        said = _of_being(wh.split(), auxiliary, rest)
    else:
        is_subject = rest[0] in _PAST if auxiliary in _MODAL else rest[0] in ("a", "an") or rest[0].isdigit()
        said = f"{auxiliary} {' '.join(rest)}" if is_subject and wh.startswith(("who", "which")) else None
    return f"{wh} {said}" if said else None


def _auxiliary_at(words: list[str]) -> int | None:
    """Where the verb stands that a question turns round."""
    low = [word.lower() for word in words]
    if low[0] == "how" and len(low) > 2 and low[1] in _DEGREES and low[1] not in ("many", "much"):
        return 2 if low[2] in _AUXILIARY else None
    has_noun = low[0] in ("which", "whose") or low[0] in _FRONTED or low[:2] in (["how", "many"], ["how", "much"])
    if has_noun or (low[0] == "what" and low[1:2] and low[1] in _ASKED_NOUNS):
        return next((at for at, word in enumerate(low[:8]) if at > 1 and word in _AUXILIARY), None)
    return 1 if len(low) > 1 and low[1] in _AUXILIARY else None


def _asks_for_subject(words: list[str]) -> bool:
    """Whether the verb follows at once: "Who wrote it?", "How many people live there?" """
    low = [word.lower() for word in words]
    if len(low) < 3 or any(word in _AUXILIARY for word in low) or low[1] in ("about", "if", "else", "of"):
        return False
    if low[0] in ("who", "what"):
        return low[1] in _PAST.values() or low[1] in _DONE_BY or low[1] in map(_third, _PAST) or low[1].endswith("ed")
    verbs = {*_PAST, *_PAST.values(), *_DONE_BY, *map(_third, _PAST)}
    return (low[0] == "which" or low[:2] == ["how", "many"]) and any(word in verbs for word in low[2:])


def _undone(auxiliary: str, rest: list[str]) -> str | None:
    """Subject and verb without "do": "does Anna live" is "Anna lives"."""
    if len(rest) < 2:
        return None
    if auxiliary == "do":
        return " ".join(rest)
    places = [
        at
        for at, word in enumerate(rest)
        if at
        and word in _PAST
        and rest[at - 1].lower() not in (*_DETERMINERS, "to")
        and not rest[at - 1].endswith("'s")
    ]
    if len(places) != 1:
        return None
    at = places[0]
    verb = _PAST[rest[at]] if auxiliary == "did" else _third(rest[at])
    return " ".join((*rest[:at], verb, *rest[at + 1 :]))


def _of_being(wh: list[str], be: str, rest: list[str]) -> str | None:
    """Subject and "is" in the order of a clause."""
    for tail in (2, 1):
        last, subject = " ".join(rest[-tail:]), rest[:-tail]
        if (last.lower() in (_PAIRED_TAILS if tail == 2 else _TAILS)) and _is_noun_phrase(subject):
            return " ".join((*subject, be, last))
    if wh[0] == "why":
        is_plain = len(rest) == 3 and rest[0].lower() in _DETERMINERS and rest[1].isalpha() and rest[2].islower()
        return " ".join((*rest[:2], be, rest[2])) if is_plain else None
    is_bare = wh in (["who"], ["what"], ["when"], ["where"])
    if is_bare or (wh[0] == "how" and len(wh) == 2 and wh[1] in _DEGREES):
        is_term = wh == ["what"] and len(rest) == 1 and rest[0].endswith(_NOUN_ENDINGS)
        return " ".join((*rest, be)) if is_term or _is_noun_phrase(rest) else None
    if len(wh) == 2 and wh[1] in ("colour", "color", "size", "age", "height") and _is_noun_phrase(rest):
        return " ".join((*rest, be))
    begins = rest[0].lower()
    is_subject = rest[0].islower() and begins not in _DETERMINERS and wh[0] in ("which", "how") and len(wh) > 1
    if is_subject and re.search(r"(?:est|st)$|^(?:in|on|at|most|needed|used|located)$", begins):
        return " ".join((be, *rest))
    return None


def _is_noun_phrase(words: list[str]) -> bool:
    """Whether these words surely name one thing and say nothing about it."""
    if not 0 < len(words) <= 9 or re.search(r"[,:;()]", " ".join(words)):
        return False
    low = [word.lower().strip('"') for word in words]
    if any(word in _TAILS or word in _OUTSIDE or not word for word in low) or low[-1] in (*_INSIDE, *_DETERMINERS):
        return False
    if any((word.endswith("ed") and len(word) > 4) or _is_doing(word) for word in low if word != "united"):
        return False
    if low[0] in _DETERMINERS:
        return len(words) > 1 and low[1] not in (*_INSIDE, *_DETERMINERS)
    if any(word.endswith(("'s", "s'")) for word in low[:-1]):
        return words[0][0].isupper()
    return words[0][0].isupper() and all(word[0].isupper() or word in _SMALL or word[0].isdigit() for word in words)


def _is_doing(word: str) -> bool:
    return word.endswith("ing") and word not in _NOUNS_IN_ING


def _is_owner(words: list[str], *, ends_in_s: bool = False) -> bool:
    """Whether "'s" can be put behind these words: short, and one thing; in the plural only where it need not be."""
    low = [word.lower() for word in words]
    if not 0 < len(words) <= 4 or not _is_noun_phrase(words) or any(each in ("and", "'s") for each in low):
        return False
    if any(each in _INSIDE for each in low) or '"' in "".join(words) or any(each.endswith("'s") for each in low):
        return False
    return ends_in_s or not low[-1].endswith("s")


def _last(text: str) -> str:
    return text.rsplit(maxsplit=1)[-1].lower()


def _owners(words: list[str]) -> tuple[str, ...]:
    return (" ".join(words),) if _is_owner(words) else ()


def _third(verb: str) -> str:
    """The form that goes with "she"."""
    if verb in ("have", "do", "go"):
        return {"have": "has", "do": "does", "go": "goes"}[verb]
    if verb.endswith(("s", "sh", "ch", "x")):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"


def _starts(words: list[str], begin: str) -> bool:
    return " ".join(words[:2]).lower() == begin and len(words) > 3


def _long(stem: str) -> str:
    """ "What's the …" in full."""
    return re.sub(rf"^(who|what|where|when)'s (?=(?:{'|'.join(_DETERMINERS)})\b)", r"\1 is ", stem, flags=re.IGNORECASE)


def _small(text: str) -> str:
    """Without the capital of a sentence's first word."""
    first = text.split(maxsplit=1)[0]
    return text if first.isupper() and len(first) > 1 else text[:1].lower() + text[1:]
