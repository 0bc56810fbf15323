#!/usr/bin/env bash
# Train again on what has been labelled since, and put the newer model in force if it may replace the
# older one. For cron, a systemd timer or CI; docs/retraining.md explains every step.
#
#   MODEL=models/docs DATASET=docs ADMIN=http://127.0.0.1:6340 deploy/retrain.sh
#   MODEL=models/docs DATASET=docs LABELS=log.csv deploy/retrain.sh --column query=q --min-clicks 3
#   MODEL=models/docs ADMIN=http://127.0.0.1:6340 deploy/retrain.sh rollback
#
# Options go to `trimtab import FORMAT LABELS`.
#
# Exit status: 0 the newer model is in force (or, with "rollback", the older one again); 3 the newer
# one must not replace the older, or no adapter helps; 4 the test queries can't tell; else a failure.
# But for 0, the model that was in force still is. What else you keep in MODEL (an encoder, a recipe)
# stays there.
set -euo pipefail

MODEL=${MODEL:?the model folder that the sidecar serves, such as models/docs}
DATASET=${DATASET:-}                                  # the BEIR folder to train on
EMBEDDINGS=${EMBEDDINGS:-$DATASET/embeddings}
CANDIDATE=${CANDIDATE:-$(dirname "$MODEL")/candidate/$(basename "$MODEL")}
PREVIOUS=${PREVIOUS:-$(dirname "$MODEL")/previous/$(basename "$MODEL")}
LABELS=${LABELS:-${CLICKS:-}}                         # what to import first; empty: DATASET as it is
FORMAT=${FORMAT:-clicks}                              # what LABELS is: trimtab import --help lists the formats
CORPUS=${CORPUS:-}                                    # corpus.jsonl with the documents that LABELS names
DOCUMENTS=${DOCUMENTS:-}                              # faiss:... or qdrant://...: where stored vectors are
EMBED=${EMBED:-yes}                                   # no: EMBEDDINGS is up to date already
ENCODER=${ENCODER:-minilm}
RECIPE=${RECIPE:-}
MAX_DROPPED=${MAX_DROPPED:-}                          # share of labels that may name what is gone; the recipe's
START=${START:-fresh}                                 # previous: go on from MODEL; queries that it has seen do not judge
UNSEEN=${UNSEEN:-no}                                  # yes: MODEL, whose training is not known, has seen none of DATASET's queries
REQUIRE=${REQUIRE:-no-worse}                          # or better
MARGIN=${MARGIN:-0.005}                               # loss of nDCG@10 that does not matter
ADMIN=${ADMIN:-}                                      # the sidecar's admin address; empty: it watches its files
TRIMTAB=${TRIMTAB:-trimtab}

MODEL=${MODEL%"${MODEL##*[!/]}"} # less slashes at their ends: what stands beside them has their names
CANDIDATE=${CANDIDATE%"${CANDIDATE##*[!/]}"}
PREVIOUS=${PREVIOUS%"${PREVIOUS##*[!/]}"}

# Beside MODEL and on its file system, so that a swap is two renames. After a kill they tell how far it was.
beside() { printf '%s/.%s.%s' "$(dirname "$1")" "$(basename "$1")" "$2"; }
NEW=$(beside "$MODEL" new)           # what is to become MODEL
OLD=$(beside "$MODEL" old)           # what MODEL was, while nobody knows whether the newer one is taken
REPLACED=$(beside "$MODEL" replaced) # what MODEL was once it is: becomes PREVIOUS
REJECTED=$(beside "$MODEL" rejected) # the same after a rollback: becomes CANDIDATE

# What a fit writes into a model's folder; all else there is yours.
OF_A_FIT="adapter.onnx checkpoint evaluation.json report.html README.md runs trained_on.npz query.onnx tuning.json"

