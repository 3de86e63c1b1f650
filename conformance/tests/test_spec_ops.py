"""Laws of the op spec that hold for every op: the reference is right, and its samples are fair."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import array_api_strict
import numpy as np
import pytest

from snnx.ops import OPS, SPEC_HASH, Op, Sample, Tolerance, op_table_hash

PAIRS = [(op, sample) for op in OPS.values() for sample in op.samples()]


def cases(pairs: Iterable[tuple[Op, Sample]]) -> list[Any]:
    return [pytest.param(op, sample, id=f"{op.name}-{sample.name}") for op, sample in pairs]


CASES = cases(PAIRS)
EXACT = cases(pair for pair in PAIRS if pair[1].kind != "random")
SMOOTH = cases(
    (op, sample)
    for op, sample in PAIRS
    if op.smooth and op.differentiable and sample.kind == "random"
)
STEP = 1e-5


def convert(arrays: Any, xp: Any, dtype: type = np.float64) -> dict[str, Any]:
    """Return the arrays in a namespace, the floating ones in `dtype`."""
    return {name: xp.asarray(rounded(array, dtype)) for name, array in arrays.items()}


def rounded(array: Any, dtype: type) -> np.ndarray:
    array = np.asarray(array)
    return array.astype(dtype) if array.dtype.kind == "f" else array


def cotangents(sample: Sample, outputs: Any) -> dict[str, np.ndarray]:
    """Return the sample's cotangents, zeros where it names others only, or fixed dyadic ones."""
    if sample.cotangents is not None:
        return {n: sample.cotangents.get(n, np.zeros(np.shape(y))) for n, y in outputs.items()}
    rng = np.random.default_rng(7)
    return {n: rng.integers(-4, 5, np.shape(y)) * 0.25 for n, y in outputs.items()}


def differentiable(op: Op, sample: Sample) -> list[str]:
    return [n for n in sample.inputs if any(fnmatchcase(n, d) for d in op.differentiable)]


def run(op: Op, sample: Sample, xp: Any, dtype: type = np.float64) -> tuple[dict, dict]:
    """Return outputs and gradients as numpy arrays."""
    inputs = convert(sample.inputs, xp, dtype)
    outputs = op.forward(xp, inputs, sample.attributes)
    given = convert(cotangents(sample, outputs), xp, dtype)
    gradients = op.vjp(xp, inputs, sample.attributes, outputs, given)
    return convert(outputs, np, dtype), convert(gradients, np, dtype)


def axes_of(side: str) -> dict[str, list[str]]:
    """Return the axes of each term of one side of a signature."""
    terms = [term.strip().rstrip("?") for term in side.split(",")]
    return {term.split("[")[0]: term.split("[")[1].rstrip("]").split() for term in terms if term}


def bind(axes: list[str], shape: tuple[int, ...], bound: dict[str, Any]) -> None:
    """Bind the names of the axes to the sizes of a shape; fail where a name has another size."""
    many = [i for i, axis in enumerate(axes) if axis == "..." or axis.startswith("*")]
    if many:
        before, after = many[0], len(axes) - many[0] - 1
        middle = shape[before : len(shape) - after]
        sizes = [*shape[:before], tuple(middle), *shape[len(shape) - after :]]
    else:
        sizes = list(shape)
    assert len(sizes) == len(axes), (axes, shape)
    for axis, size in zip(axes, sizes, strict=True):
        assert bound.setdefault(axis, size) == size, (axis, shape, bound)


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_op_is_hashed_and_documented_by_its_own_file(op: Op) -> None:
    assert op.vjp.__module__ == f"snnx.ops.{op.name}"
    assert op.documentation


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_shapes_follow_the_signature(op: Op, sample: Sample) -> None:
    outputs, gradients = run(op, sample, np)
    left, right = (axes_of(side) for side in op.signature.split("->"))
    bound: dict[str, Any] = {}
    for axes, arrays in ((left, sample.inputs), (right, outputs)):
        for name, array in arrays.items():
            if name in axes and not (name == "x" and "steps" in sample.attributes):
                bind(axes[name], np.shape(array), bound)  # a static x has T = 1 for `steps` steps
            elif name not in axes:  # a family such as p.*, with members of their own shapes
                assert any(fnmatchcase(name, pattern) for pattern in axes), name
    assert all(name in outputs or "*" in name for name in op.outputs)
    assert {n for n in op.differentiable if n in sample.inputs} <= set(gradients)
    assert set(gradients) <= set(differentiable(op, sample))
    for name, gradient in gradients.items():
        assert gradient.shape == np.shape(sample.inputs[name]), name


