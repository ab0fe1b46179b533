"""Say which tensors are a task vector, fine-tuned minus initial, and what their initial value is.

One row per PEFT type, each with its reason. What is not named in a row is kept exactly: heads,
biases, `modules_to_save`, indices, and every tensor whose initial value is unknown or whose exact
value matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from compress.adapter import LoraSettings
from compress.dtypes import WEIGHT_DTYPES, Array, widen
from compress.errors import NonFiniteError
from compress.lora import Role, split_key
from compress.tensor_file import TensorInfo
from compress.weights import Weights

#: Elements that are looked at together: 1 MiB of float32.
CHUNK = 1 << 18
_INDICES, _VALUES = ".indices", ".values"


class Initial(IntEnum):
    """Say what a tensor was before training. The numbers are part of the `.tern` format."""

    ZERO = 0
    ONE = 1
    BASE = 2


@dataclass(frozen=True, slots=True)
class Treatment:
    """Describe one PEFT type.

    Attributes:
        reason: why its tensors are compressed or kept.
        parts: role and initial value by a dot-separated word of the tensor's name.
    """

    reason: str
    parts: tuple[tuple[str, Role, Initial], ...] = ()


def _pair(prefix: str, reason: str) -> Treatment:
    return Treatment(
        reason, ((f"{prefix}_A", Role.A, Initial.ZERO), (f"{prefix}_B", Role.B, Initial.ZERO))
    )


def _vector(word: str, reason: str, initial: Initial = Initial.ZERO) -> Treatment:
    return Treatment(reason, ((word, Role.OTHER, initial),))


def _zero(role: Role, *words: str) -> tuple[tuple[str, Role, Initial], ...]:
    return tuple((word, role, Initial.ZERO) for word in words)


_LOW_RANK = "ΔW is a product of the factors; zero factors leave the base as it is"
_PROMPT = "trained embeddings have no initial value that leaves the base as it is"

TREATMENTS: dict[str, Treatment] = {
    "LORA": Treatment(
        _LOW_RANK + "; DoRA's magnitudes and LoRA biases are kept",
        _zero(Role.A, "lora_A", "lora_embedding_A") + _zero(Role.B, "lora_B", "lora_embedding_B"),
    ),
    "ADALORA": Treatment(
        "A and B as in LoRA; the small diagonal E and ranknum are kept",
        _zero(Role.A, "lora_A", "lora_embedding_A") + _zero(Role.B, "lora_B", "lora_embedding_B"),
    ),
    "LOHA": Treatment(
        "ΔW is a Hadamard product of two low-rank products",
        _zero(Role.A, "hada_w1_a", "hada_w2_a")
        + _zero(Role.B, "hada_w1_b", "hada_w2_b")
        + _zero(Role.OTHER, "hada_t1", "hada_t2"),
    ),
    "LOKR": Treatment(
        "ΔW is a Kronecker product",
        _zero(Role.A, "lokr_w1", "lokr_w1_a", "lokr_w1_b")
        + _zero(Role.B, "lokr_w2", "lokr_w2_a", "lokr_w2_b")
        + _zero(Role.OTHER, "lokr_t2"),
    ),
    "IA3": _vector("ia3_l", "activations are multiplied; one leaves them", Initial.ONE),
    "OFT": Treatment(
        "zero skew-symmetric entries give the identity rotation",
        _zero(Role.OTHER, "oft_R", "oft_embedding_R"),
    ),
    "BOFT": Treatment(
        "as OFT, with a scale that starts at one",
        (("boft_R", Role.OTHER, Initial.ZERO), ("boft_s", Role.OTHER, Initial.ONE)),
    ),
    "HIRA": Treatment(
        _LOW_RANK,
        _zero(Role.A, "hira_A", "hira_embedding_A") + _zero(Role.B, "hira_B", "hira_embedding_B"),
    ),
    "DELORA": _pair("delora", "normalised low-rank product; its strength lambda is kept"),
    "GRALORA": Treatment(
        "LoRA per block",
        _zero(Role.A, "gralora_A", "gralora_A_general")
        + _zero(Role.B, "gralora_B", "gralora_B_general"),
    ),
    "POLY": _pair("poly_lora", "a bank of LoRAs; the router is kept"),
    "LILY": _pair("lily", "shared LoRA factors; the router is kept"),
    "ADAMSS": _pair("adamss", "low-rank factors per subspace"),
    "PEANUT": _pair("peanut", "low-rank factors; the small networks between them are kept"),
    "GLORA": Treatment(
        "additive terms that start at zero",
        _zero(Role.OTHER, "glora_A", "glora_B", "glora_C", "glora_D", "glora_E"),
    ),
    "SUPERTUNING": Treatment(
        "a sparse delta and a LoRA; indices are kept",
        _zero(Role.OTHER, "supertuning_values")
        + _zero(Role.A, "supertuning_lora_A")
        + _zero(Role.B, "supertuning_lora_B"),
    ),
    "SHIRA": _vector("shira_weight", "a sparse delta; its indices are kept"),
    "FOURIERFT": _vector("fourierft_spectrum", "ΔW is linear in the spectrum"),
    "WAVEFT": _vector("waveft_spectrum", "ΔW is linear in the spectrum"),
    "C3A": _vector("c3a_kernel", "ΔW is linear in the kernel"),
    "MISS": _vector("miss_block", "ΔW is linear in the block"),
    "BEFT": _vector("beft_bias", "a bias that starts at zero"),
    "ROAD": Treatment(
        "a rotation by zero and a scale of one leave activations",
        (("road_theta", Role.OTHER, Initial.ZERO), ("road_alpha", Role.OTHER, Initial.ONE)),
    ),
    "VERA": _vector(
        "vera_lambda_b", "zero until trained; lambda_d starts at an option and is kept"
    ),
    "PVERA": _vector(
        "pvera_lambda_b", "zero until trained; lambda_d starts at an option and is kept"
    ),
    "RANDLORA": _vector(
        "randlora_lambda", "zero until trained; gamma starts at an option and is kept"
    ),
    "FROD": _vector("frod_lambda_s_values", "zero until trained; lambda_l is kept"),
    "VBLORA": Treatment("logits choose from a bank: rounding them changes the choice"),
    "UNILORA": Treatment("one shared vector feeds every factor and starts at random"),
    "TINYLORA": Treatment("a handful of numbers"),
    "HRA": Treatment("reflections depend on directions and do not start at the identity by zero"),
    "DEFT": Treatment("P also projects the base weights, so its exact value matters"),
    "PSOFT": Treatment("rotation and vectors start at the identity in several forms"),
    "OSF": Treatment("singular vectors of the base: their initial value is not in the adapter"),
    "LN_TUNING": Treatment("whole norm layers: their initial value is in the base"),
    "TRAINABLE_TOKENS": Treatment("whole embedding rows: their initial value is in the base"),
    "SHADOW": Treatment("a whole small network that starts at random"),
    "XLORA": Treatment("a gating network; the experts that it mixes are adapters of their own"),
    "CARTRIDGE": Treatment(_PROMPT),
    "CPT": Treatment(_PROMPT),
    "PROMPT_TUNING": Treatment(_PROMPT),
    "MULTITASK_PROMPT_TUNING": Treatment(_PROMPT),
    "P_TUNING": Treatment(_PROMPT),
    "PREFIX_TUNING": Treatment(_PROMPT),
    "ADAPTION_PROMPT": Treatment(_PROMPT),
}

#: Files without a config may also hold LyCORIS factors.
_RAW_PARTS = TREATMENTS["LOHA"].parts + TREATMENTS["LOKR"].parts


@dataclass(frozen=True, slots=True)
class Part:
    """Name one tensor of the task vector.

    Attributes:
        info: its name, type and shape.
        role: A, B or other.
        initial: the value that is taken off before compressing.
    """

    info: TensorInfo
    role: Role
    initial: Initial


def classify(info: TensorInfo, settings: LoraSettings) -> Part | None:
    """Give a tensor's place in the task vector, or None if it is kept exactly."""
    if info.dtype not in WEIGHT_DTYPES or not info.size or info.name.endswith(".bias"):
        return None
    words = set(info.name.split("."))
    parts = TREATMENTS[settings.peft_type].parts if settings.peft_type in TREATMENTS else ()
    if not settings.peft_type:
        role = split_key(info.name)[1]
        if role is not Role.EXACT:
            return Part(info, role, Initial.ZERO)
        parts = _RAW_PARTS
    for word, role, initial in parts:
        if word in words:
            return Part(info, role, initial)
    return None


