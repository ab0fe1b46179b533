"""Run commands against a real hub: what they print, as JSON and as text, and how they exit."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import CommandLine
from tests.hub_pushes import small_adapter
from tests.live_hub import LiveHub

ROOT = Path(__file__).resolve().parents[2]
DIGEST_LENGTH = len("sha256:") + 64


@pytest.fixture
def folder(cli: CommandLine) -> Path:
    made = cli.folder / "adapter"
    made.mkdir()
    for name, data in small_adapter(21).items():
        (made / name).write_bytes(data)
    return made


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Give each test an adapter of its own."""
    return f"team/{request.node.name.partition('[')[0].replace('test_', '')}"[:90].rstrip("_")


def test_a_push_tells_what_it_did(cli: CommandLine, folder: Path, name: str) -> None:
    told = cli.json(
        "push", folder, f"{name}:dev", "-m", "first", "--tag", "v1", "--metric", "a=1.5"
    )
    assert list(told) == [
        "adapter",
        "digest",
        "commit_id",
        "created",
        "base_model",
        "kind",
        "size_bytes",
        "sent_bytes",
        "reused_bytes",
        "refs",
        "warnings",
    ]
    assert told["adapter"] == name
    assert len(told["digest"]) == DIGEST_LENGTH
    assert told["commit_id"] == told["digest"].removeprefix("sha256:")[:40]
    assert told["created"]
    assert told["kind"] == "LORA"
    assert sorted(told["refs"]) == ["dev", "v1"]
    text = cli("push", folder, f"{name}:dev", "-m", "first", "--metric", "a=1.5")
    assert text.out == f"{name}@{told['digest']}\n"
    assert "nothing new" in text.err


