"""The embedded data of the quick start: real handwritten digits of 8 x 8 pixels."""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from snnx.data.arrays import Dataset


def digits() -> Dataset:
    """1347 training and 450 test images x [N, 8, 8, 1], float32 in [0, 1] (stored value / 16).

    The split is stratified, fixed, and stored in the file.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    with (files("snnx.data") / "digits.npz").open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        x = archive["x"].astype(np.float32)[..., None] / np.float32(16)
        y = archive["y"].astype(np.int64)
        test = np.zeros(len(y), bool)
        test[archive["test"]] = True
    return Dataset(
        x_train=x[~test],
        y_train=y[~test],
        x_test=x[test],
        y_test=y[test],
        name="digits",
        label="real",
        source="UCI Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, "
        "as distributed with scikit-learn",
        licence="CC BY 4.0",
    )
