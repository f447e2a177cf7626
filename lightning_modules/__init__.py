"""The methods of the text, one line each: this list is the syllabus, and the registry the zoo looks them up in."""

from lightning_modules.adversarial.composed import ComposedGAN as ComposedGAN
from lightning_modules.adversarial.gan import MinimaxGAN as MinimaxGAN
from lightning_modules.adversarial.gan import NonSaturatingGAN as NonSaturatingGAN
from lightning_modules.adversarial.spectral_norm import SNGAN as SNGAN
from lightning_modules.adversarial.wgan import WGAN as WGAN
from lightning_modules.adversarial.wgan_gp import WGANGP as WGANGP
from lightning_modules.autoregressive.mixture_density import MixtureDensityRNN as MixtureDensityRNN
from lightning_modules.autoregressive.pixelcnn_pp import PixelCNNPlusPlus as PixelCNNPlusPlus
from lightning_modules.autoregressive.professor_forcing import ProfessorForcing as ProfessorForcing
from lightning_modules.autoregressive.recurrent import TeacherForcing as TeacherForcing
from lightning_modules.autoregressive.scheduled_sampling import ScheduledSampling as ScheduledSampling
from lightning_modules.base import GenerativeModule
from lightning_modules.classifier import Classifier as Classifier
from lightning_modules.density.gaussian import Gaussian as Gaussian
from lightning_modules.density.mixture import GaussianMixture as GaussianMixture
from lightning_modules.density.nce import NCE as NCE
from lightning_modules.energy.ebm import EBM as EBM
from lightning_modules.energy.rbm import RBM as RBM
from lightning_modules.latent.iwae import IWAE as IWAE
from lightning_modules.latent.vae import VAE as VAE

METHODS: dict[str, type[GenerativeModule]] = {
    name: value
    for name, value in sorted(globals().items())
    if isinstance(value, type) and issubclass(value, GenerativeModule) and value is not GenerativeModule
}