@pytest.mark.parametrize(("op", "sample"), SMOOTH)
def test_vjp_is_the_derivative_of_forward(op: Op, sample: Sample) -> None:
    inputs = convert(sample.inputs, np)
    outputs, gradients = run(op, sample, np)
    given = cotangents(sample, outputs)
    rng = np.random.default_rng(11)

    def value(name: str, x: np.ndarray) -> float:
        out = op.forward(np, {**inputs, name: x}, sample.attributes)
        return float(sum(np.sum(given[n] * y) for n, y in out.items() if np.any(given[n])))

    for name, gradient in gradients.items():
        x = inputs[name]
        coordinates = rng.permutation(x.size)[:12]
        directions = [np.eye(1, x.size, k).reshape(x.shape) for k in coordinates]
        directions += [rng.standard_normal(x.shape) for _ in range(3)]
        for d in directions:
            found = (value(name, x + STEP * d) - value(name, x - STEP * d)) / (2 * STEP)
            wanted = float(np.sum(gradient * d))
            scale = 1.0 + float(np.sum(np.abs(gradient * d)))
            assert abs(found - wanted) <= 1e-7 * scale, (name, found, wanted)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_reference_uses_the_array_api_standard_only(op: Op, sample: Sample) -> None:
    for ours, strict in zip(run(op, sample, np), run(op, sample, array_api_strict), strict=True):
        assert ours.keys() == strict.keys()
        for name in ours:
            np.testing.assert_array_equal(strict[name], ours[name], err_msg=name)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_reference_leaves_its_inputs_alone(op: Op, sample: Sample) -> None:
    inputs = convert(sample.inputs, np)
    for array in inputs.values():
        array.setflags(write=False)
    outputs = op.forward(np, inputs, sample.attributes)
    given = cotangents(sample, outputs)
    for array in (*outputs.values(), *given.values()):
        np.asarray(array).flags.writeable = False
    op.vjp(np, inputs, sample.attributes, outputs, given)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_reference_is_finite(op: Op, sample: Sample) -> None:
    outputs, gradients = run(op, sample, np)
    for name, array in (*outputs.items(), *gradients.items()):
        assert np.all(np.isfinite(array)), name


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_samples_of_an_op_compare_something(op: Op) -> None:
    samples = list(op.samples())
    names = [sample.name for sample in samples]
    assert len(set(names)) == len(names)
    results = [run(op, sample, np) for sample in samples]
    for side in (0, 1):
        for name in {name for result in results for name in result[side]}:
            assert any(np.any(result[side][name]) for result in results if name in result[side])


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_samples_are_the_same_at_every_call(op: Op) -> None:
    for first, second in zip(op.samples(), op.samples(), strict=True):
        assert first.name == second.name
        for name in first.inputs:
            np.testing.assert_array_equal(first.inputs[name], second.inputs[name])


def fits(array: np.ndarray, dtype: str) -> bool:
    """Return whether a dtype holds every number of a float64 array exactly."""
    array = np.asarray(array, dtype=np.float64)
    if dtype == "bfloat16":  # float32 whose lower 16 bits are zero
        single = array.astype(np.float32)
        return bool(np.all(single == array) and not np.any(single.view(np.uint32) & 0xFFFF))
    with np.errstate(over="ignore"):
        return bool(np.all(array.astype(dtype).astype(np.float64) == array))


@pytest.mark.parametrize(("op", "sample"), EXACT)
def test_exact_samples_fit_every_dtype_they_name(op: Op, sample: Sample) -> None:
    outputs, gradients = run(op, sample, np)
    given = sample.cotangents or {}
    results = {**outputs, **{f"gradient of {n}": g for n, g in gradients.items() if given}}
    inputs = {n: x for n, x in sample.inputs.items() if np.asarray(x).dtype.kind == "f"}
    for dtype in sample.dtypes:
        for name, array in {**results, **inputs, **given}.items():
            assert fits(array, dtype), (dtype, name)


@pytest.mark.parametrize(("op", "sample"), EXACT)
def test_exact_samples_give_the_same_bits_in_float32(op: Op, sample: Sample) -> None:
    double, single = run(op, sample, np), run(op, sample, np, np.float32)
    for wanted, found in zip(double, single, strict=True):
        for name in wanted:
            np.testing.assert_array_equal(found[name].astype(np.float64), wanted[name], name)


@pytest.mark.parametrize("op", OPS.values(), ids=OPS)
def test_an_op_documents_itself(op: Op) -> None:
    assert OPS[op.name] is op
    assert op.documentation.strip()
    assert op.source
    assert {"float32", "bfloat16", "float16"} <= set(op.tolerance)


def test_a_missing_or_unknown_input_is_refused_by_name() -> None:
    x = np.zeros((1, 2))
    with pytest.raises(ValueError, match=r"linear: missing inputs \['weight'\]"):
        OPS["linear"].check_inputs({"x": x})
    with pytest.raises(ValueError, match=r"unknown inputs \['scale'\]"):
        OPS["linear"].check_inputs({"x": x, "weight": x, "scale": x})


def test_the_spec_hash_moves_with_a_tolerance() -> None:
    op = OPS["linear"]
    looser = {**op.tolerance, "float32": Tolerance(1e-3, 1e-3)}
    fields = {name: getattr(op, name) for name in Op.__dataclass_fields__}
    changed = {**OPS, "linear": Op(**{**fields, "tolerance": looser})}
    assert op_table_hash(OPS) == SPEC_HASH
    assert op_table_hash(changed) != SPEC_HASH
