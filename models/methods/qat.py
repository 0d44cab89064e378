"""Quantisation-aware training: an encoder that is trained with the rounding that it is served with.

Jacob et al. 2018 ("Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"): the
forward pass rounds weights and activations to their grids, the backward pass takes the rounding for the identity
(straight-through estimator, Bengio et al. 2013) and lets nothing through where a value was clipped. The grids are those
of ONNX Runtime's `quantize_static`, and what is rounded is what `models.methods.static.quantise` rounds: UINT8 inputs
of the linear products, INT8 weights with a scale for each column, UINT8 tables.

Ranges of activations are a running average of the least and largest value of each batch. They are parameters whose
gradient is made to be the way to what the batch showed, so that a step of plain descent is a step of that average, and
`models.fit` trains, averages and keeps them like all others. What they are at the end is what is exported.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import optax
from onnxruntime.quantization.quant_utils import compute_scale_zp

from models import fit
from models.methods import static
from models.minilm import fit as fine_tuning
from models.minilm.export import export
from models.minilm.network import MASKED, Array, Encoder, Layer, Linear, Network, normalise, pool
from models.minilm.recipe import Recipe

KEPT = 0.99
"""Share of a range that a step keeps."""

FULL, REDUCED = 127, 64
"""Largest code of a weight: of all eight bits, and of seven (`reduce_range`)."""

TINY = float(np.finfo(np.float32).tiny)


class Trained(NamedTuple):
    """What is trained. ranges: product -> [2], the least and largest value of its input; see `names`."""

    network: Network
    ranges: dict[str, Array]


class Grid(NamedTuple):
    """What UINT8 codes stand for: (code - zero) * scale."""

    scale: Array
    zero: Array


class Rounding(NamedTuple):
    """What becomes of the input of the product of a name (given the values that count), of a weight [inputs, outputs],
    and of the table of a name, `tokens` or `positions`."""

    activation: Callable[[str, Array, Array], Array]
    weight: Callable[[Array], Array]
    table: Callable[[str, Array], Array]


def names(layers: int) -> list[str]:
    """The linear products of an encoder, in the order in which they run; `head` is that of every head."""
    parts = ("attention.input", "attention.output", "up", "down")
    return [f"layer{number}.{part}" for number in range(layers) for part in parts] + ["head"]


def grid(ends: Array) -> Grid:
    """The grid of a range [2], in float32: while training. `exact_grid` differs by the last bit of the scale."""
    low, high = jnp.minimum(ends[0], 0.0), jnp.maximum(ends[1], 0.0)
    scale = _divided(high - low, 255.0)
    empty = scale < TINY
    scale = jnp.where(empty, 1.0, scale)
    return Grid(scale, jnp.where(empty, 0.0, jnp.round(_divided(-low, scale))))


def exact_grid(low: float, high: float) -> Grid:
    """The grid that ONNX Runtime gives a range of activations."""
    codes = np.array(0, np.uint8), np.array(255, np.uint8)
    zero, scale = compute_scale_zp(np.float32(low), np.float32(high), *codes)
    return Grid(np.float32(scale), np.float32(zero))


def on_grid(x: Array, where: Grid) -> Array:
    """`x` as its UINT8 codes stand for it; halves are rounded to even, as ONNX's QuantizeLinear does."""
    codes = jnp.clip(jnp.round(_divided(x, where.scale)) + where.zero, 0, 255)
    return (codes - where.zero) * where.scale


def _divided(x: Array, by: Array) -> Array:
    """x / by to the last bit. XLA multiplies by a reciprocal where it sees that the divisor is the same for many, and
    one code in some 100,000 would be another than ONNX Runtime's."""
    return x / jax.lax.optimization_barrier(jnp.broadcast_to(by, x.shape))


def rounded(x: Array, ends: Array, counts: Array) -> Array:
    """`x` on the grid of the range `ends` [2]. counts: where a value of `x` has a say in the range; padding has none.

    Backwards: to `x` what came where it was inside, to `ends` (1 - KEPT) of the way from what the batch showed.
    """
    return _rounded(x, ends, counts)


_rounded = jax.custom_vjp(lambda x, ends, counts: on_grid(x, grid(ends)))


def _back(kept: tuple[Array, Array, Array], slope: Array) -> tuple[Array, Array, None]:
    x, ends, counts = kept
    scale, zero = grid(ends)
    inside = (x >= -zero * scale) & (x <= (255 - zero) * scale)
    return jnp.where(inside, slope, 0.0), (1 - KEPT) * (ends - extremes(x, counts)), None


_rounded.defvjp(lambda x, ends, counts: (on_grid(x, grid(ends)), (x, ends, counts)), _back)


