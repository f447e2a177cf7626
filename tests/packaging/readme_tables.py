"""Writes the README's table and grids of samples from the checkpoints' own cards; `make readme` runs it.

No number in the README is typed by hand: a test compares it with what this file makes.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import zoo
from lightning_modules import FAMILIES
from zoo.cards import Card
from zoo.comparing.card_numbers import fid_protocol, likelihood, tested, two_digits
from zoo.comparing.comparison_table import markdown, seeds_of
from zoo.comparing.family_table import family_markdown
from zoo.comparing.registry import COMPARISONS
from zoo.comparing.results import Results, results_file
from zoo.model_card import counterfactual_tables

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GRIDS_PER_ROW = 4
NUMBERS = ("likelihood", "FID", "FID / real", "s per sample")
"""Headings of what ``numbers`` returns."""
REFERENCE = re.compile(
    r"^ *(?P<title>[^\n]+) \((?P<authors>[^()]+, \d{4})\),\s+(?P<url>https?://[^\s,]+)", re.MULTILINE
)
HEADINGS = {
    "density": "Densities",
    "energy": "Energies and partition functions",
    "autoregressive": "Autoregressive and recurrent models",
    "latent": "Latent variables",
    "flow": "Flows",
    "contrastive": "Noise-contrastive estimation",
    "adversarial": "Adversarial networks",
    "image": "Without a density, fitted to one image",
    "classifier": "Feature extractor",
}
EQUATIONS = {
    "Gaussian": r"$q(x) = \mathcal N(x; \mu, \Sigma)$ (1.16)",
    "Bernoulli": r"$q(x) = e^{\langle \eta, T(x) \rangle - A(\eta)}$, $T(x) = x$ (1.16)",
    "Categorical": r"$q(x) = e^{\langle \eta, T(x) \rangle - A(\eta)}$, $T(x)_k = [x = k]$ (1.16)",
    "GaussianMixture": r"$q(x) = \sum_k \pi_k\, q_k(x)$ (1.17)",
    "RBM": r"$q(v) = e^{-F(v)} / Z$ (1.18-1.20)",
    "EBM": r"$\mathbb E_p[\nabla_\theta f] - \mathbb E_q[\nabla_\theta f]$ (1.28)",
    "PixelCNNPlusPlus": r"$\log q(x) = \sum_i \log q(x_i \mid x_{\lt i})$",
    "TeacherForcing": r"$\log q(x) = \sum_t \log q(x_t \mid x_{\lt t})$",
    "ScheduledSampling": r"$\sum_t \log q(x_t \mid \tilde x_{\lt t})$, $\tilde x_t = x_t$ with probability $\epsilon$",
    "ProfessorForcing": r"$C_\text{NLL} + C_f$, $C_f = -\mathbb E \log D(\text{free-running})$",
    "MixtureDensityRNN": r"$q(x_t \mid x_{\lt t}) = \sum_k \pi_k\, \mathcal N(x_t; \mu_k, \Sigma_k)$",
    "VAE": r"$\mathbb E_q \log p(x \mid z) - D_{KL}(q(z \mid x) \Vert p(z))$ (1.31-1.33)",
    "IWAE": r"$\mathbb E \log \frac 1k \sum_i p(x, z_i) / q(z_i \mid x)$",
    "LadderVAE": r"$q(z_l \mid z_{l+1}, x) \propto \mathcal N(z_l; m_l(x), s_l(x)^2)\, p(z_l \mid z_{l+1})$",
    "FlowMatching": r"$\mathbb E \Vert v(x_t, t) - (x_1 - x_0) \Vert^2$, $x_t = (1 - t) x_0 + t x_1$",
    "NCE": r"$\hat p(x) = \frac{D(x)}{1 - D(x)}\, q(x)$ (1.34-1.36)",
    "MinimaxGAN": r"$\min_G \max_D \mathbb E \log D(x) + \mathbb E \log(1 - D(G(z)))$ (1.38)",
    "NonSaturatingGAN": r"$\max_G \mathbb E \log D(G(z))$ (1.39)",
    "LSGAN": r"$\min_D \frac 12 \mathbb E (D(x) - 1)^2 + \frac 12 \mathbb E D(G(z))^2$",
    "InstanceNoiseGAN": r"$F(p * \mathcal N(0, \gamma I), q * \mathcal N(0, \gamma I))$ (1.40)",
    "RothGAN": r"(1.39) $+ \frac \gamma 2 \mathbb E (1 - D)^2 \Vert \nabla \phi \Vert^2"
    r" + \frac \gamma 2 \mathbb E D^2 \Vert \nabla \phi \Vert^2$",
    "WGAN": r"$\sup_{\Vert f \Vert_L \le 1} \mathbb E_p f - \mathbb E_q f$ (1.41)",
    "WGANGP": r"(1.41) $- \lambda\, \mathbb E(\Vert \nabla f \Vert_2 - 1)^2$",
    "SNGAN": r"$\overline W = W / \sigma(W)$ (1.42-1.44)",
    "JacobianClampingGAN": r"$\lambda_\text{min} \le \Vert G(z) - G(z') \Vert / \Vert z - z' \Vert \le "
    r"\lambda_\text{max}$ (1.45)",
    "R3GAN": r"$\mathbb E \log(1 + e^{D(G(z)) - D(x)}) + \frac \gamma 2 (R_1 + R_2)$",
    "CreativeAdversarialNetwork": r"$-\log D(G(z)) - \frac{\lambda}{K} \sum_k \log D_c(k \mid G(z))$",
    "CaptionGAN": r"$-\log D(x, t) - \frac 12 \log(1 - D(x, t_\text{wrong})) - \frac 12 \log(1 - D(G(z, t), t))$",
    "ALI": r"$\min_G \max_D \mathbb E_q \log D(x, z) + \mathbb E_p \log(1 - D(x, z))$",
    "GibbsNet": r"the game of ALI, $x \sim p(x \mid z)$, $z \sim q(z \mid x)$ for $N$ steps",
    "ProgressiveGAN": r"$(1 - \alpha)\, G_{l-1}(z) + \alpha\, G_l(z)$, $\alpha: 0 \to 1$",
    "StyleTransfer": r"$\min_x \Vert F(x) - F(c) \Vert^2 + \beta \sum_l \Vert G_l(x) - G_l(s) \Vert^2$",
    "TextureSynthesis": r"$\min_x \sum_l \Vert G_l(x) - G_l(s) \Vert^2$, $G = F F^\top$",
    "DeepImagePrior": r"$\min_\theta \Vert m \odot (A f_\theta(z) - x) \Vert^2$",
    "ComposedGAN": "any game, penalty and constraint of the others",
}
"""The equation that a method is about, with its number in the text if it has one there.

