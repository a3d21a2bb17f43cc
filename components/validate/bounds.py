"""The bounds that a data set must keep."""

from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True, kw_only=True)
class ValidationBounds:
    """What a data set must hold to be trained on. The suites read these by name, as `{"$PARAMETER": name}`.

    Counts and shares are of the rows that stay, but for the three shares of rows that do not.
    """

    min_interactions: int = 1_000
    min_users: int = 20
    """Users with two pages or more: a history, and a page to learn from it."""
    min_items: int = 50
    """Distinct items in the log."""
    max_quarantined_share: float = 0.05
    """Of a table's rows: for every fault by itself, and for all together."""
    max_unknown_item_share: float = 0.02
    """Rows whose item is not in the catalogue."""
    max_duplicate_share: float = 0.02
    """Rows that repeat an earlier one."""
    max_age_days: float = 36_500.0
    """Age of the newest row. The default lets a closed, historical log pass; a live one wants a day or two."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_share") and not 0 <= value <= 1:
                raise ValueError(f"{field.name} is {value}: it is a share, give it between 0 and 1")
            if not field.name.endswith("_share") and not value > 0:
                raise ValueError(f"{field.name} is {value}: give it above 0, for no data is never a success")

    def suite_parameters(self) -> dict[str, float]:
        """The values under the names that the suites use; Great Expectations asks for the share that holds."""
        return asdict(self) | {
            "sound_share": 1 - self.max_quarantined_share,
            "known_item_share": 1 - self.max_unknown_item_share,
            "unique_share": 1 - self.max_duplicate_share,
        }
