"""No configuration, however hostile, does more than be parsed or refused, and soon."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.errors import FileError
from registry.validation.adapter_config import AdapterConfig, parse_config
from registry.validation.adapter_files import inspect_files
from registry.validation.config_fields import FIELDS
from registry.validation.file_sources import BytesFile
from registry.validation.findings import FindingCode
from tests.safetensors_files import config, good_file, lora

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["LORA", "(a+)+$", "../../etc/passwd", "\0", "\u202e", 2**70, -1, 1e308]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=6,
)


def judge(data: bytes) -> AdapterConfig | None:
    try:
        parsed = parse_config(data)
    except FileError as error:
        assert error.message.isprintable()  # noqa: PT017 - whatever came, the message is safe
        assert error.reason  # noqa: PT017
        return None
    assert all(finding.message.isprintable() for finding in parsed.findings)
    return parsed


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FIELDS)), VALUES)
def test_any_value_of_any_field_is_accepted_or_refused(field: str, value: Any) -> None:
    judge(config(**{field: value}))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=10), VALUES, max_size=6))
def test_any_object_is_accepted_or_refused(members: dict[str, Any]) -> None:
    judge(json.dumps(members).encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    judge(data)


@pytest.mark.parametrize("seed", range(6))
def test_mutants_of_a_real_configuration_are_accepted_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    original = config(
        rank_pattern={"q": 4}, auto_mapping={"parent_library": "os"}, modules_to_save=["x"]
    )
    accepted = 0
    for _ in range(300):
        data = bytearray(original)
        for _ in range(chance.randint(1, 5)):
            place = chance.randrange(len(data))
            data[place] = chance.choice(b'{}[]",:0123456789 \\\0\xff-.eE')
        accepted += judge(bytes(data)) is not None
    assert 0 < accepted < 300


BOMBS = [
    "(a+)+$",
    "(.*)*(.*)*(.*)*x",
    "(([a-z_.]+)+)+!",
    "(.*a){40}",
    "((a{1,100}){1,100}){1,100}",
    "((((){256}){256}){256}){256}",
    "(" * 200 + "a" + ")" * 200,
    "|".join(["(a|aa)+"] * 60),
    ".*" * 250 + "x",
    "[" * 500,
    "(?:(?=a)|b)*",
    "\\" * 511,
]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda text: text[:16])
@pytest.mark.parametrize(
    "field", ["target_modules", "rank_pattern", "alpha_pattern", "exclude_modules"]
)
def test_a_regular_expression_bomb_ends_within_a_tenth_of_a_second(bomb: str, field: str) -> None:
    value: Any = {bomb: 2} if field.endswith("pattern") else bomb
    modules = [f"base.layers.{i}.{'a' * 60}.q" for i in range(40)]
    files = {
        "adapter_config.json": BytesFile(config(**{field: value})),
        "adapter_model.safetensors": BytesFile(good_file(lora(modules))),
    }
    took = []
    for _ in range(3):  # the collector of a busy test process may fall into one of them
        started = time.process_time()
        summary = inspect_files(files)
        took.append(time.process_time() - started)
    assert min(took) < 0.1
    codes = {finding.code for finding in summary.warnings}
    if field == "target_modules":
        assert codes & {FindingCode.PATTERN_NOT_EVALUATED, FindingCode.KEYS_NOT_TARGETED}


def test_nothing_that_a_configuration_names_is_imported() -> None:
    import sys

    assert "wave" not in sys.modules
    parsed = parse_config(
        config(auto_mapping={"parent_library": "wave", "base_model_class": "Wave_read"})
    )
    assert [finding.code for finding in parsed.findings] == [FindingCode.AUTO_MAPPING]
    assert "wave" not in sys.modules


def test_a_megabyte_of_names_is_parsed_soon() -> None:
    data = config(target_modules=[f"model.layers.{i}.self_attn.q_proj" for i in range(19_000)])
    started = time.process_time()
    assert judge(data) is not None
    assert time.process_time() - started < 2
