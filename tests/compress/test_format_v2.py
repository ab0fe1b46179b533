"""Pin version 2 of the `.tern` format: grouped segments, once written, decode to the same for ever.

What version 1 holds is pinned in `test_format_v1.py`, and version 2 holds it too.
"""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from compress import Compeft, compress_adapter, decompress, entropy, inspect, ternary

#: A grouped segment of 40 lanes, so of two groups, and the symbols that it holds.
SEGMENT = base64.b85decode(
    "v2y>BiUI%tC;*HA4ge(p00635|Ih#b08juhs|t8~Z5h%Ds{p|bCt(f%b&~@C@N*piVTR}g*yY*-I#L4wT8o+j(PRz)+="
    "eBMVDR<;OV9-XXE*@>qH#0;S$*UJ53X|n>4Fge4}O9G3uFZV9_>v4k0%8H8lLh6$BhL5e^&?qO4t`_=UM{*Mz#R}yIuw"
    "WkTeDW>`Dg!k+cB-uPz1vaVHS~fQ!KzUHs;kr@S8knZ*<UL{b3&<N=Wa9{>OV1^@s6!Vcq7op*??pJ-lkAM}Q!5{e~Du"
    "63WxWA%=AREVtcyI%koZ#qK7gx0s<N2;2kLe8Jf(hS_iU7{bZ#1E|{x&T(b+$*GTuf_"
)
SYMBOLS = base64.b85decode(
    "dLJiUUUqXagKc;Y4S6V{!BN3pn|Z^xd3l0%%4dRS%6Wy9lyNaCpFqk^d2)HmD|vb}UtJx1M1pj2lyIzhcglGv<#>H?al"
    "d(ZAIXazb{~1K8GJN(D1vx`dMC#^uXdGnVcBz(G+pL*CzZ=^D|dO69LsrsuPDmId4c75k(2"
)


def test_a_grouped_segment_decodes_to_the_same_trits() -> None:
    head = entropy.read_head(SEGMENT)
    assert (head.trits, head.lanes, head.groups, head.grouped) == (650, 40, 2, True)
    assert SEGMENT[10] & 0x80
    trits = entropy.decode_segment(SEGMENT)
    assert ternary.pack(trits).tobytes() == SYMBOLS


def test_a_file_is_written_as_version_2(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {
        f"base_model.model.l.{layer}.q.lora_{factor}.weight": rng.normal(size=shape).astype("f4")
        for layer in range(2)
        for factor, shape in (("A", (4, 50)), ("B", (50, 4)))
    }
    source = tmp_path / "source"
    source.mkdir()
    save_file(weights, source / "adapter_model.safetensors", metadata={"format": "pt"})
    config = '{"peft_type": "LORA", "r": 4, "lora_alpha": 4}'
    (source / "adapter_config.json").write_text(config)
    compress_adapter(source, tmp_path / "x.tern", method=Compeft(density=0.3))
    with safe_open(tmp_path / "x.tern", "numpy") as opened:
        assert opened.metadata()["version"] == "2"
    assert inspect(tmp_path / "x.tern").properties["version"] == "2"
    decompress(tmp_path / "x.tern", tmp_path / "out")
    assert (tmp_path / "out" / "adapter_config.json").read_text() == config
