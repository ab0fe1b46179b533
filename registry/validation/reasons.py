"""Name why a file is refused, one stable code for each rule.

A code is part of the interface: programs decide on it, people read the message beside it.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Name the rule that a refused file or folder breaks."""

    # Paths and kinds of file.
    PATH_EMPTY = "path-empty"
    PATH_ABSOLUTE = "path-absolute"
    PATH_PARENT = "path-parent"
    PATH_SEGMENT = "path-segment"
    PATH_CHARACTER = "path-character"
    PATH_LENGTH = "path-length"
    PATH_RESERVED = "path-reserved"
    PATH_COLLISION = "path-collision"
    PICKLE = "pickle"
    CODE = "code"
    ARCHIVE = "archive"
    EXECUTABLE = "executable"
    SYMLINK = "symlink"
    SPECIAL_FILE = "special-file"
    LFS_POINTER = "lfs-pointer"
    # JSON, in headers and configurations.
    JSON_ENCODING = "json-encoding"
    JSON_SYNTAX = "json-syntax"
    JSON_DEPTH = "json-depth"
    JSON_NUMBER = "json-number"
    JSON_DUPLICATE = "json-duplicate-key"
    JSON_SIZE = "json-size"
    # The safetensors format.
    FILE_TRUNCATED = "file-truncated"
    HEADER_SIZE = "header-size"
    HEADER_START = "header-start"
    HEADER_PADDING = "header-padding"
    METADATA = "metadata"
    TENSOR_COUNT = "tensor-count"
    TENSOR_NAME = "tensor-name"
    TENSOR_FIELDS = "tensor-fields"
    TENSOR_DTYPE = "tensor-dtype"
    TENSOR_SHAPE = "tensor-shape"
    TENSOR_OFFSETS = "tensor-offsets"
    TENSOR_SIZE = "tensor-size"
    DATA_HOLE = "data-hole"
    DATA_OVERLAP = "data-overlap"
    DATA_TRAILING = "data-trailing"
    NON_FINITE = "non-finite"
    # The configuration.
    CONFIG_TYPE = "config-type"
    CONFIG_RANGE = "config-range"
    CONFIG_MISSING_FIELD = "config-missing-field"
    # The adapter as a whole.
    WEIGHTS_MISSING = "weights-missing"
    KEYS_UNPAIRED = "keys-unpaired"
    KEYS_FOREIGN = "keys-foreign"
    SHAPE_MISMATCH = "shape-mismatch"
    RANK_MISMATCH = "rank-mismatch"
    TERN_INVALID = "tern-invalid"
    UNKNOWN_KIND = "unknown-kind"
