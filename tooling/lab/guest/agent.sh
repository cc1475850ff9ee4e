#!/bin/sh
# Agent of a lab machine, at first process 1. Obeys lines on the serial line, one verb each, and answers with lines:
#   run <id>              run <id>.cmd of the shared directory with <id>.in (if any), <id>.out and <id>.err as its streams
#   init <id>             process 1 becomes <id>.cmd; the agent goes on beside it
#   kill <signal> <pid>   a negative pid means the whole process group
#   off                   flush and power off
# A command says "pid <id> <pid>" itself, on descriptor 9 before its first word, and the agent says "exit <id> <status>" after it.
# Short lines are written to a tty in one piece, so commands that end together do not mix their answers.

cd / || exit 1
. /run/lab/boot.env
# Words of the kernel's command line are in the environment of process 1 and mean nothing to programs.
unset mem uml_dir dmlog_share
export PATH="$LAB_PATH" HOME=/root TERM=dumb LANG=C TMPDIR=/run/tmp
# There is no udev here: libdevmapper makes the nodes itself.
export DM_DISABLE_UDEV=1
line=/dev/ttyS0
stty -F "$line" raw -echo || exit 1
# Read and write, so that the line is never hung up between two commands.
exec 9<>"$line"

run() {
  input=/dev/null
  [ -e "/run/lab/$1.in" ] && input=/run/lab/$1.in
  # A session, hence a process group, of its own: a signal to the group ends all that the command has started.
  setsid /bin/sh "/run/lab/$1.cmd" <"$input" >"/run/lab/$1.out" 2>"/run/lab/$1.err"
  echo "exit $1 $?" >&9
}

# Only process 1 has news; what follows `init` goes on with the line.
[ $$ -eq 1 ] && echo "ready" >&9
while read -r verb first second <&9; do
  case $verb in
    run)
      # Beside another process 1 the commands are that one's orphans: it waits at the end for all whom it kills, and this loop does not look after them at once.
      if [ $$ -eq 1 ]; then run "$first" & else (run "$first" &); fi
      ;;
    init)
      # A first "@" in its name: a service manager that kills everybody at the end of a shutdown spares it.
      # shellcheck disable=SC2016
      setsid perl -e 'exec { "/bin/sh" } "\@agent", @ARGV' "$LAB_GUEST/agent.sh" &
      exec /bin/sh "/run/lab/$first.cmd" </dev/console >/dev/console 2>&1
      ;;
    kill) kill -s "$first" -- "$second" 2>/dev/null ;;
    # The kernel's own way to power off: `halt` is not installed everywhere.
    off) sync; echo o >/proc/sysrq-trigger ;;
  esac
  # Reaps the commands that have ended, and the orphans that process 1 inherits.
  jobs >/dev/null
done