A method that is not here is shown with the first line of its class's docstring.
"""


def table() -> str:
    """One line for each checkpoint, and one for each method that has none, by family."""
    lines = [f"| method | equation | paper | checkpoint | {' | '.join(NUMBERS)} |", "|---" * 8 + "|"]
    cards = [zoo.card(name) for name in zoo.names()]
    for family, methods in FAMILIES.items():
        lines.append(f"| **{HEADINGS[family]}**" + " |" * 8)
        for method in methods:
            name, file = method.__name__, Path(inspect.getfile(method)).relative_to(ROOT)
            start = f"[`{name}`]({file}) | {equation(method)} | {paper(method)}"
            for card in [card for card in cards if card.method == name]:
                lines.append(f"| {start} | [`{card.name}`](checkpoints/{card.name}) | {' | '.join(numbers(card))} |")
                start = " | | "
            if not any(card.method == name for card in cards):
                lines.append(f"| {start} |" + " |" * 5)
    return "\n".join(lines)


def equation(method: type) -> str:
    """The equation of a method, or else what its class says that it is."""
    own = (method.__doc__ or "").partition("\n")[0].strip().rstrip(".").replace("|", "\\|")
    return EQUATIONS.get(method.__name__, "" if method.__name__ == "Classifier" else own)


def paper(method: type) -> str:
    """The first reference in the docstring of the method's module, which is that of the method itself."""
    found = REFERENCE.search(inspect.getmodule(method).__doc__ or "")
    return "" if found is None else f"[{found['title'].strip()}]({found['url']}), {found['authors']}"


