"""The 47 numbered equations of the text, and its errata, as ``equations_page.py`` prints them."""

from typing import NamedTuple


class Equation(NamedTuple):
    """An equation: a definition, which the library computes, or else a step, which a test checks."""

    latex: str
    says: str
    is_definition: bool = False


KL = r"D_{KL}(p \Vert q)"
LOG_Z = r"\frac{d \log Z_\theta}{d\theta}"
PLAIN_RATIO = r"D_\theta(x) = \frac{p(x)}{q_\theta(x) + p(x)}"

EQUATIONS = {
    "1.1": Equation(r"D(p \Vert q) \ge 0", "a divergence is not negative", True),
    "1.2": Equation(r"D(p \Vert q) = 0 \iff p = q", "and 0 for equals only", True),
    "1.3": Equation(r"\theta^* = \operatorname{argmin}_\theta D(p \Vert q_\theta)", "learning", True),
    "1.4": Equation(rf"{KL} = \int p \log p \, dx - \int p \log q \, dx", "the KL divergence", True),
    "1.5": Equation(r"= \int p \log \frac{p}{q} \, dx", "one integral"),
    "1.6": Equation(r"= \mathbb E_{x \sim p} \left[ \log \frac{p(x)}{q(x)} \right]", "an expectation"),
    "1.7": Equation(r"= \mathbb E_{x \sim p} [\log p(x) - \log q(x)]", "of a difference"),
    "1.8": Equation(r"\theta^* = \operatorname{argmax}_\theta \prod_i q(x_i)", "maximum likelihood"),
    "1.9": Equation(r"= \operatorname{argmax}_\theta \sum_i \log q(x_i)", "in logarithms"),
    "1.10": Equation(r"= \operatorname{argmin}_\theta \frac 1N \sum_i -\log q(x_i)", "as a mean loss", True),
    "1.11": Equation(r"\simeq \operatorname{argmin}_\theta \mathbb E_{x \sim p} [-\log q(x)]", "for large N"),
    "1.12": Equation(rf"{KL} = \int p \log p \, dx - \int p \log q \, dx", "as 1.4"),
    "1.13": Equation(r"= -H(p) + CE(p, q)", "cross-entropy less entropy", True),
    "1.14": Equation(r"q(x) \ge 0", "a density is not negative", True),
    "1.15": Equation(r"\int q(x) \, dx = 1", "and integrates to 1", True),
    "1.16": Equation(
        r"q(x) = \frac{1}{\sqrt{2 \pi} \sigma} \exp \frac{-(x - \mu)^2}{2 \sigma^2}",
        "the normal distribution, and the exponential family",
        True,
    ),
    "1.17": Equation(r"q_\theta(x) = \sum_{k=1}^C \pi_k q_{\theta_k}(x)", "mixtures", True),
    "1.18": Equation(r"E_\theta(x) = e^{-f_\theta(x)}", "what is not negative by construction", True),
    "1.19": Equation(r"Z_\theta = \int e^{-f_\theta(x)} \, dx", "the partition function", True),
    "1.20": Equation(r"q_\theta(x) = \frac{e^{-f_\theta(x)}}{Z_\theta}", "an energy-based model", True),
    "1.21": Equation(r"q_\theta(x) = \frac{e^{-f_\theta(x)}}{Z_\theta}", "as 1.20"),
    "1.22": Equation(r"\log q_\theta(x) = -f_\theta(x) - \log Z_\theta", "its logarithm"),
    "1.23": Equation(
        rf"-\frac{{d \log q_\theta(x)}}{{d\theta}} = \frac{{d f_\theta(x)}}{{d\theta}} + {LOG_Z}", "its gradient"
    ),
    "1.24": Equation(rf"{LOG_Z} = \frac{{d}}{{d\theta}} \log \sum_x e^{{-f_\theta(x)}}", "the second term"),
    "1.25": Equation(rf"{LOG_Z} = \frac{{1}}{{Z_\theta}} \sum_x \frac{{d}}{{d\theta}} e^{{-f_\theta(x)}}", "inside"),
    "1.26": Equation(rf"{LOG_Z} = \sum_x -q(x) \frac{{d f_\theta(x)}}{{d\theta}}", "weighted by q"),
    "1.27": Equation(
        rf"-{LOG_Z} = \mathbb E_{{x \sim q_\theta}} \left[ \frac{{d f_\theta(x)}}{{d\theta}} \right]",
        "an expectation under the model",
    ),
    "1.28": Equation(
        r"\mathbb E_{x \sim p} \left[ -\frac{d \log q_\theta(x)}{d\theta} \right] = \mathbb E_{x \sim p} \left[ "
        r"\frac{d f_\theta(x)}{d\theta} \right] - \mathbb E_{x \sim q_\theta} \left[ \frac{d f_\theta(x)}{d\theta} "
        r"\right]",
        "positive and negative phase",
        True,
    ),
    "1.29": Equation(r"p(X) = \prod_{x \in X} \sum_z p(x, z)", "the likelihood of latent variables", True),
    "1.30": Equation(r"\log p(X) = \sum_{x \in X} \log \sum_z p(x, z)", "in logarithms", True),
    "1.31": Equation(
        r"\log p_\theta(x) = \mathcal L(\theta, \phi; x) + D_{KL}(q_\phi(z \mid x) \Vert p_\theta(z \mid x))",
        "the variational bound and its gap",
        True,
    ),
    "1.32": Equation(
        r"\mathcal L = -D_{KL}(q_\phi(z \mid x) \Vert p_\theta(z)) + \mathbb E_{q_\phi} \log p_\theta(x \mid z)",
        "its two terms",
        True,
    ),
    "1.33": Equation(
        r"q_\phi(z \mid x) = \mathcal N(z; \mu_\phi(x), \operatorname{diag} \sigma_\phi^2(x))", "the posterior", True
    ),
    "1.34": Equation(PLAIN_RATIO, "the discriminator", True),
    "1.35": Equation(PLAIN_RATIO, "of noise-contrastive estimation", True),
    "1.36": Equation(r"\hat p(x) = \frac{D(x)}{1 - D(x)} q_\theta(x)", "the estimate", True),
    "1.37": Equation(r"\min_\theta \sup_{F \in \mathcal F} F(P, Q_\theta)", "a game", True),
    "1.38": Equation(r"V(G, D) = \mathbb E_x \log D(x) + \mathbb E_z \log(1 - D(G(z)))", "minimax", True),
    "1.39": Equation(r"\max_\theta \mathbb E_z \log D(G_\theta(z))", "non-saturating", True),
    "1.40": Equation(
        r"F_\gamma(P, Q) = F(P * \Lambda, Q * \Lambda), \quad \Lambda = \mathcal N(0, \gamma I)", "instance noise", True
    ),
    "1.41": Equation(
        r"W(p, q_\theta) = \sup_{\Vert f \Vert_L \le 1} \mathbb E_{x \sim p} f(x) - \mathbb E_{x \sim q_\theta} f(x)",
        "the Wasserstein distance",
        True,
    ),
    "1.42": Equation(r"\Vert f \Vert_{Lip} \le \prod_{l=1}^{L+1} \sigma(W^l)", "layers multiply", True),
    "1.43": Equation(r"\sigma(A) = \max_{h \ne 0} \Vert A h \Vert_2 / \Vert h \Vert_2", "the spectral norm", True),
    "1.44": Equation(r"\overline W_{SN}(W) = W / \sigma(W)", "spectral normalization", True),
    "1.45": Equation(
        r"\lim_{\Vert \varepsilon \Vert \to 0} \frac{\Vert G(z) - G(z + \varepsilon v_k) \Vert}"
        r"{\Vert \varepsilon v_k \Vert} = \sqrt{\lambda_k}",
        "the generator's metric tensor",
        True,
    ),
    "1.46": Equation(r"\exp \mathbb E_{x \sim q_\theta} D_{KL}(p(y \mid x) \Vert p(y))", "the Inception Score", True),
    "1.47": Equation(
        r"\Vert m - m_w \Vert_2^2 + \operatorname{Tr}(C + C_w - 2 (C C_w)^{1/2})", "the Frechet distance", True
    ),
}


