"""Read `adapter_config.json` as data, and only as data.

Known fields are checked for type and range; unknown fields are named and otherwise left alone,
since the file itself is kept as it came. Nothing that the configuration names is ever imported,
opened or fetched. Start at `parse_config`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from registry.errors import ConfigError
from registry.validation.config_fields import FIELDS, FieldValueError, Value
from registry.validation.file_sources import refuse_lfs_pointer
from registry.validation.findings import Finding, FindingCode
from registry.validation.peft_types import PEFT_TYPES
from registry.validation.reasons import Reason
from registry.validation.strict_json import Json, JsonLimits, JsonRuleError, parse_json, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CONFIG_BYTES = 1 << 20
_PEFT_DEFAULT_RANK = 8
_PEFT_DEFAULT_ALPHA = 8.0
_LORA_LIKE = frozenset({"LORA", "ADALORA"})


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Hold what we understand of a configuration.

    Attributes:
        peft_type: as written; a key of `PEFT_TYPES` where `known_type`.
        known_type: whether PEFT 0.21 has this type.
        base_model: `base_model_name_or_path` as written, or None.
        task_type: as written, or None.
        rank: `r`, or None where the file has none.
        alpha: `lora_alpha` or `alpha`, or None where the file has neither.
        rank_pattern: module pattern to rank.
        alpha_pattern: module pattern to alpha.
        target_modules: one pattern, names, or None.
        target_parameters: names of targeted parameters.
        modules_to_save: names of the modules saved whole.
        bias: which biases were trained.
        use_dora: whether there are magnitudes.
        use_rslora: whether the scale is alpha / sqrt(rank).
        unknown_keys: fields that PEFT 0.21 does not have, at most a hundred of them.
        findings: what is odd.
    """

    peft_type: str
    known_type: bool
    base_model: str | None = None
    task_type: str | None = None
    rank: int | None = None
    alpha: float | None = None
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    target_modules: str | tuple[str, ...] | None = None
    target_parameters: tuple[str, ...] = ()
    modules_to_save: tuple[str, ...] = ()
    bias: str = "none"
    use_dora: bool = False
    use_rslora: bool = False
    unknown_keys: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def default_rank(self) -> int:
        """Return the rank where no pattern speaks, PEFT's default included."""
        return _PEFT_DEFAULT_RANK if self.rank is None else self.rank

    @property
    def default_alpha(self) -> float:
        """Return alpha where no pattern speaks, PEFT's default included."""
        return _PEFT_DEFAULT_ALPHA if self.alpha is None else self.alpha


def parse_config(data: bytes, file: str = "adapter_config.json") -> AdapterConfig:
    """Parse and check a configuration.

    Args:
        data: the whole file.
        file: how errors call it.

    Raises:
        LfsPointerError: it is a Git LFS pointer.
        ConfigError: it is too large, not strict JSON, or a field is wrong.
    """
    refuse_lfs_pointer(data[:1024], file=file)
    members = _members(data, file)
    values = {name: _field(name, value, file) for name, value in members.items() if name in FIELDS}
    peft_type = values.get("peft_type")
    if not isinstance(peft_type, str) or not peft_type:
        raise _config_error(file, "peft_type", "is missing", Reason.CONFIG_MISSING_FIELD)
    _check_rank(peft_type, values, file)
    unknown = tuple(printable(name) for name in members if name not in FIELDS)[:100]
    return AdapterConfig(
        peft_type=peft_type,
        known_type=peft_type in PEFT_TYPES,
        base_model=_text(values, "base_model_name_or_path"),
        task_type=_text(values, "task_type"),
        rank=_integer(values.get("r")),
        alpha=_number(values.get("lora_alpha", values.get("alpha"))),
        rank_pattern=MappingProxyType(_rank_pattern(peft_type, values)),
        alpha_pattern=MappingProxyType(_alpha_pattern(values)),
        target_modules=_targets(values.get("target_modules")),
        target_parameters=_names(values.get("target_parameters")),
        modules_to_save=_names(values.get("modules_to_save")),
        bias=_text(values, "bias") or "none",
        use_dora=values.get("use_dora") is True,
        use_rslora=values.get("use_rslora") is True,
        unknown_keys=unknown,
        findings=tuple(_findings(peft_type, values, unknown, file)),
    )