def extremes(x: Array, counts: Array) -> Array:
    """[2]: the least and largest of the values that count, and of zero, which a grid must hold."""
    counted = jnp.broadcast_to(counts, x.shape)
    return jnp.stack([jnp.min(x, where=counted, initial=0.0), jnp.max(x, where=counted, initial=0.0)])


def rounded_weight(weight: Array, most: int) -> Array:
    """A weight [inputs, outputs] as its INT8 codes -most..most stand for it, with a scale for each column; backwards
    the identity."""
    scale = _divided(jnp.max(jnp.abs(weight), axis=0), float(most))
    scale = jnp.where(scale < TINY, 1.0, scale)
    return _straight(weight, jax.lax.stop_gradient(jnp.round(_divided(weight, scale)) * scale))


# The second, with the gradient of the first.
_straight = jax.custom_vjp(lambda x, instead: instead)
_straight.defvjp(lambda x, instead: (instead, None), lambda _, slope: (slope, jnp.zeros_like(slope)))


def logits(
    network: Network, ids: Array, lengths: Array, rounding: Rounding, drop: Callable[[Array], Array]
) -> Array:
    """Scores [batch, all classes] as `models.minilm.export` has them computed, product by product."""
    encoder = network.encoder
    steps = ids.shape[1]
    seen = jnp.arange(steps)[None, :] < lengths[:, None]

    def product(name: str, x: Array, linear: Linear) -> Array:
        return rounding.activation(name, x, seen[:, :, None]) @ rounding.weight(linear.weight) + linear.bias

    tokens, positions = (rounding.table(name, getattr(encoder, name)) for name in ("tokens", "positions"))
    x = tokens[ids] + positions[:steps]
    x = drop(normalise(x, encoder.norm))
    for number, layer in enumerate(encoder.layers):
        at = f"layer{number}"
        mixed = _attend(at, layer, x, seen, product, drop)
        x = normalise(x + drop(mixed), layer.attention_norm)
        up = jax.nn.gelu(product(f"{at}.up", x, layer.up), approximate=False)
        x = normalise(x + drop(product(f"{at}.down", up, layer.down)), layer.output_norm)
    # What is dropped makes the rest larger, which must not widen the range.
    pooled = drop(rounding.activation("head", pool(x, lengths), jnp.array(True)))
    return pooled @ rounding.weight(network.head.weight) + network.head.bias


def _attend(
    at: str,
    layer: Layer,
    x: Array,
    seen: Array,
    product: Callable[[str, Array, Linear], Array],
    drop: Callable[[Array], Array],
) -> Array:
    batch, steps, features = x.shape
    _, heads, size = layer.query.weight.shape
    # The scale of the scores is in the query's weights before they are rounded, as it is in the file.
    parts = ((layer.query, size**-0.5), (layer.key, 1.0), (layer.value, 1.0))
    weight = jnp.concatenate([part.weight.reshape(features, -1) * by for part, by in parts], axis=1)
    bias = jnp.concatenate([part.bias.reshape(-1) * by for part, by in parts])
    three = product(f"{at}.attention.input", x, Linear(weight, bias))
    query, key, value = (
        part.reshape(batch, steps, heads, size).swapaxes(1, 2) for part in jnp.split(three, 3, axis=-1)
    )
    scores = jnp.where(seen[:, None, None, :], query @ key.swapaxes(2, 3), MASKED)
    mixed = (drop(jax.nn.softmax(scores, axis=-1)) @ value).swapaxes(1, 2).reshape(batch, steps, heads * size)
    out = layer.output.weight.reshape(heads * size, features)
    return product(f"{at}.attention.output", mixed, Linear(out, layer.output.bias))


def rounded_table(values: Array) -> Array:
    """A table as its UINT8 codes stand for it, one grid for all of it; backwards the identity."""
    ends = jnp.stack([jnp.min(values), jnp.max(values)])
    return _straight(values, jax.lax.stop_gradient(on_grid(values, grid(ends))))


def scores(
    trained: Trained, ids: Array, lengths: Array, most: int, rate: float = 0.0, key: Any = None
) -> Array:
    """Scores [batch, all classes] with all that is rounded in serving rounded. rate, key: dropout."""

    def drop(x: Array) -> Array:
        nonlocal key
        if not rate or key is None:
            return x
        key, now = jax.random.split(key)
        return x * jax.random.bernoulli(now, 1 - rate, x.shape) / (1 - rate)

    rounding = Rounding(
        lambda name, x, counts: rounded(x, trained.ranges[name], counts),
        lambda weight: rounded_weight(weight, most),
        lambda name, values: rounded_table(values),
    )
    return logits(trained.network, ids, lengths, rounding, drop)


