"""ORT format, which reduced builds of ONNX Runtime for phones load, and the operators that such a build needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

CONVERTER = "onnxruntime.tools.convert_onnx_models_to_ort"

TIMEOUT_S = 300


def write(model: Path, out: Path, *, optimised: bool) -> Path:
    """Write `model` as `out`, a name ending in .ort, and beside it NAME.required_operators.config; returns `out`.

    optimised: fused for the CPU once and for all. Without it the nodes stay as they are, and what a provider such as
    NNAPI leaves over is fused when the file is loaded. Raises ValueError with the end of what the converter printed
    when it fails.
    """
    style = "Fixed" if optimised else "Runtime"
    with TemporaryDirectory() as scratch:
        # A copy: the converter makes a folder beside the model for a while.
        copy = Path(shutil.copy(model, Path(scratch) / f"{out.stem}.onnx"))
        made = Path(scratch) / "made"
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    CONVERTER,
                    copy.name,
                    "--output_dir",
                    made.name,
                    "--target_platform",
                    "arm",
                ),
                *("--optimization_style", style, "--enable_type_reduction"),
            ],
            cwd=scratch,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-400:]
            raise ValueError(f"{CONVERTER} failed on {model.name}: {said}")
        # Which names the converter chooses depends on its options; there is one of each.
        (config,) = made.glob("*.config")
        (converted,) = made.glob("*.ort")
        # Its first lines name the folders of the machine that it ran on.
        kept = [line for line in config.read_text().splitlines() if not line.startswith("#")]
        operators(out).write_text("\n".join(kept) + "\n")
        shutil.move(converted, out)
    return out


def operators(model: Path) -> Path:
    """Where the list of operators of an .ort file is: what a reduced build of ONNX Runtime is given as
    `--include_ops_by_config`."""
    return model.with_suffix(".required_operators.config")
