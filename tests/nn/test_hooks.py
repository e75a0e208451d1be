"""Hooks of modules: when they are called, with what, and what their results replace."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import Tensor
from tinygrad_lstm.models import LSTM


class Scaled(tg.nn.Module):
    """by * x, which notes that it runs."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log = [] if log is None else log

    def forward(self, x: Tensor, by: float = 2.0) -> Tensor:
        self.log.append("forward")
        return x * by


def leaf(*values: float) -> Tensor:
    return tg.tensor(values, requires_grad=True)


def noting(log: list[Any], what: str) -> Callable[..., None]:
    return lambda *given: log.append(what)


# -- forward -----------------------------------------------------------------------------------------------------------


def test_hooks_are_called_in_order() -> None:
    log: list[Any] = []
    module = Scaled(log)
    module.register_forward_hook(noting(log, "after 1"))
    module.register_forward_pre_hook(noting(log, "before 1"))
    module.register_forward_pre_hook(noting(log, "before 2"))
    module.register_forward_pre_hook(noting(log, "before 0"), prepend=True)
    module.register_forward_hook(noting(log, "after 2"))
    module.register_forward_hook(noting(log, "after 0"), prepend=True)
    module(tg.ones(1))
    assert log == ["before 0", "before 1", "before 2", "forward", "after 0", "after 1", "after 2"]


def test_forward_hooks_see_and_replace_arguments_and_output() -> None:
    module, seen = Scaled(), list[Any]()
    module.register_forward_pre_hook(lambda m, args: args[0] + 1)  # a lone argument
    module.register_forward_pre_hook(lambda m, args: (args[0] * 10, 3.0))
    module.register_forward_hook(lambda m, args, y: seen.append((m, args[0].tolist(), args[1:], y.tolist())))
    module.register_forward_hook(lambda m, args, y: -y)
    assert module(tg.ones(1)).tolist() == [-60.0]
    assert seen == [(module, [20.0], (3.0,), [60.0])]


def test_forward_hooks_with_keyword_arguments() -> None:
    module, seen = Scaled(), list[Any]()
    module.register_forward_pre_hook(lambda m, args, kwargs: (args, {"by": kwargs["by"] + 1}), with_kwargs=True)
    module.register_forward_pre_hook(lambda m, args, kwargs: None, with_kwargs=True)
    module.register_forward_hook(lambda m, args, kwargs, y: seen.append((args[0].tolist(), kwargs)), with_kwargs=True)
    assert module(tg.ones(1), by=4.0).tolist() == [5.0]
    assert seen == [([1.0], {"by": 5.0})]
    module.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True)
    with pytest.raises(TypeError, match=r"Scaled: a forward pre-hook .* must return None or \(args, kwargs\)"):
        module(tg.ones(1), by=4.0)


def test_a_hook_that_is_removed_leaves_the_module_as_it_was() -> None:
    module, log = Scaled(), list[Any]()
    before = dict(vars(module))
    handle = module.register_forward_hook(noting(log, "first"))
    with module.register_forward_hook(noting(log, "second")):
        module(tg.ones(1))
    module(tg.ones(1))
    handle.remove()
    handle.remove()
    module(tg.ones(1))
    assert log == ["first", "second", "first"] and vars(module) == before


def test_hooks_may_remove_themselves_and_add_others() -> None:
    module, log = Scaled(), list[Any]()

    def once(m: Scaled, args: Any, y: Tensor) -> None:
        handle.remove()
        m.register_forward_hook(noting(log, "later"))
        log.append("once")

    handle = module.register_forward_hook(once)
    module(tg.ones(1))
    module(tg.ones(1))
    assert log == ["once", "later"]


def test_hooks_that_are_always_called() -> None:
    module, log = Scaled(), list[Any]()
    module.register_forward_hook(noting(log, "not reached"))
    module.register_forward_hook(lambda m, args, y: log.append(y), always_call=True)
    with pytest.raises(TypeError):
        module(None, by=object())
    assert log == [None]
    module.register_forward_hook(lambda m, args, y: {}["x"], always_call=True)
    with pytest.warns(UserWarning, match="always_call.*KeyError"), pytest.raises(TypeError):
        module(None, by=object())


def test_hooks_are_functions() -> None:
    with pytest.raises(TypeError, match="register hook: expected a function, got int"):
        Scaled().register_forward_hook(3)  # type: ignore[arg-type]


def test_copies_have_hooks_of_their_own() -> None:
    module, log = Scaled(), list[Any]()
    handle = module.register_forward_hook(noting(log, "called"))
    twin = copy.deepcopy(module)
    handle.remove()
    module(tg.ones(1))
    assert log == []
    twin(tg.ones(1))
    assert len(log) + len(twin.log) == 2  # a deep copy of the log is the twin's


# -- backward ----------------------------------------------------------------------------------------------------------


def test_backward_hooks_get_gradients_of_inputs_and_outputs(device: str) -> None:
    layer = tg.nn.Linear(3, 2).to(device)
    seen: list[Any] = []
    layer.register_full_backward_pre_hook(lambda m, out: seen.append(("before", [g.tolist() for g in out])))
    layer.register_full_backward_hook(lambda m, inp, out: seen.append(([g.tolist() for g in inp], out[0].tolist())))
    x = tg.ones(1, 3, device=device, requires_grad=True)
    (layer(x) * tg.tensor([1.0, 10.0], device=device)).sum().backward()
    expected = (layer.weight * tg.tensor([[1.0], [10.0]], device=device)).sum(0).tolist()
    assert x.grad is not None and x.grad.tolist()[0] == pytest.approx(expected)
    assert seen == [("before", [[[1.0, 10.0]]]), ([x.grad.tolist()], [[1.0, 10.0]])]


