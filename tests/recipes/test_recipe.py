"""A recipe says what it picks, and what it says wrong is named."""

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nextpage.alignment.rewards import RewardsConfig
from nextpage.layouts.pages import PagesConfig
from nextpage.models.decoder import DecoderConfig
from nextpage.recipes import Recipe, parse_recipe, read_recipe
from nextpage.tokenizers.item_tokenizer import TokenizerConfig
from nextpage.training.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    codes: int = 256
    widths: tuple[int, ...] = (8, 8)


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "default"
    levels: tuple[int, ...] = (1, 2, 3)
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name is 'bad': use another")


def recipe(**part: object) -> Recipe:
    return Recipe(name="mine", sections={"part": part})


def test_the_shipped_recipe_is_what_its_file_says() -> None:
    genrec = read_recipe("genrec")
    written = yaml.safe_load((resources.files("nextpage.recipes") / "genrec.yaml").read_text())
    assert genrec.name == written["name"] == "genrec"
    model = genrec.part("model", DecoderConfig)
    assert {key: getattr(model, key) for key in written["model"]} == written["model"]
    assert genrec.part("tokenizer", TokenizerConfig).quantiser.codes == written["tokenizer"]["quantiser"]["codes"]
    assert genrec.part("layout", PagesConfig).page_wise == written["layout"]["page_wise"]
    assert genrec.part("training", TrainingConfig).learning_rate == written["training"]["learning_rate"]


def test_what_a_section_leaves_out_keeps_the_parts_default_and_so_does_an_absent_section() -> None:
    assert recipe(inner={"codes": 16}).part("part", Outer) == Outer(inner=Inner(codes=16))
    assert recipe().part("elsewhere", Outer) == Outer()
    assert parse_recipe("name: mine\npart:\n").part("part", Outer) == Outer()


def test_lists_become_tuples_at_every_depth() -> None:
    built = recipe(levels=[4, 5], inner={"widths": [1, 2]}).part("part", Outer)
    assert built == Outer(levels=(4, 5), inner=Inner(widths=(1, 2)))


def test_an_unknown_key_is_named_with_its_value_and_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"recipe mine: part sets level = 3, which Outer has not: use name, levels"):
        recipe(level=3).part("part", Outer)
    with pytest.raises(ValueError, match=r"recipe mine: part.inner sets code = 3, which Inner has not: use codes"):
        recipe(inner={"code": 3}).part("part", Outer)


def test_a_value_that_the_part_refuses_is_named_by_the_part() -> None:
    with pytest.raises(ValueError, match="name is 'bad'"):
        recipe(name="bad").part("part", Outer)


def test_a_setting_overrides_at_any_depth_and_leaves_the_recipe_as_it_was() -> None:
    before = recipe(name="given", inner={"codes": 16})
    after = before.with_settings(["part.inner.codes=32", "part.levels=[7]", " part.inner.widths = [1]"])
    assert after.part("part", Outer) == Outer(name="given", levels=(7,), inner=Inner(codes=32, widths=(1,)))
    assert before == recipe(name="given", inner={"codes": 16})


def test_a_setting_may_open_what_the_recipe_left_out_and_the_last_one_wins() -> None:
    after = recipe().with_settings(["part.inner.codes=1", "part.inner.codes=2"])
    assert after.part("part", Outer) == Outer(inner=Inner(codes=2))


@pytest.mark.parametrize("setting", ["", "part", "part=3", "part.", "part.name", ".name=3", "part..name=3"])
def test_a_setting_that_is_none_is_shown(setting: str) -> None:
    with pytest.raises(ValueError, match="setting ") as refused:
        recipe().with_settings([setting])
    assert repr(setting) in str(refused.value)


def test_a_setting_of_an_unknown_section_is_named_with_the_sections() -> None:
    with pytest.raises(ValueError, match=r"'prat.name=x' names no section of recipe 'mine': part"):
        recipe().with_settings(["prat.name=x"])


def test_a_recipe_by_an_unknown_name_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"recipe 'genrce' is unknown: use genrec or the path of a YAML file"):
        read_recipe("genrce")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent.yaml does not exist"):
        read_recipe(tmp_path / "absent.yaml")


@pytest.mark.parametrize("text", ["", "genrec", "- name: x", "part: {}"])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the recipe is no mapping with a name"):
        parse_recipe(text)


def test_a_section_that_is_no_mapping_is_named() -> None:
    with pytest.raises(ValueError, match=r"section 'part' of recipe 'mine' is 3: it must be a mapping"):
        parse_recipe("name: mine\npart: 3\n")


PLAIN = st.one_of(st.integers(), st.booleans(), st.text(), st.floats(allow_nan=False), st.lists(st.integers()))
SETTINGS = st.recursive(PLAIN, lambda inner: st.dictionaries(st.text(min_size=1), inner), max_leaves=8)
SECTION = st.text(min_size=1).filter(lambda name: name != "name")


@given(name=st.text(min_size=1), sections=st.dictionaries(SECTION, st.dictionaries(st.text(min_size=1), SETTINGS)))
def test_a_recipe_comes_back_from_its_yaml(name: str, sections: dict[str, dict[str, object]]) -> None:
    written = Recipe(name=name, sections=sections)
    assert parse_recipe(written.to_yaml()) == written


def test_a_written_file_is_read_as_the_same_recipe(tmp_path: Path) -> None:
    changed = read_recipe("genrec").with_settings(["training.steps=7", "layout.page_wise=1"])
    changed.write(tmp_path / "mine.yaml")
    assert read_recipe(tmp_path / "mine.yaml") == changed
    assert read_recipe(str(tmp_path / "mine.yaml")).part("training", TrainingConfig).steps == 7


@pytest.mark.parametrize(("written", "read"), [("0", 0.0), ("2e-1", 0.2), ("null", None)])
def test_a_number_that_may_be_absent_is_read_as_a_number_is(written: str, read: float | None) -> None:
    gate = read_recipe("genrec").with_settings([f"rewards.gate={written}"]).part("rewards", RewardsConfig).gate
    assert gate == read
    assert type(gate) is type(read)
