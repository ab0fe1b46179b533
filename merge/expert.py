"""Open one adapter as a merge sees it: ΔW by module, and full tensors beside them.

What a linear merge would silently get wrong is refused by name: DoRA (its ΔW depends on the base),
extra biases of the LoRA layers, initialisations that change the base weights, and settings that
give the same tensors another meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from compress.adapter import Source, SourceKind, open_adapter
from compress.dtypes import Array, widen
from compress.errors import CompressError
from compress.lora import LoraModule, find_modules
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
}


class Expert:
    """Read the parts of one LoRA adapter, a module at a time.

    Attributes:
        path: where it lies.
        config: its `adapter_config.json`.
        modules: the adapted modules by name.
        full_tensors: names of the tensors that are no LoRA factor (heads, biases), sorted.
        base: what its base model is known as, or an empty string.
    """

    def __init__(self, path: Path, source: Source, *, base: str | None = None) -> None:
        self.path = path
        self.config: dict[str, Any] = json.loads(source.config)
        self.base = str(self.config.get("base_model_name_or_path") or "") if base is None else base
        self._weights = source.weights
        self.modules = {
            module.name: module for module in find_modules(source.weights, source.settings)
        }
        used = {
            name
            for module in self.modules.values()
            for name in (module.a, module.b, f"{module.name}.alpha")
        }
        self.full_tensors = sorted(set(source.weights.tensors) - used)
        self._refuse_what_is_not_linear()

    def factors(self, name: str) -> Factors:
        """Read one module's factors and scale; further axes are flattened.

        Raises:
            IncompatibleError: a value is not a finite number.
        """
        module = self.modules[name]
        a = self._finite(module.a).reshape(module.rank, -1)
        b = self._finite(module.b).reshape(-1, module.rank)
        return Factors(a, b, module.scale)

    def delta(self, name: str) -> Delta:
        """Read one module's ΔW, its scale folded into B; further axes of A are flattened."""
        return self.factors(name).delta

    def tensor(self, name: str) -> Array:
        """Read a tensor as float64, in its shape."""
        values = widen(self._weights.read(name)).astype(np.float64)
        return values.reshape(self._weights.info(name).shape)

    def _finite(self, name: str) -> Array:
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

    def _refuse_what_is_not_linear(self) -> None:
        kind = self.config.get("peft_type")
        if kind != "LORA":
            raise self._refusal("only LoRA adapters can be merged", "peft_type", "LORA", kind)
        for key, reason in _REFUSED.items():
            if self.config.get(key):
                raise self._refusal(f"cannot be merged: {reason}", key, "not set", self.config[key])
        start = self.config.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(_BASE_CHANGING):
            raise self._refusal(
                "cannot be merged: its initialisation changed the base weights",
                "init_lora_weights",
                "a plain initialisation",
                start,
                hint="convert it to plain LoRA when saving, as PEFT describes for it",
            )
        if not self.modules:
            raise self._refusal(
                "holds no pair of LoRA factors", "weights", "lora_A and lora_B", "none"
            )
        stray = [name for name in self.full_tensors if "lora_" in name]
        if stray:
            raise self._refusal(
                "holds LoRA tensors that have no partner", stray[0], "pairs", stray[0]
            )

    def _refusal(
        self, message: str, field: str, expected: str, actual: object, *, hint: str = ""
    ) -> IncompatibleError:
        text = repr(actual)[:80]
        return IncompatibleError(
            f"{self.path.name} {message}",
            file=str(self.path),
            field=field,
            expected=expected,
            actual=text,
            hint=hint,
        )


@contextmanager
def open_expert(path: Path, *, base: str | None = None) -> Iterator[Expert]:
    """Open a PEFT folder for merging.

    Args:
        path: the folder.
        base: what its base model is known as; None takes the name in its config.

    Raises:
        IncompatibleError: it is not a plain LoRA adapter, or cannot be read as one.
    """
    with ExitStack() as stack:
        try:
            source = stack.enter_context(open_adapter(path))
        except CompressError as error:
            raise IncompatibleError(
                str(error),
                file=str(path),
                field=error.field,
                expected=error.expected,
                actual=error.actual,
            ) from error
        if source.kind is not SourceKind.PEFT:
            raise IncompatibleError(
                f"{path.name} has no adapter_config.json, so its scale is unknown",
                file=str(path),
                field="adapter_config.json",
                expected="a PEFT folder",
                actual="weights alone",
            )
        yield Expert(path, source, base=base)
