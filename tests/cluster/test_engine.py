"""What a run asks of its cluster before it starts."""

from __future__ import annotations

import pytest
import ray

from crispmask.cluster.engine import processor_share
from crispmask.errors import ClusterError


@pytest.mark.parametrize(("processors", "share"), [(2, 0.5), (3, 0.5), (4, 1), (64, 1)])
def test_a_small_cluster_shares_its_processors(monkeypatch, processors, share):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": float(processors)})
    assert processor_share() == share


def test_one_processor_is_refused(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 1.0})
    with pytest.raises(ClusterError, match="at least two processors is needed, and this one has one: add a machine"):
        processor_share()
