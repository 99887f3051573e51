"""``mica cdi``: a slice as a CDI document, for container runtimes. Invariant: it says what ``attach.json`` says, and no more.

Source: the Container Device Interface specification, version 0.6.0.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from mica.cli._errors import CliError
from mica.cli._runtime import runtime_dir as usual_runtime_dir
from mica.cli.launch.attach import Attach, read_attach

VERSION: Final = "0.6.0"
KIND: Final = "mica.dev/slice"
DEVICE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")


@click.command()
@click.option("--runtime-dir", type=click.Path(path_type=Path), help="Of the node [MICA_RUNTIME_DIR, /run/mica].")
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Write it there, as /var/run/cdi.")
@click.argument("slice_id", metavar="SLICE")
def cdi(slice_id: str, runtime_dir: Path | None, directory: Path | None) -> None:
    """Print SLICE as a CDI document, or write it where container runtimes look.

    Then `docker run --device mica.dev/slice=SLICE …` (or podman, containerd, CRI-O) starts a container inside the slice.
    """
    attach = read_attach((runtime_dir or usual_runtime_dir()).absolute(), slice_id)
    text = msgspec.json.format(msgspec.json.encode(cdi_document(attach)), indent=2) + b"\n"
    if directory is None:
        click.echo(text, nl=False)
        return
    path = directory / f"mica-{slice_id}.json"
    try:
        write_whole(path, text)
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    devices = " ".join(f"--device {name}" for name in (f"{KIND}={slice_id}", *attach.cdi))
    click.echo(f"{path}: written; use it with {devices}")


def cdi_document(attach: Attach) -> dict[str, Any]:
    """The document.

    Raises:
        CliError: the slice's name can't be a device's.
    """
    if DEVICE_NAME.fullmatch(attach.id) is None:
        raise CliError(f"slice {attach.id}: can't be a CDI device, allowed: a name that begins with a letter or a digit")
    edits = {
        "env": [f"{name}={value}" for name, value in sorted(attach.env.items())],
        "deviceNodes": [{"path": path} for path in attach.device_nodes],
        "mounts": [
            {
                "hostPath": mount.source,
                "containerPath": mount.target or mount.source,
                "options": ["rbind", "nosuid", "nodev", "ro" if mount.read_only else "rw"],
            }
            for mount in attach.mounts
        ],
    }
    return {"cdiVersion": VERSION, "kind": KIND, "devices": [{"name": attach.id, "containerEdits": edits}]}


def write_whole(path: Path, text: bytes) -> None:
    """Runtimes read the directory at any time, so that the file is there whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(text)
    draft.chmod(0o644)
    draft.replace(path)
