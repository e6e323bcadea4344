# What smoke.sh and measure.sh share; they source it, after they have set `limit_s`.
#
# A script is a list of items. Each item has a limit of its own, and all of them together have `limit_s` seconds. An item
# that fails takes nothing from the others. OUT gets SCRIPT.log, with all that the items printed, and SCRIPT.json, which
# is whole after every item.

script=$(basename "$0" .sh)
mkdir -p "${1:?usage: $script.sh OUT}"
out=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

python=${PYTHON:-python3}
state=$(realpath -m "${SEGGD_GPU_STATE:-/tmp/seggd-gpu}") # what one script leaves to the next
parts=$state/parts                                        # what `python -m benchmarks.gpu.pack` wrote, as far as it came
deadline=$((SECONDS + ${SEGGD_LIMIT_S:-$limit_s}))
log=$out/$script.log
results=()
mkdir -p "$state/site" "$parts"
cp -u "${SEGGD_PARTS:-.gpu}"/* "$parts/" 2>/dev/null || echo "no parts came: ${SEGGD_PARTS:-.gpu}"
: >"$log"
export PYTHONUNBUFFERED=1 PYTHONPATH=$state/site${PYTHONPATH:+:$PYTHONPATH}
export SEGGD_COMMIT=${SEGGD_COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
trap 'jobs -p | xargs -r kill 2>/dev/null || true' EXIT

# Notes how an item ended: record NAME CODE SECONDS. Code 3 is `python -m benchmarks.gpu` that ran short of time.
record() {
  local state_of=FAIL joined
  case $2 in
  0) state_of=PASS ;;
  3) state_of=SHORT ;;
  124 | 137) state_of=TIMEOUT ;;
  -1) state_of=LEFT ;;
  esac
  results+=("{\"name\": \"$1\", \"state\": \"$state_of\", \"code\": $2, \"seconds\": $3}")
  joined=$(printf ',\n    %s' "${results[@]}")
  printf '{\n  "script": "%s",\n  "commit": "%s",\n  "items": [%s\n  ]\n}\n' \
    "$script" "$SEGGD_COMMIT" "${joined:1}" >"$out/$script.json"
  echo "$state_of $1 ($3 s)"
}

# Runs a command for at most so many seconds: item NAME SECONDS COMMAND... In the command, {limit} is 15 less: the time
# in which `python -m benchmarks.gpu --limit-s` is to end by itself.
item() {
  local name=$1 limit=$2 left=$((deadline - SECONDS)) began=$SECONDS code=0 size
  shift 2
  limit=$((limit < left ? limit : left))
  if ((limit < 20)); then
    record "$name" -1 0
    return
  fi
  echo "== $name" >>"$log"
  size=$(stat -c %s "$log")
  timeout -k 5 "$limit" "${@//\{limit\}/$((limit - 15))}" >>"$log" 2>&1 || code=$?
  tail -c "+$((size + 1))" "$log" | { grep -v AUTOTUNE || true; } | tail -n 40
  record "$name" "$code" $((SECONDS - began))
}

# Measures parts: measure NAME SECONDS OPTION... The figures of all scripts gather in one gpu.json.
measure() {
  local name=$1 limit=$2
  shift 2
  if test -e "$state/gpu.json"; then cp "$state/gpu.json" "$out/"; fi
  item "$name" "$limit" "$python" -m benchmarks.gpu "$out/gpu.json" --append --limit-s "{limit}" "$@"
  if test -e "$out/gpu.json"; then cp "$out/gpu.json" "$state/"; fi
}

# Ends the script: 0 where every item passed, else 1.
finish() {
  if printf '%s\n' "${results[@]}" | grep -qv '"state": "PASS"'; then exit 1; fi
}