def find_parts(tensors: Iterable[TensorInfo], settings: LoraSettings) -> list[Part]:
    """List the tensors of an adapter that form its task vector."""
    infos = list(tensors)
    if not settings.peft_type and is_sparse_delta(infos):
        values = (info for info in infos if info.name.endswith(_VALUES) and info.size)
        return [Part(info, Role.OTHER, Initial.ZERO) for info in values]
    return [part for info in infos if (part := classify(info, settings)) is not None]


def is_sparse_delta(tensors: Iterable[TensorInfo]) -> bool:
    """Say whether tensors are pairs ``X.indices`` (whole numbers) and ``X.values``."""
    by_name = {info.name: info for info in tensors}
    heads = [name.removesuffix(_INDICES) for name in by_name if name.endswith(_INDICES)]
    if not heads or 2 * len(heads) != len(by_name):
        return False
    if any(split_key(name)[1] is not Role.EXACT for name in by_name):
        return False
    pairs = [(by_name[head + _INDICES], by_name.get(head + _VALUES)) for head in heads]
    return all(
        values is not None
        and indices.dtype[0] in "IU"
        and values.dtype in WEIGHT_DTYPES
        and indices.shape[-1:] == (values.size,)
        for indices, values in pairs
    )


def reason(settings: LoraSettings, tensors: Iterable[TensorInfo]) -> str:
    """Say why an adapter's tensors are treated as they are."""
    peft_type = settings.peft_type
    if peft_type in TREATMENTS:
        return TREATMENTS[peft_type].reason
    if peft_type:
        return f"{peft_type} is not known, so everything is kept"
    infos = list(tensors)
    if is_sparse_delta(infos):
        return "no config: a sparse delta, whose indices are kept"
    if any(classify(info, settings) for info in infos):
        return "no config: LoRA factors are known by their names"
    return "no config, and no LoRA by its names; a full fine-tune needs its base model"


