"""Each family's conversation format as Jinja text, in our own words: what the published chat templates render."""

from __future__ import annotations

_ASK = "在调用上述函数时，请使用 Json 格式表示调用的参数。"
_TASK = "你的任务是针对用户的问题和要求提供适当的答复和支持。"
_GLM4 = f"你是一个名为 GLM-4 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，{_TASK}"
_Z1 = f"你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，{_TASK}"
_TOOL = "## {{ f.name }}\\n\\n{{ f | tojson(indent=4, ensure_ascii=False) }}\\n" + _ASK


def _tools(before: str, between: str, after: str) -> str:
    """The tools' turn: `before` the first tool, `between` two, `after` the last."""
    # A line break right behind a tag would be taken away.
    listed = "{% for t in tools %}{% set f = t.function %}{{ '" + between + "' }}" + _TOOL + "{% endfor %}"
    return "{% if tools %}<|system|>\n" + before + listed + after + "{% endif %}"


def _turns(content: str) -> str:
    return (
        "{% for m in messages if m.role == 'system' %}<|system|>\n{{ m.content }}{% endfor %}"
        "{% for m in messages if m.role != 'system' %}<|{{ m.role }}|>{{ m.metadata }}\n{{ "
        + content
        + " }}{% endfor %}"
    )


def _prompt(text: str) -> str:
    return "{% if add_generation_prompt %}" + text + "{% endif %}"


_PLAIN = _turns("m.content")
_VISIBLE = _turns("m.content.split('</think>')[-1].strip()")

TEMPLATES = {
    name: text.replace("\\n", "\n")
    for name, text in {
        "glm4": "[gMASK]<sop>" + _tools(f"{_GLM4}\n\n# 可用工具", "\n\n", "") + _PLAIN + _prompt("<|assistant|>"),
        "glm4_0414": "[gMASK]<sop>" + _tools("# 可用工具\n", "\n", "") + _PLAIN + _prompt("<|assistant|>"),
        "glm_z1": "[gMASK]<sop>"
        + _tools(f"{_Z1}\n\n# 可用工具", "\n", "")
        + _VISIBLE
        + _prompt("<|assistant|>\n<think>"),
        "glm_edge": _PLAIN + _prompt("<|assistant|>"),
    }.items()
}
