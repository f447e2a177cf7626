"""Captions that nobody has drawn: does a model of P(X|C) know what their words mean, or repeat what it has seen?

The captions are of emoji of people in two artists' styles, "woman firefighter, dark skin tone, twemoji". Training held
out one skin tone of half of the persons in their roles, and all tones of ten of them: every word was seen, the
combination never. For each of these captions the model draws one image, and one for a seen caption of another skin tone
or person, from the same random numbers. A classifier that was trained without the held-out images names what is asked
for. Distances are those of its features: is the drawing nearer to the true image than the seen image is that is nearest
to the truth, and is the truth the nearest of the five tones of the same emoji? Chance is one in five there, and a model
that repeats another tone gets none. Errors are bootstrap errors over persons in their roles.
"""

from zoo.cards import card
from zoo.counterfactual_figures import counterfactuals
from zoo.counterfactual_table import FIGURE
from zoo.evaluation_request import Request
from zoo.loading import load
from zoo.studies.study import Number, Outcome, study
from zoo.studies.study_figures import COLOURS, labels, panels

MODEL, CLASSIFIER = "flow_matching.emoji", "classifier.emoji"
MEASURES = {
    "tone": "tone is named",
    "person": "person is named",
    "category": "category is named",
    "style": "style is named",
    "nearer": "nearer than\nnearest seen",
    "nearest_tone": "true tone\nis nearest",
    "retrieved_1": "truth is\nretrieved",
}
BOUNDS = {"tone": 0.9, "nearer": 0.5, "nearest_tone": 0.6}
SIDES = ("unseen", "seen")


@study(
    place="1.1, motivations",
    claim="Whether a model of P(X|C) has understood its captions is seen when it is asked for what was never seen "
    "together; a model that has understood them draws that too.",
    rule="For captions of unseen combinations, one sample each, the skin tone is named right in at least 90 %, the "
    "sample is nearer to the truth than the nearest seen image is in at least 50 %, and the truth is the nearest of "
    "its five skin tones in at least 60 %.",
    checkpoints=(MODEL, CLASSIFIER),
)
def counterfactual(quick: bool) -> Outcome:
    """Samples for unseen and seen captions, and measures the samples and, for scale, real images."""
    module = load(MODEL)
    request = Request(card(MODEL), module, num_samples=8 if quick else None, extractor=CLASSIFIER)
    metrics = counterfactuals(request)
    numbers: dict[str, Number] = {}
    for name, share in metrics.items():
        found = FIGURE.fullmatch(name)
        if found is not None and found["error"] is None and found["measure"] in MEASURES:
            key = "_".join(filter(None, (found["measure"], found["side"], found["scale"])))
            numbers[key] = Number(share, metrics[name.replace(f"_{key}-", f"_{key}_standard_error-")])

    figure, (axes,) = panels("share of captions, one sample each")
    figure.set_size_inches(8.0, 3.6)
    width = 0.38
    for place, side in enumerate(SIDES):
        x = [index + (place - 0.5) * width for index in range(len(MEASURES))]
        shown = [numbers[f"{measure}_{side}"] for measure in MEASURES]
        errors = None if quick else [number.error for number in shown]
        heights = [number.value for number in shown]
        hatch = "//" if place else None
        axes.bar(x, heights, width, yerr=errors, color=COLOURS[place], hatch=hatch, edgecolor="white", label=side)
    for index, measure in enumerate(MEASURES):
        scale = numbers.get(f"{measure}_unseen_real") or numbers.get(f"{measure}_unseen_neighbour")
        ends = (index - width, index + width)
        if scale is not None:
            axes.plot(ends, [scale.value] * 2, color="0.2", linewidth=1.6, label="" if index else "real or neighbour")
        if measure in BOUNDS:
            told = "bound of the rule" if measure == "tone" else ""
            axes.plot(ends, [BOUNDS[measure]] * 2, color="0.2", linestyle="dotted", linewidth=2, label=told)
    axes.set_xticks(range(len(MEASURES)), list(MEASURES.values()), fontsize="x-small")
    axes.set(ylim=(0, 1.4), yticks=[0, 0.25, 0.5, 0.75, 1])
    labels(axes, "", "share")

    value = {name: number.value for name, number in numbers.items()}
    met = {measure: value[f"{measure}_unseen"] >= bound for measure, bound in BOUNDS.items()}
    seen = (
        f"Of unseen captions the tone is named right in {100 * value['tone_unseen']:.0f} %, of seen ones in "
        f"{100 * value['tone_seen']:.0f} %, of real images in {100 * value['tone_unseen_real']:.0f} %. The sample is "
        f"nearer to the truth than the nearest seen image in {100 * value['nearer_unseen']:.0f} %, and the true tone "
        f"is the nearest in {100 * value['nearest_tone_unseen']:.0f} %, of the seen neighbours in "
        f"{100 * value['nearest_tone_unseen_neighbour']:.0f} %."
    )
    return Outcome(all(met.values()), numbers, figure, seen, (request.seed,))
