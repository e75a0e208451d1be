"""`Module` and `Parameter`: names, saving and loading, moving, and what they look like."""

import copy
import pickle
import re
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import tinygrad_lstm as tg
from tinygrad_lstm import nn


class Block(nn.Module):
    """A parameter, a buffer, children and a plain attribute."""

    def __init__(self, width: int = 3) -> None:
        self.scale = nn.Parameter(tg.ones(width))
        self.register_buffer("offset", tg.arange(width, dtype="float32"))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.dropout = nn.Dropout(0.5)
        self.width = width

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        x = x * self.scale + self.offset
        for layer in self.layers:
            x = layer(x)
        return self.dropout(x)


class Tied(nn.Module):
    """An embedding whose weight is the output layer's too."""

    def __init__(self) -> None:
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: tg.Tensor) -> tg.Tensor:
        return self.head(self.embedding(ids))


NAMES = ["scale", "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"]


def values(module: nn.Module) -> list[np.ndarray]:
    return list(module.state_dict().values())


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
        with pytest.raises(ValueError, match=r"\.parent: this Module is or holds the module"):
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
    with pytest.raises(TypeError, match="no Parameter"):
        nn.Module().register_buffer("mean", nn.Parameter([1.0]))


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"ModuleList defines no forward\(\)"):
        nn.ModuleList()(tg.ones(1))


# -- saving and loading ------------------------------------------------------------------------------------------------


def test_a_state_dict_is_a_snapshot_on_the_host(device):
    with tg.default_device(device):
        block = Block()
    state = block.state_dict()
    assert sorted(state) == sorted([*NAMES, "offset"])
    assert all(isinstance(array, np.ndarray) for array in state.values())
    before = state["scale"].copy()
    with tg.no_grad():
        block.scale.fill_(9)
    np.testing.assert_array_equal(state["scale"], before)


def test_loading_brings_the_same_outputs_in_the_same_parameters(device):
    with tg.default_device(device):
        block, other = Block().eval(), Block().eval()
        before = list(other.parameters())
        x = tg.randn(4, 3)
    report = other.load_state_dict(block.state_dict())
    assert report == ([], [])
    assert all(mine is old for mine, old in zip(other.parameters(), before, strict=True))
    np.testing.assert_array_equal(other(x).detach().cpu(), block(x).detach().cpu())


def test_values_are_taken_from_any_place_and_dtype(device):
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": tg.tensor([[1, 2]], device=device), "bias": [0.5]})
    assert layer.weight.tolist() == [[1, 2]]
    assert layer.bias.tolist() == [0.5]
    assert layer.weight.dtype == np.float32
    assert layer.weight.device == "cpu"
    layer.load_state_dict({"weight": np.array([[3.0, 4.0]]), "bias": layer.bias})
    assert layer.weight.tolist() == [[3, 4]]
    assert layer.weight.dtype == np.float32


