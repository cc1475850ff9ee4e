#!/bin/sh
# Ends machines whose test process is gone. It holds the reading end of a pipe: "add <session>" and "drop <session>" keep its list,
# and the end of the pipe, however it came, means that nobody else will end them. $1: directory to remove then, or "".
# A machine is a session of its own (its first process is the session's leader), since its helper processes outlive their parent.

sessions=
while read -r verb session; do
  case $verb in
    add) sessions="$sessions $session" ;;
    drop)
      rest=
      for each in $sessions; do [ "$each" = "$session" ] || rest="$rest $each"; done
      sessions=$rest
      ;;
  esac
done

kill_session() {
  found=
  for file in /proc/[0-9]*/stat; do
    read -r stat 2>/dev/null <"$file" || continue
    pid=${stat%% *}
    # After the last parenthesis: state, parent, group, session.
    # shellcheck disable=SC2086
    set -- "$1" ${stat##*) }
    [ "$5" = "$1" ] && [ "$2" != Z ] && kill -s KILL "$pid" 2>/dev/null && found=yes
  done
  [ -n "$found" ]
}

for session in $sessions; do
  rounds=0
  while kill_session "$session" && [ "$rounds" -lt 50 ]; do rounds=$((rounds + 1)); done
done
[ -n "$1" ] && rm -rf "$1"
