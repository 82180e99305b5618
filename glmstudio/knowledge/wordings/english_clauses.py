"""An English question as a clause: "Who is the mayor of Aurora?" is "who the mayor of Aurora is"."""

from __future__ import annotations

import re

from glmstudio.knowledge.wordings.english_phrases import (
    DETERMINERS,
    POINTERS,
    TAILS,
    is_noun_phrase,
    listed,
    uncapitalized,
)

_DO = ("do", "does", "did")
_BE = ("is", "are", "was", "were")
_MODAL = ("can", "could", "will", "would", "should", "must", "may", "might")
_AUXILIARY = (*_DO, *_BE, *_MODAL, "am", "has", "have", "had")
_PRONOUNS = ("i", "you", "we", "he", "she", "they", "it", "there")
FRONTED = ("in", "on", "at", "by", "from", "to", "with", "for")
_PAIRED_TAILS = ("made of", "made from", "used for", "known for", "named after", "responsible for", "famous for")
_NOUN_ENDINGS = ("tion", "sion", "ment", "ness", "ity", "ism", "sis", "logy", "nomy", "graphy")
_ASKED_NOUNS = listed(
    "time year day colour color kind type sort language city country number date month animal size age subject team "
    "company"
)
DEGREES = {
    "tall": "height", "high": "height", "long": "length", "old": "age", "deep": "depth", "wide": "width",
    "heavy": "weight", "big": "size", "large": "size", "far": "", "fast": "", "many": "", "much": "",
}  # fmt: skip
DONE_BY = {
    "wrote": ("written", "author"), "founded": ("founded", "founder"), "invented": ("invented", "inventor"),
    "directed": ("directed", "director"), "composed": ("composed", "composer"), "painted": ("painted", ""),
    "designed": ("designed", "designer"), "discovered": ("discovered", ""), "built": ("built", ""),
    "developed": ("developed", ""), "created": ("created", "creator"),
}  # fmt: skip
_PAST = dict(
    pair.split(":")
    for pair in listed(
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
HOW_TO = re.compile(
    r"how (?:do|can) (i|we|you(?! (?:feel|like|know|think|do)\b)(?!.*\byour)) (?P<what>\w.+)", re.IGNORECASE
)


def is_wh(words: list[str]) -> bool:
    """Whether the question begins with who, what, when …, perhaps after a preposition."""
    asked = words[1:2] if words[0].lower() in FRONTED else words[:1]
    return bool(asked) and asked[0].lower() in ("who", "whom", "whose", "what", "which", "when", "where", "why", "how")


def embedded(words: list[str]) -> str | None:
    """The question as a clause, "who the mayor of Aurora is"; None where its order is not sure."""
    if found := HOW_TO.fullmatch(" ".join(words)):
        return f"how to {found['what']}"
    at = _auxiliary_at(words)
    if at is None:
        return uncapitalized(" ".join(words)) if _asks_for_subject(words) else None
    wh, auxiliary, rest = uncapitalized(" ".join(words[:at])), words[at].lower(), words[at + 1 :]
    if not rest:
        return None
    if auxiliary in _DO:
        said = _undone(auxiliary, rest)
    elif rest[0].lower() in _PRONOUNS or (len(rest) == 1 and rest[0].lower() in POINTERS):
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
    if low[0] == "how" and len(low) > 2 and low[1] in DEGREES and low[1] not in ("many", "much"):
        return 2 if low[2] in _AUXILIARY else None
    has_noun = low[0] in ("which", "whose") or low[0] in FRONTED or low[:2] in (["how", "many"], ["how", "much"])
    if has_noun or (low[0] == "what" and low[1:2] and low[1] in _ASKED_NOUNS):
        return next((at for at, word in enumerate(low[:8]) if at > 1 and word in _AUXILIARY), None)
    return 1 if len(low) > 1 and low[1] in _AUXILIARY else None


def _asks_for_subject(words: list[str]) -> bool:
    """Whether the verb follows at once: "Who wrote it?", "How many people live there?" """
    low = [word.lower() for word in words]
    if len(low) < 3 or any(word in _AUXILIARY for word in low) or low[1] in ("about", "if", "else", "of"):
        return False
    if low[0] in ("who", "what"):
        return low[1] in _PAST.values() or low[1] in DONE_BY or low[1] in map(_third, _PAST) or low[1].endswith("ed")
    verbs = {*_PAST, *_PAST.values(), *DONE_BY, *map(_third, _PAST)}
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
        if at and word in _PAST and rest[at - 1].lower() not in (*DETERMINERS, "to") and not rest[at - 1].endswith("'s")
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
        if (last.lower() in (_PAIRED_TAILS if tail == 2 else TAILS)) and is_noun_phrase(subject):
            return " ".join((*subject, be, last))
    if wh[0] == "why":
        is_plain = len(rest) == 3 and rest[0].lower() in DETERMINERS and rest[1].isalpha() and rest[2].islower()
        return " ".join((*rest[:2], be, rest[2])) if is_plain else None
    is_bare = wh in (["who"], ["what"], ["when"], ["where"])
    if is_bare or (wh[0] == "how" and len(wh) == 2 and wh[1] in DEGREES):
        is_term = wh == ["what"] and len(rest) == 1 and rest[0].endswith(_NOUN_ENDINGS)
        return " ".join((*rest, be)) if is_term or is_noun_phrase(rest) else None
    if len(wh) == 2 and wh[1] in ("colour", "color", "size", "age", "height") and is_noun_phrase(rest):
        return " ".join((*rest, be))
    begins = rest[0].lower()
    is_subject = rest[0].islower() and begins not in DETERMINERS and wh[0] in ("which", "how") and len(wh) > 1
    if is_subject and re.search(r"(?:est|st)$|^(?:in|on|at|most|needed|used|located)$", begins):
        return " ".join((be, *rest))
    return None


def _third(verb: str) -> str:
    """The form that goes with "she"."""
    if verb in ("have", "do", "go"):
        return {"have": "has", "do": "does", "go": "goes"}[verb]
    if verb.endswith(("s", "sh", "ch", "x")):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"
