"""Quality of reconstructed images: PSNR and SSIM, of images [N, H, W] or [N, H, W, C] in float64.

    PSNR = 10 log10(peak^2 / mean (x - y)^2)                       in dB; infinite for equal images
    SSIM = mean over windows of  (2 mx my + c1) (2 vxy + c2) / ((mx^2 + my^2 + c1) (vx + vy + c2))

The windows are Gaussian, sigma 1.5, cut to 11 x 11 and normalised; only those that lie wholly
inside the image are averaged, and channels count as images. Variances are those of the weighted
window (not n - 1); c1 = (0.01 peak)^2, c2 = (0.03 peak)^2.
Source: Wang et al. 2004, whose constants these are; used for ASGL's Table 8, which names none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WINDOW = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03

Floats = NDArray[np.float64]


def psnr(x: NDArray[np.generic], y: NDArray[np.generic], peak: float = 1.0) -> Floats:
    """Return the peak signal-to-noise ratio of each image in dB, [N].

    Raises: ValueError where the shapes differ or peak is not above 0.
    """
    a, b = _pair(x, y, peak, "psnr")
    error = ((a - b) ** 2).reshape(len(a), -1).mean(1)
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(peak**2 / error)


def ssim(x: NDArray[np.generic], y: NDArray[np.generic], peak: float = 1.0) -> Floats:
    """Return the mean structural similarity of each image, [N], at most 1.

    Raises: ValueError where the shapes differ, a side is shorter than 11, or peak is not above 0.
    """
    a, b = _pair(x, y, peak, "ssim")
    if min(a.shape[1:3]) < WINDOW:
        raise ValueError(f"ssim: images of {a.shape[1:3]} are smaller than the window {WINDOW}")
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    mx, my = _blur(a), _blur(b)
    vx, vy, vxy = _blur(a * a) - mx * mx, _blur(b * b) - my * my, _blur(a * b) - mx * my
    top = (2 * mx * my + c1) * (2 * vxy + c2)
    bottom = (mx * mx + my * my + c1) * (vx + vy + c2)
    return (top / bottom).reshape(len(a), -1).mean(1)


def _pair(
    x: NDArray[np.generic], y: NDArray[np.generic], peak: float, name: str
) -> tuple[Floats, Floats]:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.shape != b.shape or a.ndim not in (3, 4) or not a.size:
        raise ValueError(
            f"{name}: expects two arrays [N, H, W] or [N, H, W, C] of one shape, "
            f"gets {a.shape} and {b.shape}"
        )
    if not peak > 0:
        raise ValueError(f"{name}: peak must be above 0, not {peak}")
    return a, b


def _blur(x: Floats) -> Floats:
    """Return the Gaussian mean of every window wholly inside, along axes 1 and 2."""
    place = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (place / SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        windows = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=axis)
        x = windows @ weights
    return x
