#!/usr/bin/env bash
# The winning solution of the AliProducts Challenge (CVPR 2020), step by step in the order of its report.
#
#   bash reproduce_paper.sh               the demo catalogue, efficientnet-lite0 through every step: minutes on two cores
#   bash reproduce_paper.sh --all         the demo catalogue, efficientnet-lite0 to 2 and the report's eleven members,
#                                         as far as their ImageNet weights are at hand
#   bash reproduce_paper.sh --data DIR    your catalogue, the eleven members at the report's settings: wants a GPU
#
#   --arch A,B     these backbones instead, each through every step
#   --weights none train from scratch: no ImageNet weights are needed
#   --seed S       of all training (default 0)
#   --seeds N      everything N times, with seeds 0 to N-1, in folders seed-0, seed-1, ... : for means and deviations
#   --repeat A,B   with --seeds: all seeds except the first train these backbones alone
#   --controls A,B for each step of these backbones, train its control too: plain training in the step's place
#   --name NAME    keep everything in runs/NAME, preds/NAME and ensembles/NAME (default with --data: DIR's last name)
#   --dry-run      print every command instead of running it
#   --balanced "ARGS"   for every call of train.py in step 1b, besides those after --
#   --dcl "ARGS"   for every call of finetune_dcl.py, such as: --dcl "--gamma 0.01 --batch-size 16"
#   --lio "ARGS"   for every call of train_lio.py, such as: --lio "--stage 2 --grid 14"
#   --accuracy "ARGS"   for every call of train.py --loss accuracy, such as: --accuracy "--lr 0.001"
#   -- ARGUMENTS   for every other call of train.py, such as: -- --epochs 2 --batch-size 16
#
# Stopped or killed, the same command goes on where it was. Another interpreter: PYTHON=/path/to/python.
set -euo pipefail

fail() {
    echo "error: $*" >&2
    exit 2
}
data=demo chosen='' weights='' all=false seed=0 seeds='' repeat='' controls='' name='' dry_run=false balanced_extra=() dcl_extra=() lio_extra=() accuracy_extra=()
while [ $# -gt 0 ]; do
    case $1 in
    --all) all=true ;;
    --dry-run) dry_run=true ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    --data | --arch | --weights | --seed | --seeds | --repeat | --controls | --name | --balanced | --dcl | --lio | --accuracy)
        [ -n "${2:-}" ] || fail "$1: a value is missing (see --help)"
        case $1 in
        --data) data=$2 ;; --arch) chosen=$2 ;; --weights) weights=$2 ;; --seed) seed=$2 ;; --name) name=$2 ;;
        --seeds) seeds=$2 ;; --repeat) repeat=$2 ;; --controls) controls=$2 ;;
        --balanced) read -ra balanced_extra <<<"$2" ;; --dcl) read -ra dcl_extra <<<"$2" ;; --lio) read -ra lio_extra <<<"$2" ;;
        --accuracy) read -ra accuracy_extra <<<"$2" ;;
        esac
        shift
        ;;
    --) shift; break ;;
    *) fail "$1: unknown argument (see --help)" ;;
    esac
    shift
