"""Write what a merge gives as an ordinary PEFT folder, module by module."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compress.adapter import CONFIG_NAME, WEIGHTS_NAME, SourceKind
from compress.dtypes import WEIGHT_DTYPES, Array
from compress.tensor_file import TensorInfo
from merge.bare_weights import merged_metadata
from merge.beside import full_tensor_homes
from merge.delta_space import Delta, padded
from merge.errors import IncompatibleError, MergeOptionError
from merge.expert import Expert, module_names
from merge.method import Reach, Space
from merge.recipe import STORED_TYPES, HeadPolicy, Recipe
from merge.spool import Direct, Spooled

#: Settings by which an adapter has fewer modules than its `target_modules` name.
_NARROWING = ("layers_to_transform", "layers_pattern", "exclude_modules")
#: Tasks for which PEFT looks for a head in every adapter, and does not load one without.
_WITH_HEAD = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS")
#: Powers of two, up and down, within which the largest value of a factor loses nothing to its type.
_ROOM = {"F16": 3}
_MUCH_ROOM = 60
#: Inputs are stored in these, but a sum of them would lose several percent.
_TOO_NARROW = {"F8_E4M3", "F8_E5M2"}
#: What may be asked for without regard to the modules: servers want one rank for all adapters.
_USUAL_RANKS = 1024


class MergedFolder:
    """Write the weights as they come; the config, and what stands beside the LoRA part, at the end.

    All modules get one rank, filled up with zeros, so that every server can load the result. With
    a share of energy to keep, each has its own, in `rank_pattern`.
    """

    def __init__(
        self,
        folder: Path,
        experts: Sequence[Expert],
        weights: Sequence[float],
        recipe: Recipe,
    ) -> None:
        self._folder = folder
        self._experts = experts
        self._weights = weights
        self._recipe = recipe
        self._beside = full_tensor_homes(experts, weights, recipe.heads)
        self._owners = {name: _owners(experts, name) for name in module_names(experts)}
        self._ranks: dict[str, int] = {}
        self._rank = 0
        self._bare = experts[0].kind is SourceKind.RAW
        path = folder / (experts[0].weights_name if self._bare else WEIGHTS_NAME)
        if recipe.energy is not None:
            self._file: Direct | Spooled = Spooled(path)
        else:
            self._rank = _common_rank(self._owners, recipe)
            infos = [i for name in self._owners for i in self._module_infos(name, self._rank)]
            ranks = dict.fromkeys(self._owners, self._rank)
            self._file = Direct(path, [*infos, *self._beside_infos()], self._metadata(ranks))

    def close(self) -> None:
        """Close what is open."""
        self._file.close()

    def add(self, name: str, delta: Delta) -> None:
        """Take in one module.

        Raises:
            IncompatibleError: a value is too large for the type of the result.
        """
        whole = padded(delta, self._rank or max(1, delta.rank))
        self._ranks[name] = whole.rank
        infos = self._module_infos(name, whole.rank)
        shared = _shared(whole, infos[0].dtype)
        values = (shared.a, shared.b, np.array(float(whole.rank)))
        for info, own in zip(infos, values, strict=False):
            self._file.write(info, _stored(own, info))

    def finish(self) -> tuple[int, int]:
        """Complete the folder; return the largest rank and the number of full tensors."""
        for info in self._beside_infos():
            self._file.write(info, self._full_tensor(info))
        self._file.finish(self._metadata(self._ranks))
        rank = max(self._ranks.values())
        if self._bare:
            return rank, len(self._beside)
        text = json.dumps(self._config(rank), indent=2, sort_keys=True)
        (self._folder / CONFIG_NAME).write_text(text + "\n")
        return rank, len(self._beside)

    def _metadata(self, ranks: Mapping[str, int]) -> dict[str, str]:
        return merged_metadata(self._experts, ranks) if self._bare else {"format": "pt"}

    def _module_infos(self, name: str, rank: int) -> tuple[TensorInfo, ...]:
        """Describe A, B and, where a file without a config needs it, alpha: the rank itself."""
        owners = self._owners[name]
        expert = owners[0]
        module = expert.modules[name]
        a_rest, b_rest = expert.shapes(module)
        types = {e.dtype(t) for e in owners for t in (e.modules[name].a, e.modules[name].b)}
        asked = self._recipe.dtype
        common = types.pop() if len(types) == 1 and not types <= _TOO_NARROW else "F32"
        dtype = STORED_TYPES[asked] if asked is not None else common
        a = TensorInfo(module.a, dtype, (rank, *a_rest))
        b = TensorInfo(module.b, dtype, (b_rest[0], rank, *b_rest[1:]))
        alpha = next((info for e in owners if (info := e.alpha(name)) is not None), None)
        if alpha is None:
            return a, b
        return a, b, replace(alpha, dtype=_holding(rank, alpha.dtype), begin=0)

    def _beside_infos(self) -> list[TensorInfo]:
        return [TensorInfo(n, own.dtype(n), own.shape(n)) for n, own in self._beside.items()]

    def _full_tensor(self, info: TensorInfo) -> bytes:
        first = self._experts[0]
        alone = self._recipe.heads is HeadPolicy.FIRST or len(self._experts) == 1
        if alone or info.dtype not in WEIGHT_DTYPES:  # whole numbers are the same everywhere
            return first.raw(info.name)
        total = sum(self._weights)
        average = np.zeros(info.shape)
        for weight, expert in zip(self._weights, self._experts, strict=True):
            average += weight / total * expert.tensor(info.name)
        return _stored(average, info)

    def _config(self, rank: int) -> dict[str, object]:
        first, heads = self._experts[0].config, self._recipe.heads
        saving = self._experts[:1] if heads is HeadPolicy.FIRST else self._experts
        saved = {n for e in saving for n in _names(e.config.get("modules_to_save"))}
        own_ranks = _own_ranks({_path(name): own for name, own in self._ranks.items()}, rank)
        config = {
            **first,
            "r": rank,
            "lora_alpha": rank,
            "rank_pattern": own_ranks,
            "alpha_pattern": own_ranks,
            "use_rslora": False,
            "init_lora_weights": True,
            "target_modules": _targets(self._experts, self._owners),
            "modules_to_save": sorted(saved) or None,
            **dict.fromkeys(key for key in _NARROWING if key in first),
        }
        if heads is HeadPolicy.NONE:
            config |= {"modules_to_save": None, "bias": "none"}
            if first.get("task_type") in _WITH_HEAD:
                config["task_type"] = None
        return config


def _owners(experts: Sequence[Expert], name: str) -> list[Expert]:
    return [expert for expert in experts if name in expert.modules]


def _common_rank(owners: dict[str, list[Expert]], recipe: Recipe) -> int:
    """Give the rank that no module of the result exceeds.

    Raises:
        MergeOptionError: one was asked for that no ΔW here has: zeros would fill the disk.
    """
    ranks = [[own.modules[name].rank for own in some] for name, some in owners.items()]
    if recipe.rank is not None:
        sides = [some[0].shapes(some[0].modules[name]) for name, some in owners.items()]
        full = max(min(math.prod(a), b[0]) for a, b in sides)
        most = max(_USUAL_RANKS, full, *map(sum, ranks))
        if recipe.rank > most:
            raise MergeOptionError(
                "no module has such a rank",
                field="rank",
                expected=f"at most {most}",
                actual=str(recipe.rank),
            )
        return recipe.rank
    one = recipe.row.reach is Reach.LARGEST or recipe.row.space is Space.FACTORS
    return max(max(some) if one else sum(some) for some in ranks)


def _targets(experts: Sequence[Expert], modules: Iterable[str]) -> list[str]:
    """Name what the result adapts: as the inputs do, or module by module where that is not all."""
    targets = [expert.config.get("target_modules") for expert in experts]
    listed = all(isinstance(item, list) and _names(item) == item for item in targets)
    narrow = any(expert.config.get(key) for expert in experts for key in _NARROWING)
    if not listed or narrow:
        return sorted(_path(name) for name in modules)
    return sorted({name for item in targets for name in item or ()})


def _names(value: object) -> list[str]:
    """Give the names in a setting that should be a list of names; PEFT takes one alone too."""
    listed = [value] if isinstance(value, str) else value
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _own_ranks(ranks: Mapping[str, int], usual: int) -> dict[str, int]:
    """Name the modules of other ranks, each by a key that PEFT finds in no other one.

    It takes the first key that is the end of a module's path: where one path is the end of
    another, ``^`` says that it is all of it.
    """
    ends = {path[at + 1 :] for path in ranks for at, sign in enumerate(path) if sign == "."}
    return {
        f"^{path}" if path in ends else path: rank for path, rank in ranks.items() if rank != usual
    }


def _path(module: str) -> str:
    return module.removeprefix("base_model.model.")


def _shared(delta: Delta, dtype: str) -> Delta:
    """Share the size of ΔW between A and B, by a power of two, where one of them leaves its type.

    Scale and weight are folded into B: float16 would round off what becomes small there, or not
    hold what becomes large, although A has room.
    """
    a, b = (float(np.abs(side).max(initial=0.0)) for side in (delta.a, delta.b))
    if not (math.isfinite(a * b) and a * b):
        return delta
    room = _ROOM.get(dtype, _MUCH_ROOM)
    if all(abs(math.log2(size)) <= room for size in (a, b)):
        return delta
    turned = round((math.log2(b) - math.log2(a)) / 2)
    return Delta(np.ldexp(delta.a, turned), np.ldexp(delta.b, -turned))


def _holding(rank: int, dtype: str) -> str:
    """Give the type of an alpha: what it was, or float32 if that does not hold the rank exactly."""
    if dtype not in WEIGHT_DTYPES:
        return "F32"
    held = np.array(float(rank)).astype(WEIGHT_DTYPES[dtype])
    return dtype if float(held) == rank else "F32"


def _stored(values: Array, info: TensorInfo) -> bytes:
    with np.errstate(over="ignore"):
        stored = values.astype(WEIGHT_DTYPES[info.dtype])
    if not np.isfinite(stored.astype(np.float32)).all() and np.isfinite(values).all():
        raise IncompatibleError(
            f"{info.name} does not fit into its type",
            field=info.name,
            expected=f"values that {info.dtype} holds",
            actual=f"{float(np.abs(values).max()):.3g}",
            hint="store the result as --dtype float32",
        )
    return stored.tobytes()
