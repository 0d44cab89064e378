"""Who may be who: Redis password, API tokens and one sentry join token per app-id, made anew at each start.

Sentry's default validator in self-hosted mode signs any name for whoever reaches it. Its `jwks` validator signs only
what a token's subject says, so each app-id has a token of its own: an ES256 JWT whose private key never leaves the
supervisor's memory.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local.settings import TRUST_DOMAIN

TOKEN_LIFETIME_S = 24 * 3600


def write_secret(path: Path, text: str) -> None:
    """Replace `path` atomically; it is 0600 from its first byte on."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as f:
        f.write(text)
    scratch.replace(path)


def spiffe_id(app_id: str) -> str:
    """The identity of an app; self-hosted Dapr always uses trust domain `public` and namespace `default`."""
    return f"spiffe://public/ns/default/{app_id}"


@dataclass
class Trust:
    """The secrets of one run. `dapr_api_token` and `app_api_token` differ per app-id."""

    folder: Path
    redis_password: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    _key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )
    _tokens: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)

    def prepare(self) -> None:
        """Write what other processes read: the Redis password for Dapr's secret store, and sentry's key set."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        write_secret(self.secrets_file, json.dumps({"redis-password": self.redis_password}))
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        public |= {"kid": "join", "use": "sig", "alg": "ES256"}
        write_secret(self.jwks_file, json.dumps({"keys": [public]}))

    @property
    def secrets_file(self) -> Path:
        return self.folder / "secrets.json"

    @property
    def jwks_file(self) -> Path:
        return self.folder / "jwks.json"

    @property
    def issuer_dir(self) -> Path:
        return self.folder / "issuer"

    def join_token_file(self, app_id: str) -> Path:
        """Path of the app's join token, written (or renewed) by this call."""
        path = self.folder / f"join-{app_id}.jwt"
        now = int(time.time())
        claims = {
            "sub": spiffe_id(app_id),
            "aud": f"spiffe://{TRUST_DOMAIN}/ns/default/dapr-sentry",
            "iat": now,
            "nbf": now - 30,
            "exp": now + TOKEN_LIFETIME_S,
        }
        write_secret(path, jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "join"}))
        return path

    def api_tokens(self, app_id: str) -> tuple[str, str]:
        """(DAPR_API_TOKEN, APP_API_TOKEN) of an app-id; replicas of an app share them."""
        if app_id not in self._tokens:
            self._tokens[app_id] = (secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        return self._tokens[app_id]
