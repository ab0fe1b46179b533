"""Do anything to a registry, in any order: a rebuild from its store tells the same."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.clock import utc_now
from registry.errors import ConflictError, NotFoundError, ValidationError
from registry.refs import AdapterName, Reference, RefKind
from registry.service import Registry
from tests.registry_kit import Place, adapter_files, push, snapshot

NAMES = st.sampled_from(["team/x", "team/y", "ann/x"])
REFS = st.sampled_from(["main", "dev", "v1"])
BASES = st.sampled_from([None, "tiny", "org/other", "Tiny", "nick"])
STEPS = st.one_of(
    st.tuples(st.just("push"), NAMES, REFS, BASES, st.integers(0, 3)),
    st.tuples(st.just("tag"), NAMES, REFS, REFS),
    st.tuples(st.just("branch"), NAMES, REFS, REFS),
    st.tuples(st.just("drop"), NAMES, REFS, st.sampled_from(RefKind)),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("register"), BASES, BASES),
    st.tuples(st.just("collect")),
)


def do(registry: Registry, place: Place, step: tuple[object, ...]) -> None:
    """Take one step, if it is possible."""
    match step:
        case ("push", str(name), str(branch), base, int(seed)):
            files = adapter_files(seed, base=str(base) if base else None)
            push(registry, name, files, branch=branch)
        case ("tag", str(name), str(ref), str(tag)):
            registry.adapters.tag(Reference(AdapterName.parse(name), ref), tag)
        case ("branch", str(name), str(ref), str(branch)):
            registry.adapters.branch(Reference(AdapterName.parse(name), ref), branch)
        case ("drop", str(name), str(ref), RefKind() as kind):
            registry.adapters.delete_ref(AdapterName.parse(name), kind, ref)
        case ("delete", str(name)):
            registry.adapters.delete(AdapterName.parse(name))
        case ("register", str(name), alias):
            registry.bases.register(name, aliases=[str(alias)] if alias else [])
        case ("collect",):
            place.clock.advance(100)
            registry.collector.collect(50)


@given(st.lists(STEPS, max_size=14))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_rebuild_tells_the_same(steps: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), lambda name: f"sqlite:///{folder}/{name}.sqlite")
        place.clock.now = utc_now()
        registry = place.open()
        for step in steps:
            with suppress(ConflictError, NotFoundError, ValidationError):
                do(registry, place, step)
        rebuilt = place.open("rebuilt")
        report = rebuilt.rebuilder.rebuild()
        assert report.damaged == ()
        assert snapshot(rebuilt) == snapshot(registry)
        assert not [verdict for verdict in registry.verifier.verify() if not verdict.ok]
        place.close()
