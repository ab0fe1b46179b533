"""Write the `.tern` file of the method `rd`: its layers, heads, and what is kept exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from compress import container, heads
from compress.container import Index, Stored, in_table_order
from compress.container_read import TernFile
from compress.container_write import LayeredParts, TernWriter, file_header
from compress.dtypes import WEIGHT_DTYPES, Array, widen
from compress.job import Job, Measured, copy_exact, metadata
from compress.layers import MAX_LAYERS, Layers, Unit, digest
from compress.lora import FACTORS, LoraModule, Role, find_modules, split_key
from compress.measure import Energies
from compress.rate_distortion import trim
from compress.rate_distortion.attempts import Attempt
from compress.rate_distortion.components import Components, of_factors, of_vector
from compress.rate_distortion.decoder import MAX_VALUES
from compress.rate_distortion.encoder import Segment
from compress.rate_distortion.measuring import measure
from compress.rate_distortion.method import Gain, Heads, Rd
from compress.rate_distortion.moments import mean_moment, mean_of, read_moments
from compress.reports import HeadReport, LayerReport
from compress.result import Written
from compress.task_vector import Part

#: From 2 on a gain makes what is left worse than nothing.
_MOST_GAIN = 1.5
_HEAD_BITS = {Heads.INT8: 8, Heads.INT4: 4}
#: A matrix beside the task vector that is smaller than this is not worth rounding.
_SMALL_HEAD = 1024
#: Stands for digests that are not known yet: they do not deflate, and neither does this.
_UNKNOWN = tuple(digest(bytes([number])) for number in range(MAX_LAYERS + 2))


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold what is described and what is kept.

    Attributes:
        modules: LoRA modules whose factors are described.
        vectors: tensors that are one vector each.
        components: of all of them, in the order of `decoder.described`.
        stored: how every tensor is stored.
        head_blocks: encoded heads by name.
        warnings: what is kept although one might not expect it.
        config: the config of the result where that is another one, else empty.
    """

    modules: tuple[LoraModule, ...]
    vectors: tuple[Part, ...]
    components: tuple[Components, ...]
    stored: tuple[Stored, ...]
    head_blocks: dict[str, tuple[bytes, HeadReport]]
    warnings: tuple[str, ...]
    config: bytes = b""

    @property
    def parameters(self) -> int:
        """Count the elements that are described."""
        return sum(tensor.info.size for tensor in self.stored if tensor.role in _DESCRIBED)


_DESCRIBED = {Role.A, Role.B, Role.OTHER}


def write(job: Job, plan: Plan, method: Rd, attempt: Attempt, path: Path) -> Written:
    """Write a file as one attempt describes the adapter, and measure what it decodes to."""
    warnings = plan.warnings
    if method.trim_rank:
        rank = max((count for one in attempt.segments for count in one.kept), default=1)
        plan = trim.to_rank(job, plan, max(1, rank))
    draft = _Draft(job, plan, method, attempt, path)
    gain = method.gain if isinstance(method.gain, float) else 1.0
    draft.put(gain, _guess(draft.attempt))
    measured, errors = draft.measure()
    if method.gain is Gain.NORM and measured.delta and measured.delta.approximation:
        wanted = float((measured.delta.original / measured.delta.approximation) ** 0.5)
        gain = min(wanted, _MOST_GAIN)
        if wanted > gain:
            told = f"too little is left for its norm to be matched: gain {gain}, not {wanted:.3g}"
            warnings = (*warnings, told)
        draft.put(gain, errors)
        measured, errors = draft.measure()
    sizes = draft.put(gain, errors, measured)
    return replace(draft.written(gain, measured, errors, sizes), warnings=warnings)


