"""The two networks as Core ML programs, built with coremltools' MIL builder: no other framework in between.

One sentence of a fixed number of tokens: ids int32 [1, tokens], right-padded, and lengths int32 [1]. Outputs are named
as in ONNX, with `_` for a point, which Core ML does not take.
https://apple.github.io/coremltools/docs-guides/source/model-intermediate-language.html
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.mobile.encoder_onnx import MASKED
from edge.mobile.weights import EMBEDDING, Floats, Recurrent, Transformer, Weights
from models.emit import LstmWeights

Value = Any
"""A value of a program under construction."""

EPSILON = 1e-7
"""Of normalisation, the smallest that is not 0 in FP16; training used 1e-12, which moves nothing that can be seen."""

BEHIND = 2.0
"""More than any two states of an LSTM, -1 to 1, can lie apart."""


def name_of(output: str) -> str:
    """An output's name in Core ML."""
    return output.replace(".", "_")


def program(weights: Weights, tokens: int) -> Any:
    """The MIL program of a network, all in float32. Raises ModuleNotFoundError where coremltools is not installed,
    ValueError when the network takes fewer tokens."""
    mb = importlib.import_module("coremltools.converters.mil").Builder
    # Below iOS 17 an LSTM knows float32 only, and a package called FP16 would keep most of its weights twice as wide.
    target = importlib.import_module("coremltools").target.iOS17
    types = importlib.import_module("coremltools.converters.mil.mil").types
    inputs = [
        mb.TensorSpec(shape=(1, tokens), dtype=types.int32),
        mb.TensorSpec(shape=(1,), dtype=types.int32),
    ]
    body = (
        _Recurrent(mb, weights, tokens)
        if isinstance(weights, Recurrent)
        else _Transformer(mb, weights, tokens)
    )

    @mb.program(input_specs=inputs, opset_version=target)  # type: ignore[untyped-decorator]
    def made(ids: Value, lengths: Value) -> Any:
        return body.outputs(ids, lengths)

    return made


class _Body:
    """What both networks need. mb: the builder, whose calls add to the program that is being made."""

    def __init__(self, mb: Any, tokens: int) -> None:
        self.mb = mb
        self.tokens = tokens

    def flat(self, ids: Value) -> Value:
        return self.mb.reshape(x=ids, shape=[self.tokens])

    def seen(self, lengths: Value) -> Value:
        """1 where a token is, 0 behind the end: float32 [tokens]."""
        ahead = self.mb.sub(x=lengths, y=np.arange(self.tokens, dtype=np.int32))
        return self.mb.clip(x=self.mb.cast(x=ahead, dtype="fp32"), alpha=0.0, beta=1.0)

    def share(self, seen: Value, lengths: Value) -> Value:
        """[1, tokens] that turns states into their mean over the valid steps when they are multiplied."""
        count = self.mb.maximum(x=self.mb.cast(x=lengths, dtype="fp32"), y=np.float32(1))
        return self.mb.expand_dims(x=self.mb.real_div(x=seen, y=count), axes=[0])

    def linear(self, x: Value, weight: Any, bias: Any, name: str | None = None) -> Value:
        """x @ weight + bias, weight [inputs, outputs]."""
        turned = np.ascontiguousarray(np.asarray(weight, np.float32).T)
        named = {"name": name} if name else {}
        return self.mb.linear(x=x, weight=turned, bias=np.asarray(bias, np.float32), **named)


class _Recurrent(_Body):
    def __init__(self, mb: Any, network: Recurrent, tokens: int) -> None:
        super().__init__(mb, tokens)
        self.network = network

    def outputs(self, ids: Value, lengths: Value) -> tuple[Value, ...]:
        mb, seen = self.mb, self.seen(lengths)
        x = mb.gather(x=self.network.embedding, indices=self.flat(ids), axis=0)
        # Core ML's LSTM knows no lengths: its backward direction would begin in the padding. The sentence is turned
        # around instead, which leaves its padding behind it; neither maximum nor mean minds the order.
        last = mb.sub(x=lengths, y=np.int32(1))
        back = mb.maximum(x=mb.sub(x=last, y=np.arange(self.tokens, dtype=np.int32)), y=np.int32(0))
        ways = [
            self._states(x, self.network.forward),
            self._states(mb.gather(x=x, indices=back, axis=0), self.network.backward),
        ]
        by_step = mb.expand_dims(x=seen, axes=[1])
        below = mb.mul(x=mb.sub(x=by_step, y=np.float32(1)), y=np.float32(BEHIND))
        tops = [
            mb.reduce_max(x=mb.add(x=mb.mul(x=way, y=by_step), y=below), axes=[0], keep_dims=True)
            for way in ways
        ]
        if self.network.floor:
            tops = [mb.relu(x=top) for top in tops]
        share = self.share(seen, lengths)
        pooled = mb.concat(values=[*tops, *(mb.matmul(x=share, y=way) for way in ways)], axis=1)
        return tuple(
            self.linear(pooled, head.weight, head.bias, name_of(name))
            for name, head in self.network.heads.items()
        )

    def _states(self, x: Value, way: LstmWeights) -> Value:
        """The states of one direction, [tokens, hidden]."""
        hidden = np.asarray(way.recurrent).shape[1]
        nothing = np.zeros((1, hidden), np.float32)
        states, _, _ = self.mb.lstm(
            x=self.mb.expand_dims(x=x, axes=[1]),
            initial_h=nothing,
            initial_c=nothing,
            weight_ih=mil_gates(way.kernel),
            weight_hh=mil_gates(way.recurrent),
            bias=mil_gates(way.bias),
            output_sequence=True,
        )
        return self.mb.squeeze(x=states, axes=[1])


