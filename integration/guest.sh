#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Limits on a host of cgroup v2 with systemd, and runs on an older kernel, whatever this machine has: boots Debian with its own
# kernel in qemu, without hardware virtualisation, and runs guest-check.sh in it. Installs what is missing (apt). Only on amd64.
#   guest.sh [REGEXP]            all checks of guest-check.sh, or those whose names match
#   GUEST_SUITE=trixie           another release of Debian
# The system is built once and kept in /var/cache/agentjail-test; a run changes nothing of it. One processor, 1 GiB.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$TOP"

SUITE=${GUEST_SUITE:-bookworm}
SYSTEM=/var/cache/agentjail-test/$SUITE
PACKAGES=linux-image-cloud-amd64,systemd-sysv,dbus-user-session,libpam-systemd,udev,sudo,busybox-static
# What a loaded machine may take for the boot and all checks.
LIMIT=20m

install_tools() {
  local missing=() pair
  for pair in qemu-system-x86_64:qemu-system-x86 mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs cpio:cpio xz:xz-utils; do
    PATH=$CLEAN_PATH command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "install these first: ${missing[*]}"
  say "installing ${missing[*]}"
  as_root apt-get update -q
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "${missing[@]}"
}

# build_system makes vmlinuz, initrd and root.img, unless they are there and were made by these functions.
build_system() {
  local stamp
  stamp=$(declare -f make_tree furnish make_initrd make_image | sha256sum)$PACKAGES
  if [ "$(cat "$SYSTEM/stamp" 2>/dev/null)" = "$stamp" ]; then return 0; fi
  say "building Debian $SUITE: minutes, and only once"
  as_root rm -rf "$SYSTEM"
  as_root mkdir -p "$SYSTEM"
  as_root env PATH="$CLEAN_PATH" bash -euo pipefail -c "$(declare -f make_tree furnish make_initrd make_image)
    make_tree $SUITE $SYSTEM/tree $PACKAGES; furnish $SYSTEM/tree; make_initrd $SYSTEM; make_image $SYSTEM"
  as_root tee "$SYSTEM/stamp" <<<"$stamp" >/dev/null
}

# make_tree installs Debian. Its kernel's package makes no initrd: ours is smaller by far, which counts where every instruction is
# emulated.
make_tree() { # SUITE TREE PACKAGES
  INITRD=No mmdebstrap --quiet --mode=root --variant=minbase --format=directory --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --include="$3" "$1" "$2"
}

# furnish adds two users and the unit that runs the checks, which come on a second disk.
furnish() { # TREE
  local tree=$1
  chroot "$tree" useradd --create-home --shell /bin/bash --uid 1000 ann
  chroot "$tree" useradd --create-home --shell /bin/bash --uid 1001 bob
  echo 'ann ALL=(ALL) NOPASSWD: ALL' >"$tree/etc/sudoers.d/ann"
  echo guest >"$tree/etc/hostname"
  echo '127.0.0.1 localhost guest' >"$tree/etc/hosts"
  cat >"$tree/etc/systemd/system/check.service" <<'UNIT'
[Unit]
After=systemd-logind.service dbus.service systemd-user-sessions.service
[Service]
Type=oneshot
StandardOutput=file:/dev/ttyS1
StandardError=inherit
ExecStart=/bin/sh -c 'mkdir /check && tar -xf /dev/vdb -C /check && /check/guest-check.sh'
ExecStopPost=/bin/systemctl poweroff --force --force
UNIT
  ln -s ../check.service "$tree/etc/systemd/system/multi-user.target.wants/check.service"
}

# make_initrd makes the smallest one that mounts the root: a shell, and the modules for it.
make_initrd() { # SYSTEM
  local tree=$1/tree dir=$1/initrd.d version name how path
  version=$(ls "$tree/lib/modules")
  mkdir -p "$dir/bin" "$dir/dev" "$dir/root"
  cp "$tree/bin/busybox" "$dir/bin/"
  cp "$tree/boot/vmlinuz-$version" "$1/vmlinuz"
  {
    echo '#!/bin/busybox sh'
    for name in virtio_pci virtio_blk ext4; do
      # Lines of "insmod PATH" in the order in which they are needed, and "builtin NAME".
      chroot "$tree" modprobe --set-version "$version" --show-depends "$name"
    done | while read -r how path; do
      [ "$how" = insmod ] || continue
      name=$(basename "$path" .xz)
      [ ! -e "$dir/$name" ] || continue
      case $path in
        *.xz) xz -dc "$tree$path" >"$dir/$name" ;;
        *) cp "$tree$path" "$dir/$name" ;;
      esac
      echo "/bin/busybox insmod /$name"
    done
    echo '/bin/busybox mount -t devtmpfs dev /dev'
    echo '/bin/busybox mount -t ext4 /dev/vda /root'
    echo 'exec /bin/busybox switch_root /root /sbin/init'
  } >"$dir/init"
  chmod 0755 "$dir/init"
  (cd "$dir" && find . | cpio --quiet -o -H newc) >"$1/initrd"
  rm -rf "$dir"
}

make_image() { # SYSTEM
  truncate -s 2G "$1/root.img"
  mkfs.ext4 -q -F -d "$1/tree" "$1/root.img"
  rm -rf "$1/tree"
}

# payload packs what the checks run. The binaries are static: the guest has no Go.
payload() { # DIRECTORY
  make --no-print-directory build
  install -d "$1/bin"
  install -m 0755 bin/agentjail "$1/bin"
  install -m 0755 integration/guest-check.sh "$1"
  CGO_ENABLED=0 go build -o "$1/bin/probe" ./integration/probe
  tar -C "$1" -cf "$1.tar" .
}

boot() { # DIRECTORY REGEXP
  exec timeout -k 5 "$LIMIT" qemu-system-x86_64 -accel tcg -cpu max -smp 1 -m 1024 -nodefaults -nographic -no-reboot \
    -kernel "$SYSTEM/vmlinuz" -initrd "$SYSTEM/initrd" \
    -drive "file=$SYSTEM/root.img,if=virtio,format=raw,snapshot=on" -drive "file=$1/payload.tar,if=virtio,format=raw,readonly=on" \
    -serial "file:$1/console.log" -serial "file:$1/check.log" \
    -append "console=ttyS0 quiet systemd.mask=serial-getty@ttyS0.service checks=$2" </dev/null
}

main() {
  find_go
  install_tools
  build_system
  DIR=$(mktemp -d)
  GUEST=
  trap '[ -z "$GUEST" ] || kill "$GUEST" 2>/dev/null || true; rm -rf "$DIR"' EXIT
  payload "$DIR/payload"
  say "booting Debian $SUITE"
  touch "$DIR/check.log"
  boot "$DIR" "${1:-.}" &
  GUEST=$!
  tail -f --pid="$GUEST" "$DIR/check.log" | sed -u -E 's/\r+$//; /^[0-9]+ passed, [0-9]+ failed/q' | tee "$DIR/shown" || true
  wait "$GUEST" || true
  # The last line counts the checks; without it, the guest did not come to its end. What systemd says after it is not shown.
  if tail -n 1 "$DIR/shown" | grep -qE '^[1-9][0-9]* passed, 0 failed$'; then return; fi
  tail -n 40 "$DIR/console.log" >&2
  exit 1
}

main "$@"
