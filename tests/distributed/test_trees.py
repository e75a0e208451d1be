"""The order of additions is the same for any number of workers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_lstm.distributed.trees import SumTree


@st.composite
def trees(draw: st.DrawFn) -> SumTree:
    micro_batches = draw(st.integers(1, 24))
    return SumTree(micro_batches, draw(st.integers(1, micro_batches)))


@given(trees())
def test_every_micro_batch_is_computed_once(tree: SumTree) -> None:
    computed = [k for worker in range(tree.workers) for k in tree.batches_of(worker)]
    assert computed == list(range(tree.micro_batches))
    spans = [span for worker in range(tree.workers) for span in tree.spans_of(worker)]
    assert [k for start, stop in spans for k in range(start, stop)] == computed
    sizes = [len(tree.batches_of(worker)) for worker in range(tree.workers)]
    assert max(sizes) - min(sizes) <= 1


@given(trees(), st.integers(0, 1000))
def test_the_sum_does_not_depend_on_the_workers(tree: SumTree, seed: int) -> None:
    parts = np.random.default_rng(seed).normal(size=(tree.micro_batches, 5)).astype(np.float32)
    alone = SumTree(tree.micro_batches, 1)
    expected = alone.total({(k, k + 1): part.copy() for k, part in enumerate(parts)})
    np.testing.assert_allclose(expected, parts.sum(0), rtol=1e-4, atol=1e-5)
    of_spans = {}
    for worker in range(tree.workers):
        for start, stop in tree.spans_of(worker):
            stack = []
            for k in range(start, stop):
                span, part = (k, k + 1), parts[k].copy()
                while stack and stack[-1][0] == tree.left_of(span):
                    (first, _), left = stack.pop()
                    span, part = (first, span[1]), left + part
                stack.append((span, part))
            ((_, of_spans[start, stop]),) = stack
    assert tree.total(of_spans).tobytes() == expected.tobytes()
