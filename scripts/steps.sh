# shellcheck shell=bash
# Sourced by scripts/test and scripts/deep: runs named steps one after another, goes on after a failed one, and
# ends with one line that sums the tests of all of them. Each step's output is kept in $results.

set -euo pipefail
results=${CARGO_TARGET_DIR:-target}/test-results
step_seconds_max=${STEP_SECONDS_MAX:-900}
# At a terminal the step stays in its process group, so that Ctrl-C reaches it; elsewhere a step out of time takes
# all its children with it.
limit=(timeout --kill-after=20)
if [[ -t 1 ]]; then limit+=(--foreground); fi
passed=0 failed=0 skipped=0
broken=()
rm -rf "$results"
mkdir -p "$results"

# step NAME COMMAND...: runs it, shows its output and adds the tests its runner counted.
step() {
    local name=$1 status=0 began=$SECONDS counts
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    "${limit[@]}" "$step_seconds_max" "$@" </dev/null 2>&1 | tee "$results/$name.log" || status=$?
    counts=$(count_tests "$results/$name.log")
    local step_passed step_failed step_skipped
    read -r step_passed step_failed step_skipped <<<"$counts"
    # A step that fails without a failed test (it did not compile, a lint) still counts as one failure.
    if ((status != 0)); then
        broken+=("$name")
        ((step_failed > 0)) || step_failed=1
    fi
    passed=$((passed + step_passed)) failed=$((failed + step_failed)) skipped=$((skipped + step_skipped))
    printf '=== %s: %s in %d s\n' "$name" "$( ((status)) && echo FAILED || echo ok)" $((SECONDS - began))
}

# skip NAME WHY: a step this machine cannot run is said and counted, never passed over.
skip() {
    printf '\n=== %s: skipped, %s\n' "$1" "$2"
    skipped=$((skipped + 1))
}

# Reads what nextest ("Summary [..] 5 tests run: 4 passed (1 slow), 1 failed, 2 skipped") and libtest
# ("test result: ok. 4 passed; 1 failed; 2 ignored; ..") say at their end; prints "passed failed skipped".
count_tests() {
    sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        function before(word,   parts, text) {
            if (!match($0, "[0-9]+ " word)) return 0
            text = substr($0, RSTART, RLENGTH); split(text, parts, " "); return parts[1]
        }
        /^ *Summary \[/ { p += before("passed"); s += before("skipped")
                          f += before("failed") + before("timed out") + before("exec failed") }
        /^test result: / { p += before("passed"); f += before("failed"); s += before("ignored") }
        END { print p + 0, f + 0, s + 0 }'
}

# closing: says which steps failed, then the sum alone on the last line; fails if anything did or nothing ran.
closing() {
    printf '\n'
    ((${#broken[@]} == 0)) || printf 'failed steps: %s (output in %s)\n' "${broken[*]}" "$results"
    if ((passed + failed == 0)); then
        echo "no test ran"
        failed=1
    fi
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    ((failed == 0))
}
