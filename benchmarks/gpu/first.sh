#!/usr/bin/env bash
# The first minutes on a GPU: does the recorded step hold, does every method run, what does a step take?
#
#     OUT=FOLDER bash benchmarks/gpu/first.sh 2>&1 | tee FOLDER/first.txt
#
# Runs from a checkout without an install, in a work folder of its own. Every part has a process and a time limit of its
# own, and whatever fails, it ends in under 8 minutes, with a table: what was predicted, what was measured. Under $OUT:
# log.txt (all that the parts print), parts.tsv (how each ended), bench.jsonl, kernels.txt, table.md.
set -u
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)'
case $? in
    0) ;;
    3) echo "no GPU"; exit 0 ;;
    *) exit 1 ;;
esac
OUT=${OUT:-$ROOT/benchmarks/results/first}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 1
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK" || exit 1
END=$((SECONDS + 450))
: > "$OUT/parts.tsv"
: > "$OUT/bench.jsonl"

# part NAME LIMIT COMMAND...: runs it, its output in a file of its own; says how it ended.
part() {
    local name=$1 limit=$2 left=$((END - SECONDS)) began=$SECONDS code how=well
    shift 2
    if [ "$left" -lt 10 ]; then
        printf '%s\tno time left\t0\n' "$name" >> "$OUT/parts.tsv"
        return
    fi
    [ "$limit" -lt "$left" ] || limit=$left
    echo "=== $name: $*" > "$name.txt"
    timeout -k 5 "$limit" "$@" >> "$name.txt" 2>&1
    code=$?
    [ "$code" = 0 ] || how="exit $code"
    [ "$code" != 124 ] || how="over its $limit s"
    printf '%s\t%s\t%s\n' "$name" "$how" "$((SECONDS - began))" >> "$OUT/parts.tsv"
    echo "$name: $how, $((SECONDS - began)) s"
}

gpu_tests() { # NAME FILE WORDS
    part "$1" 110 "$PYTHON" -m pytest -n 3 --rootdir "$ROOT" -c "$ROOT/pyproject.toml" -q -p no:cacheprovider -m gpu "$ROOT/$2" -k "$3"
}
pretrained() { # NAME ARGUMENTS...: two short epochs
    local name=$1
    shift
    part "pretrain-$name" 90 "$PYTHON" -m probekit pretrain "$@" --data data/g.h5 --preset quick --epochs 2 --name "$name"
}
bench() { # NAME LIMIT ARGUMENTS...: a step, measured and predicted
    local name=$1 limit=$2
    shift 2
    part "bench-$name" "$limit" "$PYTHON" -m probekit pretrain "$@" --preset paper --precision bf16 --dry-run --json
    sed -n '/^{/,/^}/p' "bench-$name.txt" | "$PYTHON" -c \
        'import json, sys; print(json.dumps({"name": sys.argv[1]} | json.load(sys.stdin)))' "$name" >> "$OUT/bench.jsonl" 2> /dev/null
}

# 1 to 3, at the same time: the graph is the launched step; it sees what is written in place; a failed recording is undone;
# compiled views are the others.
gpu_tests recorded tests/train/test_step.py recorded_steps_are_the_launched &
gpu_tests regions tests/branches/test_contrastive_crop.py on_a_gpu &
gpu_tests failed tests/train/test_step.py after_a_failed &
gpu_tests compiled tests/train/test_gpu_compiled.py on_a_gpu &
part gen 60 "$PYTHON" -m probekit gen rect-tri --n 2000 --n-test 200 --out data/g.h5
part colour 60 "$PYTHON" -m benchmarks.noise data/colour.h5 --n 256 --size 224
wait

# 4 to 6, four at a time: streamed images beside a recording, every base method, XCorr's companions.
pretrained host simclr --set data.placement=host &
pretrained xcorr simclr --branch xcorr --set branch.xcorr.clusters=50 &
pretrained lcr simclr --branch lcr &
pretrained conrec conrec &
wait
pretrained moco-v2 moco-v2 &
pretrained byol byol &
pretrained simsiam simsiam &
pretrained swav swav &
wait
pretrained dino dino &
pretrained barlow-twins barlow-twins &
pretrained vicreg vicreg &
pretrained compiled conrec --set train.compile=encoder &
wait

# 7: alone on the GPU; first without torch.compile, whose compiling may take long.
bench conrec-16-eager 60 conrec --data data/g.h5 --batch-size 16 --set train.compile=off
bench simclr-16-eager 45 simclr --data data/g.h5 --batch-size 16 --set train.compile=off
bench conrec-16 120 conrec --data data/g.h5 --batch-size 16
bench moco-v2-64-colour-eager 60 moco-v2 --data data/colour.h5 --batch-size 64 --set train.compile=off
bench moco-v2-64-colour 120 moco-v2 --data data/colour.h5 --batch-size 64
bench simclr-16 100 simclr --data data/g.h5 --batch-size 16

# 8: where a replay's time goes.
part kernels 75 "$PYTHON" -m benchmarks.gpu.kernels
cp kernels.txt "$OUT/kernels.txt" 2> /dev/null

cat [a-z]*.txt > "$OUT/log.txt"
{
    "$PYTHON" -m benchmarks.gpu.table "$OUT"
    echo
    echo "Said of recordings, compilations and memory, and how often:"
    grep -hiE "cannot|does not fit|do not fit|warning:" [a-z]*.txt | sort | uniq -c
} | tee "$OUT/table.md"
exit 0