def test_backward_hooks_change_no_value_and_no_gradient() -> None:
    def gradients(hooked: bool) -> list[Any]:
        tg.manual_seed(0)
        lstm, x = LSTM(3, 4), tg.randn(5, 2, 3, requires_grad=True)
        if hooked:
            for module in lstm.modules():
                module.register_full_backward_hook(lambda m, inp, out: None)
        out, (h, c) = lstm(x)
        (first,) = tg.grad((out * out).sum() + h.sum() + (c * c).sum(), x, create_graph=True)
        (first * first).sum().backward()
        return [out.tolist(), first.tolist(), x.grad.tolist(), *(p.grad.tolist() for p in lstm.parameters())]

    assert gradients(True) == gradients(False)


def test_backward_hooks_replace_gradients() -> None:
    module, x = Scaled(), leaf(1.0, 2.0)
    module.register_full_backward_pre_hook(lambda m, out: out[0] * 10)  # a lone gradient
    module.register_full_backward_hook(lambda m, inp, out: (inp[0] + out[0],))
    module.register_full_backward_hook(lambda m, inp, out: (inp[0] * 2, None)[:1])
    y = module(x)
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [60.0, 60.0]


def test_gradients_through_replaced_gradients() -> None:
    module, x = Scaled(), leaf(3.0)
    module.register_full_backward_hook(lambda m, inp, out: (inp[0] * inp[0],))
    (first,) = tg.grad((module(x) ** 2).sum(), x, create_graph=True)
    assert first.tolist() == [(2 * 2 * 6.0) ** 2]
    first.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [(128 * 3.0) ** 2]  # squared by the hook once more


class Pair(NamedTuple):
    first: Tensor
    second: Tensor
    name: str


class Several(tg.nn.Module):
    def forward(self, x: Any, y: Any = None, z: Any = None) -> Pair:
        return Pair(x * 2, x * 3, "pair")


def test_what_has_no_gradient_is_none() -> None:
    module, seen = Several(), list[Any]()
    module.register_full_backward_hook(lambda m, *gradients: seen.append(gradients))
    pair = module(leaf(1.0), tg.ones(2), "z")
    assert isinstance(pair, Pair) and pair.name == "pair"
    pair.first.sum().backward()
    ((of_inputs, of_outputs),) = seen
    assert of_inputs[0].tolist() == [2.0] and of_inputs[1:] == (None, None)
    assert of_outputs[0].tolist() == [1.0] and of_outputs[1:] == (None, None)


def test_backward_hooks_without_inputs_that_require_gradients() -> None:
    layer, seen = tg.nn.Linear(3, 2), list[Any]()
    layer.register_full_backward_hook(lambda m, inp, out: seen.append((inp, out[0].tolist())))
    layer(tg.ones(1, 3)).sum().backward()
    assert seen == [((None,), [[1.0, 1.0]])]
    layer.freeze()
    assert not layer(tg.ones(1, 3)).requires_grad
    with tg.no_grad():
        layer(tg.ones(1, 3, requires_grad=True))
    assert len(seen) == 1


def test_backward_hooks_of_modules_within_checkpoints() -> None:
    module, seen = tg.nn.Sequential(Scaled(), Scaled()), list[Any]()
    for part in module.children():
        part.register_full_backward_hook(lambda m, inp, out: seen.append((inp[0].tolist(), out[0].tolist())))
    x = leaf(1.0)
    tg.checkpoint(lambda x: module(x).exp(), x).log().sum().backward()
    np.testing.assert_allclose(seen, [([2.0], [1.0]), ([4.0], [2.0])], rtol=1e-6)


def test_inputs_on_two_devices() -> None:
    class Moved(tg.nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x * y.cpu()

    module, seen = Moved(), list[Any]()
    module.register_full_backward_hook(lambda m, inp, out: seen.append([str(g.device) for g in inp]))
    x, y = leaf(2.0), tg.tensor([3.0], device="strict", requires_grad=True)
    module(x, y).sum().backward()
    assert seen == [["cpu", "strict"]]
    assert x.grad is not None and y.grad is not None and (x.grad.item(), y.grad.item()) == (3.0, 2.0)


@pytest.mark.parametrize("given, error, message", [
    ((None, None), RuntimeError, "Scaled: a backward hook returned 2 gradients, expected 1"),
    (tg.ones(3), ValueError, r"Scaled: a backward hook returned a gradient of shape \(3,\), expected \(1,\)"),
    (1.0, TypeError, "Scaled: a backward hook must return Tensors or None, got float"),
])  # fmt: skip
def test_what_a_backward_hook_returns_must_have_the_gradients_shape(
    given: Any, error: type[Exception], message: str
) -> None:
    for kind in ("register_full_backward_pre_hook", "register_full_backward_hook"):
        module, x = Scaled(), leaf(1.0)
        getattr(module, kind)(lambda *gradients: given)
        with pytest.raises(error, match=message):
            module(x).sum().backward()
        assert x.grad is None


def test_a_gradient_where_there_is_none_is_refused() -> None:
    module = Several()
    module.register_full_backward_hook(lambda m, inp, out: (inp[0], inp[0]))
    with pytest.raises(RuntimeError, match="returned a gradient where there is none"):
        module(leaf(1.0), 2).first.sum().backward()


def test_outputs_without_tensors_have_no_backward_hooks() -> None:
    class Named(tg.nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"x": x}

    module, x = Named(), leaf(1.0)
    module.register_full_backward_hook(lambda m, inp, out: None)
    with pytest.warns(UserWarning, match="Named: backward hooks are not called, as the module returned dict"):
        y = module(x)["x"]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0]
