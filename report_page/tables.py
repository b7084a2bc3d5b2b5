"""The tables of the report: the same on the page and in results/steps.md."""

from collections.abc import Sequence

import numpy as np

from report_page.cells import Cell, Table, number, percent, points, text
from report_page.class_groups import TRAINED_ON, GroupErrors, errors_of
from report_page.results import ENSEMBLE, NAMES, REPORTED_ENSEMBLE, STEPS, Run, Seed
from report_page.stages import EnsembleErrors, Stage
from report_page.statistics import EnsembleStatistics

Ensembles = dict[str, list[EnsembleErrors]]  # of `stages.ensembles`


def steps_table(stages: Sequence[Stage], seeds: Sequence[Seed], ensembles: Ensembles) -> Table:
    """Every network and every sum beside the report's result."""
    rows = []
    for step in STEPS:
        of_step = [stage for stage in stages if stage.step == step.key]
        for place, stage in enumerate(of_step):
            first = [text(step.title), text("" if place else step.reported), text(stage.arch)]
            rows.append([*first, percent(stage.top1), percent(stage.mean_class), points(stage.change("before"))])
        if not of_step:
            rows.append([text(step.title), text(step.reported), text("-"), Cell(""), Cell(""), Cell("")])
    rows += _other_networks(seeds)
    for label, errors in ensembles.items():
        shown = [percent([one.top1 for one in errors]), percent([one.mean_class for one in errors])]
        change = points([one.mean_class - one.best for one in errors])
        rows.append([text(ENSEMBLE), text(REPORTED_ENSEMBLE), text(label), *shown, change])
    return Table(
        ["step", "the report", "network", "top-1 error, %", "mean class error, %", "change, points"],
        rows,
        "Each figure is the mean over the seeds that trained the network, ± the standard deviation where there are "
        "several. The last column is the change of the mean class error: negative is better. Steps 1b and 3 are "
        "compared with step 1, steps 2 and 4 with step 1b, and the sum with its best member.",
    )


def _other_networks(seeds: Sequence[Seed]) -> list[list[Cell]]:
    """A row for each member of the sum that is no step's network of its backbone."""
    others = [
        network
        for seed in seeds
        for network in seed.members.values()
        if network is not seed.find(network.arch, network.step)
    ]
    rows = []
    for name in dict.fromkeys(network.name for network in others):
        infos = [network.info for network in others if network.name == name and network.has_errors]
        if infos:
            errors = [percent([info.top1_error for info in infos]), percent([info.mean_class_error for info in infos])]
            rows.append([text("other"), text(""), text(name), *errors, Cell("")])
    return rows


def short_table(stages: Sequence[Stage], ensembles: Ensembles) -> Table:
    """One row a step: the backbone that most seeds trained, and the range of all backbones."""
    most = max((len(stage.mean_class) for stage in stages), default=0)
    arch = next((stage.arch for stage in stages if len(stage.mean_class) == most), "-")
    rows = []
    for step in STEPS:
        by_arch = {stage.arch: stage for stage in stages if stage.step == step.key}
        errors = [100 * float(np.mean(stage.mean_class)) for stage in by_arch.values()]
        across = f"{min(errors):.2f} to {max(errors):.2f}" if len(errors) > 1 else ""
        figures = [Cell(""), Cell(""), Cell("")]
        if arch in by_arch:
            stage = by_arch[arch]
            figures = [percent(stage.mean_class), points(stage.change("before")), points(stage.change("control"))]
        rows.append([text(step.title), text(step.reported), figures[0], text(across), *figures[1:]])
    seeds = f", {most} seeds" if most > 1 else ""
    columns = [f"{arch}{seeds}, %", "all backbones, %", "change, points", "against plain training"]
    return Table(["step", "the report", *columns], rows + _short_ensemble_row(ensembles))


def _short_ensemble_row(ensembles: Ensembles) -> list[list[Cell]]:
    """The sum that most seeds have, and beside it the one with the most members where that is another."""
    if not ensembles:
        return []
    by_seeds = sorted(ensembles.items(), key=lambda item: (-len(item[1]), item[0]))
    largest = max(by_seeds, key=lambda item: int(item[0].split(":")[0].split()[-1]))
    first, other = (f"{label}: {percent([one.mean_class for one in e]).text}" for label, e in (by_seeds[0], largest))
    change = points([one.mean_class - one.best for one in by_seeds[0][1]])
    across = other if largest != by_seeds[0] else ""
    return [[text(ENSEMBLE), text(REPORTED_ENSEMBLE), text(first), text(across), change, Cell("")]]


def controls_table(stages: Sequence[Stage]) -> Table:
    """Each step beside plain training in its place."""
    rows = []
    for stage in stages:
        errors = zip(stage.before, stage.control, stage.mean_class, strict=True)
        complete = [triple for triple in errors if None not in triple]
        if complete:
            before, control, after = map(np.array, zip(*complete, strict=True))
            better = int((control - after > 1e-9).sum())
            figures = [percent(before), percent(control), percent(after)]
            changes = [points(control - before), points(after - control), Cell(f"{better} of {len(after)}", better)]
            rows.append([text(NAMES[stage.step]), text(stage.arch), *figures, *changes])
    return Table(
        ["step", "network", "before, %", "plain training, %", "the step, %", "by plain training, points",
         "by the step itself, points", "better in (seeds)"],
        rows,
        "Mean class error. Plain training takes the step's place: cross entropy with the same resolution, learning "
        "rate, decay and number of photographs. In place of balanced finetuning it uses the whole set. By plain "
        "training: its change from the network before. By the step itself: the change from plain training to the step. "
        "Negative is better.",
    )  # fmt: skip


