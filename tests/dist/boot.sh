#!/usr/bin/env bash
# boot.sh WORK CHECK: run by check.sh as the first process of new namespaces; lays an overlay over the root, with WORK/first at
# /run/dist and CHECK at /run/check, and becomes the systemd of it, without any service of this machine.
set -euo pipefail
work=$1 check=$2
mount --make-rprivate /
mkdir "$work/overlay"
mount -t tmpfs tmpfs "$work/overlay"
cd "$work/overlay"
mkdir upper work root
mount -t overlay overlay root -o "lowerdir=/,upperdir=$PWD/upper,workdir=$PWD/work"
cd root
rm -f etc/systemd/system/*.wants/* etc/fstab usr/sbin/policy-rc.d
for unit in systemd-udevd systemd-udev-trigger systemd-networkd systemd-resolved systemd-timesyncd systemd-logind \
    systemd-remount-fs console-getty getty@tty1; do
    ln -sf /dev/null "etc/systemd/system/$unit.service"
done

mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
# Devices of its own: systemd puts names there.
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do cp -a "/dev/$device" dev; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mkdir run/dist run/check
mount --bind "$work/first" run/dist
mount --bind "$check" run/check
ip link set lo up

mkdir oldroot
pivot_root . oldroot
umount --lazy /oldroot
mount --make-rshared /
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --log-target=journal --show-status=0
