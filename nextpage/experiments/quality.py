"""What makes an experiment's figures mean nothing, whatever they say: checked before any of them is read."""

from scipy.stats import chisquare

from nextpage.experiments.rule import Rule
from nextpage.experiments.summary import Summary

FEWEST_EXPECTED = 10  # users of the smaller arm, below which χ² is not asked


def sample_ratio_p(control: int, treatment: int, treatment_share: float) -> float:
    """p of the χ² test that users fell into the arms as they should have; 1 where there are too few to ask."""
    users = control + treatment
    expected = [users * (1 - treatment_share), users * treatment_share]
    return float(chisquare([control, treatment], expected).pvalue) if min(expected) >= FEWEST_EXPECTED else 1.0


def quality_failures(rule: Rule, summary: Summary) -> tuple[str, ...]:
    """Sentences, one a failed check; none where all is well."""
    failures = []
    control, treatment = summary.users
    p = sample_ratio_p(control, treatment, rule.treatment_share)
    if p < rule.sample_ratio_alpha:
        failures.append(
            f"sample ratio mismatch: {control:,} users in control and {treatment:,} in treatment, where "
            f"{rule.treatment_share:.0%} treatment was to be expected (χ² p = {p:.1g} < {rule.sample_ratio_alpha:g}): "
            "the arms do not hold the same kind of users. Do both log every exposure?"
        )
    seen = control + treatment + summary.contaminated
    if seen and summary.contaminated / seen > rule.most_contaminated:
        failures.append(
            f"contamination: {summary.contaminated:,} of {seen:,} users ({summary.contaminated / seen:.2%}) were seen "
            f"in both arms, at most {rule.most_contaminated:.2%} may: does every way in use the same assignment?"
        )
    failures.extend(_silent_days(rule, summary))
    return tuple(failures)


def _silent_days(rule: Rule, summary: Summary) -> list[str]:
    """Days on which an arm was not heard of although the other was."""
    least = min(rule.treatment_share, 1 - rule.treatment_share)
    silent = []
    for look in summary.daily:
        users = {"control": look.control.users, "treatment": look.treatment.users}
        if 0 in users.values() and sum(users.values()) * least >= FEWEST_EXPECTED:
            arm = min(users, key=lambda name: users[name])
            silent.append(f"day {look.day}: {sum(users.values()):,} users in one arm and none in {arm}: is it logged?")
    return silent
