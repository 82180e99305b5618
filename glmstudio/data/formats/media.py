"""Records about pictures, sounds or films, none of which this model can see or hear."""

from __future__ import annotations

import re
from typing import Any

from glmstudio.data.formats.absent import TURNS, is_no_input

_KINDS = ("image", "img", "video", "audio")
_FIELDS = frozenset(f"{kind}{end}" for kind in _KINDS for end in ("", "s", "_path", "_paths", "_url", "_urls", "_file"))
_SIGN = re.compile(
    r"<(?P<tag>image|video|audio)(?:_?\d+)?>(?!.*</(?P=tag)>)|<img>[^<>\n]{1,300}</img>|<ImageHere>|"
    r"<\|(?:image|video|audio|vision_start|begin_of_image|begin_of_video|image_pad|audio_bos)(?:_?\d+)?\|>|"
    r"\bdata:(?:image|video|audio)/[\w.+-]{1,40};base64,",
    re.IGNORECASE | re.DOTALL,
)


def has_media(record: dict[Any, Any]) -> bool:
    """Whether a record comes with files that are to be looked at or listened to."""
    if _given(record):
        return True
    turns = next((record[name] for name in TURNS if isinstance(record.get(name), list)), ())
    return any(isinstance(turn, dict) and _given(turn) for turn in turns)


def asks_about_media(question: str) -> bool:
    """Whether a place in a question is kept for a picture, a sound or a film; program text is none."""
    hinted = "<" in question or ";base64," in question
    return hinted and "```" not in question and _SIGN.search(question) is not None


def _given(fields: dict[Any, Any]) -> bool:
    return not _FIELDS.isdisjoint(fields) and any(not is_no_input(fields[name]) for name in _FIELDS & fields.keys())
