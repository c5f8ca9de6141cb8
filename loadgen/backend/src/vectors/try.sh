#!/bin/sh
# Uploads the cases of this folder to a gateway, and compares each answer with what is expected.
#
#   GATEWAY=https://HOST:PORT SERVER_CA=FILE ./try.sh
#
# CERTIFICATE and KEY are the authentication certificate and its key; settings.sh has defaults. Needs curl.
# Ends with 0 if all answers are as expected. The keys are made up: never try them on a gateway that phones
# get their keys from. A gateway knows keys that it has stored: write new vectors for the next try.

set -u
here=$(dirname "$0")
. "$here/settings.sh"
: "${GATEWAY:?set GATEWAY=https://HOST:PORT}"
: "${SERVER_CA:?set SERVER_CA to the PEM file of the authority of the certificate of the gateway}"
if [ "$IDENTITY" = own ] && [ "${MADE_UP_KEYS_MAY_BE_STORED:-no}" != yes ]; then
    echo "This stores made-up keys on $GATEWAY, with your own certificate. If no phone gets keys from" >&2
    echo "there: MADE_UP_KEYS_MAY_BE_STORED=yes $0" >&2
    exit 2
fi
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
tab=$(printf '\t')
run=vectors-$(date +%s)-$$

upload() { # prints the status; the body of the answer is in $work/answer
    set -- -sS -o "$work/answer" -w '%{http_code}' --max-time 60 \
        --cacert "$SERVER_CA" --cert "$CERTIFICATE" --key "$KEY" \
        -H "Content-Type: $type" -H 'Accept: application/json; version=1.0' -H 'Expect:'
    [ "$tag" = - ] || set -- "$@" -H "batchTag: $run-$tag"
    [ "$signed" = - ] || set -- "$@" -H "batchSignature: $(cat "$here/cases/$name/signature.b64")"
    : >"$work/answer"
    curl "$@" --data-binary "@$here/cases/$name/$body" "$GATEWAY/diagnosiskeys/upload"
}

judge() { # the statuses that are expected, and the code, which the reference server does not give
    case " $statuses " in
    *" $status "*) ;;
    *) return 1 ;;
    esac
    [ "$code" = - ] || ! grep -q '"code"' "$work/answer" || grep -q "\"$code\"" "$work/answer"
}

total=0
passed=0
known=no
while IFS=$tab read -r name body type tag signed statuses code about; do
    total=$((total + 1))
    for attempt in 1 2 3 4 5; do
        status=$(upload)
        # "Not now" is no verdict.
        [ "$status" = 429 ] || [ "$status" = 503 ] || break
        sleep "$attempt"
    done
    if judge; then
        passed=$((passed + 1))
        echo "ok   $name: $status ($about)"
    else
        expected=$statuses
        [ "$code" = - ] || expected="$statuses $code"
        echo "FAIL $name: $status, not $expected ($about)"
        head -c 500 "$work/answer" | sed 's/^/     /'
        echo
        [ "$statuses $status" != "201 207" ] || known=yes
    fi
done <"$here/cases.tsv"
[ "$known" = no ] || echo "The gateway knows these keys: they were tried before. Write new vectors."
echo "$passed of $total as expected"
[ "$passed" = "$total" ]
