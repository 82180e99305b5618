"""YAML as people write it: scripts as blocks, keys in the order in which they are given, comments on top."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Only data, and no references between its parts."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def yaml_text(comments: list[str], *documents: dict[str, Any]) -> str:
    """The documents, with comments before the first one."""
    bodies = [
        yaml.dump(each, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False)
        for each in documents
    ]
    return "".join(f"# {line}\n" for line in comments) + "---\n".join(bodies)
