"""A Slurm of one machine in a temporary directory (Debian: slurm-wlm, munge): daemons with sockets and ports of their own, as root."""
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import Skipped  # noqa: E402

# As many CPUs as the test wants, whatever the machine has.
CONFIGURATION = """\
ClusterName=mossc
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={directory}/munge.sock
SlurmUser=root
SlurmctldPort={port}
SlurmdPort={next_port}
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,requeue_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def _free_ports() -> int:
    """A port that is free, and the next."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 1))
                return port


def _end(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(path.read_text()), signal.SIGTERM)


@contextlib.contextmanager
def cluster(cpus: int):
    """The environment in which sbatch and the others reach it."""
    daemons = ("munged", "slurmctld", "slurmd")
    where = {name: shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin") for name in (*daemons, "sbatch")}
    if not all(where.values()) or os.geteuid() != 0:
        raise Skipped("there is no Slurm here (Debian: slurm-wlm and munge), or this is not root")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="mossc-slurm-"))
    directory.chmod(0o755)
    environment = {**os.environ, "SLURM_CONF": str(directory / "slurm.conf")}
    try:
        (directory / "state").mkdir()
        (directory / "spool").mkdir()
        (directory / "key").write_bytes(os.urandom(1024))
        (directory / "key").chmod(0o400)
        port = _free_ports()
        (directory / "slurm.conf").write_text(CONFIGURATION.format(host=socket.gethostname().split(".")[0], directory=directory, port=port, next_port=port + 1,
                                                                   cpus=cpus))
        subprocess.run([where["munged"], "--force", f"--socket={directory}/munge.sock", f"--key-file={directory}/key", f"--pid-file={directory}/munged.pid",
                        f"--log-file={directory}/munged.log", f"--seed-file={directory}/seed"], check=True, capture_output=True, timeout=60)
        for name in daemons[1:]:
            subprocess.run([where[name], "-L", directory / f"{name}.log"], env=environment, check=True, capture_output=True, timeout=60)
        end = time.monotonic() + 60
        while b"idle" not in subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, timeout=60).stdout:
            logs = "".join((directory / f"{name}.log").read_text()[-1000:] for name in daemons)
            assert time.monotonic() < end, logs
            time.sleep(0.5)
        yield environment
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True, timeout=60)
    finally:
        for name in reversed(daemons):
            _end(directory / f"{name}.pid")
        time.sleep(1)
        shutil.rmtree(directory, ignore_errors=True)
