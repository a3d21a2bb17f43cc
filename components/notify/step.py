"""What a run came to, as Markdown for its page and as JSON for a webhook."""

from dataclasses import asdict, dataclass
from typing import Any

from nextpage.gates import Verdict

SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """`state` as Kubeflow Pipelines says it; `release`: name and hash, empty where none was made."""

    name: str
    run: str
    state: str
    error: str
    verdicts: tuple[Verdict, ...]
    release: dict[str, str]

    @property
    def sentence(self) -> str:
        """How it ended and, where it failed, of what."""
        ended = f"{self.name}: the run {self.state.lower()}"
        if self.state == SUCCEEDED:
            return f"{ended}, with release {self.release['hash'][:12]}" if self.release else ended
        stopped = [f"gate {verdict.gate!r}: {'; '.join(verdict.reasons)}" for verdict in self.failed]
        return f"{ended}. {' '.join(stopped) or self.error or 'No gate stopped it: a step failed, its log says why.'}"

    @property
    def failed(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.passed]

    @property
    def link(self) -> str:
        """Of the run, within the pages of Kubeflow Pipelines."""
        return f"#/runs/details/{self.run}"


def as_markdown(summary: Summary, told: str) -> str:
    rows = [
        f"| {verdict.gate} | {'passed' if verdict.passed else '**failed**'} | {_cell('; '.join(verdict.reasons))} |"
        for verdict in summary.verdicts
    ]
    lines = [f"# {summary.name}: {summary.state.lower()}", "", summary.sentence + ".", ""]
    if rows:
        lines += ["| gate | | |", "|---|---|---|", *rows, ""]
    if summary.release:
        lines += [f"Release `{summary.release['name']}`, hash `{summary.release['hash']}`.", ""]
    return "\n".join([*lines, f"[Run {summary.run}]({summary.link}). {told}".strip(), ""])


def as_json(summary: Summary) -> dict[str, Any]:
    """`text` alone is what chat tools show."""
    return {
        "text": summary.sentence,
        "name": summary.name,
        "run": summary.run,
        "link": summary.link,
        "state": summary.state,
        "verdicts": [asdict(verdict) for verdict in summary.verdicts],
        "release": summary.release,
    }


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
