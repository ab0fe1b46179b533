"""Open one adapter as a merge sees it: ΔW by module, and full tensors beside them.

What a linear merge would silently get wrong is refused by name: DoRA (its ΔW depends on the base),
extra biases of the LoRA layers, initialisations that change the base weights, and settings that
give the same tensors another meaning.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from compress.adapter import Source, SourceKind, open_adapter
from compress.dtypes import WEIGHT_DTYPES, Array, widen
from compress.errors import CompressError
from compress.lora import LoraModule, Role, find_modules, split_key, unread_patterns
from compress.opened import is_tern
from compress.tensor_file import TensorInfo
from compress.tern_weights import open_ternary
from merge.delta_space import Delta
from merge.errors import IncompatibleError
from merge.factors import Factors

#: `init_lora_weights` that also change the base: such an adapter is wrong beside the original one.
_BASE_CHANGING = ("pissa", "olora", "corda", "loftq", "lora_ga")
#: Settings that give the tensors another meaning, with the reason that people read.
_REFUSED = {
    "use_dora": "the ΔW of DoRA depends on the base weights",
    "lora_bias": "its layers have biases of their own",
    "use_bdlora": "its factors are block-diagonal",
    "use_qalora": "its inputs are pooled in groups",
    "alora_invocation_tokens": "it acts on part of the tokens only",
    "layer_replication": "its layers are copies",
    "target_parameters": "it adapts parameters inside modules",
    "trainable_token_indices": "it replaces single tokens of an embedding",
    "kasa_config": "it has a diagonal between its factors and changed the base weights",
    "monteclora_config": "its factors are drawn at random",
    "arrow_config": "it chooses between other adapters",
}


#: Tensors by which ΔW is not the product of two factors, whatever the config says.
_PART_OF_A_LORA = re.compile(
    r"\.lora_(?:A|B|E|diag|mid|magnitude|embedding_[AB])|dora_scale|hada_|lokr_|\.diff(?:_b)?$|\.oft_"
)


def alpha_of(module: LoraModule) -> str:
    """Name the tensor that holds a module's alpha in files without a config."""
    return f"{module.name}.alpha"


