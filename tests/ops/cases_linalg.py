"""Cases of ops/linalg.py."""

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st
from ops.case import SEEDS, Drawn, case, nonzero, several, shapes

import tinygrad_lstm as tg


@st.composite
def multiplied(draw: st.DrawFn) -> Drawn:
    n, k, m = (draw(st.integers(0, 3)) for _ in range(3))
    leading = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, min_side=0, max_side=3)).input_shapes
    x_shape = (k,) if draw(st.integers(0, 3)) == 0 else (*leading[0], n, k)
    y_shape = (k,) if draw(st.integers(0, 3)) == 0 else (*leading[1], k, m)
    rng = np.random.default_rng(draw(SEEDS))
    return Drawn([nonzero(rng, x_shape), nonzero(rng, y_shape)])


@st.composite
def affine(draw: st.DrawFn) -> Drawn:
    lead, i, o = draw(shapes(0, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    rng = np.random.default_rng(draw(SEEDS))
    arrays = [nonzero(rng, (*lead, i)), nonzero(rng, (o, i))]
    return Drawn(arrays + [nonzero(rng, (o,))] * draw(st.booleans()))


EQUATIONS = [
    "i->i",
    "ij->ji",
    "ij->",
    "ij->i",
    "ii->i",
    "ii",
    "iij->j",
    "i,i->",
    "i,j->ij",
    "ij,jk",
    "ij,jk->ik",
    "bij,bjk->bik",
    "ij,kj->k",
    "ij,jk,kl->il",
    "i,ij,j",
    "ij,k->i",
    "...i,...i->...",
    "...ij,...jk",
    "i...,j->...ij",
]


@st.composite
def contracted(draw: st.DrawFn) -> Drawn:
    equation = draw(st.sampled_from(EQUATIONS))
    lengths = {letter: draw(st.integers(0, 3)) for letter in "bijkl"}
    lead = draw(shapes(0, 2))
    rng = np.random.default_rng(draw(SEEDS))
    arrays = []
    for term in equation.partition("->")[0].split(","):
        before, dots, after = term.partition("...")
        shape = [lengths[letter] for letter in before] + list(lead if dots else ()) + [lengths[c] for c in after]
        arrays.append(nonzero(rng, tuple(shape)))
    return Drawn(arrays, {"equation": equation})


def products(*shapes: str) -> st.SearchStrategy[Drawn]:
    """Arrays whose dimensions have these letters; equal letters have equal lengths."""

    def drawn(lengths: dict[str, int], seed: int) -> Drawn:
        rng = np.random.default_rng(seed)
        return Drawn([nonzero(rng, tuple(lengths[letter] for letter in shape)) for shape in shapes])

    return st.builds(drawn, st.fixed_dictionaries({letter: st.integers(0, 3) for letter in "bnkm"}), SEEDS)


case("matmul", np.matmul, multiplied(), out="same")
case("mm", np.matmul, products("nk", "km"), out="same")
case("bmm", np.matmul, products("bnk", "bkm"), out="same")
case("mv", np.matmul, products("nk", "k"), out="same")
case("dot", np.matmul, products("k", "k"), out="same")
case("addmm", lambda x, y, z: x + y @ z, products("m", "nk", "km"), out="same")
case("baddbmm", lambda x, y, z: x + y @ z, products("nm", "bnk", "bkm"), out="same")
case("linear", lambda x, weight, bias=0.0: x @ weight.T + bias, affine(), ints=False)
case("outer", np.outer, several(nonzero, nonzero), out="same")
case(
    "einsum",
    lambda *arrays, equation: np.einsum(equation, *arrays),
    contracted(),
    lambda *tensors, equation: tg.einsum(equation, *tensors),
    out="same",
    bools=False,
)
