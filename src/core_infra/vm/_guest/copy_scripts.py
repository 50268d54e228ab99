"""Scripts for a guest's shell that write files and directories atomically.

They write beside the destination and rename to it once the content is complete, so that a reader
sees the old content or the new. A script that is killed meanwhile leaves at worst a file named
``.core-infra-copy-BOOT-PID``, which the next copy into that directory removes.
"""

from __future__ import annotations

LIVES = r"""
lives() { # whether the process $1 has not ended, nor waits as a zombie for its parent
    { IFS= read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    case ${line##*) } in [ZX]*) return 1 ;; esac
}
"""
"""A function of the guest's shell."""

COMPLETE = ".core-infra-complete"
"""The last member of a tree: without it, only a part has arrived."""

BLOCK = 4096
"""Bytes in which the parts of a sparse file are counted."""

_BEGIN = rf"""{LIVES}
fail() {{
    echo "$*" >&2
    exit 1
}}
parent() {{ # sets dir, the directory of $1 with a slash; empty for this one
    case $1 in */*) dir=${{1%/*}}/ ;; *) dir= ;; esac
}}
sweep() {{ # removes from the directory $1 what killed copies have left
    read -r boot </proc/sys/kernel/random/boot_id
    boot=${{boot%%-*}}
    for old in "$1".core-infra-copy-*; do
        case $old in
        *"-$boot-"*) lives "${{old##*-}}" || rm -rf "$old" ;;
        # Of an earlier boot, or of another machine that shares the directory.
        *) [ -z "$(find "$old" -prune -mmin +60 2>/dev/null)" ] || rm -rf "$old" ;;
        esac
    done
}}
begin() {{ # sets part, where it is to arrive in the directory $1
    sweep "$1"
    part=$1.core-infra-copy-$boot-$$
    trap 'rm -rf "$part"' EXIT
    trap 'exit 1' HUP INT TERM
}}
"""

FILE = rf"""{_BEGIN}
target=$1 name=$2 mode=$3 time=$4 size=$5
shift 5
[ -d "$target" ] && target=${{target%/}}/$name
[ -d "$target" ] && fail "$target is a directory"
[ -L "$target" ] && target=$(readlink -f "$target")
parent "$target"
[ -z "$dir" ] || mkdir -p "$dir" || exit
case $target in /proc/* | /sys/*) exec cat >"$target" ;; esac
[ -e "$target" ] && [ ! -f "$target" ] && exec cat >"$target"
begin "$dir"
if [ "$#" = 0 ]; then
    cat >"$part" || exit
else
    : >"$part" || exit
    while [ "$#" -gt 1 ]; do
        dd bs={BLOCK} iflag=fullblock seek="$1" count="$2" conv=notrunc status=none \
            of="$part" || exit
        shift 2
    done
    truncate -s "$size" "$part" || exit
fi
[ "$(stat -c %s "$part")" = "$size" ] || fail "only a part of it has arrived"
[ -f "$target" ] && chown "$(stat -c %u:%g "$target")" "$part" 2>/dev/null
chmod "$mode" "$part" || exit
touch -d "@$time" "$part" 2>/dev/null || touch -d "@${{time%.*}}" "$part" 2>/dev/null
mv -f "$part" "$target"
"""
"""A file from standard input. Arguments: the target, the name that it gets in there if that is a
directory, permissions in octal, seconds of its change, its size; and if it is sparse, of each of
its parts the first block and their number."""

TREE = rf"""{_BEGIN}
merge() {{ # the content of the directory $1 into the directory $2: what is there is replaced
    set -- "$1" "$2"
    for one in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        [ -e "$one" ] || [ -L "$one" ] || continue
        there=$2/${{one##*/}}
        if [ -d "$one" ] && [ ! -L "$one" ]; then
            [ ! -L "$there" ] || fail "$there is a link"
            if [ -d "$there" ]; then
                (merge "$one" "$there") || exit
                continue
            fi
            [ ! -e "$there" ] || fail "$there is not a directory"
        elif [ -d "$there" ] && [ ! -L "$there" ]; then
            fail "$there is a directory"
        fi
        set -- "$@" "$one"
        if [ "$#" -gt 500 ]; then
            move "$@" || exit
            set -- "$1" "$2"
        fi
    done
    [ "$#" = 2 ] || move "$@" || exit
}}
move() {{
    into=$2
    shift 2
    mv -f "$@" "$into/"
}}
target=${{1%/}} name=$2 mode=$3 time=$4
[ -n "$target" ] || target=/
[ "$name" ] && [ -d "$target" ] && target=${{target%/}}/$name
if [ -d "$target" ]; then
    begin "${{target%/}}/"
else
    [ ! -e "$target" ] && [ ! -L "$target" ] || fail "$target is not a directory"
    parent "$target"
    [ -z "$dir" ] || mkdir -p "$dir" || exit
    begin "$dir"
fi
mkdir "$part" || exit
tar -x -p -o -f - -C "$part" || exit
[ -e "$part/{COMPLETE}" ] || fail "only a part of it has arrived"
rm -f "$part/{COMPLETE}"
if [ -d "$target" ]; then
    merge "$part" "$target"
else
    chmod "$mode" "$part" || exit
    touch -d "@$time" "$part" 2>/dev/null || touch -d "@${{time%.*}}" "$part" 2>/dev/null
    mv "$part" "$target"
fi
"""
"""A tree from standard input, as ``tar`` has it, with COMPLETE at its end. Arguments: the target,
the name that it gets in there if that is a directory (none: its content goes there), permissions
and the time of its change."""

SWEEP = rf"""{_BEGIN}
for one in "$1" "${{1%/}}/$2"; do
    [ -d "$one" ] && sweep "${{one%/}}/"
    parent "$one"
    sweep "$dir"
done
"""
"""Removes what a copy has left that was killed. Arguments: its target, and its name there."""
