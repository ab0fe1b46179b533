"""Pin files of the methods rd and lossless: once written they decode to the same for ever.

`golden.py` wrote them and their digests; what the values should be is worked out from its tensors.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from compress import decompress, inspect
from compress.tensor_file import TensorFile
from tests.compress.rate_distortion import golden, made

#: Rank 3 in two modules, float32 and bfloat16, a head of float16 in four bits; three layers.
LAYERED = base64.b85decode(
    "*Z}|l00000dm>+7ZDn*}WMOn+Utc0Rdm?6Ua&2LBB03^;WpZvJEFyMga&u{KZX!A&G9oM@ZDn+5Z)74mB64IREFxiZYh"
    "`3#Y+-q2a&sa&A~PZ^B6D<Qa3VS)FfK4PIWRFZGa@V^Xk}q!b0Rt-X>N2hA}k_vZ*_8GWnXh>VKOx~B03^sWHDkmFlJ("
    "5G%+_}HZ(b6I5{^lHa227WMeflVKg%{HDokqVm3B2H)b+7WHUBmHfCfrHZ^55WH4r7W;rq<EFxrOY;<8?WpZ+Faw0k+F"
    "fKAMIU;>5B57`9Wq2Ywdm?0Xd2nSSIwDm#A}k_vXkl<=B05_#H8x!=B4lB7VP9`%W^-k9b0RuhFf1}PHeG!zB4v1CV{{"
    "@qdm?0Xd2nSSIwDm#A}k_vXkl<=B05_#HeD<tWMOn+UvFk+b7gdMB05_#H8w0VI5J&*EFx%SVPtb6I(s5yba`-PB03^f"
    "I3g?}b7*03Wg<FTHZwR~EFxrKbYWj_W@d9`baNs)TQWE@EIBeTU41MfY+-q2a&sa&dm?0Xd2nSSIwDm#A}k_vXkl<=B0"
    "5_!H!)o-B4lB7VP9`%W^-k9b0RuhIWjOTF)%qXU44BZARr(h@@az6qniEXW5Dr6K^mK;ZJ}Fn841t*<gc5R@DmqxW01t"
    "z#9`}T#B8y{+D!y|;pi%z$m}B&m!uXHGchqTGB7bP2?`4G@rp2k03)*mvxEq<2(y426AKFmhX4a30~ma;XJBB8j%CQI#"
    "+LFR3CLInEsvV%U`r*yIy_bfZ}C}@nOCV)+q&jT^nbH?_5utrConQeGK<(a_4{YqpZNCAj*%_QPI=*<tFvP=j;^ke^sf"
    "#vad`OYLEwkI>nfjS9Sf0bnWwsa>ko?^y_Pv#fos=3-Ncy4wB60)wN;=akMAA+4$DRT-*(*JqI74M^4i0FE1b7HIF<|m"
    "6(jF62mufP000aC004NLWB<>90s%lk2ml?dpC<%h1ONa40001f0ssI20000KKtXi=|0Vzc05t*t003}sad2>OaB*>PaB"
    "y&Oad2>O0I;qiuCB1KA|kG^u&yE^u&}TJ0R;dA0RR9G0At|$|NZmFPah%Z%a8v6z~?FfAFVwABF{AdpU9B`h@&+ChhZ#"
    "L317~Ok&|`BtZJdv7gQ{1ci^HF&6yG||GW7mCToeV!-c_5j{SY=6Oq(pXlsrN`VPigOC@(fOTJ$k{)7c^yG2G6-+}D9n"
    "V)g;_)+TS!A*oYl+^+xMPX=`?E0e~6;cKFd5h1DJIS)#haVp_KoVU4OdKQNJBLCZ97)IwlHIeIXw>FGay^=tkFpm*{e~"
    "hCbP`<btu5cMu_vT+W`Z~u`D|Y@jT0T15FJf_d+7O28(5AryG+;aQv&KzLTtugvsjYuQ%o(WsS~j;6HGB@buwBwMaG`M"
    "lSnZyJu^1&p}zgAieYquzDEB5&a+q;_pN8}n&gGK1um3}r_HW<v~|0odZffzFH!$=eR_r4yPD~)zS`flF~RZ=D9RPJwX"
    "vtPIw2&Eq?$IudZcx#ELG+}@brCpT=YWlZROO;VXjfO4?Jw2V`{qO=<cb3_C=g8;98W%5}ff5bUHv~Y>fEN8);+^H@lA"
    "$K(-AGM9wQUH$mM08o8f=tmVXrjY8~^O19Pe0|Qg{n4Kc&6IKa*u*ZLcrjfO4X!C;Sa2?4m>WJI8J}f=`AeaYp2`>%(9"
    "Vf<e?;@`Nxrol+T3oYY;~_Of@U1v4Aj6$zRM4AaZfLf>%`v|-6zNX?No^?p!cd#S91o8i>=QT{CJq>_aL1=_T^oDmN$}"
    "v)c-muP7GP##VCG=tVP$4!W@2Ij00PYbM@varP5}S|0000lXCnYQ|DPwuhi76?OGI^-TyvCOZe?Ks01^NI01dC61_23?"
    "&(Nvr3(j2=1=<v_xox2)o17(ha%*Wy;rkR{K9kZ<-FkVBXp3!gaf@SzUT}V!NN;+YPj7pdTmb+O0000fMFRlP6D_`C*!"
    "z0|tC`}CzJpj=-i8~w+rK1<oH?S>au>`"
)
#: By number of layers, sha256 of the decoded weights.
LAYERED_DIGESTS = [
    "be0249354ccd51b700b7e5528cd0eb9e40033a8d37bf7a0c46b3aca174288b80",
    "faae629e0f6b833282ffd6a7a847bd76a7975d88fdf069dc84c6939d4aa22d82",
    "b9fe6ca6890745fd564aa00555991282cfc5b1ec942a99d5bfc657f0e4c4b44c",
]
LOSSLESS = base64.b85decode(
    "7y$qP00000dm>+7ZDn*}WMOn+Utc0Rdm?6Ua&2LBB03^;WpZvJEFyMga&u{KZX!A&G9oM@ZDn+5Z)74mB5ZGSb8KaEb0"
    "RDvb8mHWV`X1+XkjunHX=GAVq`I5I51{nVKgx}VKy{5VmLWBF*Y`0IAmirGGR0`Gc{y1W@0urGdE^3H)Jz5Vm4-EG&VJ"
    "5G-NPlVP-ipB7H0(X>Md?cp^G`B4l)VaAhJoB2_pdEFyDgVQ^(4I$JR^GhHkqWMOn+UvFk+b7gdMB05_zEHN@OU41MfW"
    "q4s@bRs%?B4l)VaAhJoB2_pdEFyDgVQ^(4I$JR~H!@u;B4lB7VP9`%W^-k9b0RuhF)}kOF*!LkU44BZARr(hL&Y911X`"
    "@=2^{(Yd8c*Acy1l<aU3K<_~#09z_C6_W01tz#9`}T#B8y{+D!y|;pi%z$m}B&m!uXHGchqTGB7bP2?`4G@rp2k03)*m"
    "vxEq<2(y4269W`vRbxwRkTheggO)ALbg(51V6`2qgSW&i$;_)%ss#XV=J!DY0XPW&067Ez0C=43(p^kbXBfco4pJ`&bS"
    "@a|GzK%F_yLweq3wCk3HwNpL<c4WHcN3AT(x&(xR!)8`)DaN#2{5-VsYry7AR;Dp*`;b617Xkx|Yl>6*e3u1Stc;Kn;|"
    "_4(CvI=s8OkuXp#ndH*-hFV80{U&T4h7fP=x6H97;j{mIl{OJ!GKdetowEUVC898UHzm#w;>Cii)7w2c%g?mmM`XX})d"
    "Cw_KyQKOhp9c#K0*CJ7&}Aj>q<c<!#Tn--b~bnl(0#V@l4-4)hmI|XhWcM8m)RQpvYGU2xs_Apx{b{6qHq$1DpYO0p!k"
    "f$x?A%?YT7uke<>k;c;b4MrC~C|i?%+~P9(RkCxKUM=?_Okn#RuARC!Ue#W=orb3LqjGhgKONUHUZms9Me=2I=fKwo6M"
    "Zsobg=hA6w<|2Z<XAQf)f7)|DOjuV(n*v?KdbNqqH>vf*U4f?2RVxv`-}Ch9F2h-&Ao6F8R_F3*p0Cu6NBRQ6mQ&_Zd&"
    "=^NzFOk(7R|p=h1YK`jvFk^MT*qfjz-PQ=)?52S0HJ<HF-k&tQCEfF=?_?U7r|^PgvT2V8bMRq1kPfoDl~{+Ef)G_=j+"
    "DHFHB(K2@1}EqzAjueX;azwRFrEsUW&wRXCs+_n!b@ECfFeR0k!(mD4@p7L_&qgsc+PzYB!iJREOd&+EPzw9NO_@|)w^"
    "BCeEsw|C6Vl+zJMG?2e5c`%>Y!tDdLHy-BMa-v&;WlvtpI@)m53z{XW_J=__|#n5k+S?qU!Cpoo}h{UiW1vnh{q`6dM0"
    "rmMXVGDy=^Mx7BO#&I3)8Mb`ZbZB*qFnU-uS2jv+P{!X-}PW{S9sA_m*UO%!oX<y2WMgE&ADzsn&0og_BL5Q`{c$84&M"
    "P5gwDcp)N4p@_R5{44R=7V-OnwNQ;#>+-2d;@=p=-Y9X!HZhVqYhx3SWK0@4iGSQltfGm(<s`1-B%XtX-!X};&bTMV&W"
    "oM`z$QNLmraXkVvImB0%917Vh|Dvh><hI1_3rmV2~gP6eY-S6eVXA3=RVFg_13X5;)33KsFBh6d>P4xblIb58~MXX~*F"
    "m1W4VmUyjQAp<4<RPKc)=K)lsLx^+tcatnvIw^|?{fbKl1J&b_kIJ`@@G9bT4wH-L@K|rn>-jf5_0CbUUFT{@`Ad71AT"
    "yTJHa{$tX!)|t)2|y+edzo!6K)NB`g@7Dpdl%wa06EHTdm!F{014gFi;(ScfE>o5lWg5^fLw%H8o3SeTU5(j8W#g3jcS"
    "=d$Q_8cb7FqO!rW{Rvf53c8%)e?co7p`1{5@=J&H-gyJ+|$QTQF0ot&7*IN==-Iyf<pal&`9TN3jKjp>SF((rZ~UJ-?-"
    "F-2@l68^?N@C?j@oS5<dU-5swV&d(t*!Xr={5PVpr<Z4%7J38%FarPp;Q{~v0RaI3DF6Tf8UO(m0P6p4fYSf~(*WDk-{"
    "ti4^6cmD_W%9me4G=}ql;xJ2|o$?ZoHtVyWRTK8weNt|M|Y;%Es)rF)uDH3@bw~Ldz+A<0YgY1$(**R*$D}88fiKrve="
    "y2s8(=SffBu4^md6wv*o!%aA_+f}jAJQ~a(X!5Wc&q8B^rnV-8>DMIsY8v-q(sH6t=VoFjrHw={*TFe_OZvPe<4rTq`1"
    "?(<)8B?xuA~#5|t~MT7mV#S1bvW?6*z?mr32W9_mO_kIcJdbwU<uH!1ecWq8-&!r6F=G}=V?N&^VRavS1}olOYzs<+7t"
    "}hSoI|<?gx;*1OMRbRts|!4JrB#sY<CQ*gRrobe)8tExD$tNE=CgoWm{61Xej>f24INH`XE?Ra+?)#h>UKUOzT7DtnOx"
    "dO)g&9b&ZrmI<Ya(_8e;TY*r!p_+hg(aAEmH&kZHc;cPpB%c@kT%<&@VeVZ1nB;J%3eIi`4DE|^;8s0S;Os-GqHUGdvk"
    "|Ge>#7N5!g#ly5GZ|@&ms0<E?a)b2{mzDagRZYv}X|ku&H|CT2REL08>w+0Il2)Na%&^EpvLdJf)$Otk`Z`s6^C#gF}W"
    "rj9*cz5hgf%FUQ+{_CWpH)ygNJW>%X77^Y_MwU|e)iZur2H+}wr1?dVnvX(7M(K?DlPJg?nQY(#t?kW0A0K+i_GV*|zy"
    "__VnZ@t>oG1D&%&1-CN@fyr8MTIq4&M8sr?N#@7U51qF^cw{1y`j@qO`u8bfezFHMCAO-Cl+Z`r#hvBtX3GpN@6O)VMz"
    ">nZXzGX(rfydqeBhU2}Ln+g`{`@D^<|p6L)GH{qQ{FOWOjwW37%p4XKnD_52#(R{xC3#BbegJQXE*kf_75fvFvY6MthK"
    "L#Z@_OFKQWSc6#&pVv@5H-}+T=Ma(zL4a84$l{$Vr##pT<V<mFEu$BGPC3BhAQdC;GYA0?0000C0001ZoMZpbfC2$PKn"
    "MT"
)
LOSSLESS_DIGEST = "bd1b80fba417a649b897166b8dc52a4335d4fb6637f27d36b6fd465e4d0faf92"


def decoded(data: bytes, folder: Path, layers: int | None = None) -> Path:
    """Decode a file; give the weights."""
    (folder / "golden.tern").write_bytes(data)
    decompress(folder / "golden.tern", folder / "out", layers=layers)
    return folder / "out" / golden.WEIGHTS


@pytest.mark.parametrize(("layers", "at"), [(1, 0), (2, 1), (3, 2), (None, 2)])
def test_every_layer_decodes_to_the_same_bytes(layers: int | None, at: int, tmp_path: Path) -> None:
    weights = decoded(LAYERED, tmp_path, layers)
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == LAYERED_DIGESTS[at]


def test_the_values_are_near_what_was_written(tmp_path: Path) -> None:
    weights = decoded(LAYERED, tmp_path)
    source = made.save(tmp_path / "source", golden.tensors())
    with TensorFile(source / golden.WEIGHTS) as before, TensorFile(weights) as after:
        types = {name: (info.dtype, info.shape) for name, info in before.tensors.items()}
        assert {n: (i.dtype, i.shape) for n, i in after.tensors.items()} == types
        steps = "base_model.model.steps"
        assert after.read_bytes(steps) == np.array([7, -1]).tobytes()
        head = np.frombuffer(after.read_bytes("base_model.model.score.weight"), np.float16)
    wide = np.sin(np.arange(16 * 70))
    assert np.linalg.norm(head - wide) < 0.12 * np.linalg.norm(wide)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (3, 6)


def test_the_file_says_the_same_about_itself(tmp_path: Path) -> None:
    (tmp_path / "golden.tern").write_bytes(LAYERED)
    found = inspect(tmp_path / "golden.tern")
    assert found.properties["method"] == "rd"
    assert found.properties["version"] == "2"
    assert found.properties["heads"] == "int4"
    assert found.properties["asked_layers"] == "3"
    assert found.parameters == 2 * 3 * (20 + 24)
    assert [row.scale for row in found.modules] == [2.0, 2.0]


def test_the_lossless_file_still_has_every_bit(tmp_path: Path) -> None:
    weights = decoded(LOSSLESS, tmp_path)
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == LOSSLESS_DIGEST
    source = made.save(tmp_path / "source", golden.tensors())
    with TensorFile(source / golden.WEIGHTS) as before, TensorFile(weights) as after:
        for name in before.tensors:
            assert after.read_bytes(name) == before.read_bytes(name)
