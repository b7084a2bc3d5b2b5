"""reproduce_paper.sh and setup.sh, as far as they can be tried without training or installing anything."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPTS = ("reproduce_paper.sh", "setup.sh", "requirements.txt")
ACCURACY = ("efficientnet-b3", "resnet50", "seresnext50")
BACKBONES = ("resnet50", "seresnext50", "seresnet101", "efficientnet-b3", "efficientnet-b4")
LITE = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")  # their weights come with pip


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A checkout that holds the shell scripts alone."""
    for name in SCRIPTS:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def bash(house: Path, *arguments, code: int = 0, **environment) -> str:
    """Standard output of a script that is called from another folder; standard error where it is to fail."""
    command = ["bash", str(house / "reproduce_paper.sh"), *map(str, arguments)]
    own = ("PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX")
    inherited = {name: value for name, value in os.environ.items() if name not in own}
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=inherited | environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def commands(output: str) -> list[str]:
    return [line.removeprefix("$ ") for line in output.splitlines() if line.startswith("$ ")]


def test_a_dry_run_of_all_lists_the_five_backbones_twice_in_the_report_s_order(house):
    listed = commands(bash(house, "--all", "--dry-run"))
    trainings = [line for line in listed if line.startswith("python train.py")]
    archs = [*LITE, *BACKBONES]
    assert [line.split()[3] for line in trainings] == [*archs, *archs, LITE[0], *ACCURACY]
    for line, arch in zip(trainings[8:16], archs, strict=True):
        assert f"--balanced 30 --init runs/{arch}/best.pt" in line and f"--out runs/{arch}-balanced" in line
    ensemble = next(line for line in listed if line.startswith("python ensemble.py"))
    assert [part for part in ensemble.split() if part.startswith("preds/")] == [
        *(f"preds/{arch}-balanced.npy" for arch in archs),
        *(f"preds/{arch}-dcl.npy" for arch in (LITE[0], "resnet50", "seresnext50")),
        *(f"preds/{arch}-lio.npy" for arch in (LITE[0], "resnet50")),
        *(f"preds/{arch}-accuracy.npy" for arch in (LITE[0], *ACCURACY)),
    ]
    assert listed[-1].startswith("python report.py")


def test_the_report_has_eleven_members(house, tmp_path):
    (tmp_path / "shop").mkdir()
    listed = commands(bash(house, "--data", tmp_path / "shop", "--dry-run"))
    members = [
        Path(part).stem for part in next(line for line in listed if "ensemble.py" in line).split() if ".npy" in part
    ]
    expected = [f"{arch}-balanced" for arch in BACKBONES] + ["resnet50-dcl", "seresnext50-dcl", "resnet50-lio"]
    assert members[:-1] == expected + [f"{arch}-accuracy" for arch in ACCURACY]


def test_networks_without_weights_are_left_out_of_all_and_trained_from_scratch_when_asked_for(house):
    """`python -m models.available` is played by a script that knows two networks."""
    (house / "setup.sh").write_text("PYTHON=./fake\n")
    (house / "fake").write_text(
        '#!/bin/sh\n[ "$2" = models.available ] && echo efficientnet-lite0 && echo resnet50 || :\n'
    )
    (house / "fake").chmod(0o755)
    output = bash(house, "--all")
    assert (
        "left out: efficientnet-lite1 efficientnet-lite2 seresnext50 seresnet101 efficientnet-b3 efficientnet-b4"
        in output
    )
    trained = [line.split()[3] for line in commands(output) if line.startswith("./fake train.py")]
    assert trained == [*["efficientnet-lite0", "resnet50"] * 3]
    output = bash(house, "--all", "--weights", "none")
    firsts = [line for line in commands(output) if line.startswith("./fake train.py") and "--init" not in line]
    assert len(firsts) == 8 and all(" --weights none " in line for line in firsts) and "left out" not in output
    assert "expected none or imagenet" in bash(house, "--weights", "x.pt", code=2)


def test_dcl_goes_on_from_the_balanced_networks(house):
    for arguments, archs in (
        (["--all"], [LITE[0], "resnet50", "seresnext50"]),
        ([], [LITE[0]]),
        (["--arch", "efficientnet-b3,resnet50"], ["efficientnet-b3", "resnet50"]),
    ):
        listed = [line for line in commands(bash(house, *arguments, "--dry-run")) if "finetune_dcl.py" in line]
        assert [line.split("--init ")[1].split()[0] for line in listed] == [
            f"runs/{arch}-balanced/best.pt" for arch in archs
        ]
        assert [line.split("--out ")[1] for line in listed] == [f"runs/{arch}-dcl" for arch in archs]


