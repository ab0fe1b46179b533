"""Decide what becomes of the tensors beside the LoRA part: classifier heads, biases, embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from compress.dtypes import WEIGHT_DTYPES
from merge.compatibility import require_same_bytes, require_same_full_tensors
from merge.errors import IncompatibleError, MergeOptionError
from merge.expert import Expert
from merge.recipe import HeadPolicy


def settle_heads(
    experts: Sequence[Expert], weights: Sequence[float], policy: HeadPolicy
) -> tuple[HeadPolicy, str]:
    """Turn `auto` into what fits these adapters, and say so where it is not what one may expect.

    Returns:
        the average where all adapters have the same tensors, else those of the first; and a
        sentence for people, empty where nothing is left out.
    """
    if policy is not HeadPolicy.AUTO:
        return policy, ""
    kept = f"those of {experts[0].path.name} are kept, the others left out (--heads says otherwise)"
    try:
        _require_average(experts)
    except IncompatibleError as error:
        told = f"heads differ ({error.field}: {error.expected} and {error.actual})"
        return HeadPolicy.FIRST, f"{told}: {kept}"
    if len(experts) > 1 and experts[0].full_tensors and not _averages(weights):
        return HeadPolicy.FIRST, f"weights that sum to 0 cannot average heads: {kept}"
    return HeadPolicy.AVERAGE, ""


def full_tensor_homes(
    experts: Sequence[Expert], weights: Sequence[float], policy: HeadPolicy
) -> dict[str, Expert]:
    """Say which full tensors the result has, each with an expert that has it.

    Args:
        experts: the inputs.
        weights: one for each.
        policy: a settled one.

    Raises:
        IncompatibleError: they are to be averaged, and differ in name or shape.
        MergeOptionError: the weights cannot average anything.
    """
    if policy is HeadPolicy.NONE:
        return {}
    homes = dict.fromkeys(experts[0].full_tensors, experts[0])
    if policy is HeadPolicy.FIRST or len(experts) == 1:
        return homes
    _require_average(experts)
    if homes and not _averages(weights):
        raise MergeOptionError(
            "weights that sum to 0 cannot average the heads",
            field="weight",
            expected="a sum other than 0",
            actual="0",
            hint="take the heads of the first adapter: --heads first",
        )
    return homes


def _require_average(experts: Sequence[Expert]) -> None:
    """Check that all have the same tensors, and the same whole numbers in them."""
    for other in experts[1:]:
        require_same_full_tensors(experts[0], other)
    for name in experts[0].full_tensors:
        if experts[0].dtype(name) not in WEIGHT_DTYPES:
            require_same_bytes(name, experts)


def _averages(weights: Sequence[float]) -> bool:
    return abs(sum(weights)) > 1e-12
