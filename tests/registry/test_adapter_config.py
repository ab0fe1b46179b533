"""Configurations are read as data: fields checked, oddities named, the rest left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from registry.errors import ConfigError, LfsPointerError
from registry.validation.adapter_config import looks_like_path, parse_config
from registry.validation.config_fields import FIELDS
from registry.validation.findings import FindingCode
from registry.validation.peft_types import PEFT_TYPES
from registry.validation.reasons import Reason
from tests.safetensors_files import config

WRONG: list[tuple[str, Any, Reason]] = [
    ("peft_type", 1, Reason.CONFIG_TYPE),
    ("peft_type", "", Reason.CONFIG_MISSING_FIELD),
    ("peft_type", None, Reason.CONFIG_MISSING_FIELD),
    ("peft_type", "X" * 65, Reason.CONFIG_RANGE),
    ("r", 0, Reason.CONFIG_RANGE),
    ("r", -1, Reason.CONFIG_RANGE),
    ("r", 2**21, Reason.CONFIG_RANGE),
    ("r", 8.0, Reason.CONFIG_TYPE),
    ("r", "8", Reason.CONFIG_TYPE),
    ("r", True, Reason.CONFIG_TYPE),
    ("r", None, Reason.CONFIG_RANGE),
    ("r", [8], Reason.CONFIG_TYPE),
    ("lora_alpha", "16", Reason.CONFIG_TYPE),
    ("lora_alpha", True, Reason.CONFIG_TYPE),
    ("lora_alpha", 1e300, Reason.CONFIG_RANGE),
    ("lora_dropout", 1.5, Reason.CONFIG_RANGE),
    ("lora_dropout", -0.1, Reason.CONFIG_RANGE),
    ("use_dora", 1, Reason.CONFIG_TYPE),
    ("use_rslora", "yes", Reason.CONFIG_TYPE),
    ("fan_in_fan_out", 0, Reason.CONFIG_TYPE),
    ("target_modules", 3, Reason.CONFIG_TYPE),
    ("target_modules", {"q": 1}, Reason.CONFIG_TYPE),
    ("target_modules", ["q", 1], Reason.CONFIG_TYPE),
    ("target_modules", ["q", None], Reason.CONFIG_TYPE),
    ("target_modules", "a" * 513, Reason.CONFIG_RANGE),
    ("target_modules", ["a" * 513], Reason.CONFIG_RANGE),
    ("target_modules", ["q"] * 20_001, Reason.CONFIG_RANGE),
    ("exclude_modules", 1, Reason.CONFIG_TYPE),
    ("modules_to_save", True, Reason.CONFIG_TYPE),
    ("modules_to_save", [["q"]], Reason.CONFIG_TYPE),
    ("rank_pattern", ["q"], Reason.CONFIG_TYPE),
    ("rank_pattern", {"q": "8"}, Reason.CONFIG_TYPE),
    ("rank_pattern", {"q": None}, Reason.CONFIG_TYPE),
    ("rank_pattern", {"q": -1}, Reason.CONFIG_RANGE),
    ("rank_pattern", {"q" * 513: 1}, Reason.CONFIG_RANGE),
    ("alpha_pattern", 3, Reason.CONFIG_TYPE),
    ("alpha_pattern", {"q": True}, Reason.CONFIG_TYPE),
    ("base_model_name_or_path", 1, Reason.CONFIG_TYPE),
    ("base_model_name_or_path", "a\nb", Reason.CONFIG_RANGE),
    ("base_model_name_or_path", "a\0", Reason.CONFIG_RANGE),
    ("base_model_name_or_path", "\ud800", Reason.CONFIG_RANGE),
    ("base_model_name_or_path", "a" * 1025, Reason.CONFIG_RANGE),
    ("bias", 1, Reason.CONFIG_TYPE),
    ("auto_mapping", "transformers", Reason.CONFIG_TYPE),
    ("task_type", 5, Reason.CONFIG_TYPE),
    ("num_virtual_tokens", -1, Reason.CONFIG_RANGE),
]


@pytest.mark.parametrize(("field", "value", "reason"), WRONG, ids=lambda x: ascii(x)[:24])
def test_a_wrong_field_is_named_with_what_was_expected(
    field: str, value: Any, reason: Reason
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(config(**{field: value}), "adapter_config.json")
    assert caught.value.reason == reason
    assert caught.value.field == field
    assert caught.value.file == "adapter_config.json"
    assert field in caught.value.message
    assert caught.value.message.isprintable()


BROKEN = {
    "empty": (b"", Reason.JSON_SYNTAX),
    "not JSON": (b"r: 8", Reason.JSON_SYNTAX),
    "a list": (b"[]", Reason.CONFIG_TYPE),
    "text": (b'"LORA"', Reason.CONFIG_TYPE),
    "null": (b"null", Reason.CONFIG_TYPE),
    "no peft_type": (b'{"r": 8}', Reason.CONFIG_MISSING_FIELD),
    "byte order mark": (b"\xef\xbb\xbf" + config(), Reason.JSON_ENCODING),
    "UTF-16": (config().decode().encode("utf-16"), Reason.JSON_ENCODING),
    "Latin-1": (b'{"peft_type": "LORA\xe9"}', Reason.JSON_ENCODING),
    "duplicate key": (b'{"peft_type": "LORA", "r": 8, "r": 16}', Reason.JSON_DUPLICATE),
    "duplicate inside": (
        b'{"peft_type": "LORA", "x": {"a": 1, "a": 2}}',
        Reason.JSON_DUPLICATE,
    ),
    "NaN alpha": (b'{"peft_type": "LORA", "lora_alpha": NaN}', Reason.JSON_NUMBER),
    "huge number": (b'{"peft_type": "LORA", "r": 1' + b"0" * 400 + b"}", Reason.JSON_NUMBER),
    "too deep": (b'{"peft_type":"LORA","x":' + b"[" * 50 + b"]" * 50 + b"}", Reason.JSON_DEPTH),
    "too large": (b'{"x": "' + b"a" * (1 << 20) + b'"}', Reason.JSON_SIZE),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_with_its_reason(name: str) -> None:
    data, reason = BROKEN[name]
    with pytest.raises(ConfigError) as caught:
        parse_config(data)
    assert caught.value.reason == reason


def test_a_pointer_for_a_config_is_named_as_such() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    with pytest.raises(LfsPointerError) as caught:
        parse_config(pointer, "adapter_config.json")
    assert caught.value.file == "adapter_config.json"


def test_what_is_understood_is_kept() -> None:
    parsed = parse_config(
        config(
            r=16,
            lora_alpha=32.5,
            rank_pattern={"q": 4},
            alpha_pattern={"q": 8},
            target_modules=["v", "q"],
            modules_to_save=["classifier"],
            target_parameters=["experts.w"],
            bias="lora_only",
            use_dora=True,
            use_rslora=True,
        )
    )
    assert (parsed.rank, parsed.alpha) == (16, 32.5)
    assert (dict(parsed.rank_pattern), dict(parsed.alpha_pattern)) == ({"q": 4}, {"q": 8})
    assert parsed.target_modules == ("v", "q")
    assert parsed.target_parameters == ("experts.w",)
    assert parsed.modules_to_save == ("classifier",)
    assert (parsed.bias, parsed.use_dora, parsed.use_rslora) == ("lora_only", True, True)
    assert parsed.known_type
    assert parsed.findings == ()


def test_a_short_configuration_written_by_hand_has_pefts_defaults() -> None:
    data = b'{"peft_type": "LORA", "base_model_name_or_path": "gpt2", "target_modules": ["c_attn"]}'
    parsed = parse_config(data)
    assert (parsed.rank, parsed.alpha) == (None, None)
    assert (parsed.default_rank, parsed.default_alpha) == (8, 8.0)
    assert parsed.findings == ()


def test_null_is_allowed_where_peft_writes_it() -> None:
    fields = [
        "base_model_name_or_path",
        "task_type",
        "target_modules",
        "modules_to_save",
        "revision",
        "rank_pattern",
    ]
    parsed = parse_config(config(**dict.fromkeys(fields)))
    assert parsed.target_modules is None
    assert parsed.modules_to_save == ()


def test_adalora_lists_the_components_that_it_kept() -> None:
    parsed = parse_config(config(peft_type="ADALORA", rank_pattern={"q.lora_E": [True, False]}))
    assert dict(parsed.rank_pattern) == {}


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"peft_type": "NEWTYPE"}, FindingCode.UNKNOWN_PEFT_TYPE, "peft_type"),
        ({"peft_type": "lora"}, FindingCode.UNKNOWN_PEFT_TYPE, "peft_type"),
        ({"base_model_name_or_path": None}, FindingCode.BASE_MISSING, "base_model_name_or_path"),
        ({"base_model_name_or_path": ""}, FindingCode.BASE_MISSING, "base_model_name_or_path"),
        (
            {"base_model_name_or_path": "D:\\模型\\qwen"},
            FindingCode.BASE_IS_PATH,
            "base_model_name_or_path",
        ),
        (
            {"base_model_name_or_path": "/home/me/llama"},
            FindingCode.BASE_IS_PATH,
            "base_model_name_or_path",
        ),
        ({"auto_mapping": {"parent_library": "os"}}, FindingCode.AUTO_MAPPING, "auto_mapping"),
        ({"enable_lora": [True]}, FindingCode.UNKNOWN_CONFIG_KEYS, "enable_lora"),
    ],
)
def test_an_oddity_is_a_warning(fields: dict[str, Any], code: FindingCode, field: str) -> None:
    (finding,) = parse_config(config(**fields)).findings
    assert (finding.code, finding.field) == (code, field)
    assert finding.message.isprintable()


@pytest.mark.parametrize(
    ("base", "is_path"),
    [
        ("google/gemma-3-270m-it", False),
        ("gpt2", False),
        ("org/name.v2", False),
        ("C:\\models\\x", True),
        ("C:/models/x", True),
        ("models\\x", True),
        ("/data/x", True),
        ("./x", True),
        ("../x", True),
        ("~/x", True),
        ("", False),
    ],
)
def test_a_path_is_told_from_a_name(base: str, is_path: bool) -> None:
    assert looks_like_path(base) == is_path


def test_unknown_keys_are_named_and_bounded() -> None:
    parsed = parse_config(config(**{f"extra_{i}\n": i for i in range(300)}))
    assert len(parsed.unknown_keys) == 100
    assert all(key.isprintable() for key in parsed.unknown_keys)


def test_every_field_of_peft_is_known_and_no_other() -> None:
    pytest.importorskip("peft")
    import dataclasses

    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    classes = PEFT_TYPE_TO_CONFIG_MAPPING.values()
    assert set(FIELDS) == {field.name for each in classes for field in dataclasses.fields(each)}


def test_every_type_of_peft_is_known_and_no_other() -> None:
    peft = pytest.importorskip("peft")
    assert set(PEFT_TYPES) == {each.value for each in peft.PeftType}
    assert len(PEFT_TYPES) == 45


def test_every_shared_configuration_is_read(test_data: Path) -> None:
    paths = sorted(test_data.glob("[aeo]*/*/adapter_config.json"))
    assert len(paths) >= 20
    for path in paths:
        parsed = parse_config(path.read_bytes(), path.name)
        written = json.loads(path.read_text())
        assert parsed.peft_type == written["peft_type"]
        assert parsed.base_model == written["base_model_name_or_path"]
        assert (parsed.rank, parsed.alpha) == (written["r"], written["lora_alpha"])
        assert set(parsed.target_modules or ()) == set(written["target_modules"])
