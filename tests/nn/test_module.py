"""`Module` and `Parameter`: names, moving, freezing, groups, copies, and what they look like."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from small_modules import NAMES, Block, learning, values

import tinygrad_lstm as tg
from tinygrad_lstm import nn


class Tied(nn.Module):
    """An embedding whose weight is the output layer's too."""

    def __init__(self) -> None:
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        return self.head(self.embedding(ids))


# -- Parameter ---------------------------------------------------------------------------------------------------------


def test_a_parameter_copies_and_requires_a_gradient():
    source = np.ones(3)
    parameter = nn.Parameter(source)
    source[0] = 7
    assert isinstance(parameter, tg.Tensor)
    assert parameter.requires_grad and parameter.is_leaf
    assert parameter.dtype == np.float64
    assert parameter.tolist() == [1, 1, 1]
    assert not nn.Parameter(tg.ones(2), requires_grad=False).requires_grad


def test_what_ops_make_of_a_parameter_is_a_plain_tensor():
    parameter = nn.Parameter([1.0, 2.0])
    for made in (parameter * 2, parameter[:1], parameter.detach(), parameter.to(dtype="float64")):
        assert type(made) is tg.Tensor


def test_integers_cannot_be_parameters():
    with pytest.raises(TypeError, match="only float tensors have gradients"):
        nn.Parameter([1, 2])


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_follow_the_attributes():
    block = Block()
    assert [name for name, _ in block.named_parameters()] == NAMES
    assert [name for name, _ in block.named_buffers()] == ["offset"]
    assert [name for name, _ in block.named_modules()] == ["", "layers", "layers.0", "layers.1", "dropout"]
    assert [name for name, _ in block.named_children()] == ["layers", "dropout"]
    assert list(block.children()) == [block.layers, block.dropout]
    assert [name for name, _ in block.named_parameters("model")] == [f"model.{name}" for name in NAMES]
    assert all(mine is other for mine, (_, other) in zip(block.parameters(), block.named_parameters(), strict=True))


def test_what_is_removed_or_replaced_is_no_longer_found():
    layer = nn.Linear(2, 2)
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    del layer.weight
    assert list(layer.parameters()) == []


def test_shared_parameters_come_once():
    tied = Tied()
    assert [name for name, _ in tied.named_parameters()] == ["embedding.weight"]
    assert list(tied.state_dict()) == ["embedding.weight", "head.weight"]
    tied(tg.tensor([0, 1])).sum().backward()
    shared = nn.ModuleList([layer := nn.Linear(2, 2), layer])
    assert len(list(shared.parameters())) == 2
    assert len(list(shared.modules())) == 2
    assert repr(tied).splitlines()[0].endswith(" 15 parameters")


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        tuple,
        set,
        frozenset,
        lambda parts: {"a": parts[0]},
        lambda parts: {parts[0]: "a"},
        lambda parts: [parts],
        lambda parts: {"a": [(1, set(parts))]},
    ],
)
def test_modules_in_a_plain_container_are_refused(wrap):
    block = Block()
    with pytest.raises(TypeError, match=r"Block\.extra: .* use nn\.ModuleList"):
        block.extra = wrap([nn.Linear(1, 1)])
    block.extra = wrap([1, 2])


def test_a_list_that_holds_itself_can_be_set():
    module = nn.Module()
    endless = [1]
    endless.append(endless)
    module.extra = endless
    assert module.extra is endless


def test_a_module_cannot_hold_itself():
    module = nn.Module()
    module.child = nn.Module()
    module.child.grandchild = nn.Linear(2, 2)
    for part in (module, module.child, module.child.grandchild):
        with pytest.raises(ValueError, match=r"\.parent: this Module is or contains the module"):
            part.parent = module
    assert list(module.state_dict()) == ["child.grandchild.weight", "child.grandchild.bias"]
    assert "parent" not in repr(module)
    module.other = module.child.grandchild  # twice, but not within itself
    assert len(module.state_dict()) == 4


def test_a_tensor_in_a_parameters_place_is_refused():
    layer = nn.Linear(2, 2)
    before = layer.weight
    with pytest.raises(TypeError, match=r"Linear\.weight is a parameter"):
        layer.weight = layer.weight * 2
    assert layer.weight is before


def test_a_buffer_is_a_tensor():
    with pytest.raises(TypeError, match="'mean' must be a Tensor"):
        nn.Module().register_buffer("mean", np.ones(2))
    with pytest.raises(TypeError, match="that is not a Parameter"):
        nn.Module().register_buffer("mean", nn.Parameter([1.0]))


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"ModuleList does not define forward\(\)"):
        nn.ModuleList()(tg.ones(1))


