"""Scheduled sampling converges to another distribution than that of the data, even on infinite data.

The source has two symbols per sequence, so everything can be enumerated. The second symbol is predicted from the true
first one with probability epsilon, else from one that the model has sampled. The latter says nothing of the true second
symbol, so the optimum of the objective is q(x2 | a) = epsilon p(x2 | a) + (1 - epsilon) p(x2) (Huszar, 2015,
https://arxiv.org/abs/1511.05101): at epsilon = 0 it ignores the past. The divergence of that optimum from the source is
known for each epsilon. Networks are trained on ever new sequences with each epsilon, and compared with it; so is one of
teacher forcing, whose optimum is the source.
"""

from typing import Any

import torch
from torch import Tensor

from datamodules import MarkovSource
from lightning_modules import ScheduledSampling, TeacherForcing
from lightning_modules.autoregressive.sequence_module import SequenceModule
from zoo.studies.quiet_training import fit
from zoo.studies.study import Number, Outcome, exact, mean_of_runs, study
from zoo.studies.study_figures import curve, labels, panels, truth

SEEDS = (0, 1, 2)
EPSILONS = (0.0, 0.5, 1.0)
SYMBOLS, BATCHES, BATCH, WIDTH, RATE = 3, 300, 256, 16, 2e-2


@study(
    place="1.2.2, autoregressive models; Huszar (2015)",
    claim="Scheduled sampling is a biased estimator: even as the number of examples and the capacity go to infinity, "
    "it may not converge to the correct model.",
    rule="For each epsilon and each of three seeds KL(source || model) is within 0.01 nats + 10 % of that of the known "
    "optimum; it is above 0.1 nats at epsilon = 0; and that of teacher forcing is below 0.005 nats.",
)
def scheduled_biased(quick: bool) -> Outcome:
    """Trains with each epsilon and seed."""
    seeds, epsilons, batches = (SEEDS[:1], EPSILONS[::2], 20) if quick else (SEEDS, EPSILONS, BATCHES)
    data = source()
    known = {epsilon: known_divergence(data, epsilon) for epsilon in epsilons}
    runs = {epsilon: [scheduled(epsilon, seed, batches) for seed in seeds] for epsilon in epsilons}
    teacher = [forced(seed, batches) for seed in seeds]

    figure, (left, right) = panels("divergence from the source", "p(x2 = 0 | x1): source and optimum")
    fine = [step / 50 for step in range(51)]
    left.plot(
        fine, [known_divergence(data, e) for e in fine], color="0.35", linestyle=(0, (6, 3)), label="known optimum"
    )
    means = [mean_of_runs(values) for values in runs.values()]
    errors = None if quick else [mean.error for mean in means]
    curve(left, epsilons, [mean.value for mean in means], 0, "scheduled sampling, trained", errors)
    truth(left, sum(teacher) / len(teacher), "teacher forcing, trained")
    labels(left, "epsilon, probability of a true input", "KL(source || model), nats")
    for first in range(SYMBOLS):
        line = [optimum(data, epsilon)[first, 0].item() for epsilon in fine]
        curve(right, fine, line, first, f"x1 = {first}")
    labels(right, "epsilon", "probability")

    numbers: dict[str, Number] = {f"kl_nats_epsilon_{e:g}": mean for e, mean in zip(epsilons, means, strict=True)}
    numbers |= {f"known_kl_nats_epsilon_{e:g}": exact(value) for e, value in known.items()}
    numbers["kl_nats_teacher_forcing"] = mean_of_runs(teacher)
    near = all(abs(v - known[e]) < 0.01 + 0.1 * known[e] for e, values in runs.items() for v in values)
    holds = near and min(runs[0.0]) > 0.1 and max(teacher) < 0.005
    seen = (
        f"At epsilon = 0 the trained model is {means[0].value:.3f} nats off the source, and the known optimum "
        f"{known[0.0]:.3f}, the mutual information of the symbols; at epsilon = 1 it is {means[-1].value:.4f} nats "
        f"off. Teacher forcing is {numbers['kl_nats_teacher_forcing'].value:.4f} nats off."
    )
    return Outcome(holds, numbers, figure, seen, seeds)


def source() -> MarkovSource:
    """Returns the source, with ever new training sequences."""
    data = MarkovSource(SYMBOLS, order=1, length=2, concentration=0.3, batch_size=BATCH, seed=3)
    data.setup()
    return data


def optimum(data: MarkovSource, epsilon: float) -> Tensor:
    """Returns q(x2 | x1) at the optimum of scheduled sampling, (x1, x2)."""
    return epsilon * data.transitions + (1 - epsilon) * data.stationary  # p(x2) is the stationary distribution


def known_divergence(data: MarkovSource, epsilon: float) -> float:
    """Returns KL(source || optimum) in nats."""
    p, q = data.transitions, optimum(data, epsilon)
    return (data.stationary[:, None] * (torch.xlogy(p, p) - torch.xlogy(p, q))).sum().item()


def settings(batches: int) -> dict[str, Any]:
    """Returns the hyperparameters that both methods share."""
    return {"architecture": "gru", "width": WIDTH, "lr": RATE, "weight_decay": 0.0, "decay_steps": batches}


def scheduled(epsilon: float, seed: int, batches: int) -> float:
    """Returns the divergence that scheduled sampling reaches."""
    torch.manual_seed(seed)
    model = ScheduledSampling.for_data(source().spec, decay="constant", start=epsilon, **settings(batches))
    return reached(model, batches)


def forced(seed: int, batches: int) -> float:
    """Returns the divergence that teacher forcing reaches."""
    torch.manual_seed(seed)
    return reached(TeacherForcing.for_data(source().spec, **settings(batches)), batches)


@torch.no_grad()
def reached(model: SequenceModule, batches: int) -> float:
    """Trains a model; returns KL(source || model) in nats, by enumeration."""
    data = source()
    with torch.enable_grad():
        fit(model, data, batches)
    x = torch.cartesian_prod(torch.arange(SYMBOLS), torch.arange(SYMBOLS))
    log_p, log_q = data.log_prob(x), model.log_prob(x).double()
    return (log_p.exp() * (log_p - log_q)).sum().item()
