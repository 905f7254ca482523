"""Puts native code into wheels that are built where there is a C++ compiler, for machines that have none.

Such a wheel is of one kind of machine; without a compiler, or with `UNITOK_KERNELS=0`, it is of any.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeCodeHook(BuildHookInterface):
    """What hatchling calls around the building of a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say where the files go."""
        if version == "editable":  # a checkout compiles on first use
            return
        sys.path.insert(0, self.root)
        from unitok.kernels.build import compile_for_wheel

        self.scratch = tempfile.TemporaryDirectory()
        try:
            made = compile_for_wheel(Path(self.scratch.name))
        except (OSError, subprocess.SubprocessError) as error:
            self.app.display_warning(f"no native code in this wheel: {error}")
            return
        for path in made:
            build_data["force_include"][str(path)] = f"unitok/kernels/compiled/{path.name}"
        if made:
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled."""
        if hasattr(self, "scratch"):
            self.scratch.cleanup()
