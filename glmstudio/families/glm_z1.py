"""GLM-Z1-9B-0414: GLM-4-0414 that thinks before it answers. A thought is read by nobody but its reader: it is not sent
again with the next question, and learned only where the last answer of a conversation has one."""

from __future__ import annotations

from dataclasses import replace

from glmstudio.families.family import Family
from glmstudio.families.glm4 import GLM4, TOOLS, Glm4
from glmstudio.families.message import Frame, Message

BEGIN, END = "<think>", "</think>"
_WHO = (
    "你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n"
)


def thought_and_answer(text: str) -> tuple[str, str]:
    """The thought with which a text begins, empty where it begins with none, and what is said behind it."""
    if not text.startswith(BEGIN):
        return "", text
    thought, _, said = text.removeprefix(BEGIN).partition(END)
    return thought.strip(), said.strip()


class GlmZ1(Glm4):
    """How GLM-Z1 writes and reads."""

    def frames(self, message: Message, *, last: bool = True) -> tuple[Frame, ...]:
        """As its family, without thoughts but in the last answer, and without blanks around a text."""
        frames = super().frames(message, last=last)
        if message.role == "system" or (last and message.role == "assistant" and message.content.startswith(BEGIN)):
            return frames
        return tuple(replace(each, content=self.visible(each.content)) for each in frames)

    def visible(self, answer: str) -> str:
        """What stands behind the thought."""
        return answer.rpartition(END)[2].strip()

    def tools_text(self, tools: tuple[str, ...]) -> str:
        """Who it is, and its tools one below the other."""
        return "\n".join((f"{_WHO}{TOOLS}", *tools))


GLM_Z1: Family = GlmZ1(
    **vars(replace(GLM4, name="glm_z1", title="GLM-Z1-9B-0414", thinks=True, answer_begins=f"\n{BEGIN}"))
)
