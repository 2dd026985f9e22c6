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


def factor_in_place(matrix: Float32) -> Float32:
    """Replace the lower triangle of a positive definite matrix (m, m) by its Cholesky factor.

    Values above the diagonal are neither read nor changed. The same array is returned.

    Raises `ValueError` if the array is not a square matrix that LAPACK can process in place, and
    `np.linalg.LinAlgError` if the matrix is not positive definite.
    """
    _check_matrix(matrix)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix of shape {matrix.shape}; expected a square matrix")
    size, info = ctypes.c_int(len(matrix)), ctypes.c_int()
    _SPOTRF(b"U", size, matrix.ctypes.data, size, info)
    if info.value:
        raise np.linalg.LinAlgError(
            f"the leading {info.value} rows and columns are not positive definite"
        )
    return matrix


def solve_in_place(cholesky_factor: Float32, rows: Float32, *, transposed: bool) -> None:
    """Replace each row b by the solution x of L x = b, or of L' x = b if `transposed` is true.

    The lower triangle of `cholesky_factor` is L (m, m), as returned by `factor_in_place`. `rows`
    is (N, m).
    """
    _check_matrix(cholesky_factor)
    _check_matrix(rows)
    if cholesky_factor.shape != (rows.shape[1],) * 2:
        raise ValueError(
            f"matrix of shape {cholesky_factor.shape} for right sides of shape {rows.shape}"
        )
    size, count = ctypes.c_int(len(cholesky_factor)), ctypes.c_int(len(rows))
    _STRSM(
        *(b"L", b"U", b"N" if transposed else b"T", b"N"),
        *(
            size,
            count,
            ctypes.c_float(1),
            cholesky_factor.ctypes.data,
            size,
            rows.ctypes.data,
            size,
        ),
    )


def _check_matrix(matrix: Float32) -> None:
    """Raise ValueError unless the routines can operate on the array in place."""
    if matrix.ndim != 2 or matrix.dtype != np.float32 or not matrix.flags.c_contiguous:
        raise ValueError(
            f"array of {matrix.ndim} axes and type {matrix.dtype}; expected a C-contiguous matrix"
            " in single precision"
        )
    if not matrix.flags.writeable:
        raise ValueError("the matrix is read-only")


def _load_routine(module: ModuleType, name: str, *arguments: Any) -> Any:
    """Return a compiled routine of `cython_lapack` or `cython_blas` as a ctypes function."""
    capsule = ctypes.py_object(module.__pyx_capi__[name])
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype = ctypes.c_char_p
    get_name.argtypes = [ctypes.py_object]
    get_address = ctypes.pythonapi.PyCapsule_GetPointer
    get_address.restype = ctypes.c_void_p
    get_address.argtypes = [ctypes.py_object, ctypes.c_char_p]
    address = get_address(capsule, get_name(capsule))
    return ctypes.CFUNCTYPE(None, *arguments)(address)


_SPOTRF = _load_routine(cython_lapack, "spotrf", _FLAG, _INT, _MATRIX, _INT, _INT)
_STRSM = _load_routine(
    cython_blas,
    "strsm",
    *(_FLAG, _FLAG, _FLAG, _FLAG),
    *(_INT, _INT, _FLOAT, _MATRIX, _INT, _MATRIX, _INT),
)
