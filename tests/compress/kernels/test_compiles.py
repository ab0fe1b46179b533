"""Compile every kernel for real GPUs: the interpreter accepts what the compiler does not.

No device is needed. What a launch would choose (types of pointers, alignment, a count of one) is
listed here for every kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import compress
from compress.kernels import planes

ROOT = Path(compress.__file__).resolve().parent.parent
FLOATS = [
    ("i32", 0x7FFFFFFF, 0x7F800000, 0),
    ("i16", 0x7FFF, 0x7F80, 1),
    ("i16", 0x7FFF, 0x7C00, 2),
]
DECODE = (
    "entropy._decode_groups",
    "plan:*i64 states:*i32 words:*i16 slots:*u8 entries:*i32 symbols:*u8 faults:*i32",
)
PLANES = (
    "planes._decode_groups",
    "plan:*i64 states:*i32 words:*i16 tables:*i64 classes:*i32 levels:*i32 faults:*i32",
)
TRELLIS = {"low": 65536, "slot_bits": 12, "after_even": planes._AFTER_EVEN}
RECORDS = "levels:*i16 sources:*i64 factors:*fp32 table:*i64"
COUNTERS = " shift:i32 bins:i32 copies:i32"
LEVELS = "count:i32 low:i32 present:i32"
CASES: list[tuple[str, str, dict[str, int]]] = [
    *[(*DECODE, {"low": 65536, "block": block}) for block in (32, 128, 8192)],
    *[
        (*PLANES, {**TRELLIS, "finest": finest, "block": block})
        for finest in (0, 1)
        for block in (32, 128, 8192)
    ],
    ("layer_masks._split", "values:*i16 bits:*i32 count:i32 words:i32", {"planes": 3, "block": 64}),
    (
        "masks._pack",
        "symbols:*u8 spans:*i64 planes:*i32 words:i32",
        {"block": 128},
    ),
]
for pointer, magnitude, infinity, code in FLOATS:
    CASES += [
        (
            "sparsify._count_digits",
            f"bits:*{pointer} below:*i32 histogram:*i32 count:i32 low:i32 high:i32" + COUNTERS,
            {"magnitude": magnitude, "block": 4096},
        ),
        (
            "moments._measure",
            f"bits:*{pointer} partial:*fp64 count:i32",
            {"kind": code, "block": 4096},
        ),
        (
            "ternary._ternarise_pack",
            f"bits:*{pointer} symbols:*u8 histogram:*i32 count:i32 threshold:i32 end:i32",
            {"magnitude": magnitude, "infinity": infinity, "block": 1024},
        ),
        *(
            (
                "centroids._sum_levels",
                f"levels:*{level} bits:*{pointer} sums:*fp64 counts:*i32 " + LEVELS,
                {"kind": code, "block": 4096},
            )
            for level in ("i8", "i16")
        ),
        (
            "restore._expand",
            f"symbols:*i64 spans:*i64 patterns:*{pointer} values:*i32",
            {"size_bytes": int(pointer[1:]) // 8, "block": 256},
        ),
        (
            "factors._write_rows",
            f"{RECORDS} values:*{pointer} faults:*i32",
            {
                "kind": code,
                "magnitude": magnitude,
                "infinity": infinity,
                "multiple": 8 if pointer == "i16" else 1,
                "block": 1024,
            },
        ),
        *(
            (
                "factors._write_columns",
                f"{RECORDS} values:*{pointer} faults:*i32",
                {
                    "kind": code,
                    "magnitude": magnitude,
                    "infinity": infinity,
                    "multiple": multiple,
                    "width": width,
                    "whole": multiple > 1,
                    "block": 256,
                },
            )
            for multiple, width in ((1, 1), (8, 16), (8, 64))
        ),
        (
            "ternary._count_ties",
            f"bits:*{pointer} found:*i32 count:i32 threshold:i32",
            {"magnitude": magnitude, "block": 4096},
        ),
    ]

COMPILE = """
import importlib, json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

for name, signature, constants in json.loads(sys.argv[1]):
    module, _, function = name.partition(".")
    kernel = getattr(importlib.import_module("compress.kernels." + module), function)
    for one in (False, True):
        types = dict(part.split(":") for part in signature.split()) | dict.fromkeys(
            constants, "constexpr"
        )
        values = dict(constants)
        if one:
            if types.get("count") != "i32" or function == "_count_digits":
                continue
            types["count"], values["count"] = "constexpr", 1
        at = kernel.arg_names.index
        source = ASTSource(
            fn=kernel,
            signature={key: types[key] for key in kernel.arg_names},
            constexprs={(at(key),): value for key, value in values.items()},
            attrs={
                (at(key),): [["tt.divisibility", 16]]
                for key, kind in types.items()
                if kind.startswith("*")
            },
        )
        done = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[2]), 32))
        assert done.asm["cubin"], name
        print(name, one)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton compiles on Linux only")
@pytest.mark.parametrize("architecture", [90])
def test_every_kernel_compiles(architecture: int, tmp_path: Path) -> None:
    import json

    environment = dict(os.environ) | {"TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, json.dumps(CASES), str(architecture)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) > len(CASES)


def test_no_kernel_is_left_out() -> None:
    """Every function that a launcher starts is listed above."""
    import re

    launched = set()
    for path in (ROOT / "compress" / "kernels").glob("*.py"):
        launched |= {
            f"{path.stem}.{name}"
            for name in re.findall(r"^\s+(_\w+)\[\(", path.read_text(), re.MULTILINE)
        }
    assert launched == {name for name, _, _ in CASES}
