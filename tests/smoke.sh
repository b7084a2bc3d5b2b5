#!/usr/bin/env bash
# The whole main line in small: one epoch a step on the demo catalogue, killed anywhere and called again. Checks that it
# ends with its table and its files, and that a further call finds nothing left to train. KILLS=20 kills it more often;
# the sums at the end are the same for any number.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folders=(runs/smoke preds/smoke ensembles/smoke report/smoke)
rm -rf "${folders[@]}"
trap 'rm -rf "${folders[@]}"' EXIT

call=(bash reproduce_paper.sh --name smoke --arch efficientnet-lite0 --dcl "--epochs 1" --lio "--epochs 1" --accuracy "--epochs 1")
call+=(-- --epochs 1)
for ((kill = 1; kill <= ${KILLS:-1}; kill++)); do
    setsid "${call[@]}" & # a group of processes of its own, all of which are killed
    group=$! seconds=$((RANDOM % 20 + 5))
    sleep $seconds
    kill -KILL -- "-$group" 2>/dev/null || true # it may be done before
    wait "$group" || echo "== killed after $seconds s"
done
"${call[@]}"
again=$("${call[@]}")
for line in 'efficientnet-lite0: done before' 'efficientnet-lite0-balanced: done before' 'efficientnet-lite0-dcl: done before' 'efficientnet-lite0-lio: done before' \
    'efficientnet-lite0-accuracy: done before' '4.1 sum  .* sum of 4  *[0-9.]*  *[0-9.]*  *[-+][0-9.]*'; do
    grep -q -- "$line" <<<"$again" || { echo "error: the second call does not say: $line"; exit 1; }
done
grep -q 'id="lio"' report/smoke/index.html || { echo "error: the page lacks its last pictures"; exit 1; }
test "$(wc -l <ensembles/smoke/submission.csv)" = 321 # a header and the demo's 320 validation photographs
left=$(find "${folders[@]}" -name '.*')
test -z "$left" || { echo "error: left behind: $left"; exit 1; }
sha256sum ensembles/smoke/all.npy ensembles/smoke/submission.csv
echo "smoke run passed"
