"""How well a subset trains: a linear probe and a vote of neighbours; needs ``d2cli[eval]``."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import ParameterError
from d2cli.stages.vectors import BLOCK_ROWS, Vectors

INVERSE_REGULARIZATION = 0.03
MOST_ITERATIONS = 300
VOTERS = 5


@contextmanager
def quiet_probes() -> Iterator[None]:
    """Keep to itself what scikit-learn says of fits that stop early or see many classes.

    To be entered before threads are started that fit: filters of warnings are shared by all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def standardize(train: Vectors, test: Vectors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centre both by the mean of ``train``, and divide by one number so that it has variance 1."""
    center = train.mean(axis=0, dtype=np.float64)
    scale = float(np.sqrt(np.mean(np.square(train - center)))) or 1.0
    shifted = [((part - center) / scale).astype(np.float32) for part in (train, test)]
    return shifted[0], shifted[1]


def probe_linearly(
    train: NDArray[np.float32],
    labels: NDArray[np.int32],
    test: NDArray[np.float32],
) -> NDArray[np.int32]:
    """Predict with multinomial logistic regression (L2, C = 0.03, at most 300 iterations).

    Fits that stop early warn, except inside `quiet_probes`.

    Parameters
    ----------
    train, test : float32 arrays, shape (m, d) and (t, d)
        As `standardize` returns them.
    labels : int32 array, shape (m,)

    Returns
    -------
    int32 array, shape (t,)
        Predicted labels; the only label there is if the subset has one class.

    Raises
    ------
    ParameterError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ParameterError(
            "the linear probe needs scikit-learn, which is not installed",
            hint="pip install 'd2cli[eval]'",
        ) from error
    if len(np.unique(labels)) == 1:
        return np.full(len(test), labels[0], dtype=np.int32)
    model = LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=MOST_ITERATIONS, tol=1e-3)
    model.fit(train, labels)
    return np.asarray(model.predict(test), dtype=np.int32)


def vote_of_neighbors(
    train: NDArray[np.float32],
    labels: NDArray[np.int32],
    test: NDArray[np.float32],
    *,
    voters: int = VOTERS,
) -> NDArray[np.int32]:
    """Predict the commonest label of the nearest kept rows; of equally common ones the nearest.

    Parameters are those of `probe_linearly`; ``voters`` is at most the number of kept rows.
    """
    voters = min(voters, len(train))
    norms = np.einsum("ij,ij->i", train, train)
    out = np.empty(len(test), dtype=np.int32)
    for start in range(0, len(test), BLOCK_ROWS):
        block = test[start : start + BLOCK_ROWS]
        away = norms - 2 * (block @ train.T)
        nearest = np.argpartition(away, voters - 1, axis=1)[:, :voters]
        order = np.argsort(np.take_along_axis(away, nearest, axis=1), axis=1, kind="stable")
        votes = labels[np.take_along_axis(nearest, order, axis=1)]
        counts = (votes[:, :, None] == votes[:, None, :]).sum(axis=2)
        first = counts.argmax(axis=1)  # votes come nearest first
        out[start : start + BLOCK_ROWS] = votes[np.arange(len(votes)), first]
    return out
