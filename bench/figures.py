"""A figure is what was measured, with all its samples, beside what it should be. Printed as a table, kept as JSON, drawn."""
import dataclasses
import math
import statistics

COLOURS = {"holds": "#3b7a57", "unsure": "#b58900", "MISSED": "#b03a2e"}


def percentile(samples, percent):
    """The smallest sample that is at least as large as `percent` of all."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]


def spread(samples):
    """The middle half around the median, as text: how far one run may be from the next."""
    return f"{percentile(samples, 25):.3g}..{percentile(samples, 75):.3g}"


@dataclasses.dataclass
class Figure:
    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    detail: str = ""
    interval: tuple | None = None  # where the value is, 19 times of 20
    samples: dict = dataclasses.field(default_factory=dict)

    def holds(self):
        """None where there is no target: the figure is only told."""
        return self._meets(self.value)

    def _meets(self, value):
        if self.at_most is not None:
            return value <= self.at_most
        return value >= self.at_least if self.at_least is not None else None

    def is_sure(self):
        """False where the samples are too far apart to tell on which side of the target the value is."""
        return self.interval is None or all(self._meets(end) == self.holds() for end in self.interval)

    def target(self):
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return f">= {self.at_least:g}" if self.at_least is not None else ""

    def verdict(self):
        if not self.is_sure():
            return "unsure"
        return {True: "holds", False: "MISSED", None: ""}[self.holds()]

    def as_json(self):
        return {**dataclasses.asdict(self), "holds": self.holds(), "sure": self.is_sure()}


def confidence(samples):
    """Where the true median is, 19 times of 20 (binomial, so for any distribution). Fewer than six samples cannot say."""
    if len(samples) < 6:
        return 0.0, math.inf
    ordered = sorted(samples)
    reach = 0.98 * len(ordered) ** 0.5
    low, high = int(len(ordered) / 2 - reach), int(len(ordered) / 2 + reach + 1)
    return ordered[max(0, low)], ordered[min(len(ordered) - 1, high)]


def compare(name, ours, bare, unit, at_most=None, at_least=None):
    """The median of the ratios of pairs that were measured one right after the other: what slows the machine down for a while slows both."""
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    low, high = confidence(ratios)
    detail = (f"19 of 20: {low:.3g}..{high:.3g}; mountd {statistics.median(ours):.4g} ({spread(ours)}) {unit}, by hand {statistics.median(bare):.4g} "
              f"({spread(bare)}) {unit}; {len(ours)} pairs")
    return Figure(name, statistics.median(ratios), "x", at_most=at_most, at_least=at_least, detail=detail, interval=(low, high), samples={"mountd": ours, "by hand": bare})


def print_table(figures):
    wide = max(len(figure.name) for figure in figures)
    print(f"\n{'figure':{wide}}  {'value':>10}  {'target':>8}  verdict")
    for figure in figures:
        print(f"{figure.name:{wide}}  {figure.value:>7.3g} {figure.unit:<3} {figure.target():>8}  {figure.verdict():<7} {figure.detail}")


def draw(figures, path):
    """The ratios as bars against their targets. Needs matplotlib (python3-matplotlib)."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    ratios = [figure for figure in figures if figure.at_most or figure.at_least]
    # As a share of the target, so that milliseconds and ratios stand on one axis: up to 1 is good.
    shares = [figure.value / figure.at_most if figure.at_most is not None else figure.at_least / figure.value for figure in ratios]
    canvas, axes = pyplot.subplots(figsize=(9, 0.4 * len(ratios) + 1.2))
    axes.barh([figure.name for figure in ratios], shares, color=[COLOURS[figure.verdict()] for figure in ratios])
    for row, figure in enumerate(ratios):
        axes.text(min(shares[row], 1.35) + 0.01, row, f"{figure.value:.3g} {figure.unit}  ({figure.target()})", va="center", fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(0, 1.7)
    axes.set_xlabel("share of the target that is used (left of the line: holds)")
    axes.invert_yaxis()
    canvas.tight_layout()
    canvas.savefig(path)
