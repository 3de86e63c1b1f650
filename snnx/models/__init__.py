"""The zoo: one plain function per architecture, which returns a tree.

    resnet19(classes=100, width=0.25, neuron=LIF(decay=0.5))

`MODELS` holds all of them by name. The arguments that they share are described in
`snnx.models.parts`; where paper and code differ, the difference is an argument.
"""

from collections.abc import Callable

from snnx.layers import Chain
from snnx.models.cifarnet import cifarnet as cifarnet
from snnx.models.cifarnet import snn5 as snn5
from snnx.models.dense import autoencoder as autoencoder
from snnx.models.dense import medlydb as medlydb
from snnx.models.dense import shd as shd
from snnx.models.digits import digits as digits
from snnx.models.preact import preact_resnet as preact_resnet
from snnx.models.preact import preact_resnet18 as preact_resnet18
from snnx.models.preact import preact_resnet18_imagenet as preact_resnet18_imagenet
from snnx.models.resnet import resnet18 as resnet18
from snnx.models.resnet import resnet18_dspike as resnet18_dspike
from snnx.models.resnet import resnet19 as resnet19
from snnx.models.resnet import spiking_resnet34 as spiking_resnet34
from snnx.models.sew import sew_resnet34 as sew_resnet34
from snnx.models.toy import mnist_toy as mnist_toy
from snnx.models.vgg import vgg11_dsr as vgg11_dsr
from snnx.models.vgg import vgg13_asgl as vgg13_asgl
from snnx.models.vgg import vgg16 as vgg16
from snnx.models.vgg import vgg16_asgl as vgg16_asgl
from snnx.models.vgg import vgg16_imagenet as vgg16_imagenet
from snnx.models.vgg import vggsnn as vggsnn

MODELS: dict[str, Callable[..., Chain]] = {
    "digits": digits,
    "mnist_toy": mnist_toy,
    "snn5": snn5,
    "cifarnet": cifarnet,
    "vggsnn": vggsnn,
    "vgg11_dsr": vgg11_dsr,
    "vgg13_asgl": vgg13_asgl,
    "vgg16": vgg16,
    "vgg16_asgl": vgg16_asgl,
    "vgg16_imagenet": vgg16_imagenet,
    "resnet18": resnet18,
    "resnet18_dspike": resnet18_dspike,
    "resnet19": resnet19,
    "spiking_resnet34": spiking_resnet34,
    "sew_resnet34": sew_resnet34,
    "preact_resnet18": preact_resnet18,
    "preact_resnet18_imagenet": preact_resnet18_imagenet,
    "preact_resnet": preact_resnet,
    "shd": shd,
    "medlydb": medlydb,
    "autoencoder": autoencoder,
}
