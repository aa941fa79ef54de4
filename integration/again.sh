# shellcheck shell=bash
# For what comes over the network: a mirror or a registry that fails once need not fail a run.

# again COMMAND...: runs it up to three times, until it succeeds; what it says is shown of the last.
again() {
    local pause said status
    said=$(mktemp)
    for pause in 5 20 ''; do
        status=0
        "$@" >"$said" 2>&1 || status=$?
        [ "$status" -ne 0 ] && [ -n "$pause" ] || break
        echo "failed with $status, again in $pause s: $*"
        sleep "$pause"
    done
    cat "$said"
    rm -f "$said"
    return "$status"
}
