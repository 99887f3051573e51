"""A second node beside ``mica up``: its own discovery and enforcer, on other simulated devices, on the same NATS."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from acceptance_stack import Stack

NODE = 'name = "{name}"\n[[device]]\nmodel = "L4"\ncount = 2\n'


class SecondNode:
    """A node of its own beside ``mica up``: discovery and an enforcer, on other simulated devices."""

    def __init__(self, stack: Stack, home: Path) -> None:
        description = home / "two.toml"
        description.write_text(NODE.format(name="two"))
        self.runtime_dir = home / "two"
        stack.mica("sim", "init", description, "--dir", self.runtime_dir / "sim")
        own = {
            "MICA_NATS_URL": stack.url, "MICA_NODE": "two", "MICA_POOL": "default", "MICA_RUNTIME_DIR": str(self.runtime_dir),
            "MICA_SIM_DIR": str(self.runtime_dir / "sim"), "MICA_OPENCL": "off",
        }  # fmt: skip
        self.environment = os.environ | own
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.start("discovery")
        self.start("enforcer")

    def start(self, name: str) -> None:
        command = [sys.executable, "-m", "mica.cli", "service", name]
        with (self.runtime_dir / f"{name}.log").open("ab") as log:
            self.services[name] = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        self.services[name].kill()
        self.services[name].wait()

    def close(self) -> None:
        for each in self.services.values():
            each.send_signal(signal.SIGTERM)
        for each in self.services.values():
            each.wait(20)