# -- changing all of it ------------------------------------------------------------------------------------------------


def test_moving_keeps_the_parameter_objects(device):
    block = Block().eval()
    block(tg.ones(2, 3)).sum().backward()
    before = list(block.parameters())
    expected = values(block)
    gradients = [p.grad.tolist() for p in before]
    assert block.to(device, "float64") is block
    assert all(mine is old for mine, old in zip(block.parameters(), before, strict=True))
    for p, gradient in zip(before, gradients, strict=True):
        assert p.device == device and p.grad.device == device
        assert p.dtype == np.float64 and p.grad.dtype == np.float64
        assert p.requires_grad and p.is_leaf
        assert p.grad.tolist() == gradient
    assert block.offset.device == device
    for mine, old in zip(values(block), expected, strict=True):
        np.testing.assert_array_equal(mine, old)
    block.zero_grad()
    x = tg.ones(2, 3, dtype="float64", device=device)
    (block(x) + block(x)).sum().backward()  # each weight twice: their gradients are taken together
    assert all(p.grad.device == device and p.grad.dtype == np.float64 for p in before)


def test_a_dtype_applies_only_to_floats():
    module = nn.Module()
    module.register_buffer("count", tg.tensor([1, 2]))
    module.register_buffer("mean", tg.tensor([1.0]))
    module.to(dtype="float64")
    assert module.count.dtype == np.int64
    assert module.mean.dtype == np.float64
    with pytest.raises(TypeError, match="must be float16, float32 or float64, got int64"):
        module.to(dtype="int64")
    with pytest.raises(ValueError, match="unknown device"):
        module.to("nowhere")


def test_moving_between_forward_and_backward_is_noticed():
    layer = nn.Linear(2, 2)
    loss = layer(layer(tg.ones(1, 2))).sum()
    layer.to(dtype="float64")
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


def test_train_and_eval_reach_all_modules():
    block = Block()
    assert all(module.training for module in block.modules())
    assert block.eval() is block
    assert not any(module.training for module in block.modules())
    x = tg.ones(4, 3)
    np.testing.assert_array_equal(block(x).detach(), block(x).detach())
    assert block.train().dropout.training


def test_zero_grad_and_freezing():
    block = Block()
    block(tg.ones(1, 3)).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())
    block.layers[0].requires_grad_(False)
    block(tg.ones(1, 3)).sum().backward()
    assert block.layers[0].weight.grad is None
    assert block.layers[1].weight.grad is not None
    block.requires_grad_()
    assert block.layers[0].weight.requires_grad


def test_freezing_by_names() -> None:
    block = Block()
    block(tg.ones(1, 3)).sum().backward()
    assert block.freeze("layers.0.*", "*.1.bias") is block
    assert learning(block) == ["scale", "layers.1.weight"]
    assert [name for name, p in block.named_parameters() if p.grad is not None] == ["scale", "layers.1.weight"]
    assert block.unfreeze("layers.?.bias") is block
    assert learning(block) == ["scale", "layers.0.bias", "layers.1.weight", "layers.1.bias"]
    assert learning(block.freeze()) == []
    assert learning(block.unfreeze()) == NAMES
    assert learning(block.layers.freeze("[0]*")) == ["1.weight", "1.bias"]
    assert block.training and block.dropout.training


def test_a_tied_parameter_is_frozen_by_any_of_its_names() -> None:
    for pattern in ("embedding.*", "head.weight"):
        tied = Tied().freeze(pattern)
        assert not tied.embedding.weight.requires_grad
        assert tied.unfreeze(pattern).head.weight.requires_grad


@pytest.mark.parametrize("function", [nn.Module.freeze, nn.Module.unfreeze])
def test_a_pattern_that_matches_nothing_is_named_and_nothing_changes(function: Callable[..., nn.Module]) -> None:
    block = Block()
    block.scale.requires_grad = False
    said = rf"{function.__name__}: 'layer.0.\*' matches no parameter; the nearest are layers.0.\w+, layers.0.\w+, "
    with pytest.raises(ValueError, match=said):
        function(block, "*scale", "*1.weight", "layer.0.*")
    with pytest.raises(TypeError, match=rf"{function.__name__}: expected patterns such as 'lstm.\*', got list"):
        function(block, "*", ["scale"])
    assert learning(block) == NAMES[1:]
    with pytest.raises(ValueError, match="matches no parameter; there is none"):
        function(nn.Dropout(), "*")


