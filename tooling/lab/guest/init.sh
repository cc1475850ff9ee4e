#!/bin/sh
# First process of a lab machine. Reads boot.env from the directory that host and guest share, replaces the host's tree by a
# private copy-on-write view of it, loads modules and becomes the agent (agent.sh) in the new root.
#
# Every failure ends in fail(): the reason goes to the console and the kernel stops, so that the host reports it at once.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
umask 022

fail() {
  echo "dmlog-lab: boot failed: $*"
  # A panic is what the host recognises; PID 1 that exits is one.
  exit 1
}

mount -t proc proc /proc || fail "cannot mount /proc"
share=
for word in $(cat /proc/cmdline); do
  case $word in dmlog_share=*) share=${word#dmlog_share=} ;; esac
done
# boot.env: LAB_GUEST (this folder), LAB_INSMOD, LAB_MODULES (one "path parameters" per line), LAB_MODULE_TREE, LAB_PATH, LAB_NAME.
. "$share/boot.env" || fail "cannot read $share/boot.env"

load() {
  echo "$1" | while read -r module parameters; do
    [ -z "$module" ] && continue
    # Parameters are words on purpose.
    # shellcheck disable=SC2086
    $LAB_INSMOD "$module" $parameters || exit 1
  done
}

mount -t sysfs sysfs /sys || fail "cannot mount /sys"
load "$LAB_BOOT_MODULES" || fail "cannot load the overlay module"

# The host's tree below, a tmpfs above: what the guest writes stays in the guest and ends with it.
mount -t tmpfs -o mode=0755 tmpfs /run || fail "cannot mount a tmpfs on /run"
mkdir /run/upper /run/work /run/root || fail "cannot prepare the overlay"
mount -t overlay -o lowerdir=/,upperdir=/run/upper,workdir=/run/work overlay /run/root || fail "cannot mount the overlay"
cd /run/root || fail "cannot enter the overlay"
mount -t proc proc proc || fail "cannot mount /proc in the overlay"
mount -t sysfs sysfs sys || fail "cannot mount /sys in the overlay"
mount -t devtmpfs devtmpfs dev || fail "cannot mount /dev in the overlay"
mount -t tmpfs -o mode=0755 tmpfs run || fail "cannot mount /run in the overlay"
mkdir -p dev/shm dev/pts run/lab run/lock run/tmp || fail "cannot make mount points"
mount -t devpts devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm || fail "cannot mount /dev/shm in the overlay"
# /tmp stays in the overlay, private as everything else: the repository itself may be a checkout below it.
chmod 1777 run/tmp
# Without sync, what a guest wrote here would wait in its page cache and be lost when the machine is killed.
mount -t hostfs -o sync,"$share" none run/lab || fail "cannot mount the shared directory"
mkdir -p "lib/modules/$(uname -r)" && mount --bind "$LAB_MODULE_TREE" "lib/modules/$(uname -r)"
hostname "$LAB_NAME" 2>/dev/null || echo "$LAB_NAME" >proc/sys/kernel/hostname
if command -v ip >/dev/null; then ip link set lo up; else ifconfig lo up; fi || fail "cannot bring lo up"

load "$LAB_MODULES" || fail "cannot load a module"

mkdir -p mnt && pivot_root . mnt || fail "cannot change the root"
umount -l /mnt
exec chroot . /bin/sh "$LAB_GUEST/agent.sh" <dev/console >dev/console 2>&1
