"""A PC with AVX-512 in an emulator: Linux with nothing but run_cases and its models.

Bochs 2.8 or later has the processor: what MOSSC_BOCHS names, or `bochs`, built with

    ./configure --with-nogui --enable-x86-64 --enable-avx --enable-evex --enable-amx --enable-protection-keys \\
        --enable-long-phy-address --enable-all-optimizations --disable-docbook && make && make install

Its vdpbf16ps takes the distance of a whole vector in memory for one of floats: in cpu/decoder/ia_opcodes_evex.def the last operand of
EVEX_VDPBF16PS must be OP_mVdq, not OP_mVdq32, or a model with --fast may fail whose kernel has spilt a register.

Debian's 2.7 will not do: Linux finds sizes in its CPUID that do not fit together, and then switches AVX off. pc_root.sh fetches the
kernel, a boot loader and what makes an image of a CD of them.
"""
import os
import shutil
import stat
import subprocess
import time

import cases

CPU = "sapphire_rapids"
ALL_WELL = "run_cases ended with status 0\n"
PC_ROOT = cases.ROOT / "build/pc-root"
LIBRARIES = PC_ROOT / "usr/lib/x86_64-linux-gnu"

SETTINGS = """display_library: nogui
cpu: model={cpu}, count=1, ips=100000000, reset_on_triple_fault=0
memory: guest={memory}, host={memory}
ata0-master: type=cdrom, path={disk}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
speaker: enabled=0
log: {log}
panic: action=fatal
error: action=ignore
clock: sync=none
"""
# Processor features that are hidden from Linux: 600, AMX, which it wants with XFD, and Bochs has no XFD; 580, FSRM, without whose
# companion ERMS, which Bochs has switched off, Linux 6.1 copies too much.
MENU = """default linux
prompt 0
label linux
  kernel /vmlinuz
  initrd /initrd
  append console=ttyS0 quiet nokaslr nosmp clearcpuid=580,600 mitigations=off tsc=reliable
"""


def bochs():
    return shutil.which(os.environ.get("MOSSC_BOCHS", "bochs"))


def missing():
    """What is missing here, in words; None: nothing is."""
    program = bochs()
    if not program:
        return "no Bochs (tests/targets/pc.py says which)"
    known = subprocess.run([program, "-help", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.split()
    if CPU not in known:
        return f"{program} does not know the processor {CPU} (tests/targets/pc.py says which Bochs does)"
    if not (PC_ROOT / "packages").exists():
        return "no kernel and boot loader: tests/targets/pc_root.sh build/pc-root"
    return None


def archive(files):
    """A cpio archive ("newc"), as the kernel takes it for its first file system, of (name, mode, bytes)."""
    out = bytearray()
    for number, (name, mode, data) in enumerate([*files, ("TRAILER!!!", 0, b"")], 1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        out += b"\0" * (-len(out) % 4)
        out += data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def make_disk(directory, made, build):
    """A CD with the kernel, and the programs and models as its first file system. Returns its path and that file system's size."""
    contents, disk = directory / "cd", directory / "pc.iso"
    (contents / "isolinux").mkdir(parents=True, exist_ok=True)
    files = [("cases", stat.S_IFDIR | 0o755, b"")]
    files += [(name, stat.S_IFREG | 0o755, (build / name).read_bytes()) for name in ("init", "run_cases")]
    files += [(f"cases/{path.name}", stat.S_IFREG | 0o644, path.read_bytes()) for path in sorted(made.iterdir())
              if path.suffix in (".weights", ".tokens", ".logits")]
    initrd = archive(files)
    (contents / "initrd").write_bytes(initrd)
    (contents / "isolinux/isolinux.cfg").write_text(MENU)
    kernel = sorted(PC_ROOT.glob("boot/vmlinuz-*"))[-1]
    for path, name in ((kernel, "vmlinuz"), (PC_ROOT / "usr/lib/ISOLINUX/isolinux.bin", "isolinux/isolinux.bin"),
                       (PC_ROOT / "usr/lib/syslinux/modules/bios/ldlinux.c32", "isolinux/ldlinux.c32")):
        shutil.copyfile(path, contents / name)
    cases.run(PC_ROOT / "usr/bin/xorriso", "-as", "mkisofs", "-quiet", "-o", disk, "-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat",
              "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", contents,
              env={**os.environ, "LD_LIBRARY_PATH": str(LIBRARIES)})
    return disk, len(initrd)


def wait_for(emulator, serial, timeout):
    """Until the PC is switched off, or its kernel gives up, which leaves it on. Returns what it printed."""
    end = time.monotonic() + timeout
    while True:
        off = emulator.poll() is not None
        printed = serial.read_text(errors="replace").replace("\r", "") if serial.exists() else ""
        if off:
            return printed
        if "Kernel panic" in printed or time.monotonic() > end:
            emulator.kill()
            emulator.wait()
            return printed + "\n(the emulator was ended)\n"
        time.sleep(1)


def run(directory, made, build, timeout):
    """Runs run_cases on the models there. Returns (whether all was well, what the PC printed)."""
    disk, size = make_disk(directory, made, build)
    serial, settings, log = (directory / name for name in ("serial.txt", "bochsrc", "bochs.log"))
    memory = max(512, (3 * size // 2**20 + 384) // 128 * 128)  # MiB: the archive, its files, and what they run in
    settings.write_text(SETTINGS.format(cpu=CPU, memory=memory, disk=disk, serial=serial, log=log))
    serial.unlink(missing_ok=True)
    with open(directory / "said.txt", "w") as said:
        emulator = subprocess.Popen([bochs(), "-q", "-f", settings], stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT)
        printed = wait_for(emulator, serial, timeout)
    if not printed:
        printed = (directory / "said.txt").read_text(errors="replace")
    return ALL_WELL in printed, printed
