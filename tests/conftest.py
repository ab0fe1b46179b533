"""Share what tests in every room need: the sample material and the settings of real services."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# What is compiled when it first runs takes seconds once; no example is slow for any other reason.
settings.register_profile("ternery", deadline=None)
settings.load_profile("ternery")

if os.environ.get("ADAPTERS_TEST_DEVICE", "cpu") == "cpu":
    # Triton looks when it is first imported, which torch may do in any test, and never again.
    os.environ["TRITON_INTERPRET"] = "1"


def data_dir() -> Path:
    """Return the folder of sample adapters, tasks and models (it may not exist)."""
    return Path(
        os.environ.get("ADAPTERS_TEST_DATA", str(ROOT.parent / "shared" / "data"))
    ).resolve()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Give the folder of sample material, or skip."""
    folder = data_dir()
    if not folder.is_dir():
        pytest.skip(f"no sample material at {folder}: set ADAPTERS_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def examples() -> Path:
    """Give the two real experts that ship with the project."""
    return ROOT / "examples"
