import pytest

from nextpage.experiments.rule import parse_rule, read_rule
from nextpage.experiments.sequential import SequentialConfig
from tests.experiments.logs import make_rule

TEXT = """
experiment: e
metrics:
  - {name: value per user, numerator: value, cuped: true}
  - {name: slow requests, numerator: slow, denominator: requests}
primary: {metric: value per user, minimum_effect: 0.02}
guardrails:
  - {metric: slow requests, direction: decrease, margin: 2e-3, absolute: true}
sequential: {design: always_valid}
segments: [tier]
"""


def test_a_rule_is_read_from_yaml_and_keeps_the_defaults_of_what_it_leaves_out(tmp_path):
    (tmp_path / "rule.yaml").write_text(TEXT)
    rule = read_rule(tmp_path / "rule.yaml")
    assert rule.guardrails[0].margin == 0.002
    assert rule.sequential == SequentialConfig(design="always_valid")
    assert rule.segments == ("tier",)
    assert (rule.horizon_days, rule.alpha, rule.promotion) == (28, 0.025, "approval")


def test_a_rule_survives_its_yaml_and_keeps_its_hash():
    rule = make_rule(segments=["tier"])
    assert parse_rule(rule.to_yaml()) == rule
    assert parse_rule(rule.to_yaml()).hash == rule.hash


@pytest.mark.parametrize(
    "change", [{"alpha": 0.05}, {"horizon_days": 28}, {"promotion": "approval"}, {"segments": ["x"]}]
)
def test_any_change_of_a_rule_changes_its_hash(change):
    assert make_rule(**change).hash != make_rule().hash


def test_power_is_split_over_the_claims_and_alpha_is_not():
    assert make_rule().claim_power == pytest.approx(1 - 0.2 / 3)
    assert make_rule(guardrails=[]).claim_power == 0.8
    assert [claim.role for claim in make_rule().claims] == ["primary", "guardrail", "guardrail"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"primary": {"metric": "clicks", "minimum_effect": 0.1}}, "no metric is named 'clicks'"),
        ({"primary": {"metric": "value per user"}}, "primary of the rule is incomplete"),
        ({"primary": {"metric": "value per user", "minimum_effect": 2}}, "minimum_effect of 'value per user' is 2"),
        ({"guardrails": [{"metric": "errors", "margin": -0.1}]}, "margin of 'errors' is -0.1"),
        ({"guardrails": [{"metric": "errors", "margin": 0.1, "direction": "down"}]}, "direction 'down'"),
        ({"guardrails": [{"metric": "value per user", "margin": 0.1, "absolute": True}]}, "grows by the day"),
        ({"metrics": [{"name": "a", "numerator": "x"}] * 2}, "two metrics have one name"),
        ({"metrics": "value"}, "metrics of the rule is 'value'"),
        ({"alpha": 0}, "alpha is 0.0"),
        ({"alpha": "much"}, "alpha is 'much'"),
        ({"horizon_days": 10}, "no multiple of promotion_days 7"),
        ({"minimum_users": 0}, "minimum_users is 0"),
        ({"promotion": "always"}, "use approval or auto"),
        ({"peek": True}, "sets peek"),
        ({"sequential": {"design": "bayes"}}, "no sequential design"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_what_is_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        make_rule(**settings)


def test_text_that_is_no_rule_is_refused():
    with pytest.raises(ValueError, match="no mapping"):
        parse_rule("- a")
