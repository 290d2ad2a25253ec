# What a guest is made of: QEMU, a kernel with its modules, and a first file tree. Sourced by
# tests/qemu. What is missing is installed, or a line says how to.

# Where what is fetched and built for guests is kept, so that it is fetched once.
parts() {
  local target
  target=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  [ -n "$target" ] || return 1
  parts=$target/guest
  mkdir -p "$parts"
}

# Modules that the guest loads, with what they build upon.
modules=(virtio_pci 9pnet_virtio 9p vfio_pci vfio_iommu_type1 nvme crc32c_generic
  nfit nd_pmem dax_pmem device_dax ext4 xfs)

# provide COMMAND PACKAGES WHY: finds a command, or installs it, or says how to.
provide() {
  command -v "$1" >/dev/null && return 0
  local how="apt-get install -y --no-install-recommends $2"
  if [ "$install" = yes ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "== installing $2 ($3)"
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -q && $how" >"$work/apt.log" 2>&1
    hash -r
    command -v "$1" >/dev/null && return 0
    tail -n 5 "$work/apt.log" | sed 's/^/   | /'
  fi
  echo "== $1 is missing: $3. As root: $how"
  return 1
}

programs() {
  local found=yes
  provide qemu-system-x86_64 "qemu-system-x86" "the guest runs in it" || found=no
  provide busybox busybox-static "the guest begins with it" || found=no
  provide cpio cpio "it packs the guest's first file tree" || found=no
  provide depmod kmod "it lists the guest's kernel modules" || found=no
  provide xz xz-utils "the kernel is packed with it" || found=no
  provide ndctl ndctl "it prepares emulated persistent memory" || found=no
  provide mkfs.ext4 e2fsprogs "ext4 is mounted with DAX in the guest" || found=no
  provide mkfs.xfs xfsprogs "XFS is mounted with DAX in the guest" || found=no
  [ "$found" = yes ]
}

# A kernel image and its modules: an installed one that has what is needed, else Debian's,
# fetched and unpacked, not installed.
kernel() {
  local each version name
  for each in /lib/modules/*/kernel/drivers/vfio/pci/vfio-pci.ko*; do
    version=${each#/lib/modules/} && version=${version%%/*}
    [ -r "/boot/vmlinuz-$version" ] && [ -d "/lib/modules/$version/kernel/drivers/nvdimm" ] || continue
    tree=/ release=$version image=/boot/vmlinuz-$version
    return 0
  done
  tree=$parts/linux
  if ! compgen -G "$tree/boot/vmlinuz-*" >/dev/null; then
    command -v apt-get >/dev/null || { echo "== no kernel for the guest: linux-image-amd64 of Debian"; return 1; }
    [ "$install" = yes ] && [ "$(id -u)" -eq 0 ] && apt-get update -q >"$work/apt.log" 2>&1
    name=$(apt-cache depends linux-image-amd64 2>/dev/null |
      sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1)
    if [ -z "$name" ] || [ "$install" = no ]; then
      echo "== no kernel for the guest. As root: apt-get update && apt-get install linux-image-amd64"
      return 1
    fi
    echo "== fetching $name (the guest's kernel; it is unpacked, not installed)"
    rm -rf "$tree.new" && mkdir -p "$tree.new" || return 1
    (cd "$tree.new" && apt-get download "$name" && dpkg-deb -x ./*.deb . && rm ./*.deb) \
      >"$work/kernel.log" 2>&1 || { tail -n 5 "$work/kernel.log"; return 1; }
    rm -rf "$tree" && mv "$tree.new" "$tree" || return 1
  fi
  image=$(compgen -G "$tree/boot/vmlinuz-*" | head -n 1)
  release=${image##*/vmlinuz-}
  [ -e "$tree/lib/modules/$release/modules.dep" ] || depmod -b "$tree" "$release"
}

# The kernel in the folder that --kernel names, which must have iommufd: Debian builds none with
# it (none of 6.1, 6.12 and 7.3).
other_kernel() {
  [ -n "$other" ] || return 1
  tree=$other
  image=$(compgen -G "$tree/boot/vmlinuz-*" | head -n 1)
  release=${image##*/vmlinuz-}
  [ -d "$tree/lib/modules/$release" ] || return 1
  [ -e "$tree/lib/modules/$release/modules.dep" ] || depmod -b "$tree" "$release"
}

# The kernel's image without its packing, which the guest would undo more slowly. QEMU boots one
# only by the entry that CONFIG_PVH gives it.
unpacked() {
  local plain=$parts/vmlinux-$release at
  grep -qs '^CONFIG_PVH=y' "${image%/*}/config-$release" || return 0
  if [ ! -s "$plain" ]; then
    at=$(grep -abo $'\xfd7zXZ' "$image" | head -n 1 | cut -d : -f 1)
    [ -n "$at" ] && tail -c "+$((at + 1))" "$image" | xz -dcq 2>/dev/null >"$plain.new"
    # What follows the packed stream makes xz complain; what counts is what came out.
    [ "$(head -c 4 "$plain.new" 2>/dev/null)" = $'\x7fELF' ] || return 0
    mv "$plain.new" "$plain"
  fi
  image=$plain
}

# needed FOLDER: the files of the modules and of what they build upon, in the order in which they
# are loaded. (modprobe leaves out what the host itself has loaded.)
needed() {
  local each
  for each in "${modules[@]}"; do
    awk -v name="$each" -v folder="$1" '
      { file = $1; sub(/:$/, "", file); base = file; sub(/.*\//, "", base); sub(/\.ko.*/, "", base)
        gsub(/-/, "_", base) }
      base == name { for (i = NF; i > 1; i--) print folder "/" $i; print folder "/" file; found = 1 }
      END { exit !found }' "$1/modules.dep" || echo "== no module $each in $1" >&2
  done | awk '!seen[$0]++'
}

# The first file tree: busybox, the modules in their order, and init.
first_tree() {
  first=$work/first-$release.cpio
  local root=$work/first-$release each file
  mkdir -p "$root/bin" "$root/modules"
  cp "$(command -v busybox)" "$root/bin/busybox" && cp guest/init "$root/init" || return 1
  needed "$tree/lib/modules/$release" >"$work/modules" || return 1
  while read -r file; do
    case $file in
      *.xz) xz -dc "$file" >"$root/modules/$(basename "$file" .xz)" ;;
      *.zst) zstd -dcq "$file" >"$root/modules/$(basename "$file" .zst)" ;;
      *) cp "$file" "$root/modules/" ;;
    esac || return 1
    basename "$file" | sed 's/\.xz$//; s/\.zst$//' >>"$root/modules/order"
  done <"$work/modules"
  (cd "$root" && find . | cpio -o -H newc --quiet) >"$first"
}

# KVM where a guest truly runs in it, else emulation: decided by trying.
accelerator() {
  accel=tcg,thread=multi
  if [ -w /dev/kvm ]; then
    # Where it does not work, QEMU may be killed, of which the shell would tell.
    (timeout 20 qemu-system-x86_64 -M q35 -accel kvm -cpu host -m 512 -nodefaults -nographic \
      -no-reboot -serial "file:$work/trial.log" -kernel "$image" -initrd "$first" \
      -append "console=ttyS0 quiet panic=-1 freehold.trial" \
      -device isa-debug-exit,iobase=0xf4,iosize=0x1 </dev/null; exit $?) >/dev/null 2>&1
    [ $? -eq 85 ] && accel=kvm,kernel-irqchip=split
  fi
  echo "== guest: Linux $release, ${accel%%,*}"
}
