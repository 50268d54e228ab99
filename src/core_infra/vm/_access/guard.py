"""Ends commands in a machine whose way in cannot: with all that they have started.

OpenSSH sends no signals to what root runs, and neither it nor QEMU's agent ends a command when who
asked for it has gone. So the machine's own shell does, by what ``/proc`` tells: a process of the
command's session, or one that descends from the command. It needs no program but ``sleep``.
"""

from __future__ import annotations

from core_infra.vm._guest.copy_scripts import LIVES

TREE = rf"""{LIVES}
tree() {{ # those that live, of the session $1 and of what descends from the process $1
    all=
    for stat in /proc/[0-9]*/stat; do
        {{ IFS= read -r line <"$stat"; }} 2>/dev/null || continue
        pid=${{line%% *}} line=${{line##*) }}
        case $line in [ZX]*) continue ;; esac
        line=${{line#* }} parent=${{line#* }}
        session=${{parent#* }}
        all="$all $pid:${{line%% *}}:${{session%% *}}"
    done
    found=" " known=" $1 " more=1
    while [ "$more" ]; do
        more=
        for one in $all; do
            pid=${{one%%:*}} parent=${{one#*:}}
            case $found in *" $pid "*) continue ;; esac
            case $known in
            *" $pid "* | *" ${{parent%:*}} "*) ;;
            *) [ "${{parent#*:}}" = "$1" ] || continue ;;
            esac
            found="$found$pid " known="$known$pid " more=1
        done
    done
    echo $found
}}
end() {{ # the command $1, at once; those that fork meanwhile are looked for until none is left
    tries=0
    while left=$(tree "$1") && [ "$left" ] && [ "$tries" -lt 30 ]; do
        kill -KILL $left 2>/dev/null
        tries=$((tries + 1))
        if [ "$tries" -gt 3 ]; then # what sudo runs is somebody else's
            sudo -n kill -KILL $left 2>/dev/null
            sleep 1
        fi
    done
}}
hang_up() {{ # the command $1, as a terminal does that has gone: it may tidy up
    left=$(tree "$1")
    kill -HUP $left 2>/dev/null
    kill -CONT $left 2>/dev/null
    for second in 1 2 3 4 5; do
        [ "$(tree "$1")" ] || return 0
        sleep 1
    done
    end "$1"
}}
"""
"""Functions of a shell."""

WATCH = f"""{TREE}
trap '' HUP INT TERM PIPE
running=" "
while read -r what pid; do
    case $running in *" $pid "*) running="${{running%% $pid *}} ${{running#* $pid }}" ;; esac
    case $what in
    watch) running="$running$pid " ;;
    kill) end "$pid" ;;
    esac
done
for pid in $running; do
    lives "$pid" && hang_up "$pid" & # what a command has left running on purpose may live
done
wait
"""
"""Reads ``watch``, ``forget`` and ``kill``, each with a command's process id; at the end of its
input, which is the end of the connection, it ends what it still watches."""

LEASE = f"""{TREE}
trap '' HUP INT TERM
silent=0 last=
while lives "$1" && [ "$silent" -lt 30 ]; do
    sleep 1
    silent=$((silent + 1))
    read -r new <"$2" || break
    [ "$new" = "$last" ] || silent=0 last=$new
done 2>/dev/null
[ "$silent" -lt 30 ] || hang_up "$1"
rm -f "$2"
"""
"""Ends the command $1 once the file $2 has not been written to for half a minute."""

_SESSION = """\
IFS= read -r stat </proc/$$/stat && stat=${stat##*) } && stat=${stat#* } && stat=${stat#* }
stat=${stat#* }
[ "${stat%% *}" != $$ ] && command -v setsid >/dev/null 2>&1 && set -- setsid "$@"
"""

IN_SESSION = f"""{_SESSION}
exec "$@"
"""
"""Runs its arguments in a session of their own."""

ANNOUNCED = f"""{_SESSION}
echo "core-infra-$token $$" >&2
read -r go || exit 126
unset token stat go
exec "$@"
"""
"""The same; says its process id first, and waits for a line of its input."""


def hidden(script: str) -> list[str]:
    """The command that runs a script so that no list of processes shows all its words."""
    shell = ["/bin/sh", "-c", 'eval "$core_infra_guard"', "core-infra-guard"]
    return ["env", f"core_infra_guard={script}", *shell]
