"""``mica run --restart`` as a process: signals, terminal, orphans; the runtime directory is written by the test."""

import json
import os
import pty
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mica.region import Limits, QuotaRegion, RuntimeDir, decode_attach

DEVICE = "GPU-1"
LIMITS = Limits(slice_id="s1", generation=1, vram_limit_bytes=1 << 30, share_ppm=1000, ceiling_ppm=1000, burst_ns=1)
LIMIT_S = 30.0


class Node:
    """A runtime directory with a live slice, and launchers in it."""

    def __init__(self, root: Path) -> None:
        self.runtime = RuntimeDir(root)
        self.runtime.ensure_device(DEVICE)
        with QuotaRegion.create(self.runtime.quota_path(DEVICE), DEVICE) as region:
            region.write(0, LIMITS)
        self.describe("fcsp")
        self.started: list[subprocess.Popen[str]] = []

    def describe(self, mode: str) -> None:
        """What the enforcer writes."""
        self.runtime.ensure_slice("s1")
        mounts = [{"source": str(self.runtime.quota_path(DEVICE)), "target": "", "read_only": True}]
        document = {"id": "s1", "node": "n", "mode": mode, "devices": [DEVICE], "env": {"MICA_SLICE": "s1"}, "mounts": mounts}
        self.runtime.attach_path("s1").write_text(json.dumps(document))

    def command(self, restart: str, *program: str) -> list[str]:
        """A launcher's command line."""
        words = ["run", "--runtime-dir", str(self.runtime.root), "--restart", restart, "s1", "--"]
        return [sys.executable, "-m", "mica.cli", *words, *program]

    def launch(self, restart: str, script: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """A launcher over a Python program, without a terminal."""
        command = [*prefix, *self.command(restart, sys.executable, "-c", script)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.started.append(process)
        return process


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    for process in node.started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=LIMIT_S)


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of its output."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_gone(pid: int) -> bool:
    """Not even a zombie is left."""
    return not Path(f"/proc/{pid}").exists()


def test_what_a_program_leaves_behind_ends_with_it(node: Node) -> None:
    """A daemon of two forks has become our child: it is ended and reaped, and the status is the program's."""
    script = (
        "import os, subprocess, sys\n"
        "pid = subprocess.run(['sh', '-c', 'setsid sleep 1000 >/dev/null 2>&1 & echo $!'], capture_output=True, text=True)\n"
        "print(pid.stdout, end='', flush=True); sys.exit(4)\n"
    )
    launcher = node.launch("on-move", script)
    orphan = int(line_of(launcher))
    assert launcher.wait(LIMIT_S) == 4
    assert is_gone(orphan)


def test_what_ends_while_it_is_looked_for_is_reaped(node: Node) -> None:
    """An orphan that dies between the reaper's look and the search for what is left is no zombie when the launcher ends."""
    launcher = (
        "import os, signal, sys, time\n"
        "from mica.cli.__main__ import main\n"
        "from mica.cli.launch import programs\n"
        "living = programs.descendants\n"
        "def late(pid):\n"
        "    for each in living(pid): os.kill(each, signal.SIGKILL)\n"
        "    while living(pid): time.sleep(0.01)\n"
        "    return []\n"
        "programs.descendants = late\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code)\n"
        "try: print(os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT))\n"
        "except ChildProcessError: print('none left')\n"
    )
    words = node.command("on-move", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & exit 4")
    command = [sys.executable, "-c", launcher, *words[words.index("run") :]]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (done.stdout.splitlines(), done.returncode) == (["4", "none left"], 0)


def test_the_program_starts_with_the_callers_signals(node: Node) -> None:
    """Nothing that we wait for is blocked in it, and what the caller ignores stays ignored: nohup works as before."""
    script = (
        "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith(('SigBlk', 'SigIgn'))], flush=True)"
    )
    blocked, ignored = (int(word, 16) for word in line_of(node.launch("on-move", script)).split())
    assert (blocked, ignored & 1 << signal.SIGHUP - 1) == (0, 0)
    _, ignored = (int(word, 16) for word in line_of(node.launch("on-move", script, ("nohup",))).split())
    assert ignored & 1 << signal.SIGHUP - 1


def test_signals_for_the_program_reach_it_alone(node: Node) -> None:
    """SIGUSR1 to the launcher is the program's; its child, which would die of it, lives."""
    script = (
        "import signal, subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "signal.signal(signal.SIGUSR1, lambda *_: (print(child.poll(), flush=True), sys.exit(0)))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    launcher = node.launch("on-move", script)
    assert line_of(launcher) == "ready"
    launcher.send_signal(signal.SIGUSR1)
    assert line_of(launcher) == "None"
    assert launcher.wait(LIMIT_S) == 0


def test_a_shell_around_the_program_does_not_keep_the_end_from_it(node: Node) -> None:
    """SIGTERM goes to all of it, as from a terminal."""
    script = "import subprocess; subprocess.run(['sh', '-c', 'echo $$; sleep 1000; true'])"
    launcher = node.launch("always", script)
    shell = int(line_of(launcher))
    launcher.terminate()
    assert launcher.wait(LIMIT_S) == 128 + signal.SIGTERM
    assert is_gone(shell)


def test_in_hardware_mode_the_enforcer_is_told_of_each_life(node: Node) -> None:
    """By the program's own pid."""
    node.describe("hardware")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as enforcer:
        door = node.runtime.attach_socket
        door.parent.mkdir()
        enforcer.bind(str(door))
        enforcer.settimeout(LIMIT_S)
        launcher = node.launch("on-failure", "import os, sys; print(os.getpid(), flush=True); sys.exit(1)")
        for _ in range(2):
            assert decode_attach(enforcer.recv(4096)).pid == int(line_of(launcher))


def test_a_program_that_is_not_there_is_one_clear_line(node: Node) -> None:
    """As without --restart; nothing is tried again."""
    done = subprocess.run(node.command("always", "no-such-program"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["mica run: slice s1: run: no-such-program: No such file or directory"],
    )


def test_ctrl_c_at_a_terminal_is_the_end(node: Node) -> None:
    """From the terminal, once, and no failure to restart on; Ctrl-Z stops launcher and program, and fg continues both."""
    script = "import sys, time\nwhile True: print(f'<{sys.stdin.isatty()}>', flush=True); time.sleep(0.1)"
    job = shlex.join(node.command("always", sys.executable, "-c", script))
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests in the background of a shell ignores it
        os.execvp("bash", ["bash", "-m", "-c", f"{job}; echo stopped $?; fg; echo ended $?"])
    said = Terminal(terminal)
    said.until("<True>")
    os.write(terminal, b"\x1a")
    said.until(f"stopped {128 + signal.SIGTSTP}")
    said.until("isatty")  # fg tells the command; one line may have been on its way when the program stopped
    for _ in range(2):
        said.until("<True>")
    os.write(terminal, b"\x03")
    said.until("ended 130")
    os.close(terminal)
    os.waitpid(pid, 0)


class Terminal:
    """What comes out of a pseudo-terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = ""

    def until(self, text: str) -> str:
        """Read on until it has said that; what it said before."""
        deadline = time.monotonic() + LIMIT_S
        while text not in self._text:
            assert time.monotonic() < deadline, self._text
            if select.select([self._descriptor], [], [], 0.1)[0]:
                try:
                    self._text += os.read(self._descriptor, 1024).decode()
                except OSError as error:
                    raise AssertionError(f"{error}, after {self._text!r}") from None
        before, _, self._text = self._text.partition(text)
        return before


def test_when_the_terminal_is_closed_nothing_goes_on(node: Node) -> None:
    """Whoever leads its session: the launcher ends, and the program with it."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = node.command(
            "always", sys.executable, "-c", "import os, time; print(f'<{os.getpid()}>', flush=True); time.sleep(1000)"
        )
        os.execv(command[0], command)
    said = Terminal(terminal)
    said.until("<")
    program = int(said.until(">"))
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
    assert is_gone(program)