def crops_table(stages: Sequence[Stage], ensembles: Ensembles) -> Table:
    """One crop and ten, of every network and of the sums."""
    pairs = [(NAMES[stage.step], stage.arch, zip(stage.one_crop, stage.mean_class, strict=True)) for stage in stages]
    pairs += [("sum", label, [(one.one_crop, one.mean_class) for one in errors]) for label, errors in ensembles.items()]
    rows = []
    for step, network, errors in pairs:
        complete = [pair for pair in errors if pair[0] is not None]
        if complete:
            one, ten = np.array(complete).T
            rows.append([text(step), text(network), percent(one), percent(ten), points(ten - one)])
    return Table(
        ["step", "network", "one crop, %", "ten crops, %", "change, points"],
        rows,
        "Mean class error with the centre crop alone, and with the mean of the probabilities of ten crops.",
    )


def members_table(statistics: EnsembleStatistics) -> Table:
    """What each member of the sum adds."""
    rows, error_of_sum = [], statistics.error(statistics.predicted)
    disagreement = statistics.disagreement()
    greedy = {name: (place, error) for place, (name, error) in enumerate(statistics.greedy, 1)}
    for member, (name, predicted) in enumerate(statistics.by_member.items()):
        left_out = [statistics.error(statistics.without[name])] if name in statistics.without else []
        apart = disagreement[member].sum() / max(1, len(disagreement) - 1)
        adds = points([error - error_of_sum for error in left_out])
        place, error_so_far = greedy[name]
        figures = [percent([statistics.error(predicted)]), percent(left_out), adds]
        figures += [number(apart, shown=f"{100 * apart:.1f}"), number(place), percent([error_so_far])]
        rows.append([text(name), *figures])
    sampled = ""
    if statistics.greedy_photographs < len(statistics.labels):
        sampled = f" It is found on {statistics.greedy_photographs:,} of the photographs."
    return Table(
        ["member", "alone, %", "sum without it, %", "what it adds, points", "disagrees with the others, %",
         "greedy place", "greedy sum, %"],
        rows,
        f"Mean class error. The sum of all members has {100 * error_of_sum:.2f} %. What a member adds: the error of "
        "the sum without it, minus that of the whole sum. Disagrees: the share of photographs to which another member "
        "gives another class, averaged over the others. Greedy: members join the sum one by one, each time the one "
        f"that lowers the error most.{sampled} The order is chosen on the photographs that it is measured on, so the "
        "greedy sums look better than they are.",
    )  # fmt: skip


def frequency_table(by_seed: Sequence[GroupErrors]) -> Table:
    """Errors of head, middle and tail, for every backbone and what it was trained on."""
    groups, rows = by_seed[0].groups, []
    for arch in dict.fromkeys(arch for seed in by_seed for arch in seed.by_arch):
        for trained_on in TRAINED_ON:
            if errors := errors_of(by_seed, arch, trained_on):
                by_group = ([error for error in column if error is not None] for column in zip(*errors, strict=True))
                rows.append([text(arch), text(trained_on), *map(percent, by_group)])
    titles = [
        f"{group.name}: {group.classes.sum()} classes of {group.least:,} to {group.most:,}, %" for group in groups
    ]
    return Table(
        ["network", "trained on", *titles],
        rows,
        "Mean class error. The classes are divided into thirds by their number of training photographs. Plain "
        "training: as many photographs as balanced finetuning, from the whole set.",
    )


def runs_table(seeds: Sequence[Seed]) -> Table:
    """Settings, time and throughput of every training."""
    return Table(
        ["run", "seed", "precision", "resize×crop", "epochs", "learning rate", "batch", "best val. error, %", "time",
         "images/s"],
        [_run_row(seed, name, run) for seed in seeds for name, run in seed.runs.items()],
        "Best validation error: the lowest mean class error of the centre crop. Time and images a second count the "
        "training steps, without validation.",
    )  # fmt: skip


def _run_row(seed: Seed, name: str, run: Run) -> list[Cell]:
    settings, errors = run.settings, run.column("val_mean_class_error")
    precision = str(run.info.get("device", "")).partition(",")[2].split(",")[0].strip()
    return [
        text(f"{seed.name}/{name}" if seed.name else name),
        Cell(str(settings.get("seed", "")), settings.get("seed")),
        text(precision),
        text("×".join(str(settings[key]) for key in ("resize", "crop") if key in settings)),
        number(len(run.log)),
        Cell(str(settings.get("lr", "")), settings.get("lr")),
        Cell(str(settings.get("batch_size", "")), settings.get("batch_size")),
        percent([min(errors)] if errors else []),
        Cell(minutes(run.seconds), run.seconds),
        number(run.images_per_second or None),
    ]


def minutes(seconds: float) -> str:
    whole, rest = divmod(round(seconds), 60)
    return f"{whole} min {rest:02d} s"


def settings_text(run: Run) -> str:
    """Every setting and version of a run, a line each."""
    info = {key: value for key, value in run.info.items() if key not in ("settings", "versions")}
    lines = [f"{key}: {value}" for key, value in [*info.items(), *run.info.get("versions", {}).items()]]
    return "\n".join([*lines, *(f"--{key.replace('_', '-')} {value}" for key, value in run.settings.items())])
