"""Write the `.tern` file of the method `lossless`: an index and the exact part."""

from __future__ import annotations

from pathlib import Path

from compress import container
from compress.container import Index, Stored, in_table_order
from compress.container_write import TernWriter
from compress.job import Job, Measured, copy_exact, metadata
from compress.result import Written


def write(job: Job, path: Path) -> Written:
    """Keep every tensor of a job exactly."""
    source = job.source
    index = Index(
        kind=source.kind,
        weights_name=source.weights_name,
        config=source.config,
        metadata=dict(source.weights.metadata),
        scales=(),
        tensors=in_table_order(Stored(info) for info in source.weights.tensors.values()),
    )
    measured = Measured((), None, None, job.vector.size)
    with TernWriter(path) as writer:
        copy_exact(job, index.exact, writer)
        sizes = writer.finish(index, metadata(job, container.LOSSLESS, {}, measured))
    return Written(container.LOSSLESS, {}, measured, sizes, 0.0)
