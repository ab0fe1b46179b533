"""Compare an adapter's weights with its configuration.

Contradictions that PEFT could not load are errors; what loads but is odd becomes a finding.
Start at `check_weights`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry.errors import HeaderError, LayoutError, WeightsMissingError
from registry.validation.checked_weights import CheckedWeights, some
from registry.validation.findings import Finding, FindingCode
from registry.validation.foreign_tensors import check_other_tensors
from registry.validation.lora_keys import LoraLayout, Role, classify, read_layout
from registry.validation.module_pattern import ModulePattern
from registry.validation.pattern_syntax import PatternError
from registry.validation.reasons import Reason
from registry.validation.strict_json import printable
from registry.validation.tensor_names import check_tensor_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from registry.validation.lora_keys import LoraModule

_PAIRED = frozenset({"LORA", "ADALORA"})
_MAX_NAME_CHARS = 512


def check_weights(weights: CheckedWeights) -> tuple[LoraLayout | None, list[Finding]]:
    """Check a weight file against its configuration.

    Returns:
        The paired factors, where the type has them, and what is odd.

    Raises:
        HeaderError: a tensor has a name that PEFT would not write.
        WeightsMissingError: there is no tensor at all.
        LayoutError: keys, shapes or ranks contradict each other or the configuration.
    """
    _check_names(weights)
    if not weights.header.tensors:
        return None, [_no_tensors(weights)]
    findings = list(check_other_tensors(weights))
    if not weights.config.known_type:
        return None, findings
    if not weights.adapter_tensors:
        raise _foreign_keys(weights)
    if weights.config.peft_type not in _PAIRED:
        return None, findings
    layout = read_layout(weights.adapter_tensors, file=weights.file)
    if weights.config.peft_type == "LORA":
        findings += _check_ranks(weights, layout)
        findings += _check_magnitudes(weights)
    findings += _check_targets(weights, layout)
    findings += check_zero_factors(layout.modules, weights.scan.zero, weights.file)
    return layout, findings


def _check_names(weights: CheckedWeights) -> None:
    for tensor in weights.header:
        problem = check_tensor_name(tensor.name, max_chars=_MAX_NAME_CHARS, strict=True)
        if problem:
            raise HeaderError(
                f"{weights.file}: tensor {printable(tensor.name)!r} {problem}",
                reason=Reason.TENSOR_NAME,
                file=weights.file,
                field=printable(tensor.name),
                expected="letters, digits, '.', '_' and '-', as PEFT writes them",
                actual=printable(tensor.name),
                hint="save the adapter again with `save_pretrained`",
            )


def _no_tensors(weights: CheckedWeights) -> Finding:
    if weights.config.peft_type != "XLORA":  # PEFT saves X-LoRA's weights in subfolders
        raise WeightsMissingError(
            f"{weights.file} holds no tensor at all",
            reason=Reason.WEIGHTS_MISSING,
            file=weights.file,
            expected=f"the tensors of a {weights.config.peft_type} adapter",
            actual="an empty file",
            hint="save the adapter again: nothing was trained, or another adapter was active",
        )
    return weights.finding(
        FindingCode.NO_TENSORS,
        "",
        f"{weights.file} holds no tensor; X-LoRA keeps them in subfolders",
    )


def _foreign_keys(weights: CheckedWeights) -> LayoutError:
    names = [tensor.name for tensor in weights.header]
    return LayoutError(
        f"{weights.file} has no tensor of a {weights.config.peft_type} adapter, only {some(names)}",
        reason=Reason.KEYS_FOREIGN,
        file=weights.file,
        field=names[0],
        expected=f"tensors of a {weights.config.peft_type} adapter",
        actual=some(names),
        hint="configuration and weights belong to different adapters, or a whole model was saved",
    )


def _check_ranks(weights: CheckedWeights, layout: LoraLayout) -> Iterator[Finding]:
    """Compare each module's rank with `r` or `rank_pattern`, as PEFT would before it loads."""
    config = weights.config
    expected, unread = _expected_ranks(weights, layout)
    if unread:
        yield weights.finding(
            FindingCode.PATTERN_NOT_EVALUATED,
            "rank_pattern",
            f"rank_pattern has entries that are not evaluated: {unread}",
            "ranks are taken from the weights",
        )
        return
    wrong = [
        module
        for module in layout.modules
        if module.rank != expected[module.name]
        and not (config.target_parameters and module.rank % max(1, expected[module.name]) == 0)
    ]
    if not wrong:
        return
    first = wrong[0]
    raise LayoutError(
        f"{weights.file}: {len(wrong)} of {len(layout.modules)} modules have another rank than the "
        f"configuration says, {first.name!r} for one: its scale alpha / r would be wrong",
        reason=Reason.RANK_MISMATCH,
        file=weights.file,
        field=first.name,
        expected=f"rank {expected[first.name]} (r or rank_pattern in {weights.config_file})",
        actual=f"rank {first.rank}",
        hint="push the adapter_config.json that belongs to these weights",
    )