def numbers(card: Card) -> Iterable[str]:
    """The likelihood, FID, FID over that of real images, and seconds per sample; what does not apply is empty."""
    metrics = tested(card)
    if card.method == "Classifier":
        real = metrics.get(f"fid_of_training_pictures-{card.data}-10k")
        told = [f"{name} {metrics[f'accuracy_{name}']:.3f}" for name in card.hyperparameters.get("attributes") or ()]
        named = f"accuracy of {', '.join(told)}" if told else f"accuracy {metrics['accuracy']:.3f}"
        return named, *(("", "") if real is None else (f"{real:.4f}", "1")), ""
    seconds = metrics.get("seconds_per_sample-cpu-64")
    return likelihood(card, metrics), *distances(metrics), "" if seconds is None else two_digits(seconds)


def distances(metrics: Mapping[str, float]) -> tuple[str, str]:
    """FID, and how many times the FID of as many real images it is; of points the modes that were found."""
    if "modes-2500" in metrics:
        return f"{metrics['modes-2500']:.0f} modes, {100 * metrics['high_quality-2500']:.0f} % of samples near one", ""
    if not (protocol := fid_protocol(metrics)):
        return "", ""
    few = " (2k)" if "-2k" in protocol else ""
    over_real = metrics.get(f"fid_over_real-{protocol}")  # of few training images there is none
    return f"{metrics[f'fid-{protocol}']:.2f}{few}", "" if over_real is None else f"{over_real:.0f}"


def grids() -> str:
    """A grid of samples of every checkpoint that has one, by family, folded."""
    order = [method.__name__ for family in FAMILIES.values() for method in family]
    cards = sorted((zoo.card(name) for name in zoo.names()), key=lambda card: (order.index(card.method), card.name))
    cells = [
        f'<td align="center"><img src="checkpoints/{card.name}/samples.png" width="200"><br>{card.name}</td>'
        for card in cards
        if (ROOT / "checkpoints" / card.name / "samples.png").is_file()
    ]
    rows = [cells[start : start + GRIDS_PER_ROW] for start in range(0, len(cells), GRIDS_PER_ROW)]
    return "\n".join(["<table>", *("<tr>\n" + "\n".join(row) + "\n</tr>" for row in rows), "</table>"])


def comparisons() -> str:
    """The tables of the comparisons, as far as they have been made."""
    parts = []
    for comparison in COMPARISONS.values():
        results = Results(results_file(comparison.name))
        tables = {block: markdown(block, results) for block in comparison.blocks}
        parts += [f"**{comparison.title}** (`python -m zoo compare {comparison.name}`)"] if any(tables.values()) else []
        parts += [f"{block.title}, {seeds_of(block)}:\n\n{lines}" for block, lines in tables.items() if lines]
    return "\n\n".join([family_markdown(), *parts])


def captions() -> str:
    """The counterfactual table of every model of captioned emoji."""
    parts = []
    for name in zoo.names():
        if tables := [*counterfactual_tables(zoo.card(name))]:
            parts += [f"[`{name}`](checkpoints/{name})", *tables]
    return "\n\n".join(parts)


def written(text: str) -> str:
    """Returns ``text`` with fresh content between each pair of markers."""
    made = {"grids": grids(), "table": table(), "captions": captions(), "comparisons": comparisons()}
    for marker, content in made.items():
        begin, end = f"<!-- {marker} -->\n", f"<!-- end of {marker} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}{content}\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"Wrote the table and the grids of {README}\n")