def test_integers_stay_frozen() -> None:
    module = nn.Module()
    module.first = nn.Parameter([1.0], requires_grad=False)
    module.table = nn.Parameter([1, 2], requires_grad=False)
    for function in (module.unfreeze, module.requires_grad_, lambda: module.unfreeze("*")):
        with pytest.raises(TypeError, match="only floats have gradients, but these are integers: table"):
            function()
        assert learning(module) == []
    assert learning(module.unfreeze("first").freeze("table")) == ["first"]


def test_parameter_groups() -> None:
    block = Block().freeze("layers.0.weight")
    groups = block.parameter_groups({"layers.*": {"lr": 0.1}, "*": {"lr": 0.2, "momentum": 0.5}})
    assert [[p.shape for p in group.pop("params")] for group in groups] == [[(3,), (3, 3), (3,)], [(3,)]]
    assert groups == [{"lr": 0.1}, {"lr": 0.2, "momentum": 0.5}]
    (group,) = block.parameter_groups({})
    assert list(map(id, group["params"])) == [id(p) for p in block.parameters() if p.requires_grad]
    assert block.freeze().parameter_groups({}) == []
    (group,) = Tied().parameter_groups({"head.*": {"lr": 0.1}})
    assert len(group["params"]) == 1 and group["lr"] == 0.1


def test_groups_that_would_be_empty_are_refused() -> None:
    block = Block().freeze("scale")
    with pytest.raises(ValueError, match=r"'head.\*' matches no parameter; the nearest are"):
        block.parameter_groups({"head.*": {"lr": 0.1}})
    with pytest.raises(ValueError, match="all that 'scale' matches is frozen, or in the group of an earlier pattern"):
        block.parameter_groups({"scale": {"lr": 0.1}})
    with pytest.raises(ValueError, match=r"all that '\*bias' matches is frozen, or in the group"):
        block.parameter_groups({"layers.*": {}, "*bias": {"lr": 0.1}})
    with pytest.raises(TypeError, match=r"expected settings such as \{'lr': 0.001\} for 'scale', got float"):
        block.parameter_groups({"scale": 0.1})  # type: ignore[dict-item]


def test_apply_calls_children_first():
    block = Block()
    seen = []
    assert block.apply(seen.append) is block
    assert seen[-1] is block
    assert set(seen) == set(block.modules())
    assert seen.index(block.layers[1]) < seen.index(block.layers)


def test_a_deep_copy_is_independent(device):
    with tg.default_device(device):
        tied = Tied()
        tied(tg.tensor([1])).sum().backward()
        copied = copy.deepcopy(tied)
        assert copied.head.weight is copied.embedding.weight
        assert type(copied.head.weight) is nn.Parameter
        assert copied.head.weight.device is tied.head.weight.device
        assert copied.head.weight.grad.tolist() == tied.head.weight.grad.tolist()
        before = tied.head.weight.grad.tolist()
        copied(tg.tensor([1])).sum().backward()
    assert tied.head.weight.grad.tolist() == before
    assert copied.head.weight.grad.tolist() != before
    with pytest.raises(RuntimeError, match="deepcopy: only leaves"):
        copy.deepcopy(tied.head.weight * 2)


def test_a_module_is_pickled_with_its_ties(device):
    tied = Tied().to(device)
    again = pickle.loads(pickle.dumps(tied))
    assert type(again.head.weight) is nn.Parameter
    assert again.head.weight is again.embedding.weight
    assert again.head.weight.requires_grad and again.head.weight.device is tied.head.weight.device
    for mine, expected in zip(values(again), values(tied), strict=True):
        np.testing.assert_array_equal(mine, expected)
    optimizer = tg.optim.Adam(again.parameters())
    again(tg.tensor([0, 1], device=device)).sum().backward()
    optimizer.step()
    assert (values(again)[0] != values(tied)[0]).any()


def test_repr_is_a_tree_with_counts():
    assert repr(Block()).splitlines() == [
        "Block                          27 parameters",
        "  layers: ModuleList           24",
        "    0: Linear(3, 3)            12",
        "    1: Linear(3, 3)            12",
        "  dropout: Dropout(p=0.5)      0",
    ]
    assert repr(nn.Linear(1000, 1, bias=False)) == "Linear(1000, 1, bias=False)      1,000 parameters"
    assert repr(nn.LayerNorm(1, bias=False)).endswith(" 1 parameter")