class _Transformer(_Body):
    def __init__(self, mb: Any, network: Transformer, tokens: int) -> None:
        super().__init__(mb, tokens)
        if tokens > (longest := network.encoder.positions.shape[0]):
            raise ValueError(f"{tokens} tokens are more than the {longest} positions of the encoder")
        self.network = network

    def outputs(self, ids: Value, lengths: Value) -> tuple[Value, ...]:
        mb, encoder, seen = self.mb, self.network.encoder, self.seen(lengths)
        barred = mb.mul(x=mb.sub(x=seen, y=np.float32(1)), y=np.float32(-MASKED))
        looked_up = mb.gather(x=np.asarray(encoder.tokens), indices=self.flat(ids), axis=0)
        x = self._normalised(
            mb.add(x=looked_up, y=np.asarray(encoder.positions)[: self.tokens]), encoder.norm
        )
        for layer in encoder.layers:
            x = self._normalised(mb.add(x=x, y=self._attention(x, barred, layer)), layer.attention_norm)
            up = mb.gelu(x=self.linear(x, layer.up.weight, layer.up.bias), mode="EXACT")
            x = self._normalised(
                mb.add(x=x, y=self.linear(up, layer.down.weight, layer.down.bias)), layer.output_norm
            )
        pooled = mb.matmul(x=self.share(seen, lengths), y=x)
        heads = [
            self.linear(pooled, head.weight, head.bias, name_of(name))
            for name, head in self.network.heads.items()
        ]
        length = mb.maximum(x=mb.reduce_l2_norm(x=pooled, axes=[1], keep_dims=True), y=np.float32(EPSILON))
        return (*heads, mb.real_div(x=pooled, y=length, name=EMBEDDING))

    def _normalised(self, x: Value, norm: Any) -> Value:
        gamma, beta = (np.asarray(part, np.float32) for part in (norm.scale, norm.bias))
        return self.mb.layer_norm(x=x, axes=[-1], gamma=gamma, beta=beta, epsilon=np.float32(EPSILON))

    def _attention(self, x: Value, barred: Value, layer: Any) -> Value:
        mb = self.mb
        features, heads, size = (int(n) for n in layer.query.weight.shape)

        def by_head(part: Any, scale: float = 1.0) -> Value:
            weight: Floats = np.asarray(part.weight).reshape(features, heads * size) * np.float32(scale)
            bias: Floats = np.asarray(part.bias).reshape(heads * size) * np.float32(scale)
            shaped = mb.reshape(x=self.linear(x, weight, bias), shape=[self.tokens, heads, size])
            return mb.transpose(x=shaped, perm=[1, 0, 2])

        scores = mb.matmul(x=by_head(layer.query, size**-0.5), y=by_head(layer.key), transpose_y=True)
        mixed = mb.matmul(x=mb.softmax(x=mb.add(x=scores, y=barred), axis=-1), y=by_head(layer.value))
        flat = mb.reshape(x=mb.transpose(x=mixed, perm=[1, 0, 2]), shape=[self.tokens, heads * size])
        return self.linear(
            flat, np.asarray(layer.output.weight).reshape(heads * size, features), layer.output.bias
        )


def mil_gates(array: Any) -> NDArray[np.float32]:
    """Reorder gates stacked on the first axis from i, f, g, o to MIL's i, f, o, g."""
    i, f, g, o = np.split(np.asarray(array, np.float32), 4, axis=0)
    return np.concatenate([i, f, o, g], axis=0)
