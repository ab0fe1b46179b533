"""Pin version 1 of the `.tern` format: a file once written decodes to the same for ever."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from compress import decompress, inspect
from compress.container_read import TernFile

#: Two layers of LoRA (A float32, B float16), a head and an integer tensor, with a config;
#: density 0.3, alpha 2, scope factor.
FILE = base64.b85decode(
    "paB2?00000dm>+7ZDn*}WMOn+Utc0Rdm?6Ua&2LBB03^;WpZvJEFyMga&u{KZX!A&F(ND?ZDn+5Z)74mB4clDaAj"
    "t6A}k_gWo~n6ba^5=A}}s9A}k_dY;b5{B03^6A}k_vV{dR}B03^wVPkY}aw04ub8mHWV`X1+XkjunHX=GAW;JFrI"
    "WsgiVP!TlW;bPGGch$eGiGHqV>V+rG&yBBWo0=tHexw6Vr4KmGdD3gGGbylW-~Z7I5an8G%+?fA}k_gWo&d|UuAM"
    "~Z*n3!A~7y7H#8zFB4u)6b7f>AIwCS6eJmnrZe(S6B075_WOR9OWg<EvRX8FnB6DbAaAhJoTQM^>T`VGGVRT_%Z)"
    "Rq5Wpr~QI$JO-F*7z@eJmn$a%psPB075_WOR9OWg<EvRX8FnB6DbAaAhJoTQ)ddEFxrKbYWj_W@d9`baNs)TQM^>"
    "EHW@OU41MfWq4s@bRs%?B4l)VaAhJoB2_pdEFyDgVQ^(4I$Jg|T`VGGVRT_%Z)Rq5Wpr~QI$JU@G%PYUHC=suARr"
    "(hhmx?QG^kZ(d+-ejVbY>@OYN&sUcU90Uf}sP3HqY@W01tz#9^z&XguL<t>*xnQv^HbNQ!Vb@rp}Q3yK+;m>3zD7"
    "?=bF1$lWzm_UG$iJ6Iqi3f<7m>5`CI5-%Xa)f4toO=G+-Y97$Qvlm@dj<vuMn(n({c3E<4w8C|bkH)WNi7!uABEg"
    "GU;qFB2mlNK4gdlG00960wr$(CNs<5nk|btkoQK~Ernqkfhpn;zq3$05GqcA@AnDrz>zdC4n$tT0p5ur<QF-$&1O"
    "XTT000#L004NLV_-l64Gazq3mEL|fdBv#<O3TOBkwZ^0T2KH01N;C0C=2Z|IdH|0YE?q00"
)
CONFIG = b'{"peft_type": "LORA", "r": 2, "lora_alpha": 4}\n'
P = "base_model.model."
SIGNS = {
    "l.0.q.lora_A.weight": "0000000000-00+00--0++0--",
    "l.0.q.lora_B.weight": "00+0000-00-00-0000+00+00",
    "l.1.q.lora_A.weight": "00000000000-00-00-0+-0+-",
    "l.1.q.lora_B.weight": "-+-000000000000000+-+-+-",
}
VALUES = {"A": 0.8720447421073914, "B": 0.7197265625}


@pytest.fixture
def tern(tmp_path: Path) -> Path:
    """Write the file."""
    path = tmp_path / "golden.tern"
    path.write_bytes(FILE)
    return path


def test_the_file_decodes_to_the_same_values(tern: Path, tmp_path: Path) -> None:
    decompress(tern, tmp_path / "out")
    back = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert len(back) == 6
    for name, signs in SIGNS.items():
        factor = name.split(".")[-2][-1]
        value = back[P + name]
        assert value.dtype == (np.float32 if factor == "A" else np.float16)
        assert value.shape == ((2, 12) if factor == "A" else (12, 2))
        expected = np.array(["-0+".index(sign) - 1 for sign in signs]) * VALUES[factor]
        np.testing.assert_array_equal(value.ravel().astype(np.float64), expected)
    assert back[P + "head.weight"].tolist() == [[0, 0.25, 0.5], [0.75, 1, 1.25]]
    assert back[P + "head.weight"].dtype == np.float32
    assert back[P + "steps"].tolist() == [7, -1]
    assert back[P + "steps"].dtype == np.int64
    assert (tmp_path / "out" / "adapter_config.json").read_bytes() == CONFIG


def test_the_file_says_the_same_about_itself(tern: Path) -> None:
    with TernFile(tern) as opened:
        assert opened.index.scales == (0.8720447208621187, 0.7195205738053743)
        assert opened.index.metadata == {"format": "pt"}
        assert {t.info.name.removeprefix(P) for t in opened.index.coded} == set(SIGNS)
    found = inspect(tern)
    assert found.properties["version"] == "1"
    assert found.properties["density"] == "0.3"
    assert found.properties["alpha"] == "2"
    assert found.properties["scope"] == "factor"
    assert found.nonzero == sum(len(signs) - signs.count("0") for signs in SIGNS.values())
    assert [row.scale for row in found.modules] == [2.0, 2.0]