@dataclass(frozen=True, slots=True)
class _Draft:
    """Hold a file in the making: put down first to be measured, then with what was measured."""

    job: Job
    plan: Plan
    method: Rd
    attempt: Attempt
    path: Path

    @property
    def entropy_bits(self) -> float:
        """Give the Shannon bound of the file's own symbols."""
        return sum(segment.entropy_bits for segment in self.attempt.segments)

    @property
    def _found(self) -> tuple[float, float]:
        return self.attempt.options.step, self.attempt.error

    def put(
        self, gain: float, errors: Sequence[float], measured: Measured | None = None
    ) -> dict[str, int]:
        """Write the whole file; give the bytes of every part."""
        job, plan = self.job, self.plan
        index = _index(job, plan)
        layered = _layers(self.attempt.segments, self.attempt.options.unit, gain, errors)
        fields = settings(self.method, self._found, gain)
        fields[container.SHANNON] = f"{self.entropy_bits / 8:.0f}"
        told = metadata(job, container.RD, fields, measured or _NOTHING)
        with TernWriter(self.path) as writer:
            copy_exact(job, index.exact, writer)
            blocks = b"".join(plan.head_blocks[tensor.info.name][0] for tensor in index.heads)
            return writer.finish_layers(
                index, told, LayeredParts(blocks, _layer_bytes(self.attempt.segments), layered)
            )

    def measure(self) -> tuple[Measured, tuple[float, ...]]:
        """Decode the file and compare it with the original; give the error after every layer."""
        with TernFile(self.path) as tern:
            steps = [
                measure(self.job, self.plan.modules, tern, layers=count)
                for count in range(1, tern.layer_count)
            ]
            measured = measure(self.job, self.plan.modules, tern)
            found = [*steps, measured] if tern.layer_count else []
        return measured, tuple(_error(step) for step in found)

    def written(
        self,
        gain: float,
        measured: Measured,
        errors: Sequence[float],
        sizes: dict[str, int],
    ) -> Written:
        """Tell what came of it."""
        ends = np.cumsum([len(layer) for layer in _layer_bytes(self.attempt.segments)])
        return Written(
            method=container.RD,
            settings=settings(self.method, self._found, gain),
            measured=measured,
            sizes=sizes,
            shannon_bytes=self.entropy_bits / 8,
            layers=tuple(LayerReport(int(n), e) for n, e in zip(ends, errors, strict=True)),
            heads=tuple(told for _, told in self.plan.head_blocks.values()),
            warnings=self.plan.warnings,
            config=self.plan.config,
        )


def settings(method: Rd, found: tuple[float, float], gain: float) -> dict[str, str]:
    """Tell what was asked for and what was chosen, as the metadata holds it.

    Args:
        method: what was asked for.
        found: the step, and the error as the search weights it.
        gain: on all of ΔW.
    """
    asked = {"bits": method.bits, "max_error": method.max_error, "asked_layers": method.layers}
    asked["max_module_error"] = method.max_module_error
    fields = {name: f"{value:.12g}" for name, value in asked.items() if value is not None}
    fields["step"] = f"{found[0]:.6g}"
    if gain != 1.0:
        fields["gain"] = f"{gain:.6g}"
    if method.heads is not Heads.EXACT:
        fields["heads"] = method.heads.value
    if method.moments is not None:
        fields |= {"calibrated": "true", "weighted_error": f"{found[1]:.4f}"}
    return fields


_NOTHING = Measured((), None, None, 0)


def _guess(attempt: Attempt) -> tuple[float, ...]:
    """Give as many errors as there are layers, of any value."""
    return (attempt.error,) * len(_layer_bytes(attempt.segments))


def _error(measured: Measured) -> float:
    energies = measured.delta or measured.vector
    return energies.error if energies is not None and energies.original else 0.0


def _layer_bytes(segments: Sequence[Segment]) -> list[bytes]:
    """Put the blocks of all segments in order of layers, the sides before the first."""
    count = max((len(segment.blocks) for segment in segments), default=0)
    rows = [
        b"".join(_block(segment, count, layer) for segment in segments) for layer in range(count)
    ]
    if rows:
        rows[0] = b"".join(segment.side for segment in segments) + rows[0]
    return rows


def _block(segment: Segment, count: int, layer: int) -> bytes:
    """Give a segment's block of a layer; one with fewer planes has none in the first layers."""
    plane = layer - (count - len(segment.blocks))
    return segment.blocks[plane] if plane >= 0 else b""


def _layers(
    segments: Sequence[Segment], unit: Unit, gain: float, errors: Sequence[float]
) -> Layers:
    count = max((len(segment.blocks) for segment in segments), default=0)
    return Layers(
        unit=unit,
        gain=gain,
        modules=tuple(segment.modules for segment in segments),
        sides=tuple(len(segment.side) for segment in segments),
        blocks=tuple(
            tuple(len(_block(segment, count, layer)) for segment in segments)
            for layer in range(count)
        ),
        digests=_UNKNOWN[:count],
        parts=(),
        errors=tuple(errors)[:count],
    )


def _index(job: Job, plan: Plan) -> Index:
    source = job.source
    return Index(
        kind=source.kind,
        weights_name=source.weights_name,
        config=plan.config or source.config,
        metadata=dict(source.weights.metadata),
        scales=(1.0,) if plan.parameters else (),
        tensors=in_table_order(plan.stored),
    )


