"""Check opening adapters, ordinary and odd ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.adapter import CONFIG_NAME, SourceKind, open_adapter, parse_settings
from compress.errors import PickleRefusedError, SourceError

MakeAdapter = Callable[..., Path]


def settings(**values: object) -> bytes:
    """Write a config."""
    return json.dumps({"peft_type": "LORA", **values}).encode()


def test_a_peft_folder_opens(make_adapter: MakeAdapter) -> None:
    folder = make_adapter(config={"lora_alpha": 12, "use_rslora": True})
    (folder / "README.md").write_text("# hello")
    with open_adapter(folder) as source:
        assert source.kind is SourceKind.PEFT
        assert source.weights_name == "adapter_model.safetensors"
        assert source.config == (folder / CONFIG_NAME).read_bytes()
        assert source.settings.peft_type == "LORA"
        assert source.settings.alpha == 12
        assert source.settings.rank == 4
        assert source.settings.rank_stabilised
        assert list(source.companions) == ["README.md"]
        assert source.warnings == ()


def test_a_lone_file_opens(make_raw: MakeAdapter) -> None:
    path = make_raw({"x.lora_A.weight": np.ones((2, 3), np.float32)})
    with open_adapter(path) as source:
        assert source.kind is SourceKind.RAW
        assert source.config == b""
        assert source.settings.peft_type == ""
        assert source.companions == {}


def test_a_folder_with_one_file_and_no_config_opens(tmp_path: Path, make_raw: MakeAdapter) -> None:
    make_raw({"x": np.ones(3, np.float32)}, name="pytorch_lora_weights.safetensors")
    with open_adapter(tmp_path) as source:
        assert source.kind is SourceKind.RAW
        assert source.weights_name == "pytorch_lora_weights.safetensors"


def test_an_unusual_suffix_becomes_the_usual_one(tmp_path: Path, make_raw: MakeAdapter) -> None:
    path = make_raw({"x": np.ones(3, np.float32)}).rename(tmp_path / "lora.sft")
    with open_adapter(path) as source:
        assert source.weights_name == "lora.sft.safetensors"


def test_pickles_links_and_folders_are_left_out_with_a_word(make_adapter: MakeAdapter) -> None:
    folder = make_adapter()
    (folder / "training_args.bin").write_bytes(b"x")
    for below in ("checkpoint-5", "expert", ".cache"):
        (folder / below).mkdir()
        (folder / below / "weights.safetensors").write_text("x")
    (folder / "link.txt").symlink_to("/etc/hostname")
    (folder / ".hidden").write_text("x")
    (folder / "notes.txt").write_text("x")
    with open_adapter(folder) as source:
        assert list(source.companions) == ["expert/weights.safetensors", "notes.txt"]
        assert [text.split(":")[0] for text in source.warnings] == [
            "checkpoint-5",
            "link.txt",
            "training_args.bin",
        ]


def test_only_pickles_are_refused(make_adapter: MakeAdapter) -> None:
    folder = make_adapter()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(PickleRefusedError), open_adapter(folder):
        pass


def test_a_config_without_weights_is_refused(make_adapter: MakeAdapter) -> None:
    folder = make_adapter()
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(SourceError, match="absent"), open_adapter(folder):
        pass


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"version https://git-lfs.example/spec/v1\noid sha256:0\n",
        b"not json",
        b"[]",
        b"{}",
        b'{"peft_type": 3}',
        b'{"peft_type": null}',
        b'{"peft_type": "LORA", "r": "8"}',
        b'{"peft_type": "LORA", "r": true}',
        b'{"peft_type": "LORA", "lora_alpha": "16"}',
        b'{"peft_type": "LORA", "lora_alpha": 1e300}',
        b'{"peft_type": "LORA", "lora_alpha": NaN}',
        b'{"peft_type": "LORA", "alpha_pattern": [1]}',
        b'{"peft_type": "LORA", "alpha_pattern": {"q": "x"}}',
        b"[" * 100_000,
        b"\xff\xfe",
        b" " * ((1 << 20) + 1),
    ],
    ids=range(17),
)
def test_bad_configs_are_refused(config: bytes, make_adapter: MakeAdapter) -> None:
    folder = make_adapter()
    (folder / CONFIG_NAME).write_bytes(config)
    with pytest.raises(SourceError) as caught, open_adapter(folder):
        pass
    assert caught.value.file == CONFIG_NAME


def test_absent_numbers_are_none() -> None:
    found = parse_settings(settings(peft_type="ia3"))
    assert found.peft_type == "IA3"
    assert found.rank is None
    assert found.alpha is None
    assert dict(found.alpha_pattern) == {}
    assert not found.rank_stabilised


def test_what_a_lora_does_not_say_is_as_peft_has_it() -> None:
    found = parse_settings(b'{"peft_type": "LORA", "use_rslora": 1}')
    assert found.alpha == 8.0
    assert found.rank_stabilised


def test_patterns_are_read() -> None:
    found = parse_settings(settings(alpha_pattern={"q": 4, "v": 2.5, "x": None}))
    assert dict(found.alpha_pattern) == {"q": 4.0, "v": 2.5}


def test_what_is_compressed_already_is_refused(make_raw: MakeAdapter) -> None:
    path = make_raw({"index": np.zeros(3, np.uint8)}, metadata={"format": "tern"})
    with pytest.raises(SourceError, match="already"), open_adapter(path):
        pass
