"""Makes the images of the test without an image registry: the base by debootstrap, the others on top of it.

Invariant: an image is made again only when what it is made from has changed (the engine's layer cache decides), and the
debootstrap tree is fetched once and kept in the cache directory.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.compose._shell import HERE, ROOT, run

SUITE = "bookworm"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
BASE = "mica-test-base"
TENANT = "mica-test-tenant"
NATS = "mica-test-nats"
MICA = "mica-test"
STATIC = "mica-test-static"
# The host's way to its packages is the builds' way, too. Proxies are build arguments that need no declaration.
PASSED_ON = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Images:
    """Builds on the engine that `env` reaches; `cache` keeps the debootstrap tree."""

    env: Mapping[str, str]
    cache: Path

    def build(self, tag: str, dockerfile: Path, context: Path) -> None:
        arguments = [f"--build-arg={name}={os.environ[name]}" for name in PASSED_ON if name in os.environ]
        command = ["docker", "build", "--network=host", f"--tag={tag}", f"--build-arg=BASE_IMAGE={BASE}", *arguments]
        run([*command, "--file", dockerfile, context], env=self.env)

    def make_base(self) -> None:
        """Import a minimal Debian root file system and give it the host's CA certificates."""
        tree = self.cache / f"{SUITE}-{os.uname().machine}.tar"
        if not tree.exists():
            debootstrap(tree)
        imported = f"{BASE}-{SUITE}"
        if not run(["docker", "images", "--quiet", imported], env=self.env).strip():
            run(["docker", "import", tree, imported], env=self.env)
        with tempfile.TemporaryDirectory(prefix="mica-base-") as context:
            shutil.copy(CA_BUNDLE, Path(context, "ca-certificates.crt"))
            lines = [f"FROM {imported}", f"COPY ca-certificates.crt {CA_BUNDLE}", 'CMD ["bash"]']
            dockerfile = Path(context, "Dockerfile")
            dockerfile.write_text("\n".join(lines) + "\n")
            self.build(BASE, dockerfile, Path(context))

    def make_nats(self) -> None:
        with tempfile.TemporaryDirectory(prefix="mica-nats-") as context:
            shutil.copy(Path(sys.executable).parent / "nats-server", Path(context, "nats-server"))
            self.build(NATS, HERE / "nats.Dockerfile", Path(context))

    def make_static(self) -> None:
        """An image with one file and no loader, as those of static programs are."""
        with tempfile.TemporaryDirectory(prefix="mica-static-") as context:
            Path(context, "program").write_text("no program")
            dockerfile = Path(context, "Dockerfile")
            dockerfile.write_text('FROM scratch\nCOPY program /program\nENTRYPOINT ["/program"]\n')
            self.build(STATIC, dockerfile, Path(context))

    def make_tenant(self) -> None:
        with tempfile.TemporaryDirectory(prefix="mica-tenant-") as context:
            shutil.copy(ROOT / "constraints.txt", context)
            shutil.copy(HERE / "tenant.py", context)
            self.build(TENANT, HERE / "tenant.Dockerfile", Path(context))


def debootstrap(tree: Path) -> None:
    """Write a root file system of Debian into the tar file `tree`, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix="mica-debootstrap-", dir=tree.parent) as scratch:
        root = Path(scratch, "root")
        run(["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, root])
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(root / waste)
            (root / waste).mkdir()
        unfinished = Path(scratch, "root.tar")
        run(["tar", "--create", "--numeric-owner", "--file", unfinished, "--directory", root, "."])
        unfinished.rename(tree)
