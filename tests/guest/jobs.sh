# What is done in guests: the tests, a prompt. Sourced by tests/qemu.

# The programs that run in the guest, built on the host.
build() {
  echo "== building what runs in the guest"
  local lines
  lines=$(cargo test -p freehold-tests --test guest --locked --no-run --message-format json \
    2>"$work/build.log") || { tail -n 40 "$work/build.log"; return 1; }
  tests=$(sed -n 's/.*"name":"guest".*"executable":"\([^"]*\)".*/\1/p' <<<"$lines" | tail -n 1)
  lines=$(cargo build -p freehold-cmd --locked --profile test --message-format json \
    2>>"$work/build.log") || { tail -n 40 "$work/build.log"; return 1; }
  program=$(sed -n 's/.*"name":"freehold".*"executable":"\([^"]*\)".*/\1/p' <<<"$lines" | tail -n 1)
  [ -x "$tests" ] && [ -x "$program" ] || { echo "cargo names no programs"; return 1; }
  # Without what debuggers read, they are loaded faster.
  strip -o "$work/guest" "$tests" && strip -o "$work/freehold" "$program"
}

# job NAME LINES: what a guest is to do, as a script of bash in the host's file tree. FREEHOLD_JOB
# takes the place of the lines, for who looks for something in a guest.
job() {
  mkdir -p "$work/$1/out" || return 1
  {
    cat <<TEXT
export FREEHOLD_GUEST=/run/out FREEHOLD_PROGRAM=/run/out/freehold TERM=dumb
export RUST_BACKTRACE=${RUST_BACKTRACE:-1} FREEHOLD_LONG=$([ "$tier" = long ] && echo yes)
[ -d /lib/modules ] && ulimit -l unlimited
TEXT
    echo "${FREEHOLD_JOB:-$2}"
  } >"$work/$1/out/job"
  cp "$work/guest" "$work/freehold" "$work/$1/out/"
}

# told NAME LOG: hands the lines of a libtest run on, and counts them.
passed=0 failed=0 skipped=0
told() {
  local log=$work/$1/out/$2 good bad off
  [ -e "$log" ] || return 1
  grep -v '^test result:' "$log"
  read -r good bad off < <(awk '
    /^test .* \.\.\. ok/ { good++ }
    /^test .* \.\.\. FAILED/ { bad++ }
    /^test .* \.\.\. ignored/ { off++ }
    END { print good + 0, bad + 0, off + 0 }' "$log")
  passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + off))
}

# one NAME STATUS [WHY]: a test of the host's own.
one() {
  if [ "$2" = 0 ]; then
    echo "test $1 ... ok"
    passed=$((passed + 1))
  else
    echo "test $1 ... FAILED"
    echo "---- $1 ----"
    echo "${3:-}"
    failed=$((failed + 1))
  fi
}

# trouble NAME: what a guest that did not end well has said.
trouble() {
  echo "---- the guest's console, $1 ----"
  tail -n 60 "$work/$1/serial.log" 2>/dev/null
  cat "$work/$1/qemu.log" 2>/dev/null
  grep -a '^Error' "$work/$1/monitor.log" 2>/dev/null
}

# suite NAME SECONDS FILTERS: one boot in which the tests of the guest run that have these words
# in their names; then, if the last word is `again`, what one boot leaves for the next.
suite() {
  local name=$1 started=$SECONDS status again=memory::vfio_a_region_outlives_its_guest
  local filters=${3% again} more=true
  [ "$filters" = "$3" ] || more="/run/out/guest --exact $again >/run/out/again.log 2>&1"
  job "$name" "/run/out/guest --test-threads=1 --skip $again $filters >/run/out/tests.log 2>&1
    first=\$?; $more && exit \$first"
  boot "$name" "$2"
  status=$?
  echo "== guest $name: $((SECONDS - started)) s"
  tr -d '\r' <"$work/$name/monitor.log" 2>/dev/null | grep -a '^Error' | sed 's/^/   | monitor: /'
  told "$name" tests.log || true
  [ "$filters" = "$3" ] || told "$name" again.log || one "guest::$again" 1 "it did not run"
  # A failing test ends libtest with 101; anything else that is not 0 is the guest's own.
  if [ "$status" -ne 0 ] && [ "$status" -ne 101 ] || ! grep -q '^test result:' "$work/$name/out/tests.log" 2>/dev/null; then
    one "guest::$name" 1 "the guest ended with $status"
    trouble "$name"
  fi
}