def test_lio_starts_from_the_networks_of_step_1(house):
    for arguments, archs in (
        (["--all"], [LITE[0], "resnet50"]),
        ([], [LITE[0]]),
        (["--arch", "efficientnet-b3,resnet50"], ["efficientnet-b3", "resnet50"]),
    ):
        listed = [line for line in commands(bash(house, *arguments, "--dry-run")) if "train_lio.py" in line]
        assert len(listed) == len(archs)
        for line, arch in zip(listed, archs, strict=True):
            assert f"--arch {arch} --balanced 30 --init runs/{arch}/best.pt" in line
            assert line.endswith(f"--out runs/{arch}-lio")


def test_the_accuracy_loss_goes_on_from_the_balanced_networks(house):
    listed = [line for line in commands(bash(house, "--all", "--dry-run")) if "--loss accuracy" in line]
    for line, arch in zip(listed, (LITE[0], *ACCURACY), strict=True):
        assert f"--arch {arch} --balanced 30 " in line and f"--init runs/{arch}-balanced/best.pt" in line


def test_every_command_of_a_dry_run_exists(house):
    for line in commands(bash(house, "--dry-run")):
        assert (ROOT / line.split()[1]).is_file(), line


def test_a_catalogue_of_ones_own_keeps_apart_from_the_demo(house, tmp_path):
    (tmp_path / "my shop").mkdir()
    output = bash(house, "--data", tmp_path / "my shop", "--dry-run")
    assert r"--out runs/my\ shop/resnet50" in output and r"preds/my\ shop/resnet50-balanced.npy" in output
    assert "runs/resnet50" not in output


def test_what_is_done_is_not_done_again_and_what_was_begun_goes_on(house):
    made = [f"runs/efficientnet-lite0/{name}.pt" for name in ("last", "best")]
    made += [
        f"preds/base/{name}.{ending}"
        for name in ("efficientnet-lite0", "centre/efficientnet-lite0")
        for ending in ("npy", "json")
    ]
    for name in made:
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).touch()
        os.utime(house / name, (1, 1 + name.startswith("preds")))  # the predictions are the newer
    (house / "runs/efficientnet-lite0-balanced").mkdir()
    (house / "runs/efficientnet-lite0-balanced/last.pt").touch()
    output = bash(house, "--dry-run")
    assert "efficientnet-lite0: done before" in output
    trainings = {line.split("--out ")[1]: line for line in commands(output) if "train.py" in line}
    assert "runs/efficientnet-lite0" not in trainings and "runs/efficientnet-lite0-balanced --resume" in trainings
    (house / made[-1]).unlink()  # killed before it had its name
    assert "efficientnet-lite0: done before" not in bash(house, "--dry-run")
    (house / made[-1]).touch()
    os.utime(house / "runs/efficientnet-lite0/best.pt", (3, 3))  # trained on since
    assert "efficientnet-lite0: done before" not in bash(house, "--dry-run")


def test_every_network_is_tested_with_ten_crops_and_with_one(house):
    listed = [line for line in commands(bash(house, "--all", "--dry-run")) if "predict.py" in line]
    assert len(listed) == 2 * (16 + 3 + 6)
    for ten, one in zip(listed[::2], listed[1::2], strict=True):
        folder, _, name = ten.split("--out ")[1].rpartition("/")
        assert "--crops" not in ten and one == ten.replace(f"{folder}/{name}", f"{folder}/centre/{name}") + " --crops 1"


def test_seeds_repeat_the_chain_in_folders_of_their_own_and_later_ones_may_be_fewer_backbones(house):
    output = bash(house, "--all", "--seeds", 3, "--repeat", "resnet50", "--dry-run", "--name", "x")
    listed = commands(output)
    trainings = [line for line in listed if "--init" in line or " train.py" in line]
    for seed, count in ((0, 25), (1, 5), (2, 5)):
        mine = [line for line in trainings if f" --seed {seed} " in line]
        assert len(mine) == count and all(f"--out runs/x/seed-{seed}/" in line for line in mine)
        assert all(f"--init runs/x/seed-{seed}/" in line for line in mine if "--init" in line)
    sums = [line for line in listed if "ensemble.py" in line]
    assert [line.split(" --out ")[0].count(".npy") for line in sums] == [17, 4, 4]
    assert [line.split(" --out ")[1].split()[0] for line in sums] == [
        f"ensembles/x/seed-{seed}/all.npy" for seed in range(3)
    ]
    assert listed[-1] == "python report.py --name x"


