"""What is wrong with a body becomes a problem that names the field."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from services.common.decode import decode
from services.common.problems import Problem


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    n: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    items: list[Inner] = []
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0


DECODER = msgspec.json.Decoder(Outer)


@pytest.mark.parametrize(
    ("body", "slug", "field"),
    [
        (b"", "bad-json", None),
        (b"{", "bad-json", None),
        (b"not json", "bad-json", None),
        (b'{"text":"a"} {}', "bad-json", None),
        (b'{"text":"\xff"}', "bad-json", None),
        (b'{"text":"\\ud800"}', "bad-json", None),
        (b'{"text":"a","share":NaN}', "bad-json", None),
        (b"[" * 100_000, "wrong-type", "body"),
        (b'{"text":' + b"[" * 100_000, "wrong-type", "text"),
        (b"[]", "wrong-type", "body"),
        (b"null", "wrong-type", "body"),
        (b'{"text":7}', "wrong-type", "text"),
        (b'{"text":null}', "wrong-type", "text"),
        (b'{"text":"a","share":true}', "wrong-type", "share"),
        (b'{"text":"a","share":"1"}', "wrong-type", "share"),
        (b'{"text":"a","share":0}', "out-of-range", "share"),
        (b'{"text":"a","share":1e999}', "out-of-range", "share"),
        (b'{"text":"a","items":[{"n":1},{"n":true}]}', "wrong-type", "items[1].n"),
        (b'{"text":"a","items":[{"n":1.5}]}', "wrong-type", "items[0].n"),
        (b'{"text":"a","items":[{"n":11}]}', "out-of-range", "items[0].n"),
        (b'{"text":"a","items":[{"n":' + b"9" * 5000 + b"}]}", "out-of-range", "items[0].n"),
        (b'{"text":"a","items":{}}', "wrong-type", "items"),
        (b"{}", "missing-field", "text"),
        (b'{"text":"a","other":1}', "unknown-field", "other"),
        (b'{"text":"a","items":[{"m":1}]}', "unknown-field", "items[0].m"),
    ],
)
def test_bad_bodies(body: bytes, slug: str, field: str | None) -> None:
    with pytest.raises(Problem) as caught:
        decode(DECODER, body)
    assert caught.value.status == 400
    assert (caught.value.slug, caught.value.ext.get("field")) == (slug, field)
    assert len(caught.value.detail) < 300


def test_a_good_body_is_read() -> None:
    assert decode(DECODER, b'{"text":"a","items":[{"n":2}]}').items[0].n == 2
