"""Name what is odd about an upload that is accepted all the same.

A finding is a warning with a stable code; what is not acceptable is an error (`errors.FileError`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingCode(StrEnum):
    """Name one kind of oddity."""

    ALL_B_ZERO = "all-b-zero"
    AUTO_MAPPING = "auto-mapping"
    BASE_IS_PATH = "base-is-path"
    BASE_MISSING = "base-missing"
    BASE_WEIGHTS_INCLUDED = "base-weights-included"
    BIAS_TENSORS = "bias-tensors"
    DORA_INCONSISTENT = "dora-inconsistent"
    EMBEDDINGS_INCLUDED = "embeddings-included"
    EXTRA_TENSORS = "extra-tensors"
    FILE_SKIPPED = "file-skipped"
    HEADS_NOT_DECLARED = "heads-not-declared"
    HEADS_NOT_SAVED = "heads-not-saved"
    KEYS_NOT_TARGETED = "keys-not-targeted"
    NO_CONFIG = "no-config"
    NO_TENSORS = "no-tensors"
    NON_FINITE = "non-finite"
    ORIGINAL_MODULES_INCLUDED = "original-modules-included"
    PATTERN_NOT_EVALUATED = "pattern-not-evaluated"
    SOME_B_ZERO = "some-b-zero"
    TERN_CONFIG_UNREAD = "tern-config-unread"
    TARGETS_NOT_MET = "targets-not-met"
    UNALIGNED = "unaligned"
    UNKNOWN_CONFIG_KEYS = "unknown-config-keys"
    UNKNOWN_PEFT_TYPE = "unknown-peft-type"


@dataclass(frozen=True, slots=True)
class Finding:
    """Describe one oddity.

    Attributes:
        code: which kind.
        file: the file concerned, or an empty string.
        field: the field, module or tensor concerned, or an empty string.
        message: what was found, in one sentence.
        hint: what to do about it, or an empty string.
    """

    code: FindingCode
    file: str
    field: str
    message: str
    hint: str = ""
