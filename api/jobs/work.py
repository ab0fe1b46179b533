"""Do the work of each kind of job, by the same workflows that the command line runs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from api.jobs.context import JobContext
from api.jobs.errors import JobRequestError
from api.jobs.methods import method_of, recipe_of
from api.jobs.parameters import (
    CompressIn,
    EvaluateIn,
    GcIn,
    MergeIn,
    NoopIn,
    SimilarIn,
    VerifyIn,
)
from api.settings import visible_gpus
from registry.collect import DEFAULT_GRACE_S
from registry.jobs.values import JobProgress, JsonObject
from registry.refs import Reference

if TYPE_CHECKING:
    from api.client import HubClient
    from api.workflows.compress import Origin

_REPORT_EVERY = 20


def compress(asked: CompressIn, context: JobContext) -> JsonObject:
    """Compress one adapter and publish it."""
    from api.workflows.compress import CompressOptions, compress_and_push  # noqa: PLC0415 - NumPy

    with context.client() as client:
        origin = _origin(client, asked.source or "", context, 0)
        report, pushed = compress_and_push(
            client,
            origin,
            Reference.parse(asked.target or ""),
            options=CompressOptions(method_of(asked.how)),
            message=asked.message,
            progress=context,
        )
    for text in report.warnings:
        context.log(f"warning: {text}")
    told = report.to_json()
    kept = {name: told.get(name) for name in ("method", "ratio", "bits_per_param", "delta_error")}
    return {**kept, "digest": pushed.revision.digest, "erased": list(report.erased)}


def merge(asked: MergeIn, context: JobContext) -> JsonObject:
    """Merge adapters and publish the result."""
    from api.workflows.merge import (  # noqa: PLC0415 - NumPy
        Made,
        MergeInput,
        combine,
        opened,
        publish,
    )
    from merge.conflict_report import ConflictLog  # noqa: PLC0415

    recipe = recipe_of(asked)
    weights: Sequence[float | None] = asked.weights or [None] * len(asked.sources)
    with context.client() as client:
        origins = [_origin(client, text, context, n) for n, text in enumerate(asked.sources)]
        inputs = [MergeInput(origin, w) for origin, w in zip(origins, weights, strict=True)]
        place, log = context.folder / "merged", ConflictLog(asked.sources)
        with opened(inputs, client) as adapters:
            observe = log.observe if asked.conflicts else None
            report = combine(adapters, place, recipe, progress=context, observe=observe)
        pushed = publish(
            client,
            place,
            Reference.parse(asked.target),
            origins=origins,
            made=Made(recipe, report),
            message=asked.message,
        )
    for text in report.warnings:
        context.log(f"warning: {text}")
    lists = {"weights": list(report.weights), "warnings": list(report.warnings)}
    told = {**asdict(report), **lists, "heads": str(report.heads)}
    found = {"conflicts": log.report().to_json()} if asked.conflicts else {}
    return {**told, **found, "digest": pushed.revision.digest}


def similar(asked: SimilarIn, context: JobContext) -> JsonObject:
    """Compare experts as they are compressed; tell the nearest, and what belongs together."""
    from api.workflows.expert_library import hub_expert, hub_library  # noqa: PLC0415 - NumPy
    from api.workflows.similar import SimilarOptions, compare_all, nearest  # noqa: PLC0415
    from api.workflows.similar_json import comparison_json, nearest_json  # noqa: PLC0415
    from merge.compressed import Space  # noqa: PLC0415

    options = SimilarOptions(Space(asked.space), asked.threshold, asked.cut)
    expert, base, own = None, asked.base_model, None
    cache_dir = context.cache_dir
    with context.client() as client:
        if asked.source is not None:
            found = Reference.parse(asked.source)
            expert, revision = hub_expert(client, found, cache_dir=cache_dir)
            base, own = revision.manifest.base_model, found.digest
        if base is None:
            raise JobRequestError(
                "nothing says which base model this belongs to",
                field="source",
                expected="an adapter of a known base model",
                actual=str(asked.source),
            )
        library, refused = hub_library(
            client,
            base,
            cache_dir=cache_dir,
            namespace=asked.namespace,
            without=own,
            progress=context,
        )
    if expert is not None:
        near = nearest(expert, library, options=options, progress=context)
        return nearest_json(near, refused, top=asked.top)
    compared = compare_all(library, options=options, clusters=True, progress=context)
    return comparison_json(compared, refused, top=asked.top)


def evaluate(asked: EvaluateIn, context: JobContext) -> JsonObject:
    """Judge an adapter on rows."""
    from api.workflows.forward import judge  # noqa: PLC0415 - where torch may be

    with context.client() as client:
        origin = _origin(client, asked.source, context, 0)
    return asdict(judge(origin.path, Path(asked.base_model), Path(asked.rows)))


def verify(asked: VerifyIn, context: JobContext) -> JsonObject:
    """Read every byte of a revision or of everything; what is damaged is told, and no failure."""
    reference = Reference.parse(asked.source) if asked.source else None
    checked, damaged = 0, []
    for verdict in context.registry.verifier.verify(reference):
        checked += 1
        if not verdict.ok:
            place = f"{verdict.adapter}@{verdict.revision} {verdict.path}"
            damaged.append({"path": place, "detail": verdict.detail})
            context.log(f"damaged: {place}: {verdict.detail}")
        if checked % _REPORT_EVERY == 0:
            context.pulse.report(JobProgress(checked, None, "reading"))
    context.pulse.report(JobProgress(checked, checked, "read"))
    return {"ok": not damaged, "checked": checked, "damaged": damaged}


def gc(asked: GcIn, context: JobContext) -> JsonObject:
    """Collect garbage."""
    grace_s = DEFAULT_GRACE_S if asked.grace_s is None else asked.grace_s
    collect = context.registry.collector.collect
    report = collect(grace_s, dry_run=asked.dry_run, principal=context.job.asked_by)
    lists = {name: [str(d) for d in getattr(report, name)] for name in ("blobs", "manifests")}
    return {**asdict(report), **lists}


def noop(asked: NoopIn, context: JobContext) -> JsonObject:
    """Sleep step by step, and begin behind the last step that was done."""
    begun = json.loads(context.checkpoint() or b"0")
    for step in range(begun, asked.steps):
        time.sleep(asked.step_s)
        context.pulse.report(JobProgress(step + 1, asked.steps, "sleeping"))
        if step + 1 < asked.steps:
            context.save_checkpoint(json.dumps(step + 1).encode())
    return {"steps": asked.steps, "begun_at": begun, "gpus": list(visible_gpus())}


def _origin(client: HubClient, text: str, context: JobContext, number: int) -> Origin:
    from api.workflows.compress import fetch_origin  # noqa: PLC0415 - NumPy

    reference = Reference.parse(text)
    return fetch_origin(
        client,
        reference,
        context.folder / f"source-{number}" / reference.adapter.name,
        cache_dir=context.cache_dir,
        progress=context,
    )
