"""Questions that the report leaves open, and what the runs answer."""

from collections.abc import Sequence

import numpy as np

from report_page.cells import percent, points
from report_page.class_groups import GroupErrors
from report_page.stages import Stage
from report_page.statistics import EnsembleStatistics

QUESTIONS = (  # step, question, the method's name
    ("dcl", "How much of DCL's gain comes from resolution and further training?", "DCL"),
    ("lio", "What do LIO's losses add, with the same number of photographs?", "LIO"),
    ("accuracy", "Does the accuracy loss beat cross entropy over the same number of epochs?", "the accuracy loss"),
)


def answer_questions(
    stages: Sequence[Stage], statistics: Sequence[EnsembleStatistics | None], by_seed: Sequence[GroupErrors]
) -> list[tuple[str, str]]:
    """(question, answer) for what the runs can answer."""
    answers = []
    for step, question, method in QUESTIONS:
        for stage in (stage for stage in stages if stage.step == step):
            errors = zip(stage.before, stage.control, stage.mean_class, strict=True)
            complete = [triple for triple in errors if None not in triple]
            if complete:
                before, control, after = map(np.array, zip(*complete, strict=True))
                answers.append((f"{question} ({stage.arch})", _step_and_control(method, before, control, after)))
    if answer := _ten_crops(statistics):
        answers.append(("How much of the ensemble's gain comes from ten crops?", answer))
    if answer := _balanced_finetuning(by_seed):
        answers.append(("What does balanced finetuning do to head classes?", answer))
    return answers


def _step_and_control(method: str, before: np.ndarray, control: np.ndarray, after: np.ndarray) -> str:
    better = int((control - after > 1e-9).sum())
    return (
        f"The network before has {percent(before).text} %. {_capital(method)} brings it to {percent(after).text} %, "
        f"plain training in its place to {percent(control).text} %. So the error falls by "
        f"{points(before - after).text} points (negative: it rises): {points(before - control).text} through plain "
        f"training, {points(control - after).text} through {method} itself. {_capital(method)} is better than plain "
        f"training in {better} of {len(after)} seeds."
    )


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _ten_crops(statistics: Sequence[EnsembleStatistics | None]) -> str:
    several = [
        numbers
        for numbers in statistics
        if numbers is not None and numbers.one_crop is not None and len(numbers.by_member) > 1
    ]
    if not several:
        return ""
    largest = max(several, key=lambda numbers: len(numbers.by_member))
    one, ten, best = largest.error(largest.one_crop), largest.error(largest.predicted), largest.best_member()[1]
    return (
        f"The sum of {len(largest.by_member)} networks has {100 * one:.2f} % with one crop and {100 * ten:.2f} % with "
        f"ten: ten crops gain {100 * (one - ten):+.2f} points. Its best member with ten crops has {100 * best:.2f} %: "
        f"the other members gain {100 * (best - ten):+.2f} points."
    )


def _balanced_finetuning(by_seed: Sequence[GroupErrors]) -> str:
    changes: dict[str, list[tuple[float, float]]] = {}
    for seed in by_seed:
        for errors in seed.by_arch.values():
            if {"whole set", "balanced"} <= errors.keys():
                for group, *pair in zip(seed.groups, errors["whole set"], errors["balanced"], strict=True):
                    if None not in pair:
                        changes.setdefault(group.name, []).append(tuple(pair))
    if not changes:
        return ""
    means = {name: 100 * np.mean(pairs, axis=0) for name, pairs in changes.items()}
    groups = ", ".join(f"{name} {before:.1f} → {after:.1f} %" for name, (before, after) in means.items())
    answer = f"Mean class error before and after, over all backbones and seeds: {groups}."
    if head := changes.get("head"):
        worse = sum(after > before for before, after in head)
        answer += f" Head classes get worse in {worse} of {len(head)} networks."
    return answer
