"""Check that the shards of a large model are all there and hold what their index says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.errors import ConfigError, LayoutError, WeightsMissingError
from registry.validation.file_sources import read_exactly
from registry.validation.reasons import Reason
from registry.validation.strict_json import Json, JsonLimits, JsonRuleError, parse_json, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.validation.file_sources import FileSource
    from registry.validation.inspected_file import InspectedFile

INDEX_FILE = "model.safetensors.index.json"
_MAX_INDEX_BYTES = 25_000_000


def check_shards(source: FileSource, files: Sequence[InspectedFile]) -> None:
    """Compare `model.safetensors.index.json` with the shards beside it.

    Raises:
        ConfigError: the index is not strict JSON of the right form.
        WeightsMissingError: a shard is missing.
        LayoutError: a shard does not hold what the index says.
    """
    where = read_index(source)
    held = {file.path: {tensor.name for tensor in file.header} for file in files}
    for shard in sorted(set(where.values())):
        if shard not in held:
            raise WeightsMissingError(
                f"{INDEX_FILE} names {printable(shard)}, which is not here",
                reason=Reason.WEIGHTS_MISSING,
                file=printable(shard),
                field="weight_map",
                expected=f"{len(set(where.values()))} shards",
                actual=f"{len(held)} safetensors files",
                hint="add the missing shard and push again",
            )
    for name, shard in where.items():
        if name not in held[shard]:
            raise LayoutError(
                f"{shard} lacks tensor {printable(name)!r}, which {INDEX_FILE} places there",
                reason=Reason.KEYS_FOREIGN,
                file=shard,
                field=printable(name),
                expected=f"the tensor in {shard}",
                actual="no such tensor",
                hint="save the model again: index and shards belong to different runs",
            )


def read_index(source: FileSource) -> Mapping[str, str]:
    """Return the shard of every tensor as the index says.

    Raises:
        ConfigError: it is not strict JSON of the right form.
    """
    with source.open() as reader:
        data = read_exactly(reader, _MAX_INDEX_BYTES + 1)
    if len(data) > _MAX_INDEX_BYTES:
        raise _index_error("is too large", Reason.JSON_SIZE, actual=f"{len(data)} bytes or more")
    try:
        members = parse_json(data, limits=JsonLimits(max_depth=4, max_values=1_000_000))
    except JsonRuleError as error:
        raise _index_error(error.message, error.reason, actual=error.actual) from error
    weight_map: Json = members.get("weight_map") if isinstance(members, dict) else None
    if not isinstance(weight_map, dict):
        raise _index_error("has no weight_map", Reason.CONFIG_MISSING_FIELD)
    where = {name: shard for name, shard in weight_map.items() if isinstance(shard, str)}
    if len(where) != len(weight_map):
        raise _index_error("has a weight_map whose values are no file names", Reason.CONFIG_TYPE)
    return where


def _index_error(what: str, reason: Reason, *, actual: str = "") -> ConfigError:
    return ConfigError(
        f"{INDEX_FILE} {what}",
        reason=reason,
        file=INDEX_FILE,
        field="weight_map",
        expected="an object of tensor name to shard",
        actual=actual,
        hint="save the model again with `save_pretrained`",
    )
