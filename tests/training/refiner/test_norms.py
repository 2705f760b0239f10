import torch

from crispmask.training.refiner.network import MaskNetwork
from crispmask.training.refiner.norms import with_norms, without_norms


def _network() -> MaskNetwork:
    torch.manual_seed(3)
    network = MaskNetwork()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    return network.eval()


def _batch(n: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(n, 3, 64, 64), torch.rand(n, 1, 64, 64)


def test_norms_change_nothing_when_they_are_put_in() -> None:
    network, batch = _network(), _batch()
    before = network(*batch)
    after = with_norms(network, *batch)(*batch)
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)


def test_folded_norms_compute_the_same() -> None:
    network, batch = _network(), _batch()
    names = set(network.state_dict())
    with_norms(network, *batch).train()
    for _ in range(3):
        network(*_batch())  # moves the running statistics
    before = network.eval()(*batch)
    after = without_norms(network)(*batch)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-3)
    assert set(network.state_dict()) == names
