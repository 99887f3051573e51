"""A slice as a CDI document: what attach.json says, in the words of the specification."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mica.cli._errors import CliError
from mica.cli.commands.cdi import cdi, cdi_document
from mica.cli.launch.attach import Attach, Mount

ATTACH = Attach(
    "chat",
    "hardware",
    {"ROCR_VISIBLE_DEVICES": "GPU-1", "MICA_SLICE": "chat"},
    (Mount("/run/mica/a", "/run/mica/b", read_only=False), Mount("/opt/driver")),
    ("/dev/kfd", "/dev/dri/renderD128"),
    ("amd.com/gpu=0",),
)


def test_a_slice_is_one_device_with_all_its_edits() -> None:
    """Environment, device nodes and mounts, each where the specification wants it."""
    document = cdi_document(ATTACH)
    assert (document["cdiVersion"], document["kind"]) == ("0.6.0", "mica.dev/slice")
    (device,) = document["devices"]
    edits = device["containerEdits"]
    assert device["name"] == "chat"
    assert edits["env"] == ["MICA_SLICE=chat", "ROCR_VISIBLE_DEVICES=GPU-1"]
    assert edits["deviceNodes"] == [{"path": "/dev/kfd"}, {"path": "/dev/dri/renderD128"}]
    assert edits["mounts"] == [
        {"hostPath": "/run/mica/a", "containerPath": "/run/mica/b", "options": ["rbind", "nosuid", "nodev", "rw"]},
        {"hostPath": "/opt/driver", "containerPath": "/opt/driver", "options": ["rbind", "nosuid", "nodev", "ro"]},
    ]


def test_a_name_that_no_cdi_device_can_have_is_refused() -> None:
    """Slice ids may begin with a dash or an underscore, CDI devices may not."""
    with pytest.raises(CliError, match="begins with a letter or a digit"):
        cdi_document(Attach("_x", "fcsp", {}))


def test_the_document_is_written_whole_where_runtimes_look(tmp_path: Path) -> None:
    """The directory is made; nothing else is left in it, and the command says how to use it."""
    slice_dir = tmp_path / "run" / "slices" / "chat"
    slice_dir.mkdir(parents=True)
    body = {"id": "chat", "node": "n", "mode": "hardware", "devices": [], "env": {}, "mounts": [], "cdi": ["amd.com/gpu=0"]}
    (slice_dir / "attach.json").write_text(json.dumps(body))
    arguments = ["--runtime-dir", str(tmp_path / "run"), "chat"]
    done = CliRunner().invoke(cdi, ["--dir", str(tmp_path / "cdi"), *arguments])
    assert done.exit_code == 0, done.output
    assert "--device mica.dev/slice=chat --device amd.com/gpu=0" in done.output
    assert [path.name for path in (tmp_path / "cdi").iterdir()] == ["mica-chat.json"]
    shown = CliRunner().invoke(cdi, arguments)
    assert json.loads(shown.output) == json.loads((tmp_path / "cdi" / "mica-chat.json").read_text())
