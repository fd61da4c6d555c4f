"""Asks for layouts as Plan Scene Layout does, many prompts at a time, and keeps the answers in a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...scaffold.layout_reading import read_layout
from ...scaffold.planning import ATTEMPTS, Plan, PlanningError, plan_layout
from .prompts import PlanPrompt
from .scoring import Result

AnswerAll = Callable[[Sequence[str], int], Sequence[str]]
"""(requests, number of the attempt from 0 on) -> a language model's answers."""

Answers = dict[int, list[str]]
"""The answers to each prompt by its number, in the order of the attempts."""


class _Asked(Exception):  # noqa: N818 - it is no error: it leaves the planner at its next question
    def __init__(self, request: str) -> None:
        super().__init__(request)
        self.request = request


def _plan(prompt: PlanPrompt, answers: Sequence[str], attempts: int) -> Plan:
    """The planner's plan from these answers. Raises _Asked where it needs one more, and PlanningError."""

    def write(request: str, attempt: int) -> str:
        if attempt >= len(answers):
            raise _Asked(request)
        return answers[attempt]

    return plan_layout(prompt.text, write, prompt.camera, attempts=attempts)


def next_request(prompt: PlanPrompt, answers: Sequence[str], attempts: int = ATTEMPTS) -> str | None:
    """What the node would ask a language model after these answers. None where it has a layout, or gives up."""
    try:
        _plan(prompt, answers, attempts)
    except _Asked as asked:
        return asked.request
    except PlanningError:
        return None
    return None


def ask(prompts: Sequence[PlanPrompt], answer_all: AnswerAll, attempts: int = ATTEMPTS) -> Answers:
    """The answers to all prompts. Prompts whose answer was no layout are asked again, with the node's words."""
    answers: Answers = {prompt.number: [] for prompt in prompts}
    for attempt in range(attempts):
        requests = {prompt.number: next_request(prompt, answers[prompt.number], attempts) for prompt in prompts}
        open_requests = {number: request for number, request in requests.items() if request is not None}
        if not open_requests:
            break
        for number, answer in zip(open_requests, answer_all(list(open_requests.values()), attempt), strict=True):
            answers[number].append(answer)
    return answers


def results_of(prompt: PlanPrompt, answers: Sequence[str]) -> tuple[Result, Result]:
    """As the language model wrote the layout, and as the node corrects it by the words. Both from the same answer."""
    if not answers:
        return Result(None, False), Result(None, False)
    try:
        plan = _plan(prompt, answers, len(answers))
    except PlanningError:
        return Result(None, False), Result(None, False)
    written = read_layout(plan.answers[-1]).layout
    return Result(written, len(plan.answers) == 1), Result(plan.layout, len(plan.answers) == 1)


def names_only(prompt: PlanPrompt) -> str:
    """An answer that has the names of the things and nothing else: what reading and correcting do without a model."""
    return json.dumps({"objects": [{"name": thing.name} for thing in prompt.things]})


def write_requests(path: Path, prompts: Sequence[PlanPrompt]) -> None:
    """One JSON object a line, for language models elsewhere: "number", "prompt", "camera" and "request"."""
    _write_lines(path, [_head(prompt) | {"request": next_request(prompt, [])} for prompt in prompts])


def write_answers(
    path: Path, prompts: Sequence[PlanPrompt], answers: Answers, scores: Mapping[int, Mapping[str, float]]
) -> None:
    """What `read_answers` reads, with the scores of each prompt's layout as it was written."""
    _write_lines(
        path,
        [
            _head(prompt) | {"answers": answers[prompt.number], "scores": dict(scores[prompt.number])}
            for prompt in prompts
        ],
    )


def _head(prompt: PlanPrompt) -> dict[str, object]:
    return {"number": prompt.number, "prompt": prompt.text, "camera": prompt.camera}


def _write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_answers(path: Path, prompts: Sequence[PlanPrompt]) -> Answers:
    """The answers of a file of JSON lines: {"number": 0, "answer": "..."}, or "answers" with all of one prompt.

    Prompts without a line have no answers. ValueError, with the line's number, for anything else, for a number that is
    no prompt's, and for a line whose "prompt" is another one.
    """
    by_number = {prompt.number: prompt for prompt in prompts}
    answers: Answers = {number: [] for number in by_number}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            prompt, given = _read_line(line, f"line {number} of {path.name}", by_number)
            answers[prompt.number] += given
    return answers


def _read_line(line: str, label: str, by_number: Mapping[int, PlanPrompt]) -> tuple[PlanPrompt, list[str]]:
    """The prompt and the answers of a line."""
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"write one JSON object on each line: {label} is none") from error
    fields = row if isinstance(row, dict) else {}
    number, given = fields.get("number"), fields.get("answers", [fields.get("answer")])
    prompt = by_number.get(number) if type(number) is int else None
    if prompt is None or not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise ValueError(
            f'write {{"number": a prompt\'s number, "answer": "..."}} on each line, and give --prompts and --seed as '
            f"for --requests: {label} is not so"
        )
    if fields.get("prompt", prompt.text) != prompt.text:
        raise ValueError(
            f"give --seed as for --requests: {label} has prompt {str(fields['prompt'])[:80]!r}, and prompt {number} "
            f"of this seed is {prompt.text!r}"
        )
    return prompt, given