say() { printf 'retrain: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

# The lock of this run is not for the commands that it starts: it ends with this process alone.
trimtab() { command "$TRIMTAB" "$@" 9>&-; }

has_model() { [ -f "$1/adapter.onnx" ]; }

! [ -e "$MODEL" ] || [ -d "$MODEL" ] || fail "MODEL=$MODEL is a file; expected its folder, such as models/docs"
for place in "MODEL=$MODEL" "CANDIDATE=$CANDIDATE"; do # moved, a relative link leads nowhere
    ! [ -L "${place#*=}" ] || fail "$place is a link, and would be moved itself; name the folder that it leads to"
done

reload() {
    [ -n "$ADMIN" ] || return 0
    local headers=()
    # In a file of its own, the token would not show in the list of processes: TRIMTAB_TOKEN_FILE.
    [ -z "${TRIMTAB_TOKEN_FILE:-}" ] || headers=(--header "@$TRIMTAB_TOKEN_FILE")
    curl --silent --show-error --fail-with-body --max-time 120 --request POST \
        ${headers[@]+"${headers[@]}"} "$ADMIN/trimtab/reload" >&2 && echo >&2
}

# real PATH: as it is without links, with a slash behind it.
real() {
    local parent
    parent=$(dirname "$1")
    if [ -d "$parent" ]; then
        parent=$(cd "$parent" && pwd -P)
    elif [ "${parent#/}" = "$parent" ]; then
        parent=$(pwd -P)/$parent
    fi
    printf '%s/%s/' "${parent%/}" "$(basename "$1")"
}

# check_apart NAME NAME: neither place is, or lies in, the other.
check_apart() {
    local one other
    one=$(real "${!1}") other=$(real "${!2}")
    case $one in "$other"*) fail "$1=${!1} lies in $2=${!2}; give places of their own" ;; esac
    case $other in "$one"*) fail "$2=${!2} lies in $1=${!1}; give places of their own" ;; esac
}
check_apart MODEL CANDIDATE
check_apart MODEL PREVIOUS
check_apart CANDIDATE PREVIOUS

# remove PATH: with folders in it that may not be written to.
remove() {
    [ -e "$1" ] || [ -L "$1" ] || return 0
    [ -L "$1" ] || chmod -R u+w "$1" 2>/dev/null || :
    rm -rf "$1"
}

# move FROM TO: what TO was stays until all of FROM is there, which another file system may have no room for.
move() {
    local part
    part=$(beside "$2" part)
    mkdir -p "$(dirname "$2")" && remove "$part" && mv "$1" "$part" && remove "$2" && mv "$part" "$2"
}

# make_new FROM: NEW is the model in FROM, with what is yours in MODEL.
make_new() {
    local file name
    remove "$NEW"
    mkdir "$NEW"
    for name in $OF_A_FIT; do
        ! [ -e "$1/$name" ] || cp -RPp "$1/$name" "$NEW/" || fail "can't copy $1/$name beside $MODEL"
    done
    for file in "$MODEL"/* "$MODEL"/.[!.]* "$MODEL"/..?*; do
        name=${file##*/}
        [ -e "$file" ] || [ -L "$file" ] || continue # a pattern that nothing matched
        case " $OF_A_FIT " in *" $name "*) continue ;; esac
        cp -RPp "$file" "$NEW/" || fail "can't copy $file beside $MODEL"
    done
}

# swap DONE: NEW becomes MODEL, and what was there DONE; or nothing does, where the sidecar does not take it.
swap() {
    ! [ -e "$MODEL" ] || mv "$MODEL" "$OLD" || fail "can't move $MODEL"
    if mv "$NEW" "$MODEL" && reload; then
        ! [ -e "$OLD" ] || mv "$OLD" "$1"
    else
        remove "$MODEL"
        ! [ -e "$OLD" ] || mv "$OLD" "$MODEL"
        return 1
    fi
}

# settle: what a swap has replaced goes to its place.
settle() {
    ! [ -e "$REPLACED" ] || move "$REPLACED" "$PREVIOUS"
    ! [ -e "$REJECTED" ] || { move "$REJECTED" "$CANDIDATE" && remove "$PREVIOUS"; }
}

# finish FROM TO: what is left of a killed "move".
finish() {
    local part
    part=$(beside "$2" part)
    if [ -e "$part" ] && ! [ -e "$1" ]; then # all of it had come
        remove "$2"
        mv "$part" "$2"
    fi
    remove "$part"
}

# recover: end what a killed run has begun, or undo it.
recover() {
    finish "$REPLACED" "$PREVIOUS"
    finish "$REJECTED" "$CANDIDATE"
    finish "$PREVIOUS" "$MODEL"
    if [ -e "$OLD" ]; then
        remove "$MODEL"
        mv "$OLD" "$MODEL"
        say "a run was killed while it changed $MODEL, which is as it was"
    elif ! [ -e "$MODEL" ] && has_model "$PREVIOUS"; then
        move "$PREVIOUS" "$MODEL"
        say "$MODEL was missing; it is what $PREVIOUS was"
    fi
    settle
    remove "$NEW"
}

