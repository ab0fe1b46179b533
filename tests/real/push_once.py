"""Push one adapter into a registry on this disk; run by the tests that kill it on the way."""

from __future__ import annotations

import sys
from pathlib import Path

from registry.service import RegistrySettings, open_registry
from tests.registry_kit import adapter_files, push

NAME = "team/x"


def main() -> None:
    """Open the registry in the folder that is named, and push adapter number N with a tag."""
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    registry = open_registry(RegistrySettings(folder))
    result = push(
        registry,
        NAME,
        adapter_files(seed, modules=("layers.0.q", f"layers.{seed}.v")),
        message=f"push {seed}",
        tags=(f"v{seed}",),
    )
    (folder / "acknowledged").write_text(str(result.revision.digest))
    registry.close()


if __name__ == "__main__":
    main()
