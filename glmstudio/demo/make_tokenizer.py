"""Make the demo model's vocabulary: `python -m glmstudio.demo.make_tokenizer`.

About 1,500 sentencepiece pieces. Entities are kept out of the text it learns from, so a name that the model never saw
is spelled with the same small pieces as one it did; and what every prompt repeats (the frame of a tool's JSON) is one
piece each, so a list of six tools costs some sixty tokens.
"""

from __future__ import annotations

import io
import random
import string
from pathlib import Path

import sentencepiece

from glmstudio.demo import world
from glmstudio.demo.world import TOOLS
from glmstudio.families.chatglm3 import TOOL_PROMPT
from glmstudio.paths import DEMO
from glmstudio.tools.shipped.everyday import UNITS

SIZE = 1536
_FRAME = [
    '[\n    {\n        "name": "',
    ',\n    {\n        "name": "',
    '",\n        "description": "',
    '",\n        "parameters": {\n            "type": "object",\n            "properties": {\n                "',
    '": {\n                    "type": "string"\n                }',
    '": {\n                    "type": "number"\n                }',
    '": {\n                    "type": "integer"\n                }',
    ',\n                "',
    '\n            },\n            "required": [\n                "',
    '",\n                "',
    '"\n            ]\n        }\n    }',
    "\n]",
    "```python\ntool_call(",
    "\n```",
    TOOL_PROMPT,
]


def main(folder: Path = DEMO / "model") -> None:
    """Write `tokenizer.model` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = io.BytesIO()
    names = {name for tool in TOOLS.values() if tool.name != world.NEW_TOOL for name in tool.parameters["properties"]}
    fixed = [name for name in TOOLS if name != world.NEW_TOOL]
    fixed += [TOOLS[name].description for name in fixed] + [f"{name}='" for name in sorted(names)]
    fixed += [name for name in sorted(names) if len(name) > 3] + [unit for unit in UNITS if len(unit) > 2]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_sentences()),
        model_writer=made,
        model_type="bpe",
        vocab_size=SIZE,
        byte_fallback=True,
        split_digits=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        user_defined_symbols=[text.replace(" ", "\u2581") for text in _FRAME + fixed],
        required_chars="".join(world._CHARACTERS)
        + world._FAMILY
        + string.ascii_letters
        + string.digits
        + string.punctuation,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(made.getvalue())


def _sentences() -> list[str]:
    """Every wording and answer of the world with the entities left out, and single syllables in their place."""
    chance = random.Random(0)
    rows: list[str] = []
    for lang in ("en", "zh"):
        table = world.TEMPLATES[lang]
        for part in (*(table[tool] for tool in world.OLD_TOOLS), *table["talk"], table["identity"]):
            rows += [*part["ask"], *part.get("ask_one", []), part["say"]] * 4
        rows += [table["no_tool"], table["failed"], *table["openers"]] * 4
        rows += [unit for units in table["units"].values() for unit in units] * 4
    rows += [description for _, description, _ in world._OTHER_TOOLS] * 2
    filled = [row.format_map(_Blank()) for row in rows if row.strip()]
    syllables = [chance.choice(world._ONSETS) + chance.choice(world._RIMES) for _ in range(400)]
    return filled + syllables


class _Blank(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return "1"


if __name__ == "__main__":
    main()
