# How a step of CI runs: timed, bounded, its output in a file of its own, of which a failure shows the end. Sourced by run.
# shellcheck shell=bash

passed=0
failed=0
declare -a summary=() only=()
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# step NAME SECONDS COMMAND…: a failed step is counted and the next one runs, so that one run shows everything wrong.
step() {
  local name=$1 limit=$2
  shift 2
  if ((${#only[@]} > 0)) && [[ " ${only[*]} " != *" ${name%% *} "* ]]; then return 0; fi
  local log="$logs/${name//[^a-zA-Z0-9]/-}" began=$SECONDS code=0
  printf '\n== %s\n' "$name"
  timeout --kill-after=30 "$limit" "$@" >"$log" 2>"$log.err" </dev/null || code=$?
  local took=$((SECONDS - began))
  if ((code == 0)); then
    passed=$((passed + 1))
    summary+=("$(printf '%-28s ok      %4d s' "$name" "$took")")
    # What a check found is the point of running it: one JSON object, or the runner's last lines.
    tail -n 12 "$log" | cut -c 1-3000
  else
    failed=$((failed + 1))
    local why="exit $code"
    ((code == 124 || code == 137)) && why="not done after $limit s"
    summary+=("$(printf '%-28s FAILED  %4d s  (%s)' "$name" "$took" "$why")")
    printf -- '-- the end of its output:\n'
    tail -n 80 "$log" | cut -c 1-3000
    printf -- '-- and of its progress and errors:\n'
    tail -n 80 "$log.err" | cut -c 1-3000
  fi
  printf '   %s: %d s\n' "$name" "$took"
  return 0
}

# need NAME SECONDS COMMAND…: a step without which the others mean nothing.
need() {
  local before=$failed
  step "$@"
  if ((failed > before)); then finish; fi
}

# check NAME SECONDS [ARGUMENT…]: a check of package.json with its JSON result. One that does not exist fails.
check() {
  local name=$1 limit=$2
  shift 2
  local command=(npm run -s "$name" -- "$@" --json)
  # npm run -s says nothing about a script that is missing.
  grep -q "^    \"$name\": " package.json || command=(bash -c "echo 'package.json has no script $name'; exit 1")
  step "$name${*:+ $*}" "$limit" "${command[@]}"
}

# In a shell of its own: what a benchmark printed, if it measured anything.
measured() {
  local out
  out=$(npm run -s "$1" -- "${@:2}" --json) || true
  printf '%s\n' "$out"
  [[ $out == *'"durationMs"'* && $out != *'"error":'* ]]
}
export -f measured

# printed NAME SECONDS [ARGUMENT…]: a benchmark. What it measured is printed and not judged, but it must have measured.
printed() {
  local name=$1 limit=$2
  shift 2
  step "$name${*:+ $*}" "$limit" bash -c 'measured "$@"' measured "$name" "$@"
}

finish() {
  printf '\n== summary (%d s)\n' "$SECONDS"
  printf '%s\n' "${summary[@]}"
  if ((${#only[@]} > 0)); then echo "only: ${only[*]}"; fi
  printf '%d passed, %d failed\n' "$passed" "$failed"
  ((failed == 0)) || exit 1
  exit 0
}
