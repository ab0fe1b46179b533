"""Plan a job when it is asked for: whose it is, what right it needs, which revisions it means.

Names are resolved to digests here, so that every attempt works on the same bytes. A job that
touches one namespace belongs to it; one that touches more belongs to all of them, `*`, and only who
may read everything sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from api.hub.rights import demand
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
from api.schemas_requests import RequestBody
from registry.catalog.errors import AdapterNotFoundError
from registry.catalog.values import AdapterQuery, AdapterRecord, Role
from registry.refs import DEFAULT_BRANCH, AdapterName, Reference
from registry.service import Registry
from registry.tokens import EVERYTHING, Principal
from registry.validation.adapter_summary import Kind

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """Say what becomes of a request.

    Attributes:
        namespace: whose the job is, or `*`.
        parameters: frozen ones.
        children: those of the jobs of a map, each with its namespace.
    """

    namespace: str
    parameters: RequestBody
    children: tuple[tuple[str, RequestBody], ...] = ()


@dataclass(frozen=True, slots=True)
class Asking:
    """Be somebody who asks a registry for a job."""

    registry: Registry
    principal: Principal

    def source(self, text: str) -> Reference:
        """Return the revision that a text means, by its digest.

        Raises:
            ValidationError: it is no reference.
            NotFoundError: there is no such revision, or none that may be read.
        """
        reference = Reference.parse(text)
        if not self.principal.may(Role.READ, reference.adapter.namespace):
            raise AdapterNotFoundError(reference.adapter)
        found = self.registry.adapters.resolve(reference)
        return Reference(reference.adapter, digest=found.digest)

    def target(self, text: str) -> Reference:
        """Return where a result goes, if the caller may write there.

        Raises:
            ValidationError: it is no adapter and branch.
            AdapterNotFoundError: the caller may not even read there.
            PermissionDeniedError: the caller may not write there.
        """
        reference = Reference.parse(text)
        if reference.digest is not None:
            raise JobRequestError(
                "a result cannot be published under a digest",
                field="target",
                expected="namespace/name[:branch]",
                actual=text[:200],
            )
        if not self.principal.may(Role.READ, reference.adapter.namespace):
            raise AdapterNotFoundError(reference.adapter)
        demand(self.principal, reference.adapter.namespace, Role.WRITE)
        return reference

    def demand(self, namespace: str, role: Role = Role.WRITE) -> None:
        """Let pass only who has a role in a namespace.

        Raises:
            PermissionDeniedError: the caller has not.
        """
        demand(self.principal, namespace, role)


def plan_compress(asked: CompressIn, asking: Asking) -> Plan:
    """Plan to compress one adapter, or all of a base model."""
    method_of(asked.how)  # refuses what the method does not take, now and not in an hour
    if asked.base_model is not None:
        return _plan_library(asked, asked.base_model, asking)
    if asked.source is None or asked.target is None or asked.namespace is not None:
        raise JobRequestError(
            "say what to compress",
            field="source",
            expected="source and target, or base_model",
            actual="neither",
        )
    source, target = asking.source(asked.source), asking.target(asked.target)
    frozen = asked.model_copy(update={"source": str(source), "target": str(target)})
    return Plan(_namespace([source, target]), frozen)


def _plan_library(asked: CompressIn, base: str, asking: Asking) -> Plan:
    """Plan one job for every adapter of a base that is not compressed yet."""
    if asked.source is not None or asked.target is not None:
        raise JobRequestError(
            "source and target are those of one adapter",
            field="base_model",
            expected="base_model alone, or with namespace",
            actual="both",
        )
    children: list[tuple[str, RequestBody]] = []
    for record, digest in _heads(asked, base, asking):
        name = record.name
        if not asking.principal.may(Role.WRITE, name.namespace):
            continue
        target = AdapterName.parse(f"{name}{asked.suffix}")
        one = CompressIn(
            source=f"{name}@{digest}", target=str(target), how=asked.how, message=asked.message
        )
        children.append((name.namespace, one))
    if not children:
        raise JobRequestError(
            f"there is nothing to compress of base model {base[:100]!r}",
            field="base_model",
            expected="a base model with adapters that compress, where you may write",
            actual=base[:100],
        )
    spaces = {namespace for namespace, _ in children}
    namespace = asked.namespace or (spaces.pop() if len(spaces) == 1 else EVERYTHING)
    return Plan(namespace, asked, tuple(children))


def _heads(asked: CompressIn, base: str, asking: Asking) -> Iterator[tuple[AdapterRecord, str]]:
    cursor: str | None = None
    while True:
        query = AdapterQuery(
            readable=asking.principal.readable,
            namespace=asked.namespace,
            base=base,
            cursor=cursor,
            limit=_PAGE,
        )
        page = asking.registry.adapters.list(query)
        for record in page.items:
            heads = [ref.digest for ref in record.branches if ref.name == DEFAULT_BRANCH]
            for digest in heads:
                found = asking.registry.adapters.resolve(Reference(record.name, digest=digest))
                config = found.manifest.config
                whole = config.kind == Kind.FULL_MODEL
                if config.compressible and config.encoding != "tern" and not whole:
                    yield record, str(digest)
        cursor = page.next_cursor
        if cursor is None:
            return


def plan_merge(asked: MergeIn, asking: Asking) -> Plan:
    """Plan to merge."""
    if asked.weights is not None and len(asked.weights) != len(asked.sources):
        raise JobRequestError(
            "every source needs a weight, or none",
            field="weights",
            expected=f"{len(asked.sources)} weights",
            actual=str(len(asked.weights)),
        )
    recipe_of(asked)  # refuses what the method does not take, now and not in an hour
    sources = [asking.source(text) for text in asked.sources]
    target = asking.target(asked.target)
    frozen = asked.model_copy(
        update={"sources": [str(source) for source in sources], "target": str(target)}
    )
    return Plan(_namespace([*sources, target]), frozen)


def plan_similar(asked: SimilarIn, asking: Asking) -> Plan:
    """Plan to compare, within one namespace unless the caller may read all of them.

    Who may see a job may see what came of it, so it must not tell of namespaces beyond its own.
    """
    if (asked.source is None) == (asked.base_model is None):
        raise JobRequestError(
            "say what to compare",
            field="source",
            expected="source or base_model, one of them",
            actual="neither" if asked.source is None else "both",
        )
    readable = asking.principal.readable
    source = asking.source(asked.source) if asked.source is not None else None
    namespace = asked.namespace
    if namespace is None and readable is not None:
        own = sorted(readable)
        if source is None and len(own) != 1:
            raise JobRequestError(
                "name a namespace to compare in",
                field="namespace",
                expected="one of those that you may read",
                actual="none",
            )
        namespace = source.adapter.namespace if source is not None else own[0]
    if source is None:
        asking.registry.bases.get(asked.base_model or "", readable=readable)
    elif namespace not in {None, source.adapter.namespace}:
        asking.demand(EVERYTHING, Role.READ)
    if namespace is not None:
        asking.demand(namespace, Role.READ)
    inside = source is None or source.adapter.namespace == namespace
    frozen = {"source": str(source) if source else None, "namespace": namespace}
    owner = namespace if namespace is not None and inside else EVERYTHING
    return Plan(owner, asked.model_copy(update=frozen))


def plan_evaluate(asked: EvaluateIn, asking: Asking) -> Plan:
    """Plan to judge; who names files on the worker's machine administers the hub."""
    source = asking.source(asked.source)
    asking.demand(EVERYTHING, Role.ADMIN)
    return Plan(source.adapter.namespace, asked.model_copy(update={"source": str(source)}))


def plan_verify(asked: VerifyIn, asking: Asking) -> Plan:
    """Plan to read every byte of a revision, or of everything."""
    if asked.source is None:
        asking.demand(EVERYTHING, Role.ADMIN)
        return Plan(EVERYTHING, asked)
    source = asking.source(asked.source)
    return Plan(source.adapter.namespace, asked.model_copy(update={"source": str(source)}))


def plan_gc(asked: GcIn, asking: Asking) -> Plan:
    """Plan to collect garbage."""
    asking.demand(EVERYTHING, Role.ADMIN)
    return Plan(EVERYTHING, asked)


def plan_noop(asked: NoopIn, asking: Asking) -> Plan:
    """Plan to do nothing."""
    del asking
    return Plan(asked.namespace, asked)


def _namespace(references: Iterable[Reference]) -> str:
    names = {reference.adapter.namespace for reference in references}
    return names.pop() if len(names) == 1 else EVERYTHING
