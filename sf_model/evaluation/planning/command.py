"""python -m sf_model.evaluation plan: score the layouts that a language model writes for held-out prompts.

The rows of the table:

  names            an answer with the things' names alone, as it is read: sizes of the table, one beside the other
  names, planned   the same, corrected by the words as Plan Scene Layout does: what the node does without a model
  written          the language model's layout, as it is read
  planned          the same, corrected: what the node gives
  true             layouts that the prompts describe: the scorer's ceiling

So the language model's own skill is "written" over "names". A thing that it leaves out counts against it in all rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...scaffold.planning import ATTEMPTS, MAX_TOKENS, SAMPLING
from ...training.revision import current_commit
from ..arguments import PUBLISHED_SEED
from ..bootstrap import Estimate
from ..report import estimates_markdown, write_report
from .asking import Answers, ask, names_only, read_answers, results_of, write_answers, write_requests
from .language_model import DTYPES, FolderModel
from .prompts import PROMPTS_PER_TEMPLATE, PlanPrompt, plan_prompts
from .scoring import Result, scores_of, summary


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("plan", help="the layouts that a language model writes for held-out prompts")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, help="folder of a language model: transformers, in safetensors")
    source.add_argument("--answers", type=Path, help="answers from anywhere, one JSON object a line")
    source.add_argument("--requests", type=Path, help="write the requests to this file, for --answers, and stop")
    command.add_argument("--prompts", type=int, default=PROMPTS_PER_TEMPLATE, help="of each of the 15 templates")
    command.add_argument("--attempts", type=int, default=ATTEMPTS, help="how often the model is asked, as in the node")
    command.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help="the longest answer of --model")
    command.add_argument("--batch", type=int, default=8, help="prompts at a time of --model")
    command.add_argument("--device", help="of --model, such as cpu or cuda:1; default: an accelerator if there is one")
    command.add_argument("--precision", choices=tuple(DTYPES), default="own", help="of --model's weights")
    command.add_argument("--seed", type=int, default=PUBLISHED_SEED, help="of the prompts and of the answers")
    command.add_argument("--output", type=Path, default=Path("output/plan"))
    command.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    try:
        prompts = plan_prompts(arguments.seed, arguments.prompts)
        if arguments.requests is not None:
            write_requests(arguments.requests, prompts)
            print(f"written: {arguments.requests} ({len(prompts)} requests)")
            return
        answers = _answers(arguments, prompts)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    rows, scores = table(prompts, answers)
    write_answers(arguments.output / "plan_answers.jsonl", prompts, answers, scores)
    markdown = estimates_markdown(["layouts"], [([name], row) for name, row in rows.items()], decimals=1)
    write_report(arguments.output, "plan", _record(arguments, prompts, answers), rows, markdown)


def _answers(arguments: argparse.Namespace, prompts: Sequence[PlanPrompt]) -> Answers:
    if arguments.answers is not None:
        return read_answers(arguments.answers, prompts)
    model = FolderModel(
        arguments.model,
        arguments.seed,
        arguments.max_tokens,
        arguments.batch,
        arguments.device,
        arguments.precision,
    )
    return ask(prompts, model, arguments.attempts)


def table(
    prompts: Sequence[PlanPrompt], answers: Answers
) -> tuple[dict[str, dict[str, Estimate]], dict[int, dict[str, float]]]:
    """The rows in percent, and the scores in [0, 1] of every prompt's layout as it was written."""
    names = [results_of(prompt, [names_only(prompt)]) for prompt in prompts]
    given = [results_of(prompt, answers[prompt.number]) for prompt in prompts]
    columns: dict[str, list[Result]] = {
        "names": [read for read, _ in names],
        "names, planned": [corrected for _, corrected in names],
        "written": [read for read, _ in given],
        "planned": [corrected for _, corrected in given],
        "true": [Result(prompt.layout, True) for prompt in prompts],
    }
    scores = {
        row: [scores_of(prompt, result) for prompt, result in zip(prompts, results)] for row, results in columns.items()
    }
    rows = {row: summary(prompts, values) for row, values in scores.items()}
    return rows, {prompt.number: values for prompt, values in zip(prompts, scores["written"])}


def _record(arguments: argparse.Namespace, prompts: Sequence[PlanPrompt], answers: Answers) -> Mapping[str, Any]:
    """The run. Files and folders by their names only, so that a report tells nothing of the machine."""
    shared = {
        "commit": current_commit(),
        "seed": arguments.seed,
        "prompts": len(prompts),
        "without_an_answer": sum(not answers[prompt.number] for prompt in prompts),
        "answers": sum(map(len, answers.values())),
    }
    if arguments.answers is not None:
        return {**shared, "answers_file": arguments.answers.name}
    return {
        **shared,
        "model": arguments.model.resolve().name,
        **{name: getattr(arguments, name) for name in ("attempts", "max_tokens", "batch", "precision")},
        "sampling": SAMPLING,
    }
