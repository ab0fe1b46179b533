"""Take the registry's part out of a hub's settings: hub, workers and `admin` open the same."""

from __future__ import annotations

from api.settings import HubSettings
from registry.service import RegistrySettings
from registry.validation.adapter_summary import TernContent
from registry.validation.file_sources import FileSource

NO_QUOTA_BYTES = 1 << 60


def registry_settings(settings: HubSettings) -> RegistrySettings:
    """Return the registry's part of a hub's settings."""
    pepper = settings.token_pepper
    return RegistrySettings(
        data_dir=settings.data_dir,
        database_url=settings.database_url,
        store_url=settings.store,
        token_pepper=pepper.get_secret_value() if pepper else "",
        max_files=settings.max_files_per_revision,
        max_blob_bytes=settings.max_file_bytes,
        namespace_quota_bytes=settings.namespace_quota_bytes or NO_QUOTA_BYTES,
        read_tern=_read_tern,
    )


def _read_tern(source: FileSource) -> TernContent:
    """Look into a `.tern`; the codec is imported when the first one comes."""
    from api.workflows.tern_content import read_tern  # noqa: PLC0415 - see above

    return read_tern(source)