def test_one_error_lists_all_that_does_not_fit_and_nothing_changes():
    block = Block()
    before = values(block)
    state = block.state_dict()
    state["scale"] += 1
    del state["layers.0.bias"], state["offset"]
    state["layers.1.weight"] = np.ones((4, 3), np.float32)
    state["layers.1.bias"] = np.ones((2,), np.float64)
    state |= {"head.weight": np.ones(2), "step": np.ones(())}
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    message = str(caught.value)
    assert "missing: layers.0.bias, offset" in message
    assert "unexpected: head.weight, step" in message
    assert "layers.1.weight (given float32 (4, 3), expected float32 (3, 3))" in message
    assert "layers.1.bias (given float64 (2,), expected float32 (3,))" in message
    assert "\n" not in message
    for mine, old in zip(values(block), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_loading_what_there_is():
    block = Block()
    report = block.load_state_dict({"scale": [1, 2, 3], "head.weight": [0]}, strict=False)
    assert block.scale.tolist() == [1, 2, 3]
    assert report.missing == [*NAMES[1:], "offset"]
    assert report.unexpected == ["head.weight"]
    with pytest.raises(ValueError, match="not fitting: scale"):
        block.load_state_dict({"scale": [1, 2]}, strict=False)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0, 1e300, 0.0], "given float64 numbers beyond the range of float32"),
        ("abc", "given a str, expected float32 (3,)"),
        (None, "given a NoneType, expected"),
        ([[1], [1, 2]], "given a list, expected"),
        (np.ones(3, complex), "given complex128 (3,), expected float32 (3,)"),
        (np.array([1.0, -1e300, np.inf]), "given float64 numbers beyond the range of float32"),
    ],
)
def test_a_value_that_is_none_is_named_among_the_others(value, said):
    block = Block()
    before = values(block)
    state = block.state_dict() | {"scale": value, "layers.0.bias": [1, 2]}
    with pytest.raises(ValueError) as caught:
        block.load_state_dict(state)
    assert f"scale ({said}" in str(caught.value)
    assert "layers.0.bias (given int64 (2,)" in str(caught.value)
    assert "\n" not in str(caught.value)
    for mine, old in zip(values(block), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_numbers_that_a_dtype_cannot_hold_are_refused(device):
    module = nn.Module()
    module.register_buffer("count", tg.tensor([1, 2], dtype="int32", device=device))
    module.register_buffer("half", tg.ones(2, dtype="float16", device=device))
    for name, value in {"count": [1, 2**40], "half": [1, 70000]}.items():
        with pytest.raises(ValueError, match=f"{name} .given int64 numbers beyond the range of"):
            module.load_state_dict({name: value}, strict=False)
    module.load_state_dict({"count": [1, 2**31 - 1], "half": np.array([np.inf, np.nan])})
    assert module.count.tolist() == [1, 2**31 - 1]
    assert str(module.half.tolist()) == "[inf, nan]"


def test_floats_do_not_become_integers_unseen():
    module = nn.Module()
    module.register_buffer("count", tg.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"count \(given float64"):
        module.load_state_dict({"count": np.array([1.5, 2.5])})
    assert module.count.tolist() == [1, 2]


def test_loading_between_forward_and_backward_is_noticed():
    layer = nn.Linear(2, 2)
    loss = layer(layer(tg.ones(1, 2))).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


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


def test_a_dtype_is_for_floats_alone():
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


def learning(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


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
        with pytest.raises(TypeError, match="only floats have gradients, and of integers are table"):
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
    with pytest.raises(ValueError, match="all that 'scale' matches is frozen, or went with a pattern before"):
        block.parameter_groups({"scale": {"lr": 0.1}})
    with pytest.raises(ValueError, match=r"all that '\*bias' matches is frozen, or went"):
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


def test_a_deep_copy_stands_on_its_own(device):
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


# -- laws --------------------------------------------------------------------------------------------------------------

trees = st.recursive(
    st.integers(0, 3),
    lambda below: st.lists(st.tuples(st.sampled_from("abcd"), below), max_size=3, unique_by=lambda pair: pair[0]),
    max_leaves=8,
)


def grown(tree) -> nn.Module:
    """A module with as many parameters as a leaf of the tree says, and a child for each branch."""
    module = nn.Module()
    if isinstance(tree, int):
        for k in range(tree):
            setattr(module, f"p{k}", nn.Parameter(tg.randn(k + 1)))
    else:
        for name, below in tree:
            setattr(module, name, grown(below))
    return module


def counted(tree) -> int:
    return tree * (tree + 1) // 2 if isinstance(tree, int) else sum(counted(below) for _, below in tree)


@given(trees)
def test_any_tree_of_modules_round_trips(tree):
    module, other = grown(tree), grown(tree)
    state = module.state_dict()
    names = [name for name, _ in module.named_parameters()]
    assert list(state) == names
    assert len(set(names)) == len(names) == len(list(module.parameters()))
    assert sum(p.size for p in module.parameters()) == counted(tree)
    other.load_state_dict(state)
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


likely = st.sampled_from(["*", "*p0", "*p1", "p?", "a*", "b.*", "[cd].*", "?.p*", "*.p?", "*a*"])
patterns = st.lists(likely | st.text(alphabet="abcdp01.*?", min_size=1, max_size=4), max_size=3)


def matched(name: str, pattern: str) -> bool:
    """Whether a shell pattern matches, told by a regular expression."""
    return re.fullmatch(pattern.replace(".", r"\.").replace("*", ".*").replace("?", "."), name) is not None


@given(trees, patterns)
def test_what_is_frozen_is_what_patterns_match(tree, patterns: list[str]) -> None:
    module = grown(tree)
    names = learning(module)
    if not all(any(matched(name, pattern) for name in names) for pattern in patterns):
        with pytest.raises(ValueError, match="matches no parameter"):
            module.freeze(*patterns)
        assert learning(module) == names
        return
    chosen = [name for name in names if not patterns or any(matched(name, pattern) for pattern in patterns)]
    module.freeze(*patterns)
    assert learning(module) == [name for name in names if name not in chosen]
    module.freeze().unfreeze(*patterns)
    assert learning(module) == chosen


@given(trees, patterns, st.data())
def test_every_parameter_that_learns_is_in_the_group_of_its_first_pattern(
    tree, patterns: list[str], data: st.DataObject
) -> None:
    module = grown(tree)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.requires_grad = data.draw(st.booleans())
    expected: dict[str | None, list[str]] = {pattern: [] for pattern in patterns}
    for name in learning(module):
        first = next((pattern for pattern in expected if pattern is not None and matched(name, pattern)), None)
        expected.setdefault(first, []).append(name)
    settings = {pattern: {"lr": float(k)} for k, pattern in enumerate(expected) if pattern is not None}
    if not all(expected.values()):
        with pytest.raises(ValueError, match=r"matches no parameter|all that .* matches is frozen"):
            module.parameter_groups(settings)
        return
    groups = module.parameter_groups(settings)
    assert [[names[id(p)] for p in group["params"]] for group in groups] == list(expected.values())
    assert [group["lr"] for group in groups[: len(settings)]] == [own["lr"] for own in settings.values()]
    assert all(group.keys() == {"params"} for group in groups[len(settings) :])
