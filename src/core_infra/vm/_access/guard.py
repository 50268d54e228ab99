"""Shell scripts that end commands in a machine, with all processes that they have started.

OpenSSH does not send signals to root's commands, and neither OpenSSH nor QEMU's agent ends a
command when its client is gone. So a shell in the machine does it, by ``/proc``: it ends the
processes of the command's session and the command's descendants. It needs only the program
``sleep``.
"""

from __future__ import annotations

from core_infra.vm._guest.copy_scripts import LIVES

TREE = rf"""{LIVES}
tree() {{ # the living processes of the session $1, and the descendants of the process $1
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
end() {{ # the command $1, at once; repeated until no process is left, as some may fork meanwhile
    tries=0
    while left=$(tree "$1") && [ "$left" ] && [ "$tries" -lt 30 ]; do
        kill -KILL $left 2>/dev/null
        tries=$((tries + 1))
        if [ "$tries" -gt 3 ]; then # a process of sudo belongs to another user
            sudo -n kill -KILL $left 2>/dev/null
            sleep 1
        fi
    done
}}
hang_up() {{ # the command $1, as a terminal that is closed; the command may clean up
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
"""Shell functions that the other scripts use."""

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
    lives "$pid" && hang_up "$pid" & # a daemon of a command that has ended keeps running
done
wait
"""
"""Reads ``watch``, ``forget`` and ``kill``, each with a command's process id. At the end of its
input, which is the end of the connection, it ends the commands that it still watches."""

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
"""Ends the command $1 if the file $2 has not been written to for half a minute."""

_SESSION = """\
IFS= read -r stat </proc/$$/stat && stat=${stat##*) } && stat=${stat#* } && stat=${stat#* }
stat=${stat#* }
[ "${stat%% *}" != $$ ] && command -v setsid >/dev/null 2>&1 && set -- setsid "$@"
"""

IN_SESSION = f"""{_SESSION}
exec "$@"
"""
"""Runs its arguments in a new session."""

ANNOUNCED = f"""{_SESSION}
echo "core-infra-$token $$" >&2
read -r go || exit 126
unset token stat go
exec "$@"
"""
"""The same; first prints its process id, and waits for a line of input."""


def hidden(script: str) -> list[str]:
    """The command that runs a script without showing its text in the list of processes."""
    shell = ["/bin/sh", "-c", 'eval "$core_infra_guard"', "core-infra-guard"]
    return ["env", f"core_infra_guard={script}", *shell]
