#!/usr/bin/env bash
# The winning solution of the AliProducts Challenge (CVPR 2020), step by step in the order of its report.
#
#   bash reproduce_paper.sh               the demo catalogue, resnet18 through every step: minutes on two cores
#   bash reproduce_paper.sh --all         the demo catalogue, the report's eleven members
#   bash reproduce_paper.sh --data DIR    your catalogue, the eleven members at the report's settings: wants a GPU
#   ... --dry-run                         print every command instead of running it
#
# Stopped or killed, the same command goes on where it was. Another interpreter: PYTHON=/path/to/python.
set -euo pipefail

data=demo all=false dry_run=false
while [ $# -gt 0 ]; do
    case $1 in
    --data)
        [ -d "${2:-}" ] || { echo "error: --data ${2:-}: no such folder" >&2; exit 2; }
        data=$(cd "$2" && pwd) all=true
        shift
        ;;
    --all) all=true ;;
    --dry-run) dry_run=true ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "error: $1: unknown argument (see --help)" >&2; exit 2 ;;
    esac
    shift
done
cd "$(dirname "${BASH_SOURCE[0]}")"
if $dry_run; then PYTHON=python; else source ./setup.sh; fi

archs=(resnet18)
if $all; then archs=(resnet50 seresnext50 seresnet101 efficientnet-b3 efficientnet-b4); fi
runs=runs preds=preds ensembles=ensembles
if [ "$data" != demo ]; then # beside the demo's, never among them
    name=$(basename "$data")
    runs=runs/$name preds=preds/$name ensembles=ensembles/$name
fi
members=() # the prediction files that the ensemble adds

say() { printf '\n== %s\n' "$*"; }
run() {
    echo "\$ $*"
    $dry_run || "$@"
}
# member FOLDER NAME SCRIPT ARGUMENTS...: train a network, or go on, then test it with ten crops (section 5)
member() {
    local folder=$1 name=$2 script=$3 resume=()
    shift 3
    if [ "$folder/$name.npy" -nt "$runs/$name/best.pt" ]; then
        echo "$name: done before"
    else
        if [ -f "$runs/$name/last.pt" ]; then resume=(--resume); fi
        run "$PYTHON" "$script" "$@" --data "$data" --out "$runs/$name" "${resume[@]}"
        run "$PYTHON" predict.py "$runs/$name/best.pt" --data "$data" --out "$folder/$name.npy"
    fi
}
later() { echo "$1: arrives with $2"; }

say "1   backbones on the whole, unbalanced training set"
for arch in "${archs[@]}"; do
    member "$preds/base" "$arch" train.py --arch "$arch"
done

say "1b  each finetuned on 30 photographs a class"
for arch in "${archs[@]}"; do
    member "$preds" "$arch-balanced" train.py --arch "$arch" --balanced 30 --init "$runs/$arch/best.pt"
    members+=("$preds/$arch-balanced.npy")
done

say "2   DCL at higher resolution"
for arch in resnet50 seresnext50; do later "$arch-dcl" finetune_dcl.py; done

say "3   LIO"
later resnet50-lio train_lio.py

say "4   accuracy loss, 2 to 3 epochs"
for arch in efficientnet-b3 resnet50 seresnext50; do later "$arch-accuracy" "train.py --loss accuracy"; done

say "4.1 sum of the probabilities"
run "$PYTHON" ensemble.py "${members[@]}" --out "$ensembles/all.npy" --submission "$ensembles/submission.csv"

say "what came out"
run "$PYTHON" report.py --preds "$preds" --ensemble "$ensembles/all.npy"
echo "took $((SECONDS / 60)) min $((SECONDS % 60)) s"
if ! $all; then echo "next: bash reproduce_paper.sh --all (the report's five backbones), or --data DIR (your own catalogue)"; fi
