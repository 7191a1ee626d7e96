#!/usr/bin/env bash
# Refuses words that a reader has to guess, or that have a plain equivalent. docs/glossary.md has the project's terms.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$ROOT"

# The word, then what to write.
WORDS=(
    'heed(s|ed)?|mend(s|ed|ing)?|anew' 'respect, fix or repair, again'
    'and (its|their) kin' 'and the like'
    'the own' 'its own, their own'
    "nobody's|whoever" 'unowned; the role that, the caller, a user who'
    '(is|are|was|were) there already' 'exists, existing objects'
    'may be left out|left out:' 'optional; the default is'
    '(with)?in reach|out of reach' 'accessible, not accessible'
    'half[ -]way|half done' 'unfinished'
    'unwaited' 'no-wait'
    '(come|comes|came|coming) to be' 'is created'
    '(hang|hangs|hung|hanging) on' 'depends on'
    'for good' 'permanently'
    'stands|lies|goes' 'is, is stored in, is dropped'
    "gets? the words of" 'raises not_found, as for an unknown id'
    'behind' 'after; protected by'
)

status=0
for ((i = 0; i < ${#WORDS[@]}; i += 2)); do
    found=$(git grep -nwiE "(${WORDS[i]})" -- . ':!LICENSE*' ':!*.lock' ':!*package-lock.json' ':!*.svg' \
        ':!sql/fluxbase_tenant--*' ':!scripts/words.sh' | grep -viE '(lag|left|leav|queue)[^.]* behind' || true)
    if [ -n "$found" ]; then
        printf '%s\n    write: %s\n' "$found" "${WORDS[i + 1]}" >&2
        status=1
    fi
done
[ "$status" -eq 0 ] || die "words to replace"
