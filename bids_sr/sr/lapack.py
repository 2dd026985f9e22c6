"""In-place Cholesky factors and triangular solutions with the LAPACK and BLAS included in scipy.

scipy's own wrappers copy the matrix and hold Python's global lock. The routines are therefore
called through their addresses: they operate on the memory of the array, access only one triangle,
and release the lock, so that several tiles can be factored at the same time.

Matrices are C-contiguous arrays in single precision. LAPACK stores matrices by columns, so its
upper triangle is the lower triangle of these arrays.
"""

import ctypes
from types import ModuleType
from typing import Any

import numpy as np
from scipy.linalg import cython_blas, cython_lapack

from bids_sr.io.arrays import Float32

_INT = ctypes.POINTER(ctypes.c_int)
_FLOAT = ctypes.POINTER(ctypes.c_float)
_MATRIX = ctypes.c_void_p
_FLAG = ctypes.c_char_p


def _routine(module: ModuleType, name: str, *arguments: Any) -> Any:
    """Return a compiled routine of `cython_lapack` or `cython_blas` as a ctypes function."""
    capsule = ctypes.py_object(module.__pyx_capi__[name])
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype = ctypes.c_char_p
    name_of.argtypes = [ctypes.py_object]
    address_of = ctypes.pythonapi.PyCapsule_GetPointer
    address_of.restype = ctypes.c_void_p
    address_of.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = address_of(capsule, name_of(capsule))
    return ctypes.CFUNCTYPE(None, *arguments)(address)


_SPOTRF = _routine(cython_lapack, "spotrf", _FLAG, _INT, _MATRIX, _INT, _INT)
_STRSM = _routine(
    cython_blas,
    "strsm",
    *(_FLAG, _FLAG, _FLAG, _FLAG),
    *(_INT, _INT, _FLOAT, _MATRIX, _INT, _MATRIX, _INT),
)


def factor_in_place(matrix: Float32) -> Float32:
    """Replace the lower triangle of a positive definite matrix (m, m) by its Cholesky factor.

    Values above the diagonal are neither read nor changed. The same array is returned.

    Raises
    ------
    ValueError
        If the array is not a square matrix that LAPACK can process in place.
    np.linalg.LinAlgError
        If the matrix is not positive definite.
    """
    _check(matrix)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix of shape {matrix.shape}; expected a square matrix")
    size, info = ctypes.c_int(len(matrix)), ctypes.c_int()
    _SPOTRF(b"U", size, matrix.ctypes.data, size, info)
    if info.value:
        raise np.linalg.LinAlgError(
            f"the leading {info.value} rows and columns are not positive definite"
        )
    return matrix


def solve_in_place(root: Float32, rows: Float32, *, transposed: bool) -> None:
    """Replace each row b by the solution x of L x = b, or of L' x = b if `transposed` is true.

    The lower triangle of `root` is L (m, m), as returned by `factor_in_place`. `rows` is (N, m).
    """
    _check(root)
    _check(rows)
    if root.shape != (rows.shape[1],) * 2:
        raise ValueError(f"matrix of shape {root.shape} for right sides of shape {rows.shape}")
    size, count = ctypes.c_int(len(root)), ctypes.c_int(len(rows))
    _STRSM(
        *(b"L", b"U", b"N" if transposed else b"T", b"N"),
        *(size, count, ctypes.c_float(1), root.ctypes.data, size, rows.ctypes.data, size),
    )


def _check(matrix: Float32) -> None:
    """Raise ValueError unless the routines can operate on the array in place."""
    if matrix.ndim != 2 or matrix.dtype != np.float32 or not matrix.flags.c_contiguous:
        raise ValueError(
            f"array of {matrix.ndim} axes and type {matrix.dtype}; expected a C-contiguous matrix"
            " in single precision"
        )
    if not matrix.flags.writeable:
        raise ValueError("the matrix is read-only")