# Stores on namespaces, with a journal on the region, and on persistent memory, while the whole
# machine is killed: each time it is booted again, recovered and checked.
kills() {
  local round rounds=2 status started=$SECONDS
  dimms "$work"
  [ "$tier" = long ] && rounds=12
  job killed "/run/out/guest --test-threads=1 --exact killed::begins >/run/out/begins.log 2>&1"
  for ((round = 1; round <= rounds + 1; round++)); do
    rm -f "$work"/killed/out/at-work-*
    worked=0 wanted=$((round * 37 % 23 + 5))
    [ "$round" -gt "$rounds" ] && until= || until=at_work
    boot killed 120
    status=$?
    until=
    if [ "$status" -eq 137 ] && [ "$round" -le "$rounds" ]; then status=0; fi
    one "guest::killed::round_$round" "$status" "the guest ended with $status: $(tail -n 30 "$work/killed/out/begins.log" "$work/killed/out/goes-on.log" 2>/dev/null)"
    [ "$status" -eq 0 ] || { trouble killed; break; }
    job killed "/run/out/guest --test-threads=1 --exact killed::$([ "$round" -lt "$rounds" ] && echo goes_on || echo ends) >/run/out/goes-on.log 2>&1"
  done
  echo "== guest killed $rounds times: $((SECONDS - started)) s"
}

# Ends the guest some tenths of a second after it began to work.
at_work() {
  [ "$(compgen -G "$work/killed/out/at-work-*" | wc -l)" -eq 5 ] || return 1
  worked=$((worked + 1))
  [ "$worked" -ge "$wanted" ]
}

# The newer interface of the kernel, in a kernel that has it.
newer() {
  if [ -z "$other" ]; then
    echo "test guest::iommufd ... ignored, Debian's kernels are built without CONFIG_IOMMUFD: --kernel names another"
    skipped=$((skipped + 1))
  elif modules+=(iommufd) && other_kernel && unpacked && first_tree; then
    echo "== guest: Linux $release"
    suite iommufd 200 "${only:-iommufd}"
  else
    one guest::iommufd 1 "no kernel with modules is in $other (boot/vmlinuz-*, lib/modules/*)"
  fi
}

test_jobs() {
  # Under load for longer is minutes more, on a slow machine many.
  local slack=0
  [ "$tier" = long ] && slack=1000
  images "$work" || { echo "tests/qemu: no room for images"; exit 1; }
  devices "$work"
  if [ -z "$only" ]; then
    suite vfio $((500 + slack)) "vfio again"
    # The next boot finds in the region what this one left.
    mkdir -p "$work/dax/out" && cp "$work/vfio/out/region-holds" "$work/dax/out/" 2>/dev/null
    dimms "$work"
    suite dax $((300 + slack)) "dax again"
    devices "$work"
    kills
    options=(-M q35 -m 1024)
    devices "$work"
    newer
  elif [ "$only" = killed ]; then
    kills
  elif [[ $only == iommufd* ]]; then
    newer
  else
    case $only in dax*) dimms "$work" ;; esac
    suite chosen $((600 + slack)) "$only"
  fi
  echo
  local word=ok
  [ "$failed" -eq 0 ] || word=FAILED
  echo "test result: $word. $passed passed; $failed failed; $skipped ignored; 0 measured"
  [ "$failed" -eq 0 ]
}

shell_job() {
  images "$work" && devices "$work" && dimms "$work" || exit 1
  job shell "PS1='guest# '; cd $(printf %q "$PWD"); echo 'controllers:'; grep -l 0x0108 /sys/bus/pci/devices/*/class"
  append=freehold.shell shell=yes
  boot shell 86400
}

# The benchmark: built for speed, measured in one guest, written into docs/benchmarks.md.
bench_job() {
  local lines compare doc=../docs/benchmarks.md
  provide fio fio "it measures the kernel's side" || exit 3
  provide strace strace "it counts system calls" || exit 3
  lines=$(cargo build -p freehold-bench --bin compare --release --locked --message-format json \
    2>"$work/build.log") || { tail -n 40 "$work/build.log"; exit 1; }
  compare=$(sed -n 's/.*"name":"compare".*"executable":"\([^"]*\)".*/\1/p' <<<"$lines" | tail -n 1)
  space=512M
  images "$work" && devices "$work" && dimms "$work" || exit 1
  job bench "/run/out/compare --work \$(mktemp -d /run/tmp/bench.XXXX) --plain --only guest \
    --repeat 5 --commit '$(git rev-parse --short=12 HEAD)' --section /run/out/section.md \
    >/run/out/bench.log 2>&1"
  strip -o "$work/bench/out/compare" "$compare"
  boot bench 3000
  local status=$?
  cat "$work/bench/out/bench.log"
  if [ "$status" -ne 0 ] || [ ! -s "$work/bench/out/section.md" ]; then
    trouble bench
    exit 1
  fi
  awk -v new="$work/bench/out/section.md" '
    function put() { while ((getline line < new) > 0) print line; done = 1 }
    /^<!-- measured in a guest: begin -->/ { put(); skip = 1 }
    !skip { print }
    /^<!-- measured in a guest: end -->/ { skip = 0 }
    END { if (!done) put() }' "$doc" >"$work/document" && cp "$work/document" "$doc"
  echo "written: docs/benchmarks.md"
}
