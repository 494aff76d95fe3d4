"""A Slurm of two nodes, n1 and n2, on this machine for a test: started in seconds, wholly gone afterwards.

Needs root and Debian's slurmctld, slurmd, slurm-client and munge (`.ci/run` installs them); no systemd, no cgroups.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
NODES = ("n1", "n2")
PATIENCE = 900.0  # seconds that any state is waited for: other work may slow the machine down by a lot
# One cluster at a time on the machine, whoever tests: a second one would only wait for the same cores.
TURN = Path(tempfile.gettempdir()) / "probekit-test-slurm.lock"

CONF = """
ClusterName=probekit
SlurmctldHost={host}
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1,sched_min_interval=100000
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
InactiveLimit=0
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-2] NodeHostname={host} Port=[{ports[1]}-{ports[2]}] CPUs=1 RealMemory=1000
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=first Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


def lacking() -> str | None:
    """Why there can be no cluster here, or None."""
    if os.name != "posix" or os.getuid() != 0:
        return "a Slurm for tests is started as root"
    there = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    missing = [name for name in PROGRAMS if shutil.which(name, path=there["PATH"]) is None]
    return f"needs {', '.join(missing)}, which .ci/run installs from Debian" if missing else None


def wait_for(there: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < until, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.1)


class Cluster:
    """One that runs; `folder` is its own, on a path short enough for a socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.environment = os.environ | {
            "SLURM_CONF": str(self.conf),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }

    def start(self) -> None:
        """A ValueError, in time, if it does not come up."""
        ports = free_ports(3)
        self.conf.write_text(CONF.format(host=socket.gethostname().split(".")[0], folder=self.folder, ports=ports))
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (self.folder / name).mkdir()
        self._start_munge()
        self.run("slurmctld", "-i")
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: self.states() == dict.fromkeys(NODES, "idle"), "two idle nodes")

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        files = {name: f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")}
        self.run("munged", "--force", f"--socket={self.folder}/munge.socket", *files.values())

    def start_node(self, node: str) -> None:
        self.run("env", f"CLUSTER_NODE={node}", "slurmd", "-N", node)

    def lose(self, node: str) -> None:
        """As a power cut does: slurmd, its steps and all that they run are gone at once."""
        slurmd = int((self.folder / f"{node}.pid").read_text())
        os.kill(slurmd, signal.SIGKILL)
        for process, environment in self.processes():
            if f"SLURMD_NODENAME={node}" in environment or f"CLUSTER_NODE={node}" in environment:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def run(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def states(self) -> dict[str, str]:
        """The state of each node."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %t").splitlines()
        return dict(line.split() for line in lines)

    def jobs(self) -> dict[str, str]:
        """Every job that waits or runs, with its state."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%F_%K %T").splitlines()
        return dict(line.split() for line in lines)

    def ask_to_stop(self, job: str, heard: Callable[[], bool]) -> None:
        """`scancel --signal=TERM`; while others of an array wait it asks again and again, though it was heard."""
        with subprocess.Popen(
            ["scancel", "--signal=TERM", job], env=self.environment, stderr=subprocess.DEVNULL
        ) as asking:
            wait_for(heard, f"an answer of job {job}")
            asking.kill()

    def node(self, job: str) -> str:
        """Where a job runs."""
        return self.run("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip()

    def processes(self) -> Iterator[tuple[int, list[str]]]:
        """Every process of this cluster, daemons, steps and what jobs started, with its environment."""
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                if f"SLURM_CONF={self.conf}" in environment and int(entry.name) != os.getpid():
                    yield int(entry.name), environment

    def stop(self) -> None:
        """Ends every process of it, and waits until they are gone."""

        def end() -> bool:
            left = [process for process, _ in self.processes()]
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            return not left

        wait_for(end, "the end of the cluster's processes")


def free_ports(n: int) -> list[int]:
    """So many in a row that nobody listens on."""
    for first in range(17000, 30000, 10):
        with suppress(OSError):
            for port in range(first, first + n):
                with socket.socket() as listening:
                    listening.bind(("", port))
            return list(range(first, first + n))
    raise AssertionError("no free ports")


@contextmanager
def cluster() -> Iterator[Cluster]:
    with TURN.open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
            found = Cluster(Path(folder))
            try:
                found.start()
                yield found
            finally:
                found.stop()
