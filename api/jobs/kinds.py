"""List the kinds of jobs: one row each. A new kind is a body, a plan, a function and a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError as BodyError

from api.jobs import planning, work
from api.jobs.context import JobContext
from api.jobs.errors import JobRequestError, UnknownJobKindError
from api.jobs.parameters import (
    CompressIn,
    EvaluateIn,
    GcIn,
    MergeIn,
    NoopIn,
    SimilarIn,
    VerifyIn,
)
from api.jobs.planning import Asking, Plan
from api.schemas_requests import RequestBody
from registry.jobs.values import JsonObject

P = TypeVar("P", bound=RequestBody)


@dataclass(frozen=True, slots=True)
class Kind(Generic[P]):
    """Be one kind of job.

    Attributes:
        summary: what it does, for people.
        parameters: what it takes.
        plan: decides, when it is asked for, whose it is and what it works on.
        run: does it, in a process of its own; what it returns is the job's outcome.
    """

    summary: str
    parameters: type[P]
    plan: Callable[[P, Asking], Plan]
    run: Callable[[P, JobContext], JsonObject | None]

    def read(self, parameters: JsonObject) -> P:
        """Return parameters once they are what this kind takes.

        Raises:
            JobRequestError: they are not.
        """
        try:
            return self.parameters.model_validate(parameters)
        except BodyError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])[:200]
            raise JobRequestError(
                f"parameters.{field}: {first['msg']}"[:500],
                field=f"parameters.{field}",
                expected=str(first["msg"])[:500],
            ) from error


KINDS: Mapping[str, Kind[Any]] = {
    "compress": Kind(
        "Compress an adapter, or all of a base model.",
        CompressIn,
        planning.plan_compress,
        work.compress,
    ),
    "merge": Kind("Merge adapters into one.", MergeIn, planning.plan_merge, work.merge),
    "similar": Kind(
        "Find experts that are alike, without decoding them.",
        SimilarIn,
        planning.plan_similar,
        work.similar,
    ),
    "evaluate": Kind(
        "Judge an adapter on rows.", EvaluateIn, planning.plan_evaluate, work.evaluate
    ),
    "verify": Kind(
        "Read every byte and check its digest.", VerifyIn, planning.plan_verify, work.verify
    ),
    "gc": Kind("Remove what no ref reaches.", GcIn, planning.plan_gc, work.gc),
    "noop": Kind(
        "Do nothing for a while, to test the queue.", NoopIn, planning.plan_noop, work.noop
    ),
}


def kind_of(name: str) -> Kind[Any]:
    """Return a row of the table.

    Raises:
        UnknownJobKindError: there is none of this name.
    """
    if name not in KINDS:
        raise UnknownJobKindError(name, KINDS)
    return KINDS[name]