def test_a_pull_tells_what_it_did(cli: CommandLine, folder: Path, name: str) -> None:
    digest = cli.json("push", folder, name)["digest"]
    told = cli.json("pull", name, "--to", "back")
    assert (told["adapter"], told["digest"], told["folder"]) == (name, digest, "back")
    assert told["files"] == ["adapter_config.json", "adapter_model.safetensors"]
    assert told["fetched_bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    assert not told["decoded"]
    text = cli("pull", f"{name}@{digest}")
    assert text.out == f"{name.partition('/')[2]}\n"
    assert digest in text.err


def test_listing(cli: CommandLine, folder: Path) -> None:
    cli("push", folder, "listing/one")
    cli("push", folder, "listing/two")
    found = cli.json("list", "--namespace", "listing")
    assert [item["name"] for item in found] == ["listing/one", "listing/two"]
    assert {"kind", "base_model", "revisions", "size_bytes", "branches", "tags"} <= set(found[0])
    assert cli("list", "--namespace", "listing", "-q").out == "listing/one\nlisting/two\n"
    assert cli.json("list", "--namespace", "listing", "--limit", "1")[0]["name"] == "listing/one"
    assert cli.json("list", "--namespace", "listing", "--search", "two")[0]["name"] == "listing/two"
    assert cli.json("list", "--namespace", "listing", "--kind", "IA3") == []
    empty = cli("list", "--namespace", "nobody")
    assert empty.out == ""
    assert "adapters push" in empty.err
    table = cli("list", "--namespace", "listing").out.splitlines()
    assert table[0].split()[:2] == ["name", "kind"]
    assert len(table) == 3


def test_nothing_is_cut_off_where_nobody_looks(cli: CommandLine, folder: Path) -> None:
    long = "listing/" + "x" * 90
    cli("push", folder, long, "-m", "word " * 60)
    assert long in cli("list", "--namespace", "listing").out
    assert "word " * 59 in cli("log", long).out


def test_show_tells_what_compresses(cli: CommandLine, examples: Path, name: str) -> None:
    cli("push", examples / "sst2", name, "-m", "hello", "--tag", "v1")
    text = cli("show", name).out
    for part in (
        "all-MiniLM-L6-v2",
        "LORA",
        "rank 8",
        "compresses",
        "classifier",
        "main →",
        "hello",
    ):
        assert part in text
    assert f"adapters pull {name}:v1" in text
    told = cli.json("show", name)
    assert {"digest", "commit_id", "manifest", "refs", "adapter_refs"} == set(told)
    assert told["manifest"]["config"]["compressible"]


def test_log_is_newest_first(cli: CommandLine, folder: Path, name: str) -> None:
    digests = []
    for number in range(3):
        (folder / "README.md").write_text(f"# {number}\n")
        digests.append(cli.json("push", folder, name, "-m", f"number {number}")["digest"])
    assert cli("log", name, "-q").out.split() == digests[::-1]
    told = cli.json("log", name, "--limit", "2")
    assert [item["manifest"]["message"] for item in told] == ["number 2", "number 1"]
    assert "number 0" in cli("log", name).out
    assert cli("log", f"{name}@{digests[1]}", "-q").out.split() == digests[1::-1]


def test_tags_stay(cli: CommandLine, folder: Path, name: str) -> None:
    first = cli.json("push", folder, name)["digest"]
    assert cli.json("tag", name, "v1") == {"adapter": name, "tag": "v1", "digest": first}
    (folder / "README.md").write_text("# more\n")
    cli("push", folder, name)
    refused = cli("tag", name, "v1", code=1)
    assert "v1" in refused.err
    assert "hint:" in refused.err
    assert cli.json("show", f"{name}:v1")["digest"] == first
    cli("delete", name, "--tag", "v1", "--yes")
    cli("show", f"{name}:v1", code=1)


def test_deleting_asks(cli: CommandLine, folder: Path, name: str) -> None:
    cli("push", folder, name)
    refused = cli("delete", name, code=2)
    assert "--yes" in refused.err
    cli("show", name)
    assert cli.json("delete", name, "-y") == {"adapter": name, "branch": None, "tag": None}
    gone = cli("show", name, code=1)
    assert gone.err.startswith(f"error: no adapter {name}")
    cli("delete", f"{name}:main", "-y", code=2)
    cli("delete", name, "--tag", "a", "--branch", "b", "-y", code=2)


def test_branches_are_deleted_alone(cli: CommandLine, folder: Path, name: str) -> None:
    cli("push", folder, name)
    cli("push", folder, f"{name}:dev")
    cli("delete", name, "--branch", "dev", "-y")
    cli("show", f"{name}:dev", code=1)
    cli("show", name)


def test_lineage_is_a_tree(cli: CommandLine, examples: Path, name: str) -> None:
    cli("push", examples / "sst2", f"{name}-a")
    cli("push", examples / "mr-rt-polarity", f"{name}-b")
    cli("compress", f"{name}-a", "--as", f"{name}-c")
    cli("merge", f"{name}-c", f"{name}-b", "-w", "0.7", "-w", "0.3", "--as", f"{name}-d")
    told = cli.json("lineage", f"{name}-d")
    operations = [edge["edge"]["operation"] for edge in told["ancestors"]]
    assert sorted(operations) == ["compressed_from", "merged_from", "merged_from"]
    weights = {e["edge"]["adapter"]: e["edge"]["weight"] for e in told["ancestors"]}
    assert weights[f"{name}-c"] == 0.7
    text = cli("lineage", f"{name}-d").out
    assert "├─ merged_from" in text
    assert "└─ compressed_from" in text
    assert f"{name}-d@" in cli("lineage", f"{name}-a").out


def test_compressing_publishes_with_its_figures(
    cli: CommandLine, examples: Path, name: str
) -> None:
    source = cli.json("push", examples / "sst2", name)["digest"]
    told = cli.json("compress", name, "--as", f"{name}-small", "--bits", "0.5")
    assert told["erased"] == []
    manifest = cli.json("show", f"{name}-small")["manifest"]
    assert manifest["config"]["encoding"] == "tern"
    assert manifest["metrics"]["bytes"] == sum(
        file["size_bytes"] for file in manifest["files"] if "tern" in file["path"]
    )
    assert manifest["metrics"]["error_delta"] == pytest.approx(told["delta_error"])
    edge = manifest["lineage"][0]
    assert (edge["operation"], edge["revision"]) == ("compressed_from", source)
    assert (edge["parameters"]["method"], edge["parameters"]["bits"]) == ("rd", 0.5)
    decoded = cli.json("pull", f"{name}-small", "--to", "small")
    assert decoded["decoded"]
    assert "adapter_model.safetensors" in decoded["files"]
    stored = cli.json("pull", name, "--encoding", "tern", "--to", "stored")
    assert stored["adapter"] == f"{name}-small"
    cli("decompress", "stored", "--to", "again")
    weights = "adapter_model.safetensors"
    assert Path("again", weights).read_bytes() == Path("small", weights).read_bytes()
    assert Path("again", "README.md").read_bytes() == (examples / "sst2/README.md").read_bytes()


def test_what_is_erased_cannot_be_overlooked(cli: CommandLine, examples: Path, name: str) -> None:
    cli("push", examples / "sst2", name)
    loud = cli("compress", name, "--as", f"{name}-tiny", "--method", "compeft", "--density", "0.1")
    assert "ERASED" in loud.err
    assert "of 18 modules" in loud.err
    told = cli.json("show", f"{name}-tiny")
    assert told["manifest"]["metrics"]["erased_modules"] > 0
    assert "ERASED" in cli("inspect", f"{name}-tiny", "--against", name).out


def test_diff_between_hub_and_here(cli: CommandLine, folder: Path, name: str) -> None:
    cli("push", folder, name)
    assert cli.json("diff", name, folder)["same"]
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_dropout": 0.5}))
    (folder / "README.md").write_text("# new\n")
    told = cli.json("diff", name, folder)
    assert (told["added"], told["removed"]) == (["README.md"], [])
    assert told["changed"] == ["adapter_config.json"]
    assert told["config"] == [{"key": "lora_dropout", "before": "(absent)", "after": "0.5"}]
    text = cli("diff", name, folder).out
    assert "+ README.md" in text
    assert "lora_dropout: (absent) → 0.5" in text


def test_verify_reads_what_the_hub_stores(cli: CommandLine, folder: Path, name: str) -> None:
    cli("push", folder, name)
    told = cli.json("verify", name)
    assert told["ok"]
    assert {"adapter", "path", "digest", "ok", "detail"} == set(told["files"][0])
    cli("pull", name, "--to", "back")
    assert cli.json("verify", "./back", "--against", name)["ok"]
    (Path("back") / "README.md").write_text("mine\n")
    bad = cli("verify", "./back", "--against", name, code=1)
    assert "DAMAGED back README.md  the revision has no such file" in bad.out
    assert "0 not as they should be" in cli("verify", "--all").err
    cli("verify", code=2)
    cli("verify", name, "--all", code=2)


def test_whoami_of_an_open_hub(cli: CommandLine, hub: LiveHub) -> None:
    told = cli.json("whoami")
    assert told["endpoint"] == hub.url
    assert told["token_source"] == "none"
    assert told["open"]
    assert "admin *" in cli("whoami").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pull", "nonsense"], "namespace/name"),
        (["pull", "team/x@sha256:12"], "64 lower-case hex"),
        (["pull", "team/x", "--encoding", "zip"], "'zip' is not one of"),
        (["push", ".", "team/x@sha256:" + "0" * 64], "--onto"),
        (["push", ".", "team/x", "--metric", "a=b"], "NAME=NUMBER"),
        (["push", ".", "team/x", "--onto", "zz"], "not a sha256"),
        (["compress", "team/x"], "--to FILE|DIR or --as NAME"),
        (["merge", "a/b", "c/d", "-w", "1", "--to", "x"], "as many --weight"),
        (["list", "--limit", "0"], "x>=1"),
        (["inspect", "neither-path-nor-name"], "neither a path that exists nor a reference"),
        (["frobnicate"], "There is no command"),
        (["push"], "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2(cli: CommandLine, arguments: list[str], told: str) -> None:
    ran = cli(*arguments, code=2)
    assert told in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "team/absent"], "no adapter team/absent"),
        (["push", "./absent", "team/x"], "absent"),
        (["inspect", "./absent"], "absent"),
        (["list", "--endpoint", "http://127.0.0.1:9"], "no hub answers at http://127.0.0.1:9"),
    ],
)
def test_errors_are_two_lines(cli: CommandLine, arguments: list[str], told: str) -> None:
    ran = cli(*arguments, code=1)
    lines = ran.err.splitlines()
    assert len(lines) == 2, ran.err
    assert lines[0].startswith("error: ")
    assert told in lines[0]
    assert lines[1].startswith("  hint: ")
    as_json = json.loads(cli(*arguments, "--json", code=1).err)["error"]
    assert as_json["exit_code"] == 1
    assert told in as_json["message"]
    assert as_json["code"]


