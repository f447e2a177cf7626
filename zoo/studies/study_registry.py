"""The studies by name. A study is imported when it is asked for, because it imports the methods that it trains."""

from importlib import import_module

from zoo.errors import UnknownNameError
from zoo.paths import did_you_mean
from zoo.studies.study import Study

MODULES = {
    "entropy": "entropy",
    "mixture_modes": "mixture_modes",
    "cd_bias": "cd_bias",
    "partition_bracket": "partition_bracket",
    "first_steps": "first_steps",
    "exposure_bias": "compounding_errors",
    "scheduled_biased": "scheduled_biased",
    "naive_marginal": "naive_marginal",
    "elbo_gap": "elbo_gap",
    "likelihood_consistency": "likelihood_consistency",
    "support": "vanishing_support",
    "nce_distance": "nce_distance",
    "saturation": "saturation",
    "noise_bounds_w": "noise_bounds_w",
    "instance_noise": "overlap_by_noise",
    "js_vs_w": "js_vs_w",
    "roth_equals_noise": "roth_equals_noise",
    "power_method": "power_method",
    "conditioning": "clamped_conditioning",
    "clamp_range": "clamp_range",
    "d_score": "d_score",
    "clipping_vs_penalty": "clipping_vs_penalty",
    "sn_cost_rank": "sn_cost_rank",
    "is_fooled": "is_fooled",
    "fid_corruption": "fid_corruption",
    "memorisation": "memorisation_at_scale",
    "fid_bias": "fid_bias",
    "few_labels": "few_labels",
    "can_novelty": "can_novelty",
    "counterfactual": "unseen_captions",
}
"""Name of each study to the file in this folder, in the order of the text; names that another file has differ."""


def study_of(name: str) -> Study:
    """Returns a study.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    if name not in MODULES:
        raise UnknownNameError(
            f"There is no study {name!r}.{did_you_mean(name, MODULES)} There are {', '.join(MODULES)}."
        )
    found: Study = getattr(import_module(f"zoo.studies.{MODULES[name]}"), name)
    return found
