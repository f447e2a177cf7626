"""The methods by family, in the order of the text: the registry of all classes that can be loaded.

Methods of the family ``image`` are fitted to one image. They are no models, so no checkpoint of the zoo is of them.
"""

from collections.abc import Mapping
from typing import Any

from lightning_modules.adversarial.ali import ALI as ALI
from lightning_modules.adversarial.caption_gan import CaptionGAN as CaptionGAN
from lightning_modules.adversarial.composed import ComposedGAN as ComposedGAN
from lightning_modules.adversarial.creative import CreativeAdversarialNetwork as CreativeAdversarialNetwork
from lightning_modules.adversarial.gan import MinimaxGAN as MinimaxGAN
from lightning_modules.adversarial.gan import NonSaturatingGAN as NonSaturatingGAN
from lightning_modules.adversarial.gibbsnet import GibbsNet as GibbsNet
from lightning_modules.adversarial.instance_noise import InstanceNoiseGAN as InstanceNoiseGAN
from lightning_modules.adversarial.jacobian_clamping import JacobianClampingGAN as JacobianClampingGAN
from lightning_modules.adversarial.least_squares import LSGAN as LSGAN
from lightning_modules.adversarial.progressive import ProgressiveGAN as ProgressiveGAN
from lightning_modules.adversarial.r3gan import R3GAN as R3GAN
from lightning_modules.adversarial.roth import RothGAN as RothGAN
from lightning_modules.adversarial.spectral_norm import SNGAN as SNGAN
from lightning_modules.adversarial.wgan import WGAN as WGAN
from lightning_modules.adversarial.wgan_gp import WGANGP as WGANGP
from lightning_modules.autoregressive.mixture_density import MixtureDensityRNN as MixtureDensityRNN
from lightning_modules.autoregressive.pixelcnn_pp import PixelCNNPlusPlus as PixelCNNPlusPlus
from lightning_modules.autoregressive.professor_forcing import ProfessorForcing as ProfessorForcing
from lightning_modules.autoregressive.scheduled_sampling import ScheduledSampling as ScheduledSampling
from lightning_modules.autoregressive.teacher_forcing import TeacherForcing as TeacherForcing
from lightning_modules.base import GenerativeModule as GenerativeModule
from lightning_modules.base import ZooModule as ZooModule
from lightning_modules.density.bernoulli import Bernoulli as Bernoulli
from lightning_modules.density.categorical import Categorical as Categorical
from lightning_modules.density.gaussian import Gaussian as Gaussian
from lightning_modules.density.mixture import GaussianMixture as GaussianMixture
from lightning_modules.density.nce import NCE as NCE
from lightning_modules.energy.ebm import EBM as EBM
from lightning_modules.energy.rbm import RBM as RBM
from lightning_modules.flow.flow_matching import FlowMatching as FlowMatching
from lightning_modules.image.deep_image_prior import DeepImagePrior as DeepImagePrior
from lightning_modules.image.image_optimization import ImageOptimization as ImageOptimization
from lightning_modules.image.style_transfer import StyleTransfer as StyleTransfer
from lightning_modules.image.texture_synthesis import TextureSynthesis as TextureSynthesis
from lightning_modules.latent.iwae import IWAE as IWAE
from lightning_modules.latent.ladder_vae import LadderVAE as LadderVAE
from lightning_modules.latent.vae import VAE as VAE
from lightning_modules.metrics.classifier import Classifier as Classifier

FAMILIES: dict[str, tuple[type[ZooModule], ...]] = {
    "density": (Gaussian, Bernoulli, Categorical, GaussianMixture),
    "energy": (RBM, EBM),
    "autoregressive": (PixelCNNPlusPlus, TeacherForcing, ScheduledSampling, ProfessorForcing, MixtureDensityRNN),
    "latent": (VAE, IWAE, LadderVAE),
    "flow": (FlowMatching,),
    "contrastive": (NCE,),
    "adversarial": (
        MinimaxGAN,
        NonSaturatingGAN,
        LSGAN,
        InstanceNoiseGAN,
        RothGAN,
        WGAN,
        WGANGP,
        SNGAN,
        JacobianClampingGAN,
        ALI,
        GibbsNet,
        CreativeAdversarialNetwork,
        CaptionGAN,
        ProgressiveGAN,
        R3GAN,
        ComposedGAN,
    ),
    "image": (StyleTransfer, TextureSynthesis, DeepImagePrior),
    "classifier": (Classifier,),
}
"""Every class that trains, by family, in the order of the text."""

METHODS: dict[str, type[ZooModule]] = {
    method.__name__: method
    for family in FAMILIES.values()
    for method in family
    if not issubclass(method, ImageOptimization)
}
"""Class name to class, of every class that a checkpoint may be of."""


def build(method: str, hyperparameters: Mapping[str, Any]) -> ZooModule:
    """Builds a method from its name and its hyperparameters, former names of these included.

    Raises:
        ValueError: If there is no method of that name.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}; the methods are {', '.join(METHODS)}.")
    return METHODS[method](**METHODS[method].current_names(hyperparameters))


NCE.build_method = staticmethod(build)
