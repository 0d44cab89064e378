"""The Kotlin snippet compiles against ONNX Runtime's Java API, and on a desktop's JVM answers as Python does."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="NOT CHECKED: exports for phones need the lock `train`")

from edge.mobile import ort_format
from edge.mobile.sentences import answers
from tests.unit.models.test_mobile_onnx import CLASSES, entry

REPO = Path(__file__).resolve().parents[3]
ANDROID = REPO / "edge/mobile/android"
FETCH_S, RUN_S = 240, 200

MAIN = """
import dev.foremesh.mobile.*
import java.io.File

fun main(args: Array<String>) {
    val ids = args.drop(2).map { it.toInt() }.toIntArray()
    val provider = if (args[1] == "nnapi") Provider.Nnapi(ids.size) else Provider.Cpu
    val labels = List(CLASSES) { "label$it" }
    for (power in Power.entries) {
        IntentModel(File(args[0]).readBytes(), Tokenizer { ids }, labels, provider, power).use {
            println(it.answer("a sentence").logits.joinToString(" "))
        }
    }
}
"""


@pytest.fixture(scope="module")
def jars(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A Kotlin compiler and ONNX Runtime for Java."""
    for tool in ("java", "mvn"):
        if not shutil.which(tool):
            pytest.skip(f"NOT CHECKED: edge/mobile/android, because {tool} is not installed")
    folder = tmp_path_factory.mktemp("jars")
    fetch = ["mvn", "-q", "-B", "-f", str(ANDROID / "pom.xml"), "dependency:copy-dependencies"]
    try:
        done = subprocess.run(
            [*fetch, f"-DoutputDirectory={folder}"],
            capture_output=True,
            text=True,
            timeout=FETCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"NOT CHECKED: edge/mobile/android, because its compiler did not come in {FETCH_S} s")
    if done.returncode:
        pytest.skip(f"NOT CHECKED: edge/mobile/android, its compiler is not to be had: {done.stdout[:300]}")
    return sorted(folder.glob("*.jar"))


def java(jars: list[Path], *arguments: str, more: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(jar) for jar in (*jars, *([more] if more else [])))
    return subprocess.run(
        ["java", "-Xmx1g", "-cp", path, *arguments],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


def compiled(jars: list[Path], out: Path, *sources: Path) -> subprocess.CompletedProcess[str]:
    api = os.pathsep.join(str(jar) for jar in jars if jar.name.startswith(("kotlin-stdlib-", "onnxruntime-")))
    return java(
        jars, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect", "-Werror", "-cp", api,
        "-d", str(out), *map(str, sources),
    )  # fmt: skip


def test_the_snippet_compiles_and_answers_as_python_does(jars: list[Path], tmp_path: Path) -> None:
    main = tmp_path / "main.kt"
    main.write_text(MAIN.replace("CLASSES", str(CLASSES)))
    done = compiled(jars, tmp_path / "classes", ANDROID / "IntentModel.kt", main)
    assert done.returncode == 0, done.stderr
    entry(tmp_path)
    model = ort_format.write(tmp_path / "model.onnx", tmp_path / "model.ort", optimised=True)
    ids = ["3", "9", "4"]

    ran = java(jars, "MainKt", str(model), "cpu", *ids, more=tmp_path / "classes")

    assert ran.returncode == 0, ran.stderr
    expected = answers(tmp_path / "model.onnx", [[3, 9, 4]], None)[0]["logits"][0]
    lines = ran.stdout.splitlines()
    assert len(lines) == 3, "one answer for each preference"
    for line in lines:
        np.testing.assert_allclose([float(number) for number in line.split()], expected, atol=1e-4)

    # A desktop's ONNX Runtime has no NNAPI: it says so, and does not answer from elsewhere.
    refused = java(jars, "MainKt", str(model), "nnapi", *ids, more=tmp_path / "classes")
    assert refused.returncode != 0
    assert "OrtException" in refused.stderr


def test_a_mistake_in_a_snippet_would_be_seen(jars: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "wrong.kt"
    source.write_text("fun f(o: ai.onnxruntime.OrtSession.SessionOptions) = o.addNnapi(1)\n")
    done = compiled(jars, tmp_path / "classes", source)
    assert done.returncode != 0
    assert "wrong.kt" in done.stderr
