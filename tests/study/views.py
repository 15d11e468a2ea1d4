"""Two views of the same texts: ``python -m tests.study.views TRAIN TEST OUT``.

TRAIN and TEST are Parquet files with ``text``; OUT/train.parquet and OUT/test.parquet get all their
columns and ``words``: TF-IDF weights on 128 axes, both fitted on TRAIN.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

AXES = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("train", "test", "out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    weigh = TfidfVectorizer(sublinear_tf=True, min_df=5, max_df=0.5, stop_words="english")
    axes = TruncatedSVD(AXES, random_state=0)
    given.out.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        table = pq.read_table(getattr(given, name))
        texts = table["text"].to_pylist()
        if name == "train":
            points = axes.fit_transform(weigh.fit_transform(texts))
        else:
            points = axes.transform(weigh.transform(texts))
        flat = pa.array(points.astype(np.float32).ravel())
        words = pa.FixedSizeListArray.from_arrays(flat, AXES)
        pq.write_table(table.append_column("words", words), given.out / f"{name}.parquet")


if __name__ == "__main__":
    main()
