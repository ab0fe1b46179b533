"""Define the parameters of each kind of job: checked when it is asked for, frozen from then on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from api.schemas_requests import Line, Part, Prose, RequestBody

Name = Annotated[Line, Field(min_length=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
ServerPath = Annotated[Line, StringConstraints(pattern=r"^/")]


class RdIn(RequestBody):
    """Compress with the method `rd`; see `compress.Rd`."""

    method: Literal["rd"] = "rd"
    bits: Annotated[float | None, Field(gt=0)] = None
    max_error: Share | None = None
    layers: Annotated[int | None, Field(ge=1)] = None
    max_module_error: Share | None = None
    gain: Literal["none", "norm"] | float = "none"
    heads: Literal["exact", "int8", "int4"] = "exact"
    trim_rank: bool = False
    drop_modules: bool = False


class CompeftIn(RequestBody):
    """Compress with the published recipe; see `compress.Compeft`."""

    method: Literal["compeft"] = "compeft"
    density: float = 0.2
    alpha: float = 1.0
    scope: Literal["global", "factor", "tensor"] = "global"
    exact_count: bool = False


class LosslessIn(RequestBody):
    """Compress so that every bit comes back."""

    method: Literal["lossless"] = "lossless"


MethodIn = Annotated[RdIn | CompeftIn | LosslessIn, Field(discriminator="method")]


class CompressIn(RequestBody):
    """Compress one adapter, or with `base_model` every one of a base model.

    Attributes:
        source: the revision to compress.
        target: adapter and branch to publish it as.
        base_model: compress the heads of all adapters of this base, each as its own name and
            `suffix`; those that are compressed already, or that do not compress, are left out.
        namespace: of `base_model`, only adapters of this namespace.
        suffix: what the names of such results end with.
        how: the method; without one the best that a source allows.
        message: what to note on the published revisions.
    """

    source: Name | None = None
    target: Name | None = None
    base_model: Name | None = None
    namespace: Part | None = None
    suffix: Annotated[Line, StringConstraints(pattern=r"^[A-Za-z0-9_.\-]{1,40}$")] = "-small"
    how: MethodIn | None = None
    message: Prose = ""


class MergeIn(RequestBody):
    """Merge adapters into one and publish it; see `merge.Recipe`.

    Attributes:
        sources: the revisions to merge.
        weights: one for each; else the method's usual ones.
        target: adapter and branch to publish it as.
        method: how; `adapters merge --list` shows all.
        options: what the method is told, by name.
        rank: rank of the result; None leaves it to the method.
        energy: or the share of ‖ΔW‖² to keep.
        heads: what becomes of classifier heads.
        dtype: how the result is stored; None is as the sources are.
        same_base: why base models of different names are one.
        conflicts: also tell where the sources contradict one another, in the outcome.
        message: what to note on the published revision.
    """

    sources: Annotated[list[Name], Field(min_length=1, max_length=256)]
    target: Name
    weights: list[float] | None = None
    method: Annotated[Line, Field(max_length=60)] = "linear"
    options: Annotated[dict[Name, int | float | Line], Field(max_length=20)] = Field(
        default_factory=dict
    )
    rank: Annotated[int | None, Field(ge=1)] = None
    energy: Annotated[float | None, Field(gt=0, le=1)] = None
    heads: Literal["auto", "average", "first", "none"] = "auto"
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    same_base: Line = ""
    conflicts: bool = False
    message: Prose = ""


class SimilarIn(RequestBody):
    """Find experts that are alike: near one, or all with all of a base model.

    Attributes:
        source: the revision whose neighbours are wanted.
        base_model: or compare all adapters of this base model with one another.
        namespace: only adapters of this namespace; without it all, for who may read all, else
            those of the source's.
        space: compare ΔW, or the factors as they are.
        threshold: the cosine from which two are near-duplicates.
        cut: the mean cosine from which two clusters are one.
        top: neighbours or pairs to tell, the nearest first.
    """

    source: Name | None = None
    base_model: Name | None = None
    namespace: Part | None = None
    space: Literal["delta", "factors"] = "delta"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95
    cut: Annotated[float, Field(gt=0, le=1)] = 0.5
    top: Annotated[int, Field(ge=1, le=10_000)] = 100


class EvaluateIn(RequestBody):
    """Judge an adapter on rows; both paths are on the worker's machine.

    Attributes:
        source: the revision to judge.
        base_model: folder of the model that it belongs to.
        rows: JSON Lines of rows.
    """

    source: Name
    base_model: ServerPath
    rows: ServerPath


class VerifyIn(RequestBody):
    """Read every byte of a revision, or of everything, and check its digest.

    Attributes:
        source: the revision; None means every one.
    """

    source: Name | None = None


class GcIn(RequestBody):
    """Remove what no ref reaches.

    Attributes:
        grace_s: what was touched since is spared; None means a day.
        dry_run: remove nothing.
    """

    grace_s: Annotated[float | None, Field(ge=0, le=1e9)] = None
    dry_run: bool = False


class NoopIn(RequestBody):
    """Do nothing for a while, with a checkpoint after every step: to measure and test the queue.

    Attributes:
        namespace: whose job it is.
        steps: how many.
        step_s: how long each takes.
    """

    namespace: Part
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    step_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