mkdir -p "$(dirname "$MODEL")"
LOCK=$MODEL.lock
exec 9>>"$LOCK"
if command -v flock >/dev/null; then
    flock --nonblock 9 || fail "another run is under way for $MODEL"
else # macOS; the lock is on the open file, so it outlives the perl that takes it
    perl -MFcntl=:flock -e 'open(my $f, ">>&=", 9) or exit 1; flock($f, LOCK_EX | LOCK_NB) or exit 1' ||
        fail "another run is under way for $MODEL"
fi
recover

if [ "${1:-}" = rollback ]; then
    [ $# -eq 1 ] || fail "rollback takes no options"
    has_model "$PREVIOUS" || fail "there is no older model in $PREVIOUS"
    make_new "$PREVIOUS"
    swap "$REJECTED" || fail "the sidecar did not take the older model; $MODEL is as it was, see the sidecar's log"
    settle
    say "$MODEL is the older model again; the newer one is in $CANDIDATE"
    exit 0
fi
case ${1:-} in
'' | -*) ;;
*) fail "unknown argument '$1'; there are: rollback, and options of trimtab import" ;;
esac
! [ -e "$MODEL/query.onnx" ] ||
    fail "$MODEL holds a tuned encoder, query.onnx, which a retraining would not make again; keep it in a folder of its own"
[ -n "$DATASET" ] || fail "DATASET is not set: the BEIR folder to train on"
[ $# -eq 0 ] || [ -n "$LABELS" ] || fail "'$1' is for an import, and LABELS is not set"

if [ -n "$LABELS" ]; then
    say "labels from $LABELS ($FORMAT)"
    options=()
    [ -z "$CORPUS" ] || options=(--corpus "$CORPUS")
    trimtab import "$FORMAT" "$LABELS" -o "$DATASET" ${options[@]+"${options[@]}"} "$@"
fi

if [ "$EMBED" = yes ]; then
    options=(--encoder "$ENCODER")
    [ -z "$DOCUMENTS" ] || options+=(--documents "$DOCUMENTS")
    trimtab embed "$DATASET" -o "$EMBEDDINGS" "${options[@]}"
fi

options=()
older=none
if has_model "$MODEL"; then
    older=$MODEL
    if [ "$START" = previous ] && [ -d "$MODEL/checkpoint" ]; then
        options+=(--from "$MODEL")
        [ "$UNSEEN" != yes ] || options+=(--from-unseen)
    fi
fi
[ -z "$RECIPE" ] || options+=(--recipe "$RECIPE")
gone=()
[ -z "$MAX_DROPPED" ] || gone=(--max-dropped "$MAX_DROPPED")
# What was interrupted goes on where labels and vectors are still the same; else it is done afresh.
options+=(--resume --fresh ${gone[@]+"${gone[@]}"})
trimtab fit "$DATASET" --embeddings "$EMBEDDINGS" -o "$CANDIDATE" ${options[@]+"${options[@]}"}
if ! has_model "$CANDIDATE"; then
    say "no adapter helps on these labels; what was in force stays"
    exit 3
fi

status=0
trimtab compare "$older" "$CANDIDATE" "$DATASET" --embeddings "$EMBEDDINGS" \
    ${gone[@]+"${gone[@]}"} --gate --require "$REQUIRE" --margin "$MARGIN" || status=$?
if [ "$status" -ne 0 ]; then
    say "$CANDIDATE stays a candidate"
    exit "$status"
fi

make_new "$CANDIDATE"
swap "$REPLACED" || fail "the sidecar did not take the newer model; $MODEL is as it was, see the sidecar's log"
settle
for name in $OF_A_FIT; do
    remove "${CANDIDATE:?}/$name"
done
rmdir "$CANDIDATE" 2>/dev/null || : # what is yours in there stays
[ -n "$ADMIN" ] || say "ADMIN is not set: whether a sidecar that watches the file has taken it, its log says"
say "$MODEL is the newer model; to go back: MODEL=$MODEL ADMIN=$ADMIN $0 rollback"
