"""Build hook: a wheel carries the native libraries and the compiled region binding; an editable install builds nothing.

``make native`` does the work in a checkout; the hook calls the same for a wheel, so there is one way to build.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuildHook(BuildHookInterface[Any]):
    """Compiles native/ into libs/mica before the files of a wheel are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and mark the wheel as one for this platform."""
        if version == "editable":
            return
        root = Path(self.root)
        for tool in ("make", "gcc"):
            if shutil.which(tool) is None:
                sys.exit(f"mica: {tool} is not installed; building the native libraries needs gcc and make")
        subprocess.run(["make", "-C", str(root / "native"), f"PYTHON={sys.executable}", "all", "binding"], check=True)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
