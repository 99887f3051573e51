"""A container engine to test with: one that runs already, else a dockerd of our own that leaves nothing behind.

Invariant: after the `with` block the firewall, the forwarding switch, the mounts and the process list are as before; only
the image cache stays, so that the next run is fast.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from tests.acceptance.compose._network import host_network_kept
from tests.acceptance.compose._shell import CommandError, WaitError, run, wait_for

PACKAGES = {
    "iptables-save": "iptables",
    "dockerd": "docker.io",
    "docker": "docker.io",
    "docker-compose": "docker-compose",
    "debootstrap": "debootstrap",
}
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
STALE = "168h"  # after which an image that has no name any more is no help to the next build


class NoEngineError(Exception):
    """No engine runs here and none can be started; says why."""


def install_missing() -> None:
    """Install what is missing from Debian's packages.

    Raises:
        NoEngineError: something is missing and cannot be installed.
    """
    missing = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise NoEngineError(f"{', '.join(missing)}: not installed, and only root on Debian can install it")
    env = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # run level 1: invoke-rc.d starts no service
    try:
        run(["apt-get", "update"], env=env)
        run(["apt-get", "install", "-y", "--no-install-recommends", "ca-certificates", *missing], env=env)
    except CommandError as error:
        raise NoEngineError(f"{', '.join(missing)}: cannot be installed: {error}") from error


@contextmanager
def engine(cache: Path) -> Iterator[dict[str, str]]:
    """Yield the environment under which `docker` and `docker-compose` reach an engine.

    Raises:
        NoEngineError: none runs, and none starts.
    """
    with suppress(CommandError):
        run(["docker", "info"], timeout_s=20)
        yield {}
        return
    if os.geteuid() != 0:
        raise NoEngineError("no engine runs, and only root can start one")
    with private_engine(cache) as address:
        yield {"DOCKER_HOST": address}


@contextmanager
def private_engine(cache: Path) -> Iterator[str]:
    """Run a dockerd of our own and yield its address.

    Raises:
        NoEngineError: it does not start.
    """
    pidfile = cache / "dockerd.pid"
    stop_orphan(pidfile)
    with scratch_directory(cache) as scratch, host_network_kept(cache / "network.json"):
        address = f"unix://{scratch}/docker.sock"
        log = cache / "dockerd.log"
        command = ["dockerd", "--host", address, "--data-root", str(cache / "engine"), "--exec-root", f"{scratch}/exec"]
        command += ["--pidfile", str(pidfile), "--bridge", "none", "--log-level", "warn"]
        with log.open("wb") as output:
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_until_up(daemon, address, log)
            remove_leftovers(address)
            yield address
            remove_leftovers(address)
            run(["docker", "--host", address, "image", "prune", "--force", "--filter", f"until={STALE}"])
        finally:
            stop(daemon)


@contextmanager
def scratch_directory(cache: Path) -> Iterator[Path]:
    """Yield the engine's run-time directory: a short path (sockets), the same for every run that uses this cache."""
    scratch = Path(tempfile.gettempdir(), f"mica-engine-{sha256(bytes(cache)).hexdigest()[:8]}")
    clear(scratch)
    scratch.mkdir(mode=0o700)
    try:
        yield scratch
    finally:
        clear(scratch)


def clear(scratch: Path) -> None:
    """Remove the run-time directory with the mounts that dockerd leaves in it."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{scratch}/")]):
        run(["umount", "--lazy", mount])
    shutil.rmtree(scratch, ignore_errors=True)


def wait_until_up(daemon: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Wait until the engine answers.

    Raises:
        NoEngineError: it exited, or does not answer in time; with the last lines of its log.
    """

    def answers() -> bool:
        if daemon.poll() is not None:
            raise WaitError(f"it exited with {daemon.returncode}")
        with suppress(CommandError):
            run(["docker", "--host", address, "info"], timeout_s=20)
            return True
        return False

    try:
        wait_for("an answer", answers, START_TIMEOUT_S)
    except WaitError as error:
        tail = " | ".join(log.read_text(errors="replace").splitlines()[-3:])
        raise NoEngineError(f"dockerd does not start: {error}: {tail}") from error


def remove_leftovers(address: str) -> None:
    """Remove every container, network and volume of the private engine (an earlier run may have been killed)."""
    docker = ["docker", "--host", address]
    containers = run([*docker, "ps", "--all", "--quiet"]).split()
    if containers:
        run([*docker, "rm", "--force", "--volumes", *containers])
    run([*docker, "network", "prune", "--force"])
    run([*docker, "volume", "prune", "--force"])


def stop(daemon: subprocess.Popen[bytes]) -> None:
    """Ask the engine to stop; it takes its containerd with it."""
    daemon.terminate()
    try:
        daemon.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


def stop_orphan(pidfile: Path) -> None:
    """Stop the engine of an earlier run that was killed: it would hold our image cache."""
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int(pidfile.read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd":
            os.kill(pid, signal.SIGTERM)
            wait_for(f"the end of dockerd {pid}", lambda: not Path(f"/proc/{pid}").exists(), STOP_TIMEOUT_S)