class TaskVector:
    """Read a task vector in slices, straight from the files.

    Attributes:
        parts: its tensors, names in alphabetical order.
        by_name: the same by name.
        size: the number of its elements.
    """

    def __init__(
        self, weights: Weights, parts: Iterable[Part], *, base: Weights | None = None
    ) -> None:
        self._weights = weights
        self._base = base
        self.parts = tuple(sorted(parts, key=lambda part: part.info.name))
        self.by_name = {part.info.name: part for part in self.parts}
        self.size = sum(part.info.size for part in self.parts)
        self._progress: Callable[[int, int], None] | None = None
        self._total = self._done = 0

    def watch(self, progress: Callable[[int, int], None] | None, *, passes: int) -> None:
        """Report elements read from now on, of so many passes over all of them."""
        self._progress, self._total, self._done = progress, self.size * passes, 0

    def tell(self, done: int, total: int) -> None:
        """Report a share of the work that is not counted in elements read."""
        if self._progress is not None:
            self._progress(self._total * done // max(1, total), self._total)

    def finish(self) -> None:
        """Report that all is done."""
        if self._progress is not None:
            self._progress(self._total, self._total)

    def read(self, part: Part, start: int = 0, stop: int | None = None) -> Array:
        """Read elements [start, stop) of one tensor less their initial value, in float32 or 64.

        Raises:
            NonFiniteError: a value is NaN or infinite.
        """
        name = part.info.name
        values = widen(self._weights.read(name, start, stop))
        if part.initial is Initial.ONE:
            values = values - values.dtype.type(1)
        elif part.initial is Initial.BASE and self._base is not None:
            values = values - widen(self._base.read(name, start, stop)).astype(values.dtype)
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise NonFiniteError(
                "a tensor holds NaN or infinity",
                file=self._weights.file_of(name),
                field=name,
                expected="finite values",
                actual="NaN or infinity",
                hint="such an adapter is broken: train it again or take an earlier checkpoint",
            )
        return values

    def chunks(self, parts: Iterable[Part]) -> Iterator[tuple[Part, int, Array]]:
        """Read tensors one after another in pieces of `CHUNK`: part, offset, values."""
        for part in parts:
            for start in range(0, part.info.size, CHUNK):
                stop = min(start + CHUNK, part.info.size)
                yield part, start, self.read(part, start, stop)
                self._done += stop - start
                if self._progress is not None:
                    self._progress(min(self._done, self._total), self._total)
