"""`python -m edge.mobile` on a real entry: the manifest is true, and nothing is left behind when it fails."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

for package, lock in (("onnx", "train"), ("sympy", "mobile")):
    pytest.importorskip(package, reason=f"NOT CHECKED: exports for phones need the lock `{lock}`")

from models.emit import Graph, save  # noqa: E402

REPO = Path(__file__).resolve().parents[3]


def run(entry: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge.mobile", "--entry", str(entry), "--out", str(out), *more],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def copied(tiny: Path, folder: Path) -> Path:
    """The entry in a catalog of its own, to be spoilt."""
    return Path(shutil.copytree(tiny, folder / "catalog/intent/tiny"))


def test_an_export_is_what_its_manifest_says(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "phone"
    done = run(tiny, out, "--formats", "onnx,ort", "--tokens", "24")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "manifest.json").read_text())

    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert there == {*manifest["files"], "manifest.json"}
    for name, told in manifest["files"].items():
        content = (out / name).read_bytes()
        assert told == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert set(manifest["formats"]) == {
        "onnx/fixed.onnx",
        "onnx/float.onnx",
        "ort/model.ort",
        "ort/float.ort",
    }
    for told in manifest["formats"].values():
        assert told["device"] == "not run on a device"
        assert all(
            check["sentences"] == manifest["checked_on"]["sentences"] for check in told["checked"].values()
        )
    told = manifest["formats"]["onnx/float.onnx"]
    assert told["inputs"] == {
        "ids": {"shape": [1, 24], "type": "int32"},
        "lengths": {"shape": [1], "type": "int32"},
    }
    assert told["opset"] == {"ai.onnx": 21}
    assert json.loads((out / "onnx/float.usability.json").read_text()) == told["usability"]
    assert (
        f"{told['usability']['NNAPI']['ready']}/{told['usability']['NNAPI']['nodes']} nodes"
        in (out / "onnx/float.usability.txt").read_text()
    )
    assert "lacks" not in done.stdout and "not run on a device" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["phone"], "something was left beside the export"


def test_an_export_is_replaced_and_anything_else_is_not(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "phone"
    for tokens in ("8", "9"):
        assert run(tiny, out, "--formats", "ort", "--tokens", tokens).returncode == 0
    assert json.loads((out / "manifest.json").read_text())["tokens"] == 9

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    refused = run(tiny, tmp_path / "mine", "--formats", "ort")
    assert refused.returncode == 2
    assert "is no export of edge.mobile" in refused.stderr
    assert (tmp_path / "mine/notes.txt").read_text() == "keep"


def test_a_changed_model_is_not_exported(tiny: Path, tmp_path: Path) -> None:
    entry = copied(tiny, tmp_path)
    content = bytearray((entry / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (entry / "model.onnx").write_bytes(content)

    done = run(entry, tmp_path / "phone")

    assert done.returncode == 2
    assert "is not the file its card describes" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "phone").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--tokens", "1000"], "--tokens 1000 is more than the"),
        (["--tokens", "0"], "0 is not above 0"),
        (["--formats", "onnx,tflite"], "'tflite' is no format; there are onnx, ort, coreml"),
        (["--sentences", "nowhere.tsv"], "nowhere.tsv"),
    ],
)
def test_a_wrong_option_is_named(tiny: Path, tmp_path: Path, more: list[str], said: str) -> None:
    done = run(tiny, tmp_path / "phone", *more)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "phone").exists()


def test_a_network_of_another_kind_is_written_as_far_as_it_can_be(tiny: Path, tmp_path: Path) -> None:
    """Tags of single words: no head over a sentence, so no float graph and no Core ML, and both are said."""
    entry = copied(tiny, tmp_path)
    graph = Graph("tags")
    ids = graph.input("ids", np.int64, ["batch", "tokens"])
    graph.input("lengths", np.int64, ["batch"])
    vocabulary = Tokenizer.from_file(str(entry / "tokenizer.json")).get_vocab_size()
    table = graph.constant("table", np.random.default_rng(1).normal(size=(vocabulary, 3)))
    graph.output(graph.node("Gather", [table, ids]), "tags", np.float32, ["batch", "tokens", 3])
    save(graph, entry / "model.onnx")
    card = json.loads((entry / "card.json").read_text())
    card["sha256"]["model.onnx"] = hashlib.sha256((entry / "model.onnx").read_bytes()).hexdigest()
    (entry / "card.json").write_text(json.dumps(card))

    done = run(entry, tmp_path / "phone", "--formats", "onnx,ort")

    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "phone/manifest.json").read_text())
    assert set(manifest["formats"]) == {"onnx/fixed.onnx", "ort/model.ort"}
    assert "'tags', which is no linear head" in manifest["left_out"]["onnx/float.onnx"]
    refused = run(entry, tmp_path / "other")
    assert refused.returncode == 2
    assert "--formats onnx,ort" in refused.stderr and not (tmp_path / "other").exists()


def test_an_unknown_tier_is_told_with_those_that_there_are(tiny: Path, tmp_path: Path) -> None:
    done = run(tiny.parent / "tyni", tmp_path / "phone")
    assert done.returncode == 2
    assert "'tyni' is not in the catalog" in done.stderr and "tiny" in done.stderr


def test_core_ml_without_its_tools_says_what_brings_them(tiny: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("coremltools"):
        done = run(tiny, tmp_path / "phone", "--formats", "coreml")
        assert done.returncode == 0, done.stderr
        manifest = json.loads((tmp_path / "phone/manifest.json").read_text())
        assert set(manifest["formats"]) == {"coreml/fp16.mlpackage", "coreml/int8.mlpackage"}
        return
    done = run(tiny, tmp_path / "phone", "--formats", "coreml")
    assert done.returncode == 1
    assert "coremltools is not installed" in done.stderr and "--mobile" in done.stderr
    assert list(tmp_path.iterdir()) == [], "something half-written is left"
