"""Write tensors as they come: to their places, or where shapes are not yet known to a spool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from compress.tensor_file import TensorInfo, TensorWriter


class Direct:
    """Write tensors to their places at once: all shapes are known beforehand."""

    def __init__(
        self, path: Path, infos: Sequence[TensorInfo], metadata: Mapping[str, str]
    ) -> None:
        self._writer = TensorWriter(path, infos, metadata=metadata)

    def write(self, info: TensorInfo, data: bytes) -> None:
        """Take in one tensor."""
        self._writer.write(info.name, data)

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Complete the file."""
        del metadata  # it stands at the beginning
        self._writer.close()

    def close(self) -> None:
        """Close what is open."""
        self._writer.close()


class Spooled:
    """Let tensors wait in a file beside the final one, which begins with all shapes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = path.with_suffix(".spool")
        self._file = self._place.open("w+b")
        self._infos: list[TensorInfo] = []

    def write(self, info: TensorInfo, data: bytes) -> None:
        """Take in one tensor."""
        self._infos.append(info)
        self._file.write(data)

    def finish(self, metadata: Mapping[str, str]) -> None:
        """Complete the file and remove the spool."""
        self._file.seek(0)
        with TensorWriter(self._path, self._infos, metadata=metadata) as writer:
            for info in self._infos:
                writer.write(info.name, self._file.read(info.size_bytes))
        self._place.unlink()

    def close(self) -> None:
        """Close what is open."""
        self._file.close()
