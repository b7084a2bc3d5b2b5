"""What does each trick of the report's section 6 change, from the same networks with the same number of steps?

    python benchmarks/tricks.py --init runs/effect-{seed}/resnet18-balanced/best.pt --seeds 3

`control` trains on with cross entropy. The change of a trick is its error minus that of the control with the same seed.
All train three epochs of 30 photographs a class; BBN takes as many steps on the whole set, since it balances by itself.
Teacher and pseudo labels come from the sum of the starting networks of all seeds. DCL in EfficientNet has its own
networks: efficientnet-b3 after steps 1 and 1b, then DCL beside plain finetuning at the same resolution. Errors are mean
class errors of best.pt on the validation split with ten crops. Prints Markdown.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import data.duplicates as duplicates
import ensemble
import finetune_dcl
import predict
import recipes
import train
from benchmarks.studies import call, error, flags
from common.command_line import Parser, number, run
from models.checkpoint import load_checkpoint
from tricks import bbn as train_bbn
from tricks import pseudo_label

BUDGET = ["--epochs", 3, "--lr", 0.02, "--decay-at", 2]
WORKED, DID_NOT = "works", "does not work"
# name, the report's verdict, arguments of train.py (None: tricks.bbn)
TRICKS = [
    ("control", "", []),
    ("accuracy loss", "0.2 to 0.5 points", ["--loss", "accuracy"]),
    ("pseudo label", WORKED, ["--extra", "{folder}/pseudo_labels.csv"]),
    ("distillation", WORKED, ["--teacher", "{teachers}"]),
    ("focal loss", DID_NOT, ["--loss", "focal"]),
    ("A-softmax", DID_NOT, ["--loss", "asoftmax"]),
    ("hierarchy loss", DID_NOT, ["--loss", "hierarchy"]),
    ("BBN", DID_NOT, None),
    ("bi-tempered loss", DID_NOT, ["--loss", "bitempered"]),
    ("without contradicting duplicates", DID_NOT, ["--exclude", "{folder}/duplicates.csv"]),
]
DCL_IN_EFFICIENTNET = ("DCL in EfficientNet", WORKED)


def prepare(inits: list[str], folder: Path) -> None:
    """Write pseudo labels by the sum of the starting networks, and the list of near-duplicates."""
    if not (folder / "pseudo_labels.csv").exists():
        members = [folder / "test" / f"{seed}.npy" for seed in range(len(inits))]
        for init, member in zip(inits, members, strict=True):
            call(predict, init, "--split", "test", "--out", member)
        call(ensemble, *members, "--out", folder / "ensemble/test.npy")
        call(pseudo_label, folder / "ensemble/test.npy", "--out", folder / "pseudo_labels.csv")
    if not (folder / "duplicates.csv").exists():
        call(duplicates, "--out", folder / "duplicates.csv")


def train_trick(given: list | None, init: str, seed: int, out: Path, **names: str) -> float:
    """Mean class error in percent after this trick; a network that was trained before is not trained again."""
    if not (out / "val.npy").exists():
        common = ["--init", init, "--arch", load_checkpoint(init)["arch"], "--seed", seed, "--out", out, "--overwrite"]
        if given is None:
            call(train_bbn, *common, *BUDGET, "--epochs", 1, "--decay-at", 0.67)
        else:
            call(train, *common, "--balanced", 30, *BUDGET, *(str(part).format(**names) for part in given))
    return error(out / "best.pt")


def efficientnet(seed: int, folder: Path) -> tuple[float, float]:
    """Mean class error of efficientnet-b3 after plain finetuning at DCL's resolution, and after DCL."""
    base, balanced, plain, dcl = (folder / f"b3-{name}" for name in ("base", "balanced", "plain", "dcl"))
    common = ["--seed", seed, "--overwrite"]
    arch = ["--arch", "efficientnet-b3"]
    if not (balanced / "val.npy").exists():
        call(train, *arch, *common, "--out", base)
        call(train, *arch, *common, "--out", balanced, "--init", base / "best.pt", "--balanced", 30)
        error(balanced / "best.pt")
    init = ["--init", balanced / "best.pt"]
    if not (plain / "val.npy").exists():
        same = {name: value for name, value in recipes.DEMO["dcl"].items() if name != "grid"}
        call(train, *arch, *common, *init, *flags(same), "--out", plain)
    if not (dcl / "val.npy").exists():
        call(finetune_dcl, *common, *init, "--out", dcl)
    return error(plain / "best.pt"), error(dcl / "best.pt")


def verdict(change: np.ndarray) -> str:
    """What the change (seeds,) of the error, in points, says."""
    if len(change) < 2:
        return "one seed"
    return "helps" if (change < 0).all() else "hurts" if (change > 0).all() else "no difference"


def line(name: str, report: str, errors: np.ndarray, control: np.ndarray) -> str:
    change = errors - control
    spread = f" ± {change.std(ddof=1):.2f}" if len(change) > 1 else ""
    return f"| {name} | {report} | {errors.mean():.2f} | {change.mean():+.2f}{spread} | {verdict(change)} |"


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--init", required=True, help="checkpoints of balanced networks; {seed} stands for the seed")
    parser.add_argument("--seeds", type=number(int, 1), default=3)
    parser.add_argument("--efficientnet", type=number(int, 0), default=1, help="seeds of efficientnet-b3 (default: 1)")
    parser.add_argument("--name", default="tricks", help="name of the folders runs/NAME-SEED (default: tricks)")
    args = parser.parse_args()

    inits = [args.init.format(seed=seed) for seed in range(args.seeds)]
    shared = Path("runs", args.name)
    shared.mkdir(parents=True, exist_ok=True)
    prepare(inits, shared)
    names = dict(folder=str(shared), teachers=",".join(inits))

    def errors_of(name: str, given: list | None) -> np.ndarray:
        outs = [Path("runs", f"{args.name}-{seed}", name.replace(" ", "-")) for seed in range(args.seeds)]
        return np.array(
            [train_trick(given, init, n, out, **names) for n, (init, out) in enumerate(zip(inits, outs, strict=True))]
        )

    errors = {name: errors_of(name, given) for name, _, given in TRICKS}
    print("| trick | the report | error here, % | change, points | here |\n|---|---|---|---|---|")
    print(f"| control | | {errors['control'].mean():.2f} | | |")
    for name, report, _ in TRICKS[1:]:
        print(line(name, report, errors[name], errors["control"]))
    if args.efficientnet:
        plain, dcl = np.array([efficientnet(n, Path("runs", f"{args.name}-{n}")) for n in range(args.efficientnet)]).T
        print(line(*DCL_IN_EFFICIENTNET, dcl, plain))


if __name__ == "__main__":
    run(main)
