"""A/B tests: who sees which release, what came of it, and what is to be done.

assignment    user → arm
off_policy    what a release would have earned, before anybody sees it
rule          what is asked, written down beforehand
power         whether it can be answered, and in how many days
evidence      rows of users and days  →  summary: their moments, all that a verdict rests on
comparison    moments → an estimate   sequential: how far it must be from nothing
gate          rule, summary → verdict
record, card  the verdict, kept and told; breakdown and chart: by day and by segment
"""
