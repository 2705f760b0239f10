"""A client of pydensecrf in every form of import that clients use; it knows nothing of crispmask.

Run as a script in a process where `crispmask.pydensecrf.install()` was called. Prints the share of corrected pixels.
"""

import importlib

import numpy as np
import pydensecrf
import pydensecrf.densecrf
import pydensecrf.densecrf as dcrf
import pydensecrf.eigen
import pydensecrf.utils as utils
from pydensecrf import densecrf, eigen
from pydensecrf.densecrf import DenseCRF2D, Unary
from pydensecrf.eigen import matrixXf
from pydensecrf.utils import create_pairwise_bilateral, create_pairwise_gaussian, unary_from_labels

assert densecrf is dcrf is pydensecrf.densecrf is importlib.import_module("pydensecrf.densecrf")
assert pydensecrf.eigen is eigen
assert matrixXf is eigen.matrixXf
assert issubclass(dcrf.ConstUnary, Unary)
assert utils.unary_from_labels is unary_from_labels

rng = np.random.default_rng(0)
truth = np.zeros((40, 60), np.int64)
truth[10:30, 20:45] = 1
image = np.ascontiguousarray(np.stack([60 + 120 * truth] * 3, axis=2) + rng.integers(0, 20, (40, 60, 3))).astype(
    np.uint8
)
noisy = np.where(rng.random(truth.shape) < 0.2, 1 - truth, truth)

d = dcrf.DenseCRF2D(60, 40, 2)
d.setUnaryEnergy(unary_from_labels(noisy, 2, gt_prob=0.7, zero_unsure=False))
d.addPairwiseGaussian(sxy=(3, 3), compat=3, kernel=dcrf.DIAG_KERNEL, normalization=dcrf.NORMALIZE_SYMMETRIC)
d.addPairwiseBilateral(sxy=(30, 30), srgb=(13, 13, 13), rgbim=image, compat=10)
Q = d.inference(5)
MAP = np.argmax(Q, axis=0).reshape((40, 60))

g = DenseCRF2D(60, 40, 2)
g.setUnaryEnergy(unary_from_labels(noisy, 2, gt_prob=0.7, zero_unsure=False))
g.addPairwiseEnergy(create_pairwise_gaussian(sdims=(3, 3), shape=(40, 60)), compat=3)
g.addPairwiseEnergy(create_pairwise_bilateral(sdims=(30, 30), schan=(13,), img=image[..., :1], chdim=2), compat=10)
Q, tmp1, tmp2 = g.startInference()
for _ in range(5):
    g.stepInference(Q, tmp1, tmp2)
assert np.array(Q).shape == (2, 2400)
assert g.klDivergence(Q) < g.klDivergence(g.inference(0))

print((truth == MAP).mean(), (np.argmax(Q, axis=0).reshape(40, 60) == truth).mean(), (noisy == truth).mean())
