"""Run the main job once: push, compress, merge, pull, load into PEFT, and show what it cost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.cli import output
from api.cli.output import Column
from api.cli.session import Session, command, common

if TYPE_CHECKING:
    from api.client import HubClient
    from compress import Compeft, Rd
    from registry.refs import Reference

ROOT = Path(__file__).resolve().parents[2]
DENSITIES = (0.05, 0.1, 0.2, 0.5)  # the published recipe erases modules at 0.2 and below
RATES = (0.25, 0.5, 1.0)
RATE = 0.5
WEIGHTS = (0.6, 0.4)
_MARK = ".made-by-the-tour"


@dataclass(frozen=True, slots=True)
class Row:
    """Be one line of the table at the end.

    Attributes:
        what: the artefact.
        size_bytes: its weights on disk.
        original_bytes: what they are compared with.
        bits_per_param: of its LoRA part.
        error: relative error of ΔW, or None for what is exact.
        seconds: what the step took.
    """

    what: str
    size_bytes: int
    original_bytes: int
    bits_per_param: float
    error: float | None
    seconds: float


@dataclass(slots=True)
class Tour:
    """Hold what the steps share.

    Attributes:
        client: the hub.
        place: the tour's folder.
        rows: the table so far.
        checks: what was found equal.
    """

    client: HubClient
    place: Path
    rows: list[Row] = field(default_factory=list)
    checks: list[str] = field(default_factory=list)

    def check(self, what: str, *, holds: bool) -> None:
        """Note that something is as it must be.

        Raises:
            TourError: it is not.
        """
        from api.remote.errors import TourError

        if not holds:
            raise TourError(f"this must hold and does not: {what}", hint=f"see {self.place}")
        self.checks.append(what)


@command(example="adapters tour")
@click.option(
    "--in",
    "place",
    type=click.Path(path_type=Path),
    default=Path("tour"),
    show_default=True,
    help="Folder to work in; what an earlier tour left there is replaced.",
)
@common
def tour(session: Session, *, place: Path) -> None:
    """Run the main job once, on a hub of its own.

    Two real experts are pushed, compressed, merged, pulled back and loaded into PEFT; anything that
    does not come back as it must ends the tour with an error. Needs the hub and torch extras.
    """
    from api.cli.own_hub import own_hub
    from api.client import open_client

    _clear(place)
    output.message(f"starting a hub in {place}/hub")
    with own_hub(place / "hub") as url, open_client(url) as client:
        walk = Tour(client, place)
        _walk(walk)
    if session.as_json:
        from dataclasses import asdict

        output.as_json({"rows": [asdict(row) for row in walk.rows], "checks": walk.checks})
        return
    _print(walk)


def _walk(walk: Tour) -> None:
    first, second = ROOT / "examples" / "sst2", ROOT / "examples" / "mr-rt-polarity"
    _push(walk, first, "team/sst2")
    _push(walk, second, "team/mr-rt-polarity")
    _rates(walk, first)
    _compress(walk, "team/sst2", "team/sst2-small")
    _merge(walk, ("team/sst2-small", "team/mr-rt-polarity"), "team/sentiment")
    _pull(walk, "team/sst2")
    _pull(walk, "team/sst2-small")
    _pull(walk, "team/sentiment")
    _compare(walk, first)


def _push(walk: Tour, folder: Path, name: str) -> None:
    from api.workflows.push import push

    with _timed() as clock:
        pushed = push(walk.client, folder, _reference(name))
    output.message(f"pushed      {name}@{output.short(pushed.revision.digest)}")
    size = _weights(folder)
    bits = 32.0  # examples are float32
    walk.rows.append(Row(f"{name} (as trained)", size, size, bits, None, clock.seconds))


def _rates(walk: Tour, source: Path) -> None:
    """Show what our method and the published recipe make of this adapter, rate by rate."""
    from compress import Compeft, Rd

    columns = (
        Column("method"),
        Column("bytes", right=True),
        Column("ratio", right=True),
        Column("bits/parameter", right=True),
        Column("error of ΔW", right=True),
        Column("modules erased", right=True),
        Column("seconds", right=True),
    )
    rows = [_rate_row(walk, source, f"rd-{rate:g}", Rd(bits=rate)) for rate in RATES]
    rows += [
        _rate_row(walk, source, f"compeft-{density:g}", Compeft(density=density))
        for density in DENSITIES
    ]
    if not _json_wanted():
        output.line("\nsst2 by rd at some bits, and by compeft as published at some densities:")
        output.table(columns, rows)
        output.line("")


def _rate_row(walk: Tour, source: Path, name: str, method: Compeft | Rd) -> tuple[str, ...]:
    from api.workflows.compress import CompressOptions, Origin, shrink

    with _timed() as clock:
        target = walk.place / "rates" / f"{name}.tern"
        report = shrink(Origin(source), target, options=CompressOptions(method))
    erased = f"{len(report.erased)} of {len(report.modules)}" if report.erased else "none"
    return (
        name.replace("-", " "),
        output.count(report.size.total),
        f"{report.ratio:.1f}×",
        f"{report.bits_per_param:.2f}",
        f"{report.delta_error or 0:.3f}",
        erased,
        f"{clock.seconds:.2f}",
    )


def _compress(walk: Tour, name: str, target: str) -> None:
    from api.workflows.compress import CompressOptions, compress_and_push, fetch_origin
    from compress import Rd

    with _timed() as clock:
        origin = fetch_origin(
            walk.client, _reference(name), walk.place / "origin", cache_dir=walk.place / "cache"
        )
        report, pushed = compress_and_push(
            walk.client,
            origin,
            _reference(target),
            options=CompressOptions(Rd(bits=RATE)),
        )
    output.message(f"compressed  {target}@{output.short(pushed.revision.digest)}")
    walk.check(f"no module of {target} is erased", holds=not report.erased)
    walk.rows.append(
        Row(
            f"{target} (rd at {RATE:g} bits)",
            report.size.total,
            report.source_bytes,
            report.bits_per_param,
            report.delta_error,
            clock.seconds,
        )
    )


def _merge(walk: Tour, names: tuple[str, ...], target: str) -> None:
    from api.workflows.compress import fetch_origin
    from api.workflows.merge import Made, MergeInput, combine, opened, publish
    from merge import Recipe

    place = walk.place / "merged"
    with _timed() as clock:
        origins = [
            fetch_origin(
                walk.client,
                _reference(name),
                walk.place / "inputs" / _reference(name).adapter.name,
                cache_dir=walk.place / "cache",
            )
            for name in names
        ]
        inputs = [MergeInput(o, weight) for o, weight in zip(origins, WEIGHTS, strict=True)]
        recipe = Recipe()
        with opened(inputs, walk.client) as adapters:
            report = combine(adapters, place, recipe)
        pushed = publish(
            walk.client,
            place,
            _reference(target),
            origins=origins,
            made=Made(recipe, report),
        )
    output.message(f"merged      {target}@{output.short(pushed.revision.digest)}")
    size = _weights(place)
    walk.rows.append(
        Row(f"{target} (linear, rank {report.rank})", size, size, 32.0, report.error, clock.seconds)
    )


def _pull(walk: Tour, name: str) -> None:
    from api.workflows.pull import PullOptions, pull

    target = walk.place / "pulled" / _reference(name).adapter.name
    with _timed() as clock:
        pulled = pull(
            walk.client,
            _reference(name),
            target,
            options=PullOptions(cache_dir=walk.place / "cache"),
        )
    how = "decoded on the way" if pulled.decoded else "as it is stored"
    output.message(f"pulled      {name} {how}, {output.size(pulled.fetched_bytes)} fetched")
    size = _weights(target)
    fetched = pulled.fetched_bytes
    what = f"pull of {name}, {output.size(fetched)} fetched"
    walk.rows.append(Row(what, size, size, 32.0, None, clock.seconds))


def _compare(walk: Tour, original: Path) -> None:
    """Check that everything came back, by its bytes and by what PEFT computes with it."""
    from api.cli.tour_check import logits
    from compress import decompress

    pulled = walk.place / "pulled"
    local = walk.place / "decoded-here"
    decompress(walk.place / "rates" / f"rd-{RATE:g}.tern", local)
    names = ("adapter_config.json", "adapter_model.safetensors", "README.md")
    equal = all((pulled / "sst2" / n).read_bytes() == (original / n).read_bytes() for n in names)
    walk.check("sst2 comes back byte for byte", holds=equal)
    weights = "adapter_model.safetensors"
    equal = (pulled / "sst2-small" / weights).read_bytes() == (local / weights).read_bytes()
    walk.check("the pulled sst2-small is the local decode, bit for bit", holds=equal)
    output.message("loading into PEFT …")
    base, small, decoded = logits(None), logits(pulled / "sst2-small"), logits(local)
    walk.check("PeftModel gives the logits of the local decode", holds=small == decoded)
    walk.check("and not those of the bare base model", holds=small != base)
    merged, here = logits(pulled / "sentiment"), logits(walk.place / "merged")
    walk.check("the pulled merge gives the logits of the local merge", holds=merged == here)


def _print(walk: Tour) -> None:
    columns = (
        Column("adapter"),
        Column("bytes", right=True),
        Column("ratio", right=True),
        Column("bits/parameter", right=True),
        Column("error of ΔW", right=True),
        Column("seconds", right=True),
    )
    rows = [
        (
            row.what,
            output.count(row.size_bytes),
            f"{row.original_bytes / row.size_bytes:.1f}×",
            f"{row.bits_per_param:.2f}",
            "–" if row.error is None else f"{row.error:.3f}",
            f"{row.seconds:.2f}",
        )
        for row in walk.rows
    ]
    output.line("")
    output.table(columns, rows)
    output.line("")
    for text in walk.checks:
        output.line(f"ok  {text}")


def _clear(place: Path) -> None:
    """Remove what an earlier tour left, and nothing else.

    Raises:
        TourError: somebody else's files are there.
    """
    from api.remote.errors import TourError

    if place.exists() and any(place.iterdir()) and not (place / _MARK).is_file():
        raise TourError(f"{place} is not empty and no tour made it", hint="choose another --in")
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    (place / _MARK).touch()


@dataclass(slots=True)
class _Clock:
    seconds: float = 0.0


@contextmanager
def _timed() -> Iterator[_Clock]:
    clock = _Clock()
    began = time.perf_counter()
    yield clock
    clock.seconds = time.perf_counter() - began


def _json_wanted() -> bool:
    return bool(click.get_current_context().params.get("as_json"))


def _reference(name: str) -> Reference:
    from registry.refs import Reference

    return Reference.parse(name)


def _weights(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