class Expert:
    """Read the parts of one LoRA adapter, a module at a time.

    Attributes:
        path: where it lies.
        kind: a PEFT folder, or weights alone whose tensors tell scales (kohya, diffusers).
        weights_name: the name of the file with the weights.
        config: its `adapter_config.json`; empty for weights alone.
        metadata: what the header of the weights says beside the tensors.
        modules: the adapted modules by name.
        full_tensors: names of the tensors that are no LoRA factor (heads, biases), sorted.
        base: what its base model is known as, or an empty string.
    """

    def __init__(self, path: Path, source: Source, *, base: str | None = None) -> None:
        self.path = path
        self.kind = source.kind
        self.weights_name = source.weights_name
        self.config: dict[str, Any] = json.loads(source.config or b"{}")
        self.metadata = source.weights.metadata
        self.base = str(self.config.get("base_model_name_or_path") or "") if base is None else base
        self._weights = source.weights
        self.modules = {
            module.name: module for module in find_modules(source.weights, source.settings)
        }
        used = {name for own in self.modules.values() for name in (own.a, own.b, alpha_of(own))}
        self.full_tensors = sorted(set(source.weights.tensors) - used)
        self._refuse_what_is_not_linear(unread_patterns(source.settings))

    def factors(self, name: str) -> Factors:
        """Read one module's factors and scale; further axes are flattened.

        Raises:
            IncompatibleError: a value is not a finite number, or the type is none of floats.
        """
        module = self.modules[name]
        if not math.isfinite(module.scale):
            raise self._refusal(
                f"scales {name} by what is not a finite number",
                alpha_of(module),
                "a finite number",
                module.scale,
            )
        a = self._finite(module.a).reshape(module.rank, -1)
        b = self._finite(module.b).reshape(-1, module.rank)
        trits = self._weights.ternary(module.a), self._weights.ternary(module.b)
        ternary = (trits[0], trits[1]) if trits[0] is not None and trits[1] is not None else None
        return Factors(a, b, module.scale, ternary)

    def delta(self, name: str) -> Delta:
        """Read one module's ΔW, its scale folded into B; further axes of A are flattened."""
        return self.factors(name).delta

    def tensor(self, name: str) -> Array:
        """Read a tensor as float64, in its shape."""
        values = widen(self._weights.read(name)).astype(np.float64)
        return values.reshape(self._weights.info(name).shape)

    def raw(self, name: str) -> bytes:
        """Read the bytes of a tensor of any type."""
        return self._weights.read_bytes(name)

    def _finite(self, name: str) -> Array:
        if self.dtype(name) not in WEIGHT_DTYPES:
            raise self._refusal(
                f"holds {name} in a type that is no factor's", name, "floats", self.dtype(name)
            )
        values = self.tensor(name)
        if not np.isfinite(values).all():
            odd = values[~np.isfinite(values)]
            raise self._refusal(
                f"holds {odd.size} values in {name} that are not finite numbers",
                name,
                "finite numbers",
                float(odd[0]),
            )
        return values

    def shapes(self, module: LoraModule) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Give the shapes of A and B without their rank: what must agree between adapters."""
        a, b = self._weights.info(module.a).shape, self._weights.info(module.b).shape
        return a[1:], (b[0], *b[2:])

    def shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a tensor."""
        return self._weights.info(name).shape

    def dtype(self, name: str) -> str:
        """Give the storage type of a tensor."""
        return self._weights.info(name).dtype

    def weights_sha256(self) -> str:
        """Return the sha256 of its weights, in hex."""
        return self._weights.sha256()

    def alpha(self, name: str) -> TensorInfo | None:
        """Describe the tensor that holds a module's alpha, if there is one."""
        return self._weights.tensors.get(alpha_of(self.modules[name]))

    def _refuse_what_is_not_linear(self, unread: Sequence[str]) -> None:
        if self.kind is SourceKind.PEFT:
            check_config(self.path, self.config)
        if unread:
            raise self._refusal(
                "scales modules by a pattern that cannot be read",
                "alpha_pattern",
                "the end of a module's name",
                unread[0],
            )
        if not self.modules:
            raise self._refusal(
                "holds no pair of LoRA factors", "weights", "lora_A and lora_B", "none"
            )
        for name in self.full_tensors:
            if split_key(name)[1] is not Role.EXACT or _PART_OF_A_LORA.search(name):
                raise self._refusal("holds LoRA tensors without a partner", name, "pairs", name)

    def _refusal(
        self, message: str, field: str, expected: str, actual: object
    ) -> IncompatibleError:
        return _refusal(self.path, message, field, expected, actual)


def module_names(experts: Sequence[Expert]) -> list[str]:
    """List the modules that any of the experts has, sorted."""
    return sorted({name for expert in experts for name in expert.modules})


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse an adapter whose ΔW is not the product of its two factors, by its config.

    Raises:
        IncompatibleError: it is no LoRA, or a setting gives its tensors another meaning.
    """
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _refusal(path, "only LoRA adapters can be merged", "peft_type", "LORA", kind)
    for key, reason in _REFUSED.items():
        if config.get(key):
            raise _refusal(path, f"cannot be merged: {reason}", key, "not set", config[key])
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_BASE_CHANGING):
        raise _refusal(
            path,
            "cannot be merged: its initialisation changed the base weights",
            "init_lora_weights",
            "a plain initialisation",
            start,
            hint="convert it to plain LoRA when saving, as PEFT describes for it",
        )


def _refusal(
    path: Path, message: str, field: str, expected: str, actual: object, *, hint: str = ""
) -> IncompatibleError:
    return IncompatibleError(
        f"{path.name} {message}",
        file=str(path),
        field=field,
        expected=expected,
        actual=repr(actual)[:80],
        hint=hint,
    )


def _open(path: Path) -> AbstractContextManager[Source]:
    return open_ternary(path) if is_tern(path) else open_adapter(path)


@contextmanager
def open_expert(path: Path, *, base: str | None = None) -> Iterator[Expert]:
    """Open a PEFT folder, LoRA weights alone, or a `compeft` file, for merging.

    Args:
        path: the folder or file.
        base: what its base model is known as; None takes the name in its config.

    Raises:
        IncompatibleError: it is not a plain LoRA adapter, or cannot be read as one.
    """
    with ExitStack() as stack:
        try:
            source = stack.enter_context(_open(path))
        except CompressError as error:
            raise IncompatibleError(
                str(error),
                file=str(path),
                field=error.field,
                expected=error.expected,
                actual=error.actual,
                hint=error.hint,
            ) from error
        yield Expert(path, source, base=base)
