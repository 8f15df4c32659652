import torch
from torch import nn

from dpft.engine.attachment import modes_of
from dpft.engine.snapshot import Snapshot


def _model() -> nn.Sequential:
    """Return a model with shared weights, a shared module, a buffer and missing biases."""
    shared = nn.Linear(3, 3, bias=False)
    tied = nn.Linear(3, 3)
    tied.weight = shared.weight
    model = nn.Sequential(shared, nn.BatchNorm1d(3), tied, shared, nn.Dropout())
    model.register_buffer("unset", None)
    model.register_parameter("scale", nn.Parameter(torch.ones(3)))
    model[4].eval()
    return model


def test_a_snapshot_lists_what_the_model_itself_lists() -> None:
    model = _model()

    found = Snapshot.of(model)

    assert list(found.modules) == list(model.named_modules())
    assert found.modes == modes_of(model)
    for held, listed in (
        (found.parameters, dict(model.named_parameters())),
        (found.buffers, dict(model.named_buffers())),
    ):
        assert list(held) == list(listed)
        assert all(held[name] is listed[name] for name in listed)


def test_a_snapshot_shows_what_was_changed_since_the_last_one() -> None:
    model = _model()
    before = Snapshot.of(model)

    model[0].register_buffer("added", torch.ones(1))
    model[4] = nn.Linear(3, 1)
    after = Snapshot.of(model)

    assert after.buffers.keys() - before.buffers.keys() == {"0.added"}
    assert after.parameters.keys() - before.parameters.keys() == {"4.weight", "4.bias"}
    assert after.modes != before.modes
