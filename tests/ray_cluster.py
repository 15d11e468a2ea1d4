"""A Ray cluster of two nodes in this machine, one for all tests of a worker."""

import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


@contextmanager
def unwarned():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="session")
def cluster():
    """Two nodes, whose workers find the tasks of test modules too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        with unwarned():
            from ray.cluster_utils import Cluster

            head = {**NODE, "include_dashboard": False}
            cluster = Cluster(initialize_head=True, head_node_args=head)
            cluster.add_node(**NODE)
        yield cluster
        with unwarned():
            cluster.shutdown()
