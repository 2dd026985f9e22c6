"""Sums over voxels and mixtures of node values, as compiled loops.

Nodes and shares are as in `bids_sr.glm.noise`: voxel n has the share ``shares[c, n]`` in node
``nodes[c, n]``. Import this module only in functions that compute, see
`bids_sr.spatial.spline_kernels`.
"""

from typing import Any

from bids_sr.io.arrays import Float
from bids_sr.io.compiled_loops import compile_for


@compile_for(
    "void(int64[:,::1], float64[:,::1], float64[:,::1], float64[:,::1], float64[:,:,::1])"
)
def add_products(nodes: Any, shares: Float, first: Float, second: Float, sums: Float) -> None:
    """Add share times product of all pairs of rows to the nodes of each voxel.

    `nodes` are the nodes around each voxel and `shares` their shares (C, N). `first` and `second`
    are values of the voxels, (K, N) and (L, N). `sums` (G, K, L) is updated.
    """
    for n in range(nodes.shape[1]):
        for c in range(nodes.shape[0]):
            node_sums = sums[nodes[c, n]]
            share = shares[c, n]
            for k in range(first.shape[0]):
                value = share * first[k, n]
                for i in range(second.shape[0]):
                    node_sums[k, i] += value * second[i, n]


@compile_for(
    "void(int64[:,::1], float64[:,::1], float64[:,:,::1], float64[:,::1], float64[:,::1])"
)
def add_mixed_products(
    nodes: Any, shares: Float, matrices: Float, vectors: Float, out: Float
) -> None:
    """Add the mixture of node matrices, times the vector of each voxel.

    `nodes` are the nodes around each voxel and `shares` their shares (C, N). `matrices` has the
    matrix of each node (G, K, L), and `vectors` the vector of each voxel (L, N). The products
    `out` (K, N) are updated.
    """
    for n in range(nodes.shape[1]):
        for c in range(nodes.shape[0]):
            matrix = matrices[nodes[c, n]]
            share = shares[c, n]
            for k in range(out.shape[0]):
                total = 0.0
                for i in range(vectors.shape[0]):
                    total += matrix[k, i] * vectors[i, n]
                out[k, n] += share * total
