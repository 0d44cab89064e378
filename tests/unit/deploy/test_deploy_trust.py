"""Secrets of a run: readable by their owner alone, never half written, and each names one app."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from deploy.local.trust import TOKEN_LIFETIME_S, Trust, spiffe_id, write_secret

AUDIENCE = "spiffe://foremesh.local/ns/default/dapr-sentry"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    made = Trust(tmp_path / "run" / "secrets")
    made.prepare()
    return made


def key_of(trust: Trust) -> Any:
    (key,) = jwt.PyJWKSet.from_json(trust.jwks_file.read_text()).keys
    return key


def claims_of(trust: Trust, app_id: str) -> dict[str, Any]:
    token = trust.join_token_file(app_id).read_text()
    return dict(jwt.decode(token, key_of(trust), algorithms=["ES256"], audience=AUDIENCE))


def test_files_and_folder_are_their_owner_s(trust: Trust) -> None:
    token = trust.join_token_file("routing")
    assert mode(trust.folder) == 0o700
    assert {mode(f) for f in (trust.secrets_file, trust.jwks_file, token)} == {0o600}


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o755)
    Trust(folder).prepare()
    assert mode(folder) == 0o700


def test_a_secret_is_closed_whatever_the_umask_or_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        write_secret(path, "new")
    finally:
        os.umask(before)
    assert (mode(path), path.read_text()) == (0o600, "new")


def test_a_stale_scratch_file_does_no_harm(tmp_path: Path) -> None:
    """A run that was killed while it wrote leaves one behind; a link planted there is not followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (tmp_path / "secret.new").symlink_to(elsewhere)
    write_secret(tmp_path / "secret", "new")
    assert elsewhere.read_text() == "mine"
    assert not (tmp_path / "secret").is_symlink()


def test_a_reader_sees_the_old_secret_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    texts = {letter * 200_000 for letter in "ab"}
    write_secret(path, "a" * 200_000)
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            write_secret(path, "ab"[number % 2] * 200_000)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_text())
    writer.join()
    assert seen <= texts


def test_a_join_token_names_its_app_and_sentry(trust: Trust) -> None:
    now = time.time()
    claims = claims_of(trust, "routing")
    assert claims["sub"] == "spiffe://public/ns/default/routing" == spiffe_id("routing")
    assert claims["exp"] == pytest.approx(now + TOKEN_LIFETIME_S, abs=5)
    assert claims["nbf"] <= now
    header = jwt.get_unverified_header(trust.join_token_file("routing").read_text())
    assert (header["kid"], header["alg"]) == (key_of(trust).key_id, "ES256")


def test_tokens_differ_per_app(trust: Trust) -> None:
    assert claims_of(trust, "routing")["sub"] != claims_of(trust, "tokenization")["sub"]
    tokens = [trust.api_tokens(app) for app in ("routing", "tokenization")]
    assert len({token for pair in tokens for token in pair}) == 4
    assert all(len(token) >= 32 for pair in tokens for token in pair)
    assert trust.api_tokens("routing") == tokens[0], "replicas of an app share their tokens"


def test_another_run_s_token_is_refused(trust: Trust, tmp_path: Path) -> None:
    other = Trust(tmp_path / "other")
    other.prepare()
    token = other.join_token_file("routing").read_text()
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, key_of(trust), algorithms=["ES256"], audience=AUDIENCE)
    assert other.redis_password != trust.redis_password


def test_the_private_key_stays_in_memory(trust: Trust) -> None:
    trust.join_token_file("routing")
    (published,) = json.loads(trust.jwks_file.read_text())["keys"]
    assert "d" not in published
    for file in trust.folder.iterdir():
        assert "PRIVATE" not in file.read_text()


def test_secrets_are_not_shown_by_accident(trust: Trust) -> None:
    tokens = trust.api_tokens("routing")
    assert trust.redis_password not in repr(trust)
    assert all(token not in repr(trust) for token in tokens)
