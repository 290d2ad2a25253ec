# Boots guests and answers what they ask of the monitor. Sourced by tests/qemu, after
# guest/system.sh has found the parts.

# Bytes of a namespace, and of a file of persistent memory.
space=96M

# images FOLDER: the storage of a guest, empty.
images() {
  mkdir -p "$1" || return 1
  local each
  for each in n1 n2 n3 n4 b1; do truncate -s "$space" "$1/$each.img" || return 1; done
  truncate -s 64M "$1/pmr.img" && truncate -s 1G "$1/dax.img" && truncate -s 512M "$1/devdax.img"
}

# devices FOLDER: two controllers behind the IOMMU. The first has four namespaces of 4096-byte
# blocks, a Controller Memory Buffer and a Persistent Memory Region; the second has one of 512,
# and sits in a slot that it can be taken from.
devices() {
  local n
  machine=(-device intel-iommu,intremap=on
    -device pcie-root-port,id=port0,chassis=1,slot=1,addr=0x8
    -object "memory-backend-file,id=pmr0,share=on,mem-path=$1/pmr.img,size=64M"
    -device nvme,id=first,serial=first,addr=0x10,cmb_size_mb=16,pmrdev=pmr0
    -blockdev "raw,node-name=b1,file.driver=file,file.filename=$1/b1.img"
    -device nvme,id=second,serial=second,drive=b1,bus=port0)
  for n in 1 2 3 4; do
    machine+=(-drive "file=$1/n$n.img,if=none,id=n$n,format=raw,cache=writeback,aio=threads"
      -device "nvme-ns,drive=n$n,bus=first,nsid=$n,logical_block_size=4096,physical_block_size=4096")
  done
}

# dimms FOLDER: persistent memory, for a guest that has it.
dimms() {
  options=(-M q35,nvdimm=on -m 1024,slots=3,maxmem=4G)
  machine+=(
    -object "memory-backend-file,id=dax,share=on,mem-path=$1/dax.img,size=1G,pmem=off"
    -device nvdimm,id=dimm0,memdev=dax
    -object "memory-backend-file,id=devdax,share=on,mem-path=$1/devdax.img,size=512M,pmem=off"
    -device nvdimm,id=dimm1,memdev=devdax)
}

# asked FOLDER: hands lines that the guest left for the monitor to QEMU.
asked() {
  local each
  for each in "$1"/out/ask.*; do
    [ -e "$each" ] || continue
    # Nobody reads it when QEMU has just ended.
    timeout 5 sh -c 'cat "$1" >"$2"' sh "$each" "$1/monitor.in"
    rm -f "$each"
  done
}

# boot NAME SECONDS: runs the job in $work/NAME/out/job in a guest with `machine`; its status is
# the job's, or 124 when it took too long, or 125 when the guest died by itself. `until` may
# name a command that ends the guest when it succeeds, as a loss of power does: status 137.
boot() {
  local at=$work/$1 seconds=$2 pid code reader= killed= late=no started=$SECONDS
  rm -f "$at"/monitor.* && mkfifo "$at/monitor.in" "$at/monitor.out" || return 1
  local serial=(-serial "file:$at/serial.log" -monitor "pipe:$at/monitor")
  [ "${shell:-no}" = no ] || serial=(-serial mon:stdio)
  qemu-system-x86_64 "${options[@]}" -accel "$accel" -cpu "$cpu" -smp 2 -nodefaults -nographic \
    -no-reboot "${serial[@]}" -kernel "$image" -initrd "$first" \
    -append "console=ttyS0 quiet panic=-1 tsc=reliable clocksource=tsc${append:+ $append}" \
    -device isa-debug-exit,iobase=0xf4,iosize=0x1 \
    -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=host,mount_tag=host \
    -fsdev "local,id=out,path=$at/out,security_model=none" \
    -device virtio-9p-pci,fsdev=out,mount_tag=out \
    "${machine[@]}" <&0 2>"$at/qemu.log" &
  pid=$!
  guest=$pid
  if [ "${shell:-no}" = no ]; then
    cat "$at/monitor.out" >"$at/monitor.log" 2>/dev/null &
    reader=$!
  fi
  while kill -0 "$pid" 2>/dev/null; do
    asked "$at"
    if [ -n "${until:-}" ] && $until; then
      kill -9 "$pid" 2>/dev/null
      killed=yes
      break
    elif [ $((SECONDS - started)) -ge "$seconds" ]; then
      kill -9 "$pid" 2>/dev/null
      echo "guest: no end after $seconds s" >>"$at/serial.log"
      late=yes
      break
    fi
    sleep 0.1
  done
  wait "$pid" 2>/dev/null
  code=$?
  guest=
  # A QEMU that never began has left it waiting.
  [ -z "$reader" ] || { kill "$reader" && wait "$reader"; } 2>/dev/null
  [ "$late" = no ] || return 124
  [ -z "$killed" ] || return 137
  # QEMU says twice the status and one. A guest that panics ends with nothing.
  if [ "$((code % 2))" -eq 1 ] && { [ "${shell:-no}" = yes ] || grep -q '^guest: ended with' "$at/serial.log"; }; then
    return $((code / 2))
  fi
  return 125
}
