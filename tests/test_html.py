"""What notebooks show of tensors and modules."""

import re
from html import unescape

import numpy as np
import pytest

import tinygrad_lstm as tg
from tinygrad_lstm import nn
from tinygrad_lstm.models import LSTM


def text(html: str) -> str:
    """What a reader sees."""
    assert not re.search(r"color|background", html), "colours are the page's"
    return unescape(re.sub(r"<[^<>]*>", " ", html))


def test_a_tensor_says_what_it_is(device: str) -> None:
    x = tg.tensor([[1.0, 2.5], [3.0, 4.0]], device=device, requires_grad=True)
    shown = text(x._repr_html_())
    for part in ("(2, 2)", "float32", str(x.device), "required, .grad is None", "[[1. , 2.5],\n [3. , 4. ]]"):
        assert part in shown
    (x * 2).sum().backward()
    assert "required, .grad is there" in text(x._repr_html_())
    assert "required, made by op mul" in text((x * 2)._repr_html_())
    assert "not required" in text(x.detach()._repr_html_())


def test_many_values_are_left_out() -> None:
    x = tg.arange(1_000_000).reshape(1000, 1000)
    shown = x._repr_html_()
    assert "..., " in shown and "(1000, 1000)" in shown and "999999" in shown
    assert len(shown) < 2000
    assert "..." not in tg.arange(200)._repr_html_()


@pytest.mark.parametrize("values", [[], 3, [True], [[np.nan, np.inf]]])
def test_any_tensor_is_shown(values: object) -> None:
    x = tg.tensor(values)
    assert str(x.shape) in text(x._repr_html_()) and str(x.dtype) in text(x._repr_html_())


def test_a_view_that_is_out_of_date_is_shown_as_it_is() -> None:
    x = tg.ones(3, requires_grad=True) * 1
    view = x[:2]
    x[0] = 5.0
    assert "5." in text(view._repr_html_())


def test_a_module_is_the_tree_of_its_repr() -> None:
    model = nn.Sequential(nn.Linear(3, 1000), LSTM(3, 5, num_layers=2), tg.tanh)
    shown = re.findall(r"<td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>", model._repr_html_())
    expected = [line.rsplit(maxsplit=1) for line in repr(model).replace(" parameters", "").splitlines()]
    assert [[unescape(name), count] for name, count in shown] == expected
    assert "white-space: pre" in model._repr_html_(), "else the indentation is lost"


def test_names_and_settings_are_escaped() -> None:
    class Odd(nn.Module):
        def extra_repr(self) -> str:
            return "<script>alert('&')</script>"

    model = Odd()
    setattr(model, "<b>", nn.Linear(1, 1))
    html = model._repr_html_()
    assert "<script" not in html and "<b>" not in html
    assert "Odd(<script>alert('&')</script>)" in unescape(html) and "<b>: Linear(1, 1)" in unescape(html)
