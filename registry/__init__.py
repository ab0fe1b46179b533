"""Keep adapters as immutable, content-addressed revisions.

To a registry bytes are opaque with a media type: it never imports torch. It validates what is
pushed, stores blobs by digest, moves branches by compare-and-swap and remembers lineage.
It does not compress, merge or speak HTTP. Start at `service.py`.
"""
