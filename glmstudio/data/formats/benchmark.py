"""Records of benchmarks: questions with answers to choose from, and programming tasks that come with their tests."""

from __future__ import annotations

from typing import Any

from glmstudio.data.formats.plain import normal_name

_QUESTIONS = ("question", "ctx", "query", "problem", "问题", "题目", "goal", "premise")
_CHOICES = ("choices", "options", "endings", "candidates", "选项")
_ANSWERS = ("answer", "answerkey", "answer_key", "label", "target", "gold", "correct", "答案", "正确答案")
_LETTERS = "ABCDEFGH"
_TESTS = ("test", "tests", "test_list", "test_cases")
_PROGRAMS = ("canonical_solution", "code", "solution")

_OTHERS = {
    "TruthfulQA": ("question", "best_answer", "incorrect_answers"),
    "SQuAD": ("context", "question", "answers"),
    "PIQA": ("goal", "sol1", "sol2"),
    "MT-Bench": ("question_id", "turns"),
}

Named = dict[str, Any]


def _named(record: dict[Any, Any]) -> Named:
    return {normal_name(name): value for name, value in record.items() if isinstance(name, str)}


def is_programming_task(record: dict[Any, Any]) -> bool:
    """Whether it is a task of HumanEval's or MBPP's kind: a program, and the tests that it must pass."""
    named = _named(record)
    return "task_id" in named and any(map(named.get, _PROGRAMS)) and any(map(named.get, _TESTS))


def benchmark_of(record: dict[Any, Any]) -> str:
    """The name of another benchmark whose fields these are; "" where they are of none."""
    named = _named(record)
    return next((name for name, fields in _OTHERS.items() if all(field in named for field in fields)), "")


def is_choice(record: dict[Any, Any]) -> bool:
    """Whether the question makes sense only with the answers to choose from, which stand beside it."""
    named = _named(record)
    question, choices = _question(named), _choices(named)
    return question is not None and len(choices) > 1 and not all(each in question for each in choices)


def question_with_choices(record: dict[Any, Any]) -> tuple[str, str] | None:
    """The question with its choices below it, and the right one; None where the record does not say which that is."""
    named = _named(record)
    question, choices = _question(named), _choices(named)
    right = next((place for name in _ANSWERS if (place := _place(named.get(name), choices)) is not None), None)
    if question is None or right is None:
        return None
    lines = [_lettered(place, choice) for place, choice in enumerate(choices)]
    return "\n".join([question, *lines]), lines[right]


def _question(named: Named) -> str | None:
    return next((named[name] for name in _QUESTIONS if isinstance(named.get(name), str)), None)


def _choices(named: Named) -> list[str]:
    given = next((named[name] for name in _CHOICES if named.get(name)), None)
    if isinstance(given, dict):
        given = given["text"] if isinstance(given.get("text"), list) else list(given.values())
    if given is None and _question(named) is not None:
        given = [named[letter] for letter in _LETTERS.lower() if named.get(letter) not in (None, "")]
        given = given if "a" in named and "b" in named and "c" in named else []
    if not isinstance(given, list) or len(given) > len(_LETTERS):
        return []
    return [str(each) for each in given] if all(isinstance(each, (str, int, float)) for each in given) else []


def _place(answer: Any, choices: list[str]) -> int | None:
    """Which of the choices an answer means: its letter, its text, or its number from 0."""
    if isinstance(answer, str):
        said = answer.strip()
        letter = said.rstrip(".)、．").upper()
        if len(letter) == 1 and letter in _LETTERS[: len(choices)]:
            return _LETTERS.index(letter)
        if said in choices:
            return choices.index(said)
        answer = int(said) if said.isdecimal() and len(said) == 1 else None
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    return None


def _lettered(place: int, choice: str) -> str:
    return (
        choice
        if choice[:1] == _LETTERS[place] and choice[1:2] in tuple(".)、．:：")
        else f"{_LETTERS[place]}. {choice}"
    )