class Erratum(NamedTuple):
    """A place of the text, what it says there, what is meant, and the test that shows it, if that can be tested."""

    place: str
    says: str
    right: str
    test: str = ""


ERRATA = [
    Erratum(
        "1.3", r"$\mathcal L(\theta) = \operatorname{argmin}_\theta D$", r"the loss is $D$; its argmin is $\theta^*$"
    ),
    Erratum(
        "1.11",
        r"$l \to \infty$",
        r"$N \to \infty$, the number of examples; the argmin converges, at each N it differs",
        "test_the_fit_nears_the_least_divergence_with_the_number_of_examples",
    ),
    Erratum(
        "after 1.13",
        "the entropy of the data can be estimated by a model of maximum likelihood",
        "it is bounded from above, and reached only where the model is the data's distribution",
        "test_better_models_give_tighter_bounds_and_none_undercuts_the_entropy",
    ),
    Erratum(
        "1.15, 1.19",
        r"$\int q(x)$, $\int e^{-f}$",
        r"$\int q(x) \, dx$, $\int e^{-f} \, dx$; "
        "a sum where x is discrete, as in 1.24",
    ),
    Erratum(
        "after 1.16",
        "the Gaussian integral normalises the exponential family",
        "each member has its own log-partition, often a sum and no Gaussian integral",
        "test_log_partition_is_that_of_the_sum_and_probabilities_sum_to_one",
    ),
    Erratum(
        "1.17",
        r"normalised with the only condition that the $\pi_k$ sum to 1",
        r"they must not be negative either (which suffices for 1.14)",
        "test_weights_of_a_mixture_must_also_not_be_negative",
    ),
    Erratum(
        "after 1.17",
        "the only way to more modes is more components",
        "in more than one dimension Gaussians can have more modes than components",
        "test_two_gaussians_of_the_plane_can_have_three_modes",
    ),
    Erratum("1.18", r"$E = e^{-f}$ is called the energy", r"the field calls $f$ the energy; here $E(x) = f(x)$"),
    Erratum(
        "before 1.28",
        "the function is maximised on real data, and pushed down on samples",
        r"that is so of $-f$: descending 1.28 lowers $f$ on data relative to samples of the model",
        "test_descending_the_contrast_lowers_the_energy_of_data_below_that_of_samples",
    ),
    Erratum("1.27, 1.28, 1.46", r"$x \in q_\theta$", r"$x \sim q_\theta$"),
    Erratum(
        "autoregressive models",
        r"$q(x_1) \prod_{t=1}^T q(x_t \mid x_{\lt t})$",
        r"the product begins at $t = 2$, else $q(x_1)$ is counted twice",
    ),
    Erratum(
        "1.29, 1.30",
        r"$p(x)$ on the left, $x \in p_{data}$ on the right",
        r"the likelihood of a data set X; and an integral over z where that is continuous",
    ),
    Erratum(
        "1.31",
        r"$\mathcal L$ is the variational free energy, and a lower bound",
        r"the free energy is $-\mathcal L$, an upper bound of $-\log p(x)$",
    ),
    Erratum(
        "1.33",
        r"$q(x \mid x) = \mathcal N(x; \ldots)$, and $x = \mu(x) + \sigma(x) \odot \varepsilon$",
        r"$q(z \mid x) = \mathcal N(z; \ldots)$ and $z = \mu(x) + \sigma(x) \odot \varepsilon$: "
        "z is reparametrised, a function of x and noise, and it is z that has to be continuous",
        "test_codes_are_normal_and_let_the_gradient_through",
    ),
    Erratum(
        "1.34",
        r"$D$ is the density ratio of model and data",
        r"$D$ is the probability of being data; the ratio $p / q$ is $D / (1 - D)$",
        "test_the_ratio_of_two_gaussians_is_exact",
    ),
    Erratum(
        "1.35, 1.36",
        "without a condition",
        r"for as much noise as data; with $\nu$ times as much, $D = p / (p + \nu q)$ and "
        r"$\hat p = \nu \frac{D}{1 - D} q$",
        "test_the_ratio_of_two_gaussians_is_exact",
    ),
    Erratum(
        "after 1.38",
        r"the generator maximises $V(G, D)$",
        r"it minimises $V$",
        "test_the_generator_minimises_the_value_that_the_discriminator_maximises",
    ),
    Erratum(
        "after 1.40",
        "the noisy divergence bounds the Wasserstein distance",
        r"with further terms: $W \le 2 \sqrt V + 2 C \sqrt{JS}$ with the variance V of the noise and the "
        r"diameter C of the supports; JS alone is at most $\log 2$, however large W is",
    ),
    Erratum("before 1.41", "the KL divergence is undefined where supports do not overlap", "it is infinite"),
    Erratum(
        "before 1.42",
        "the Lipschitz constant of the discriminator is an upper bound of itself",
        "the product of its layers' is; and 1.42 leaves the activations out, so they need a slope of at most 1",
        "test_dense_product_bounds_the_slope_at_random_points",
    ),
    Erratum(
        "before 1.43",
        r"$\sigma(A)$ is the largest eigenvalue of $A^* A$",
        r"it is the square root of that",
        "test_the_norm_of_a_matrix_is_its_largest_stretch_and_the_root_of_an_eigenvalue",
    ),
    Erratum(
        "after 1.44",
        "the power method finds an eigenvector of W, by the Jordan normal form",
        r"W is rarely square: it finds singular vectors, by iterating $W^\top W$, which is diagonalisable; "
        "and what is kept is a vector, not a single value",
        "test_the_iteration_finds_singular_vectors_of_a_matrix_that_is_not_square_and_divides_by_their_value",
    ),
    Erratum(
        "after 1.45",
        r"$\lambda_{min}, \lambda_{max}$ share their letter with the eigenvalues",
        r"they bound the quotient, so square roots of eigenvalues; of random directions, between the extreme ones",
        "test_along_an_eigenvector_the_change_is_the_root_of_its_eigenvalue",
    ),
    Erratum(
        "before 1.47",
        "the score is high when the distributions are close",
        "it is low: 0 for equal moments",
        "test_frechet_distance_is_symmetric_zero_on_itself_and_never_negative",
    ),
    Erratum(
        "1.47", "the Frechet distance", "its square", "test_frechet_distance_of_commuting_gaussians_is_its_closed_form"
    ),
]
"""Where the text says something else than it means, or than is so; each was checked by hand."""
