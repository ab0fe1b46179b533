"""Put merged ΔW into a loaded model, module by module, without a file between.

A search tries dozens of merges on one model: the base, the tokenizer and the head stay, and only
the LoRA factors change. Their rank may change too: a LoRA layer computes B(Ax) at any rank.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import LoraLayer

from api.forward.models import LoadedModel, lora_layers
from compress.adapter import WEIGHTS_NAME
from compress.dtypes import WEIGHT_DTYPES, Array, widen
from compress.errors import BaseMismatchError, OptionError
from compress.lora import Role, split_key
from compress.tensor_file import TensorFile
from merge.delta_space import Delta


class DeltaSlots:
    """Hold the LoRA layers of a loaded model, to be filled with one merge after another.

    Values are rounded to the storage types of the adapter that was loaded, so that the model
    computes what it would if the merge were written to a folder and loaded from there.

    Raises:
        OptionError: the model has no LoRA modules.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._layers = {name: _Slot(name, layer) for name, layer in lora_layers(loaded).items()}
        if loaded.adapter is None:
            raise OptionError("a model without an adapter has no slots", field="adapter")
        with TensorFile(loaded.adapter / WEIGHTS_NAME) as file:
            for tensor in file.tensors.values():
                module, role = split_key(tensor.name)
                if role is not Role.EXACT and module in self._layers:
                    self._layers[module].dtypes[role] = tensor.dtype

    def fill(self, deltas: Iterable[tuple[str, Delta]]) -> None:
        """Replace all ΔW of the model; a module that does not come gets ΔW = 0.

        Args:
            deltas: module names, as `compress.lora.find_modules` gives them, with their ΔW.

        Raises:
            BaseMismatchError: the model has no such module, or its ΔW has another shape.
        """
        left = dict(self._layers)
        for name, delta in deltas:
            slot = left.pop(name, None)
            if slot is None:
                raise BaseMismatchError(
                    "a merged module has no place in the model",
                    field=name,
                    expected=f"one of {len(self._layers)} modules, once",
                    actual=name,
                )
            slot.put(delta)
        for slot in left.values():
            slot.put(slot.nothing())


class _Slot:
    """Be one LoRA layer: linear, convolution or embedding.

    Attributes:
        dtypes: storage types of A and B.
    """

    def __init__(self, name: str, layer: LoraLayer) -> None:
        self.name = name
        self.dtypes: dict[Role, str] = {}
        (self._key,) = layer.scaling
        self._layer = layer
        self._a, self._b = _factors(layer, self._key)
        self._a_rest = tuple(self._a.shape[1:])
        self._b_rest = tuple(self._b.shape[2:])
        self._shape = (int(self._b.shape[0]), int(np.prod(self._a_rest)))

    def put(self, delta: Delta) -> None:
        """Make the layer compute this ΔW, at its rank."""
        shape = (len(delta.b), delta.a.shape[1])
        if shape != self._shape:
            raise BaseMismatchError(
                "a merged module has another shape than the model's",
                field=self.name,
                expected=str(self._shape),
                actual=str(shape),
            )
        if not delta.rank:
            delta = self.nothing()
        rank = delta.rank
        a = self._stored(delta.a, Role.A).reshape(rank, *self._a_rest)
        b = self._stored(delta.b, Role.B).reshape(-1, rank, *self._b_rest)
        self._layer.scaling[self._key] = 1.0
        self._a.data, self._b.data = torch.from_numpy(a), torch.from_numpy(b)

    def nothing(self) -> Delta:
        """Give ΔW = 0 in the shape of the layer."""
        return Delta(np.zeros((1, self._shape[1])), np.zeros((self._shape[0], 1)))

    def _stored(self, values: Array, role: Role) -> Array:
        with np.errstate(over="ignore"):
            rounded = values.astype(WEIGHT_DTYPES[self.dtypes.get(role, "F32")])
        return np.ascontiguousarray(widen(rounded), np.float32)


def _factors(layer: LoraLayer, key: str) -> tuple[Any, Any]:
    """Give the parameters A and B of a layer; those of an embedding are no modules."""
    if key in layer.lora_A:
        return layer.lora_A[key].weight, layer.lora_B[key].weight
    return layer.lora_embedding_A[key], layer.lora_embedding_B[key]
