"""The cluster itself: two nodes with names and networks of their own, and accounting."""

from __future__ import annotations

from tests.slurm.cluster import call


def test_two_nodes_run_a_step(cluster):
    told = call(
        "srun", "--nodes=2", "--ntasks-per-node=2", "sh", "-c", "echo $SLURM_PROCID $(hostname)"
    )
    assert sorted(told.splitlines()) == ["0 node1", "1 node1", "2 node2", "3 node2"]