def _members(data: bytes, file: str) -> dict[str, Json]:
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(
            f"{file} is too large for a configuration",
            reason=Reason.JSON_SIZE,
            file=file,
            expected=f"at most {MAX_CONFIG_BYTES} bytes",
            actual=f"{len(data)} bytes",
        )
    try:
        members = parse_json(data, limits=JsonLimits(max_depth=16))
    except JsonRuleError as error:
        raise ConfigError(
            f"{file}: {error.message}",
            reason=error.reason,
            file=file,
            field=error.field,
            expected="strict JSON: UTF-8, unique keys, finite numbers",
            actual=error.actual,
            hint="save the adapter again with `save_pretrained`",
        ) from error
    if not isinstance(members, dict):
        raise _config_error(
            file, "", "is no JSON object", Reason.CONFIG_TYPE, actual=type(members).__name__
        )
    return members


def _config_error(
    file: str, field: str, what: str, reason: Reason, *, expected: str = "", actual: str = ""
) -> ConfigError:
    detail = f" (expected {expected}, got {actual})" if expected else ""
    return ConfigError(
        f"{file}: {field or 'the configuration'} {what}{detail}",
        reason=reason,
        file=file,
        field=field,
        expected=expected,
        actual=actual,
        hint="compare with the adapter_config.json that `save_pretrained` writes",
    )


def _field(name: str, value: Json, file: str) -> Value:
    try:
        return FIELDS[name](value)
    except FieldValueError as problem:
        raise _config_error(
            file,
            name,
            "has an unacceptable value",
            problem.reason,
            expected=problem.expected,
            actual=printable(str(value)),
        ) from None


def _check_rank(peft_type: str, values: Mapping[str, Value], file: str) -> None:
    rank = values.get("r", _PEFT_DEFAULT_RANK)
    if peft_type in _LORA_LIKE and (not isinstance(rank, int) or rank < 1):
        raise _config_error(
            file,
            "r",
            "is no LoRA rank",
            Reason.CONFIG_RANGE,
            expected="a whole number of at least 1",
            actual=str(rank),
        )


def _text(values: Mapping[str, Value], name: str) -> str | None:
    value = values.get(name)
    return value if isinstance(value, str) else None


def _integer(value: Value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _names(value: Value) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, tuple) else ()


def _targets(value: Value) -> str | tuple[str, ...] | None:
    return value if isinstance(value, str | tuple) else None


def _rank_pattern(peft_type: str, values: Mapping[str, Value]) -> dict[str, int]:
    pattern = values.get("rank_pattern")
    if not isinstance(pattern, dict) or peft_type == "ADALORA":  # there it lists kept components
        return {}
    return {name: int(rank) for name, rank in pattern.items()}


def _alpha_pattern(values: Mapping[str, Value]) -> dict[str, float]:
    pattern = values.get("alpha_pattern")
    return dict(pattern) if isinstance(pattern, dict) else {}


def _findings(
    peft_type: str, values: Mapping[str, Value], unknown: tuple[str, ...], file: str
) -> list[Finding]:
    found: list[Finding] = []

    def note(code: FindingCode, field: str, message: str, hint: str) -> None:
        found.append(Finding(code, file, field, message, hint))

    if peft_type not in PEFT_TYPES:
        note(
            FindingCode.UNKNOWN_PEFT_TYPE,
            "peft_type",
            f"{printable(peft_type)!r} is no adapter type of PEFT 0.21: it is kept as it came",
            "it can be pushed and pulled, but not compressed or merged",
        )
    base = values.get("base_model_name_or_path")
    if not base:
        note(
            FindingCode.BASE_MISSING,
            "base_model_name_or_path",
            "the configuration names no base model",
            "name it with --base when you push",
        )
    elif isinstance(base, str) and looks_like_path(base):
        note(
            FindingCode.BASE_IS_PATH,
            "base_model_name_or_path",
            f"the base model is a path on somebody's machine: {printable(base)}",
            "name the base model with --base when you push",
        )
    if values.get("auto_mapping"):
        note(
            FindingCode.AUTO_MAPPING,
            "auto_mapping",
            "the configuration names Python classes to import; they are kept and never imported",
            "set task_type when you train, and PEFT needs no auto_mapping",
        )
    if unknown:
        note(
            FindingCode.UNKNOWN_CONFIG_KEYS,
            ", ".join(unknown[:8]),
            f"{len(unknown)} fields are not PEFT 0.21's; they are kept and not acted on",
            "",
        )
    return found


def looks_like_path(base: str) -> bool:
    r"""Return whether a base model's name is a path: `C:\…`, `/home/…`, `./x`, `~/x`."""
    drive = len(base) > 2 and base[0].isalpha() and base[1] == ":" and base[2] in "\\/"
    return drive or "\\" in base or base.startswith(("/", "./", "../", "~"))