def frozen(trained: Trained, *, reduce_range: bool = False) -> Callable[[Array, Array], Array]:
    """(ids, lengths) -> scores [batch, all classes] on the very grids that `write` exports: what ONNX Runtime answers,
    up to float sums.

    Their last bits now and then move a value to the next code, and layers behind it enlarge that. Six layers of
    MiniLM, 128 sentences: the median of each one's largest difference was 2e-6, a fifth were above 1e-4, one was 0.3
    (rounding itself moves logits by up to 0.9); every label was the same.
    """
    encoder, most = trained.network.encoder, REDUCED if reduce_range else FULL
    ends = {name: np.asarray(pair) for name, pair in trained.ranges.items()}
    for name, values in (("tokens", encoder.tokens), ("positions", encoder.positions)):
        ends[name] = np.array([np.min(values), np.max(values)])
    grids = {name: exact_grid(*pair) for name, pair in ends.items()}

    def answer(network: Network, grids: Mapping[str, Grid], ids: Array, lengths: Array) -> Array:
        rounding = Rounding(
            lambda name, x, counts: on_grid(x, grids[name]),
            lambda weight: rounded_weight(weight, most),
            lambda name, values: on_grid(values, grids[name]),
        )
        return logits(network, ids, lengths, rounding, lambda x: x)

    compiled = jax.jit(answer)
    return lambda ids, lengths: compiled(trained.network, grids, ids, lengths)


def begin(network: Network, rows: Sequence[Sequence[int]], choice: static.Choice = static.MINMAX) -> Trained:
    """A trained network with ranges as they are measured on `rows` of token ids. Raises ValueError without any."""
    with tempfile.TemporaryDirectory() as folder:
        fp32 = export(network.encoder, {"logits": network.head}, Path(folder) / "fp32.onnx")
        found = static.calibrate(fp32, rows, choice)
        given = _inputs(fp32, network.encoder, 1)
    return Trained(network, {name: jnp.array(found[tensor]) for name, tensor in given.items()})


def write(trained: Trained, heads: Mapping[str, Linear], path: Path, *, reduce_range: bool = False) -> Path:
    """Write the file with the weights and grids of `trained`. heads: output name -> its part of the head."""
    with tempfile.TemporaryDirectory() as folder:
        fp32 = export(trained.network.encoder, heads, Path(folder) / "fp32.onnx")
        given = _inputs(fp32, trained.network.encoder, len(heads))
        ranges = {
            tensor: (float(trained.ranges[name][0]), float(trained.ranges[name][1]))
            for name, tensor in given.items()
        }
        return static.quantise(fp32, path, ranges, reduce_range=reduce_range)


def _inputs(fp32: Path, encoder: Encoder, heads: int) -> dict[str, str]:
    """Product -> the tensor in the file that goes into it."""
    found = [tensor for _, tensor in static.products(onnx.load(str(fp32)))]
    wanted = names(len(encoder.layers))
    if len(found) != len(wanted) - 1 + heads or len(set(found[len(wanted) - 1 :])) != 1:
        raise ValueError(
            f"{fp32.name} has {len(found)} linear products where {len(encoder.layers)} layers and {heads} heads have "
            f"{len(wanted) - 1 + heads}: export the encoder unfused, with one MatMul for each"
        )
    return dict(zip(wanted, found, strict=False))


def network(recipe: Recipe, start: Trained, *, reduce_range: bool = False) -> fit.Network:
    """What `models.fit` trains: the encoder as fine-tuning has it, rounded, and its ranges beside it."""
    most = REDUCED if reduce_range else FULL
    tuned = fine_tuning.network(recipe, start.network)

    def answer(trained: Trained, ids: Any, lengths: Any, key: Any) -> Any:
        encoder = trained.network.encoder
        held = encoder._replace(tokens=jax.lax.stop_gradient(encoder.tokens))
        rate = recipe.dropout if key is not None else 0.0
        whole = trained._replace(network=trained.network._replace(encoder=held))
        return scores(whole, ids, lengths, most, rate, key)

    def optimiser(steps: int) -> Any:
        inner = tuned.optimiser(steps)

        def update(slope: Trained, state: Any, trained: Trained) -> tuple[Trained, Any]:
            moved, state = inner.update(slope.network, state, trained.network)
            return Trained(moved, jax.tree.map(jnp.negative, slope.ranges)), state

        return optax.GradientTransformation(lambda trained: inner.init(trained.network), update)

    return fit.Network(start, answer, optimiser, tuned.sizes)
