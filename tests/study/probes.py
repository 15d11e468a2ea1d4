"""What the scripts of the study share: labelled vectors, and how well a probe learns from some."""

import numpy as np
import pyarrow.parquet as pq

from d2cli.stages.probe import probe_linearly, quiet_probes, standardize


def read(path, *more):
    """Return vectors (n, d) and labels of a Parquet file, and more of its columns."""
    table = pq.read_table(path, columns=["embedding", "label", *more])
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.astype(np.float32).reshape(table.num_rows, -1)
    return vectors, *(table[name].to_numpy() for name in ("label", *more))


def accuracy(train, labels, test, right, rows):
    """Return the percentage of test rows that a linear probe gets right, trained on some rows."""
    with quiet_probes():
        one, two = standardize(train[rows], test)
        return 100 * float((probe_linearly(one, labels[rows], two) == right).mean())
