"""Ask for a job: check its kind and parameters, plan it, and queue it."""

from __future__ import annotations

from dataclasses import dataclass

from api.jobs.kinds import kind_of
from api.jobs.planning import Asking
from api.schemas_requests import RequestBody
from registry.catalog.values import Role
from registry.jobs.values import Job, JsonObject, NewJob
from registry.service import Registry
from registry.tokens import Principal


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Ask for a job.

    Attributes:
        kind: a row of the table of kinds.
        parameters: what the kind takes.
        key: idempotency key, or empty.
        gpus: GPUs that it needs.
        max_attempts: how often it may be begun before a death of its worker fails it.
    """

    kind: str
    parameters: JsonObject
    key: str = ""
    gpus: int = 0
    max_attempts: int = 3


def ask(registry: Registry, principal: Principal, request: JobRequest) -> tuple[Job, bool]:
    """Queue a job, or find the one that was asked for with the same key; tell whether it is new.

    Raises:
        UnknownJobKindError: there is no such kind.
        JobRequestError: the parameters are not what the kind takes.
        RegistryError: what they name is not there, or not for the caller.
        JobKeyError: the key was used before for something else.
    """
    kind = kind_of(request.kind)
    asked = kind.read(request.parameters)
    plan = kind.plan(asked, Asking(registry, principal))
    Asking(registry, principal).demand(plan.namespace, Role.WRITE)

    def new(namespace: str, parameters: RequestBody, key: str) -> NewJob:
        return NewJob(
            kind=request.kind,
            namespace=namespace,
            parameters=_frozen(parameters),
            asked=_frozen(asked),
            key=key,
            asked_by=principal.label,
            grants=dict(principal.grants),
            gpus=request.gpus,
            max_attempts=request.max_attempts,
        )

    children = [new(namespace, body, "") for namespace, body in plan.children]
    return registry.jobs.submit(new(plan.namespace, plan.parameters, request.key), children)


def _frozen(parameters: RequestBody) -> JsonObject:
    found: JsonObject = parameters.model_dump(mode="json", exclude_none=True)
    return found
