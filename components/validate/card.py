"""The step's card in Markdown."""

from components.validate.step import Validation


def card(found: Validation) -> str:
    """Verdict, rows by table, faults in quarantine, and the figures of the whole against their bounds."""
    lines = [f"# Data quality: {'passed' if found.verdict.passed else 'FAILED'}", ""]
    lines += [*(f"- {reason}" for reason in found.verdict.reasons), ""]
    if found.rows:
        lines += ["| table | rows | clean | quarantined |", "|---|---:|---:|---:|"]
        for table, rows in found.rows.items():
            bad = found.quarantined[table]
            lines.append(f"| {table} | {rows:,} | {rows - bad:,} | {bad:,} |")
    faults = [one for one in found.findings if one.by_row and len(one.rows)]
    if faults:
        lines += ["", "| quarantined from | fault | rows | bound |", "|---|---|---:|---|"]
        lines += [f"| {one.table} | {one.fault} | {len(one.rows):,} | {one.bound()} |" for one in faults]
    whole = [one for one in found.findings if one.table == "dataset"]
    if whole:
        lines += ["", "| figure of the clean data | value | bound | holds |", "|---|---:|---|---|"]
        lines += [
            f"| {one.column} | {one.value()} | {one.bound()} | {'yes' if one.passed else 'NO'} |" for one in whole
        ]
    if found.left_out:
        lines += ["", f"Columns of the log outside the schema, left out of the clean log: {', '.join(found.left_out)}."]
    return "\n".join(lines) + "\n"
