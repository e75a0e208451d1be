"""Loops folded in sequences of ops: what is true of any sequence, and that declared steps are one loop."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tinygrad_lstm.inspect.folding import Given, Item, Made, Place, find_loops

Program = list[Item]


@st.composite
def sequences(draw: st.DrawFn) -> Program:
    """Any sequence, of so few kinds of ops that much in it looks alike."""
    items: Program = []
    for k in range(draw(st.integers(0, 60))):
        near = st.builds(Made, st.integers(max(0, k - 4), k - 1), st.sampled_from(["a", "b"]), st.integers(0, 1))
        given_ = st.builds(Given, st.sampled_from("xy"), st.booleans())
        values = draw(st.lists(near | given_ if k else given_, max_size=2))
        begins = draw(st.sampled_from([None, None, "one", "other"]))
        items.append(Item(draw(st.sampled_from("fg")) + str(len(values)), values, begins))
    return items


@st.composite
def loops(draw: st.DrawFn) -> tuple[Program, int, int]:
    """A loop after a start and before an end; how many items these two have, and how many a step has.

    Each op of a step has a label of its own, so that a step is no loop itself. The first takes what the last step's
    last one made, and so the loop cannot be cut in two.
    """
    start = [Item("start", [Given("x", False)]) for _ in range(draw(st.integers(1, 3)))]
    size, steps = draw(st.integers(1, 6)), draw(st.integers(10, 30))
    sources = [draw(st.lists(st.integers(0, max(k - 1, 0)), max_size=min(k, 2))) for k in range(size)]  # in the step
    carried = [draw(st.lists(st.integers(0, size - 1), max_size=2)) for _ in range(size)]  # from the step before
    slices = draw(st.booleans())
    items = list(start)
    for t in range(steps):
        base = len(items)
        for k in range(size):
            values: list[Any] = [Made(base + j) for j in sources[k]]
            values += [Made(base - size + j) if t else Given("zeros", False) for j in carried[k]]
            if k == 0:
                values.append(Made(base - 1) if t else Made(0))
                values.append(Made(0, None, t) if slices else Given("w", False))
            items.append(Item(f"op{k}", values, "step" if k == 0 else None))
    items.append(Item("end", [Made(len(items) - 1)]))
    return items, len(start) + 1, size


@st.composite
def disturbed(draw: st.DrawFn) -> Program:
    """One or two loops in a row, some of whose ops do something else, or to something else."""
    items, _, _ = draw(loops())
    if draw(st.booleans()):
        before = len(items)
        for item in draw(loops())[0]:
            moved = [Made(v.at + before, *v[1:]) if isinstance(v, Made) else v for v in item.inputs]
            items.append(Item(item.label, moved))
    for _ in range(draw(st.integers(0, 3))):
        k = draw(st.integers(1, len(items) - 1))
        label, values, begins = items[k]
        values = [Made(draw(st.integers(0, k - 1))) if draw(st.booleans()) else value for value in values]
        items[k] = Item(label if draw(st.booleans()) else "other", values, begins)
    return items


def test_nothing_is_nothing() -> None:
    assert find_loops([]) == ([], [])


@given(loops())
def test_a_loop_is_found_whole(program: tuple[Program, int, int]) -> None:
    items, around, size = program
    places, steps = find_loops(items)
    assert steps == [(len(items) - around) // size]
    assert len({place.shown for place in places}) == around + size
    assert [place.path for place in places if place.path] == [((0, t),) for t in range(steps[0]) for _ in range(size)]


def test_a_last_step_may_lack_what_nobody_used() -> None:
    items: Program = []
    for t in range(10):
        carried = [Made(len(items) - 1), Made(len(items) - 2)] if t else [Given("x", False)] * 2
        items.append(Item("f", carried, "step"))
        at = len(items) - 1
        items += [Item("aside", [Made(at)])] * (t < 9) + [Item("g", [Made(at)])]
    places, steps = find_loops(items)
    assert steps == [10] and len({place.shown for place in places}) == 3
    assert [place.path for place in places[-2:]] == [((0, 9),)] * 2


def test_a_first_step_must_compute_what_the_second_reads() -> None:
    items = [Item("start", [Given("x", False)]), Item("a", [Given("x", False)]), Item("b", [Given("zeros", True)])]
    last_a, last_b = 0, 2  # not the a that stands before b
    for _ in range(10):
        at = len(items)
        items += [Item("a", [Made(last_a)], "step"), Item("m", [Made(last_b)]), Item("b", [Made(at + 1)])]
        last_a, last_b = at, at + 2
    places, steps = find_loops(items)
    assert steps == [10]
    assert places[1] == Place(1, ())


# The second input is the same item at first, and then a new one at each step.
LATE = [
    Item("f", [Given("x", False)]),
    *(Item("f", [Made(k - 1), Made(max(1, k - 9) if k > 1 else 0)]) for k in range(1, 30)),
]


@given(sequences() | disturbed())
@example(LATE)
def test_what_is_shown_stands_for_the_others(items: Program) -> None:
    places, steps = find_loops(items)
    by_place: dict[Place, int] = {}
    for k, place in enumerate(places):
        assert items[k].label == items[place.shown].label
        assert all(0 <= t < steps[loop] for loop, t in place.path)
        assert place not in by_place, "two items at one place"
        by_place[place] = k
        example = places[place.shown]
        assert example.shown == place.shown, "what stands for others stands for itself"
        assert [loop for loop, _ in example.path] == [loop for loop, _ in place.path]
    for k, place in enumerate(places):
        for value, wanted in zip(items[k].inputs, items[place.shown].inputs, strict=True):
            check_input(value, wanted, place, places, by_place)
    for number in steps:
        assert number >= 3


def check_input(value: Any, wanted: Any, place: Place, places: list[Place], by_place: dict[Place, int]) -> None:
    """An input of an item is to it what that of the item shown is to that one; unless a loop begins with it."""
    begins = any(t == 0 for _, t in place.path)
    if isinstance(wanted, Given):
        assert value == wanted or begins
        return
    example, source = places[places[by_place[place]].shown], places[wanted.at]
    common = 0
    while common < min(len(example.path), len(source.path)) and example.path[common] == source.path[common]:
        common += 1
    inside = common < min(len(example.path), len(source.path)) and example.path[common][0] == source.path[common][0]
    carried = inside and common + 1 == len(place.path) == len(source.path)
    if isinstance(value, Given):  # what the loop begins with, in place of what is carried on
        assert begins or (carried and place.path[common][1] < example.path[common][1] - source.path[common][1])
    elif common == len(place.path) == len(source.path):  # in the same step
        assert by_place.get(Place(source.shown, place.path)) == value.at or begins
    elif carried:
        loop, t = place.path[common]
        lag = example.path[common][1] - source.path[common][1]
        expected = Place(source.shown, (*place.path[:common], (loop, t - lag)))
        before = places[value.at].path[: common + 1] if t < lag else ()  # what the loop begins with
        assert by_place.get(expected) == value.at or (t < lag and not (before and before[-1][0] == loop)) or begins
    elif not inside and len(place.path) == 1:  # from outside
        assert places[value.at].shown == source.shown and value.port == wanted.port
