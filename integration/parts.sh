# shellcheck shell=bash
# For integration/run and integration/nightly: the parts of a run, what they say, and the sum.

# Tests are about signals, and whoever starts this under nohup or in a shell's background has some
# ignored, which a shell cannot undo: nothing would ever end. (setsid(1) outlives a terminal, too.)
if [ -z "${NOUGHT_SIGNALS:-}" ]; then
    NOUGHT_SIGNALS=default exec env --default-signal "integration/${0##*/}" "$@"
fi

. integration/again.sh

passed=0
failed=0
skipped=0
failures=()
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT

# A failed test says where; a backtrace of it says no more.
export RUST_BACKTRACE=0

# say_no WHY: ends the run before it has begun.
say_no() {
    echo "${0##*/}: failed to begin: $*" >&2
    echo "0 passed, 1 failed"
    exit 1
}

is_there() { command -v "$1" >/dev/null || compgen -G "$1" >/dev/null; }

# need COMMAND PACKAGE: installs the package from Debian when the command (or file) is not there.
need() {
    is_there "$1" && return
    part "install $2" install "$2"
    is_there "$1" || say_no "$1 is not there, and Debian's package $2 could not be installed"
}

# need_python MODULE PACKAGE: likewise, for a module of Debian's python3.
need_python() {
    /usr/bin/python3 -c "import $1" 2>/dev/null && return
    part "install $2" install "$2"
    /usr/bin/python3 -c "import $1" || say_no "python3 has no module $1, and Debian's package $2 could not be installed"
}

# install PACKAGE: a server that it brings is not started.
install() {
    local policy=/usr/sbin/policy-rc.d status=0
    [ -e "$policy" ] && policy=
    [ -z "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"; }
    again install_or_update "$1" || status=$?
    [ -z "$policy" ] || rm -f "$policy"
    return "$status"
}

# Another apt that is at work is waited for. The lists may be too old to know where the package is.
install_or_update() {
    apt=(apt-get -y -o DPkg::Lock::Timeout=120)
    "${apt[@]}" install --no-install-recommends "$1" ||
        { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$1"; }
}

# static_build: the binary that needs nothing around it, and its size. The target is named so
# that build scripts and procedural macros are built as ever.
static_build() {
    local target=x86_64-unknown-linux-gnu bytes
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" || return
    bytes=$(stat -c %s "target/$target/release/nought")
    echo "$bytes bytes"
    [ "$bytes" -lt $((15 << 19)) ] || { echo "the static binary has grown beyond 7.5 MiB"; return 1; }
}

# machines_parts: what virtual machines are made from, so that their own time is theirs.
machines_parts() {
    cargo test --release --locked --no-run --test vm --test kernel --test sys &&
        again cargo test --release --locked --test vm -- its_system_and_its_kernel
}

# count FILE: adds up what the test runners in FILE said of themselves.
count() {
    local p f i
    while read -r p f i; do
        passed=$((passed + p)); failed=$((failed + f)); skipped=$((skipped + i))
    done < <(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored;.*/\1 \2 \3/p' "$1")
}

# part NAME COMMAND...: one part of the run; a part without tests of its own counts as one.
part() {
    local name=$1 out="$log/${1//[ \/]/-}" began=$SECONDS status before=$((passed + failed)) failed_before=$failed
    shift
    if [ -n "${NOUGHT_VERBOSE:-}" ]; then
        "$@" 2>&1 | tee "$out"; status=${PIPESTATUS[0]}
    else
        "$@" >"$out" 2>&1; status=$?
    fi
    count "$out"
    if [ $((passed + failed)) -eq "$before" ]; then
        if [ "$status" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    elif [ "$status" -ne 0 ] && [ "$failed" -eq "$failed_before" ]; then
        failed=$((failed + 1))
    fi
    if [ "$status" -eq 0 ] && [ "$failed" -eq "$failed_before" ]; then
        printf 'ok      %-36s %5d s\n' "$name" $((SECONDS - began))
    else
        printf 'FAILED  %-36s %5d s\n' "$name" $((SECONDS - began))
        failures+=("$name")
        [ -n "${NOUGHT_VERBOSE:-}" ] || what_failed "$name" "$out"
    fi
}

# what_failed NAME FILE: the relevant lines of a part's output: each test runner's own list of
# failures, where there is one (what is above it are the names of tests that passed); else its end.
what_failed() {
    echo "---- $1 ----"
    if grep -q '^failures:$' "$2"; then
        sed -n '/^failures:$/,/^test result: FAILED/p' "$2" | tail -n 300
    else
        local from
        from=$(grep -n -m1 -E '^error(\[|:)' "$2" | cut -d: -f1)
        tail -n "+${from:-1}" "$2" | tail -n 300
    fi
    echo "---- end of $1 ----"
}

# sum_up: the last line of the run.
sum_up() {
    local name
    echo
    for name in "${failures[@]}"; do
        echo "FAILED PART: $name"
    done
    if [ "$skipped" -gt 0 ]; then
        echo "$skipped skipped"
    fi
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}