def test_controls_have_the_command_of_their_step_and_are_no_members(house):
    listed = commands(bash(house, "--all", "--controls", "resnet50,efficientnet-b4", "--dry-run"))
    controls = [line for line in listed if "control.py" in line]
    names = ["resnet50-balanced", "efficientnet-b4-balanced", "resnet50-dcl", "resnet50-lio", "resnet50-accuracy"]
    assert [line.split("--out runs/")[1] for line in controls] == [f"{name}-control" for name in names]
    for line in controls:
        step = line.replace("control.py ", "").removesuffix("-control")
        assert step in listed
    predicted = [line.split("--out ")[1] for line in listed if "predict.py" in line and "-control" in line]
    assert all(path.startswith("preds/control/") for path in predicted) and len(predicted) == 2 * len(names)
    assert "control" not in next(line for line in listed if "ensemble.py" in line)


def test_further_arguments_reach_the_script_that_they_are_for_and_the_seed_every_training(house):
    further = ("--dcl", "--epochs 3 --gamma 0.1", "--lio", "--stage 2", "--accuracy", "--lr 0.5")
    further += ("--balanced", "--decay-at 1", "--", "--epochs", "2")
    listed = commands(bash(house, "--dry-run", "--seed", 7, *further))
    accuracy = ["--loss accuracy" in line for line in listed]
    assert ["--lr 0.5" in line for line in listed] == accuracy and sum(accuracy) == 1
    plain = [" train.py" in line and not other for line, other in zip(listed, accuracy, strict=True)]
    assert ["--epochs 2" in line for line in listed] == plain and sum(plain) == 2
    assert ["--epochs 3 --gamma 0.1" in line for line in listed] == ["finetune_dcl.py" in line for line in listed]
    assert ["--epochs 2 --decay-at 1" in line for line in listed] == [
        known and "--balanced 30" in line for known, line in zip(plain, listed, strict=True)
    ]
    assert ["--stage 2" in line for line in listed] == ["train_lio.py" in line for line in listed]
    assert [line.split("--seed ")[1].split()[0] for line in listed if "--init" in line] == ["7"] * 4
    assert sum("--seed 7" in line for line in listed) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dry"], "--dry: unknown argument (see --help)"),
        (["--data"], "--data: a value is missing (see --help)"),
        (["--data", "/nowhere"], "--data /nowhere: no such folder"),
        (["--seed", "x"], "--seed x: expected a whole number"),
        (["--seeds", "0"], "--seeds 0: expected how many, 3 say"),
        (["--seeds", "x"], "--seeds x: expected how many, 3 say"),
        (["--repeat", "x"], "--repeat x: tells of the seeds after the first; give --seeds too"),
        (["--name", "../x"], "--name ../x: expected a name, not a path"),
    ],
)
def test_bad_arguments_are_one_line_and_code_2(house, arguments, message):
    assert bash(house, *arguments, code=2) == f"error: {message}\n"


def test_help_is_the_scripts_own_beginning(house):
    assert "bash reproduce_paper.sh --all" in bash(house, "--help")


def setup(house: Path, code: int = 0, **environment) -> str:
    (house / "reproduce_paper.sh").write_text('source "$(dirname "$0")/setup.sh"\necho "python is $PYTHON"\n')
    return bash(house, code=code, **environment)


def fake_python(path: Path, prefix: Path) -> Path:
    """An interpreter that notes how pip is called instead of installing."""
    path.parent.mkdir(parents=True)
    path.write_text(f"""#!/bin/sh
case "$*" in
    *-m\\ pip*) echo "$@" >>{prefix}/pip.log ;;
    *sys.prefix*) echo {prefix} ;;
    *) exec {sys.executable} "$@" ;;
esac
""")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("variable", ["PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_interpreter_or_environment_of_ones_own_is_used_and_filled_once(house, tmp_path, variable):
    python = fake_python(tmp_path / "env/bin/python", tmp_path)
    value = str(python if variable == "PYTHON" else tmp_path / "env")
    assert f"python is {python}" in setup(house, **{variable: value})
    assert "setting up" not in setup(house, **{variable: value}), "the second call has nothing to do"
    assert (tmp_path / "pip.log").read_text().count(f"-r {house}/requirements.txt") == 1
    (house / "requirements.txt").write_text("torch\n")
    assert "setting up: packages" in setup(house, **{variable: value}), "other requirements are installed"
    assert not (house / ".venv").exists()


def test_an_interpreter_that_is_none_or_too_old_is_named(house, tmp_path):
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for python in (old, tmp_path / "none"):
        assert setup(house, code=2, PYTHON=str(python)) == (
            f"error: {python} is not Python 3.11 or newer; set PYTHON=/path/to/python3.11\n"
        )