done
extra=("$@")
[[ $seed =~ ^[0-9]+$ ]] || fail "--seed $seed: expected a whole number"
seed=$((10#$seed)) # 08 is eight, not a malformed octal
[[ $seeds =~ ^0*[1-9][0-9]*$ || -z $seeds ]] || fail "--seeds $seeds: expected how many, 3 say"
[ -n "$seeds" ] || [ -z "$repeat" ] || fail "--repeat $repeat: tells of the seeds after the first; give --seeds too"
[[ $weights =~ ^(none|imagenet|)$ ]] || fail "--weights $weights: expected none or imagenet"
[[ $name != */* ]] || fail "--name $name: expected a name, not a path"
if [ "$data" != demo ]; then # beside the demo's, never among them
    [ -e "$data" ] || fail "--data $data: no such folder"
    data=$(realpath "$data") all=true name=${name:-$(basename "${data%.[ct]sv}")}
fi
cd "$(dirname "${BASH_SOURCE[0]}")"
if $dry_run; then PYTHON=python; else source ./setup.sh; fi

# choose ARCHS: which backbones go through which step; without ARCHS those of --all or of the quick run
choose() {
    archs=() dcl_archs=() lio_archs=() accuracy_archs=()
    if [ "$data" = demo ]; then archs=(efficientnet-lite0) dcl_archs=(efficientnet-lite0) lio_archs=(efficientnet-lite0) accuracy_archs=(efficientnet-lite0); fi
    if $all; then
        if [ "$data" = demo ]; then archs+=(efficientnet-lite1 efficientnet-lite2); fi
        archs+=(resnet50 seresnext50 seresnet101 efficientnet-b3 efficientnet-b4)
        dcl_archs+=(resnet50 seresnext50) lio_archs+=(resnet50)
        accuracy_archs+=(efficientnet-b3 resnet50 seresnext50)
    fi
    if [ -n "$1" ]; then
        IFS=, read -ra archs <<<"$1"
        dcl_archs=("${archs[@]}") lio_archs=("${archs[@]}") accuracy_archs=("${archs[@]}")
    elif $all && [ "$data" = demo ] && [ "$weights" != none ] && ! $dry_run; then
        leave_out_without_weights
    fi
}
# Of the chosen backbones only those stay whose ImageNet weights are at hand, or can be fetched now.
leave_out_without_weights() {
    local arch there left_out=()
    there=" $("$PYTHON" -m models.available "${archs[@]}" | tr '\n' ' ')"
    for arch in "${archs[@]}"; do if [[ $there != *" $arch "* ]]; then left_out+=("$arch"); fi; done
    if [ ${#left_out[@]} = 0 ]; then return; fi
    echo "left out: ${left_out[*]}, whose ImageNet weights are not here and cannot be fetched;" \
        "call this again with a network, or with --weights none to train all from scratch"
    archs=($(only_there "${archs[@]}")) dcl_archs=($(only_there "${dcl_archs[@]}"))
    lio_archs=($(only_there "${lio_archs[@]}")) accuracy_archs=($(only_there "${accuracy_archs[@]}"))
}
only_there() { # those of its arguments that are in $there
    local arch
    for arch in "$@"; do if [[ $there == *" $arch "* ]]; then echo "$arch"; fi; done
}
say() { printf '\n== %s\n' "$*"; }
run() {
    echo "\$$(printf ' %q' "$@")"
    $dry_run || "$@"
}
# member FOLDER NAME SCRIPT ARGUMENTS...: train a network, or go on, then test it with ten crops (section 5) and with one
member() {
    local folder=$1 name=$2 script=$3 resume='' crops
    shift 3
    if [ "$folder" = "$preds" ]; then members+=("$folder/$name.npy"); fi
    # The description takes its name last: without it, the prediction was not finished.
    if [ "$folder/centre/$name.npy" -nt "$runs/$name/best.pt" ] && [ -f "$folder/centre/$name.json" ]; then
        echo "$name: done before"
        return
    fi
    if [ -f "$runs/$name/last.pt" ]; then resume=yes; fi
    run "$PYTHON" $script "$@" --data "$data" --out "$runs/$name" ${resume:+--resume}
    run "$PYTHON" predict.py "$runs/$name/best.pt" --data "$data" --out "$folder/$name.npy"
    run "$PYTHON" predict.py "$runs/$name/best.pt" --data "$data" --out "$folder/centre/$name.npy" --crops 1
}
# as member, and where --controls names the backbone its control
step() {
    member "$preds" "$@"
    if [[ ,$controls, = *,${1%-*},* ]]; then member "$preds/control" "$1-control" "control.py $2" "${@:3}"; fi
}

# chain FOLDER: the report from end to end, with seed $seed, in runs/FOLDER, preds/FOLDER and ensembles/FOLDER
chain() {
    local arch runs=runs/$1 preds=preds/$1 ensembles=ensembles/$1
    runs=${runs%/} preds=${preds%/} ensembles=${ensembles%/} # without a name: runs, preds, ensembles
    members=() # the prediction files that the ensemble adds

    say "1   backbones on the whole, unbalanced training set"
    for arch in "${archs[@]}"; do
        member "$preds/base" "$arch" train.py --arch "$arch" ${weights:+--weights "$weights"} --seed "$seed" ${extra[@]+"${extra[@]}"}
    done

    say "1b  each finetuned on 30 photographs a class"
    for arch in "${archs[@]}"; do
        step "$arch-balanced" train.py --arch "$arch" --balanced 30 --init "$runs/$arch/best.pt" \
            --seed "$seed" ${extra[@]+"${extra[@]}"} ${balanced_extra[@]+"${balanced_extra[@]}"}
    done

    say "2   DCL at higher resolution"
    for arch in "${dcl_archs[@]}"; do
        step "$arch-dcl" finetune_dcl.py --init "$runs/$arch-balanced/best.pt" --seed "$seed" \
            ${dcl_extra[@]+"${dcl_extra[@]}"}
    done

    say "3   LIO, in place of step 1b"
    for arch in "${lio_archs[@]}"; do
        step "$arch-lio" train_lio.py --arch "$arch" --balanced 30 --init "$runs/$arch/best.pt" \
            --seed "$seed" ${lio_extra[@]+"${lio_extra[@]}"}
    done

    say "4   accuracy loss, 3 epochs"
    for arch in "${accuracy_archs[@]}"; do
        step "$arch-accuracy" train.py --arch "$arch" --balanced 30 --loss accuracy \
            --init "$runs/$arch-balanced/best.pt" --seed "$seed" ${accuracy_extra[@]+"${accuracy_extra[@]}"}
    done

    say "4.1 sum of the probabilities"
    run "$PYTHON" ensemble.py "${members[@]}" --out "$ensembles/all.npy" --submission "$ensembles/submission.csv"
}

choose "$chosen"
if [ -z "$seeds" ]; then
    chain "$name"
else
    for ((seed = 0; seed < 10#$seeds; seed++)); do
        if [ "$seed" != 0 ] && [ -n "$repeat" ]; then choose "$repeat"; fi
        say "seed $seed"
        chain "${name:+$name/}seed-$seed"
    done
fi

say "what came out"
run "$PYTHON" report.py ${name:+--name "$name"}
echo "took $((SECONDS / 60)) min $((SECONDS % 60)) s"
if ! $all; then echo "next: bash reproduce_paper.sh --all (efficientnet-lite0 to 2 and the report's backbones), or --data DIR (your own catalogue)"; fi