def _expected_ranks(weights: CheckedWeights, layout: LoraLayout) -> tuple[dict[str, int], str]:
    config = weights.config
    ranks = {module.name: config.default_rank for module in layout.modules}
    undecided = set(ranks)
    for pattern, rank in config.rank_pattern.items():
        try:
            matcher = ModulePattern(pattern, at_end=True)
            fitting = {name for name in undecided if matcher.fits(name)}
        except PatternError as error:
            return ranks, f"{printable(pattern)!r} {error}"
        ranks |= dict.fromkeys(fitting, rank)
        undecided -= fitting
    return ranks, ""


def _check_magnitudes(weights: CheckedWeights) -> Iterator[Finding]:
    roles = [found[1] for t in weights.adapter_tensors if (found := classify(t.name))]
    has_magnitudes = Role.MAGNITUDE in roles
    if has_magnitudes != weights.config.use_dora:
        yield weights.finding(
            FindingCode.DORA_INCONSISTENT,
            "use_dora",
            "the weights have DoRA magnitudes, but use_dora is false: PEFT ignores them"
            if has_magnitudes
            else "use_dora is true, but the weights have no magnitudes: PEFT starts them afresh",
            "push the adapter_config.json that belongs to these weights",
        )


def _check_targets(weights: CheckedWeights, layout: LoraLayout) -> Iterator[Finding]:
    targets = weights.config.target_modules
    modules = [module.name for module in layout.modules]
    if isinstance(targets, str):
        yield from _check_target_pattern(weights, targets, modules)
    elif targets:
        unmet = sorted(t for t in targets if not any(_ends_with(m, t) for m in modules))
        if unmet:
            yield weights.finding(
                FindingCode.TARGETS_NOT_MET,
                "target_modules",
                f"target_modules names {some(unmet)}, for which there are no weights",
                "the base model may have no such modules; nothing is lost",
            )
        if not weights.config.target_parameters:
            yield from _not_targeted(
                weights, [m for m in modules if not any(_ends_with(m, t) for t in targets)]
            )


def _check_target_pattern(
    weights: CheckedWeights, pattern: str, modules: list[str]
) -> Iterator[Finding]:
    if pattern == "all-linear":
        return
    try:
        matcher = ModulePattern(pattern)
        yield from _not_targeted(weights, [m for m in modules if not matcher.fits(m)])
    except PatternError as error:
        yield weights.finding(
            FindingCode.PATTERN_NOT_EVALUATED,
            "target_modules",
            f"target_modules {printable(pattern)!r} {error}: it is kept and not evaluated",
        )


def _not_targeted(weights: CheckedWeights, modules: list[str]) -> Iterator[Finding]:
    if modules and not weights.config.target_parameters:
        yield weights.finding(
            FindingCode.KEYS_NOT_TARGETED,
            modules[0],
            f"{len(modules)} modules have weights but are not in target_modules: {some(modules)}",
            "PEFT drops such weights silently: do configuration and weights belong together?",
        )


def _ends_with(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


def check_zero_factors(
    modules: Sequence[LoraModule], zero: frozenset[str], file: str
) -> Iterator[Finding]:
    """Yield a finding where modules have a factor that is zero throughout.

    Args:
        modules: the paired factors.
        zero: names of the tensors that are zero throughout.
        file: the file concerned.
    """
    dead = [module.name for module in modules if module.a.name in zero or module.b.name in zero]
    if not dead:
        return
    every = len(dead) == len(modules)
    yield Finding(
        FindingCode.ALL_B_ZERO if every else FindingCode.SOME_B_ZERO,
        file,
        dead[0],
        f"{len(dead)} of {len(modules)} modules have a factor that is zero throughout and change "
        f"nothing: {some(dead)}",
        "the adapter was not trained" if every else "these modules were not trained",
    )
