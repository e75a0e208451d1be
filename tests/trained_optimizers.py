"""Parameters and optimizers for the tests of what all optimizers share."""

import tinygrad_lstm as tg


def leaf(*shape: int) -> tg.Tensor:
    return tg.ones(*(shape or (2,)), requires_grad=True)


def trained(make_one, sizes=(2, 3)):
    optimizer = make_one([leaf(size) for size in sizes])
    for p in optimizer.param_groups[0]["params"]:
        p.grad = tg.ones_like(p)
    optimizer.step()
    return optimizer
