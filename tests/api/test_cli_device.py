"""Say on the command line who does the arithmetic, and read what is wrong where nobody can."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from compress import backend
from tests.command_line import CommandLine, command_line
from tests.compress.rate_distortion import made

WEIGHTS = "adapter_model.safetensors"
needs_kernels = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("triton")), reason="torch or Triton is not installed"
)


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    with command_line(capsys, tmp_path, "http://127.0.0.1:9") as line:
        yield line


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return made.save(tmp_path / "source", made.factors(modules=2, rank=2, sizes=(20, 24)))


@pytest.fixture
def packed(cli: CommandLine, source: Path) -> str:
    cli("compress", source, "--to", "x.tern", "--layers", "2")
    return "x.tern"


@pytest.mark.parametrize("device", ["gpu", "cuda0", "mps", ""])
def test_unknown_devices_are_a_wrong_usage(
    device: str, cli: CommandLine, source: Path, packed: str
) -> None:
    for line in (
        ("decompress", packed, "--to", "out", "--device", device),
        ("compress", source, "--to", "out", "--device", device),
    ):
        ran = cli(*line, code=2)
        assert "device is unknown" in ran.err
        assert "cpu or cuda" in ran.err
        assert not Path("out").exists()


def test_without_the_programs_it_says_what_to_install(
    cli: CommandLine, packed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_KERNELS", "compress.kernels.absent")
    ran = cli("decompress", packed, "--to", "out", "--device", "cuda", code=2)
    assert "install the extra 'gpu'" in ran.err
    assert not Path("out").exists()


@needs_kernels
def test_without_a_gpu_it_says_so(
    cli: CommandLine, source: Path, packed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for line in (
        ("decompress", packed, "--to", "out", "--device", "cuda:1"),
        ("compress", source, "--to", "out", "--device", "cuda:1"),
    ):
        ran = cli(*line, code=2)
        assert "there is no GPU" in ran.err
        assert "use the CPU" in ran.err
        assert not Path("out").exists()


@needs_kernels
@pytest.mark.parametrize("options", [("--layers", "2"), ("--method", "compeft")])
def test_a_device_gives_the_same_files(
    options: tuple[str, ...], cli: CommandLine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.kernels import backend as kernels

    asked = []

    def on_gpu(device: str) -> kernels.KernelBackend:
        asked.append(device)
        return kernels.KernelBackend("cpu")

    monkeypatch.setattr(kernels, "on_gpu", on_gpu)
    for device in ("cpu", "cuda:0"):
        out = device.replace(":", "")
        assert (
            cli("compress", source, "--to", f"{out}.tern", *options, "--device", device).code == 0
        )
        cli("decompress", f"{out}.tern", "--to", out, "--device", device)
    assert Path("cpu.tern").read_bytes() == Path("cuda0.tern").read_bytes()
    assert (Path("cpu") / WEIGHTS).read_bytes() == (Path("cuda0") / WEIGHTS).read_bytes()
    assert asked == ["cuda:0", "cuda:0"]