def overhead(job: Job, plan: Plan, method: Rd, segments: Sequence[Segment]) -> int:
    """Count the bytes of header and index of a file with these segments."""
    errors = _UNKNOWN_ERRORS[: max((len(segment.blocks) for segment in segments), default=0)]
    layered = replace(
        _layers(segments, Unit(1.2345e-5, 64), 1.0, errors),
        parts=_UNKNOWN[: bool(plan.head_blocks) + 1],
    )
    whole = replace(_index(job, plan), layers=layered)
    index = container.encode_index(whole)
    sizes = {container.INDEX: 9999}
    sizes |= {container.EXACT: 99999} if whole.exact else {}
    sizes |= {container.HEADS: 99999} if plan.head_blocks else {}
    sizes |= {container.LAYERS: 99999} if segments else {}
    gain = 1.0 if method.gain is Gain.NONE else 1.23456
    entropy = sum(segment.entropy_bits for segment in segments)
    fields = settings(method, (0.0123456, 0.12345), gain) | {
        container.SHANNON: f"{entropy / 8:.0f}"
    }
    told = metadata(job, container.RD, fields, _LONG)
    return len(index) + container.SEAL_BYTES + len(file_header(sizes, told))


#: Stand for what is measured later: they take as many bytes.
_UNKNOWN_ERRORS = (0.123456789, 0.987654321, 0.456789123, 0.314159265) * 2
_LONG = Measured((), Energies(1.0, 1.0, 0.999), None, 0)


def make_plan(job: Job, method: Rd) -> Plan:
    """Decide what is described and what is kept.

    Raises:
        OptionError: an option does not fit the adapter.
        SourceError: the file of second moments is not valid.
    """
    names = job.names
    found = find_modules(job.source.weights, job.source.settings)
    modules = [m for m in found if {m.a, m.b} <= names and _fits(job, m)]
    factors = {name for module in modules for name in (module.a, module.b)}
    others = [part for part in job.vector.parts if part.info.name not in factors]
    stray = [part for part in others if split_key(part.info.name)[1] in FACTORS]
    vectors = [part for part in others if part not in stray]
    moments = read_moments(method.moments, modules) if method.moments else {}
    usual = mean_moment(moments)
    components = [_of_module(job, module, moments.get(module.name), usual) for module in modules]
    components += [of_vector(job.vector.read(part)) for part in vectors]
    described = {part.info.name: part for part in job.vector.parts if part.info.name in factors}
    described |= {part.info.name: part for part in vectors}
    head_blocks = _heads(job, method, names)
    return Plan(
        modules=tuple(modules),
        vectors=tuple(vectors),
        components=tuple(components),
        stored=tuple(_stored(job, described, head_blocks)),
        head_blocks=head_blocks,
        warnings=_kept([part.info.name for part in stray]),
    )


def _fits(job: Job, module: LoraModule) -> bool:
    sizes = [job.source.weights.info(name).size for name in (module.a, module.b)]
    return not module.middle and sum(sizes) <= MAX_VALUES


def _kept(refused: Sequence[str]) -> tuple[str, ...]:
    if not refused:
        return ()
    told = (
        f"{len(refused)} LoRA factors are kept exactly, such as {refused[0]}: ΔW is not their "
        "plain product (AdaLoRA, lora_mid, grouped convolutions, experts in one parameter), or "
        "they are too large to be taken apart; compeft can"
    )
    return (told,)


def _of_module(job: Job, module: LoraModule, moment: Array | None, usual: float) -> Components:
    parts = job.vector.by_name
    a = job.vector.read(parts[module.a]).reshape(module.rank, -1)
    b = job.vector.read(parts[module.b]).reshape(-1, module.rank)
    components = of_factors(a, b, module.scale, moment=moment)
    if moment is None:
        return components
    # inputs stronger than usual make the whole module count more
    return replace(components, scale=components.scale * math.sqrt(mean_of(moment) / usual))


def _stored(
    job: Job, described: dict[str, Part], rounded: dict[str, tuple[bytes, HeadReport]]
) -> list[Stored]:
    stored = []
    for name, info in job.source.weights.tensors.items():
        if name in described:
            part = described[name]
            # a factor of a LoRA pair keeps its role; what is a vector alone has none
            role = part.role if part.role in FACTORS else Role.OTHER
            stored.append(Stored(info, role, part.initial))
        else:
            stored.append(Stored(info, Role.HEAD if name in rounded else Role.EXACT))
    return stored


def _heads(job: Job, method: Rd, names: frozenset[str]) -> dict[str, tuple[bytes, HeadReport]]:
    if method.heads is Heads.EXACT:
        return {}
    weights, found = job.source.weights, {}
    for name, info in weights.tensors.items():
        if name in names or info.dtype not in WEIGHT_DTYPES or info.size < _SMALL_HEAD:
            continue
        if len(info.shape) < 2:
            continue
        values = widen(weights.read(name)).astype(np.float32)
        if not np.isfinite(values).all():
            continue
        block = heads.encode(values, _HEAD_BITS[method.heads])
        error = heads.relative_error(values, heads.decode(block, (info.size,)))
        found[name] = (block, HeadReport(name, len(block), info.size_bytes, error))
    return found
