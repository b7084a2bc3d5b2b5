"""What the report leaves open, answered by the runs in sentences."""

from collections.abc import Sequence

import numpy as np

from report_page.counting import Counted
from report_page.tables import Stage, best_member, percent, points


def answers(
    found: Sequence[Stage], counted: Sequence[Counted | None], by_seed: Sequence[dict]
) -> list[tuple[str, str]]:
    """What the report leaves open, as (question, answer), where the runs can tell."""
    told = []
    for step, question, what in (
        ("dcl", "How much of DCL's gain is resolution and further training?", "DCL"),
        ("lio", "What do LIO's losses add to as many photographs?", "LIO"),
        ("accuracy", "Does the accuracy loss beat as many epochs of cross entropy?", "the accuracy loss"),
    ):
        for stage in (stage for stage in found if stage.step == step):
            rows = [row for row in zip(stage.before, stage.control, stage.mean_class, strict=True) if None not in row]
            if rows:
                told.append(
                    (f"{question} ({stage.arch})", _beside_control(what, *map(np.array, zip(*rows, strict=True))))
                )
    for question, answer in (_of_crops(counted), _of_balance(by_seed)):
        if answer:
            told.append((question, answer))
    return told


def _beside_control(what: str, before: np.ndarray, control: np.ndarray, own: np.ndarray) -> str:
    better = int((control - own > 1e-9).sum())
    return (
        f"From {percent(before).text} % {what} leads to {percent(own).text} %, plain training in its place to "
        f"{percent(control).text} %: {points(before - own).text} points gained in all, {points(before - control).text} "
        f"by plain training, {points(control - own).text} by {what} itself, which is better in {better} of {len(own)} "
        "seeds."
    )


def _of_crops(counted: Sequence[Counted | None]) -> tuple[str, str]:
    question = "How much of the ensemble's gain comes from ten crops?"
    sums = [own for own in counted if own is not None and own.centre is not None and len(own.predicted) > 1]
    if not sums:
        return question, ""
    own = max(sums, key=lambda own: len(own.predicted))
    one, ten = own.error(own.centre), own.error(own.total)
    return question, (
        f"The sum of {len(own.predicted)} networks has {100 * one:.2f} % with one crop and {100 * ten:.2f} % with ten: "
        f"{100 * (one - ten):+.2f} points by the crops. Its best member with ten crops has "
        f"{100 * best_member(own)[1]:.2f} %: {100 * (best_member(own)[1] - ten):+.2f} points by the other members."
    )


def _of_balance(by_seed: Sequence[dict]) -> tuple[str, str]:
    question = "What does balanced finetuning do to head classes?"
    changes = {}
    for found in by_seed:
        for chain in found["archs"].values():
            errors = dict(chain)
            if "whole set" in errors and "balanced" in errors:
                for group, before, after in zip(found["groups"], errors["whole set"], errors["balanced"], strict=True):
                    if before is not None and after is not None:
                        changes.setdefault(group.name, []).append((before, after))
    if not changes:
        return question, ""
    parts = []
    for name, pairs in changes.items():
        before, after = np.array(pairs).T
        parts.append(f"{name} {100 * before.mean():.1f} → {100 * after.mean():.1f} %")
    return question, (
        f"Mean class error over all backbones and seeds: {', '.join(parts)} (worse for head classes in "
        f"{sum(a > b for b, a in changes['head'])} of {len(changes['head'])} networks)."
    )