def test_a_traceback_is_shown_on_demand(cli: CommandLine) -> None:
    from api.remote.errors import HubError

    with pytest.raises(HubError):
        cli("show", "team/absent", "--debug")


def test_output_that_nobody_reads_is_no_error(cli: CommandLine, hub: LiveHub, folder: Path) -> None:
    cli("push", folder, "listing/piped")
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli.main", "list", "--endpoint", hub.url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert "Traceback" not in told


def on_a_terminal(hub: LiveHub, *arguments: str, width: int = 70, **environment: str) -> str:
    """Return what a command shows on a terminal of a certain width."""
    main, side = pty.openpty()
    variables = {**os.environ, **environment, "COLUMNS": str(width), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "api.cli.main", *arguments, "--endpoint", hub.url],
        cwd=ROOT,
        stdin=side,
        stdout=side,
        stderr=side,
        env=variables,
    )
    os.close(side)
    shown = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(main)
    process.wait()
    return shown.decode()


def test_a_table_fits_its_terminal(cli: CommandLine, hub: LiveHub, folder: Path) -> None:
    cli("push", folder, "listing/" + "y" * 90)
    shown = on_a_terminal(hub, "list", "--namespace", "listing", NO_COLOR="1")
    assert "\x1b[3" not in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(len(line) for line in plain.splitlines()) <= 70
    assert "…" in plain or "yyy\n" in plain.replace("\r", "")
    assert "\x1b[31m" in on_a_terminal(hub, "show", "team/absent")
    assert "\x1b[31m" not in on_a_terminal(hub, "show", "team/absent", NO_COLOR="1")
    assert "\x1b[31m" not in on_a_terminal(hub, "show", "team/absent", "--no-color")
