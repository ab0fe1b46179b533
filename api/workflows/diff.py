"""Compare two adapters, wherever they are: their files, their configs, and their ΔW."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from api.client import HubClient
from api.remote.errors import SourceNotFoundError
from api.schemas import RevisionBody
from registry.digest import Digest
from registry.refs import AdapterName
from registry.validation.adapter_files import CONFIG_FILE
from registry.validation.local_folder import list_folder

_MAX_CONFIG_BYTES = 1 << 20
ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Side:
    """Hold what one of two adapters consists of.

    Attributes:
        label: how people call it.
        files: digest by path.
        config: members of its configuration as JSON text.
    """

    label: str
    files: Mapping[str, Digest]
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """Show one member of the configuration that differs, as JSON."""

    key: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Difference:
    """Tell how two adapters differ.

    Attributes:
        added: files that only the second has.
        removed: files that only the first has.
        changed: files that both have with other bytes.
        unchanged: files that are the same.
        config: members of the configuration that differ.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    config: tuple[ConfigChange, ...]

    @property
    def same(self) -> bool:
        """Return whether there is no difference."""
        return not (self.added or self.removed or self.changed)


def local_side(path: Path) -> Side:
    """Read one side from a folder or file.

    Raises:
        SourceNotFoundError: it is not there.
        RegistryError: it holds what no adapter may.
    """
    if not path.exists():
        raise SourceNotFoundError(path)
    digests = {}
    for name, file in list_folder(path).files.items():
        with file.open() as stream:
            digests[name] = Digest.of_stream(stream)
    config = path / CONFIG_FILE
    return Side(str(path), digests, _members(config.read_bytes() if config.is_file() else b""))


def hub_side(client: HubClient, revision: RevisionBody) -> Side:
    """Read one side from a hub: the listing and the config, nothing else.

    Raises:
        HubError: the hub refuses.
    """
    files = {file.path: file for file in revision.manifest.files}
    data = b""
    if CONFIG_FILE in files and files[CONFIG_FILE].size_bytes <= _MAX_CONFIG_BYTES:
        adapter = AdapterName.parse(revision.manifest.adapter)
        data = client.read_small(adapter, Digest.parse(files[CONFIG_FILE].digest))
    label = f"{revision.manifest.adapter}@{revision.digest}"
    return Side(label, {p: Digest.parse(f.digest) for p, f in files.items()}, _members(data))


def compare(before: Side, after: Side) -> Difference:
    """Compare two sides."""
    both = before.files.keys() & after.files.keys()
    keys = sorted(before.config.keys() | after.config.keys())
    return Difference(
        added=tuple(sorted(after.files.keys() - both)),
        removed=tuple(sorted(before.files.keys() - both)),
        changed=tuple(sorted(p for p in both if before.files[p] != after.files[p])),
        unchanged=tuple(sorted(p for p in both if before.files[p] == after.files[p])),
        config=tuple(
            ConfigChange(key, before.config.get(key, ABSENT), after.config.get(key, ABSENT))
            for key in keys
            if before.config.get(key) != after.config.get(key)
        ),
    )


def _members(data: bytes) -> dict[str, str]:
    try:
        value = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {key: json.dumps(item, sort_keys=True) for key, item in value.items()}
