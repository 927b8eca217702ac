"""Backfills from other packages: found by name, loaded on demand, refused one by one."""

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import packages
import pytest

from backfill_tasks import registry
from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.cli.commands.run import run
from backfill_tasks.engine.contract import Backfill
from backfill_tasks.errors import PluginError
from backfill_tasks.options import RESERVED, RUN_OPTIONS
from backfill_tasks.registry import KINDS, Backfills

#: The template of a module with a backfill.
SOURCE = """
from backfill_tasks import Option, SqlBackfill, Text, Whole

backfill = SqlBackfill(name={name!r}, table="t", key="id", where="true", set="a = 1", options=({options}))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's import path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def add(folder: Path, name: str, *, options: str = "", source: str = SOURCE, package: str = "") -> None:
    """Install a package with one backfill of this name."""
    module = (package or name).replace("-", "_")
    content = source.format(name=name, options=options) if source is SOURCE else source
    packages.install(folder, package or name, {name: f"{module}:backfill"}, **{module: content})


def found(folder: Path) -> Backfills:
    return Backfills(packages.entry_points(folder), lambda each: each)


def with_lead_scoring(folder: Path) -> Backfills:
    """Return the packages in a folder together with our own."""
    ours = tuple(each for each in metadata.entry_points(group=registry.GROUP) if each.name == "lead-scoring")
    return Backfills((*ours, *packages.entry_points(folder)), lambda each: each)


class TestDiscovery:
    def test_our_own_register_like_anybodys_and_the_default_comes_first(self) -> None:
        assert list(KINDS) == ["lead-scoring", "message-rollups"]
        assert isinstance(KINDS["lead-scoring"], LeadScoring)
        assert KINDS.broken() == {}

    def test_names_cost_no_import(self, folder: Path) -> None:
        add(folder, "acme", source="raise SystemExit('imported')")

        assert list(found(folder)) == ["acme"]
        assert "acme" in found(folder)
        assert len(found(folder)) == 1

    def test_an_entry_point_may_name_an_instance_or_a_class(self, folder: Path) -> None:
        add(folder, "one")
        packages.install(folder, "two", {"lead-scoring": "backfill_tasks.backfills.lead_scoring:LeadScoring"})

        assert [each.name for each in found(folder).usable()] == ["lead-scoring", "one"]

    def test_each_is_prepared_for_the_host_when_it_is_loaded(self, folder: Path) -> None:
        add(folder, "acme")
        prepared: list[Backfill] = []

        def prepare(each: Backfill) -> Backfill:
            prepared.append(each)
            return each

        known = Backfills(packages.entry_points(folder), prepare)
        list(known)
        assert prepared == []
        assert known["acme"] is known["acme"]
        assert len(prepared) == 1


class TestBrokenPackages:
    @pytest.mark.parametrize(
        ("source", "why"),
        [
            ("import nothing_like_it", "can't be loaded: ModuleNotFoundError: No module named 'nothing_like_it'"),
            ("1 / 0", "can't be loaded: ZeroDivisionError: division by zero"),
            ("raise RuntimeError('one\\x1b[0m\\ntwo')", "can't be loaded: RuntimeError: one\\u001b[0m"),
            ("other = 1", "can't be loaded: AttributeError: "),
            ("backfill = 7", "can't be used: it is no Backfill but 7"),
            ("class backfill: pass", "can't be used: it is no Backfill but <"),
            (SOURCE.format(name="other", options=""), "can't be used: it calls itself 'other'"),
            (
                SOURCE.format(name="acme", options="Option('most', Text(), 'No.', variable='DATABASE_URL'),"),
                "can't be used: its option most can't read the variable 'DATABASE_URL': BACKFILL_…, CELERY_…",
            ),
            (
                SOURCE.format(name="acme", options="Option('most', Text(), 'No.', variable='BACKFILL_MOST'),"),
                "can't be used: its option most can't read the variable 'BACKFILL_MOST': BACKFILL_…, CELERY_…",
            ),
            (
                SOURCE.format(name="acme", options="Option('most', Text(), 'No.', variable='acme-most'),"),
                "can't be used: its option most can't read the variable 'acme-most': write it in capital letters",
            ),
            (
                SOURCE.format(name="acme", options="Option('most', Whole(1, 9), 'A number.', default=10),"),
                "can't be loaded: OptionError: most: 10 is not a whole number from 1 to 9",
            ),
            (
                SOURCE.format(name="acme", options="Option('limit', Text(), 'No.'),"),
                "can't be used: it declares an option limit, and `run` has one of that name already",
            ),
            (
                SOURCE.format(name="acme", options="Option('most', Text(), 'No.', flag='--dry-run'),"),
                "can't be used: it declares an option most, and `run` has one of that name already",
            ),
        ],
    )
    def test_one_is_refused_in_one_line_that_names_it_and_its_package(
        self, folder: Path, source: str, why: str
    ) -> None:
        add(folder, "acme", source=source)

        with pytest.raises(PluginError) as refused:
            found(folder)["acme"]

        assert str(refused.value).startswith(f"the backfill acme of acme 1.0 (acme:backfill) {why}")
        assert "\n" not in str(refused.value)

    def test_the_others_go_on(self, folder: Path) -> None:
        add(folder, "acme", source="1 / 0")
        add(folder, "fine")
        known = found(folder)

        assert [each.name for each in known.usable()] == ["fine"]
        assert known.broken().keys() == {"acme"}
        assert known.get("acme") is None

    def test_a_name_that_two_packages_bring_is_refused_with_both(self, folder: Path) -> None:
        add(folder, "acme", package="first")
        add(folder, "acme", package="second")

        with pytest.raises(PluginError, match=r"first 1\.0 \(first:backfill\).*second 1\.0 \(second:backfill\)"):
            found(folder)["acme"]

    def test_a_name_that_no_package_brings_is_refused_with_those_that_are_there(self) -> None:
        with pytest.raises(PluginError, match="no package brings a backfill 'acme': installed are lead-scoring, "):
            KINDS.choose("acme")


class TestOptions:
    def test_two_backfills_may_share_an_option(self, folder: Path) -> None:
        for name in ("one", "two"):
            add(folder, name, options=f"Option('tenant', Text(), 'Only this one, {name}.'),")

        assert found(folder).broken() == {}
        assert found(folder).options()["tenant"].help == "Only this one, one."

    @pytest.mark.parametrize(
        "option",
        [
            "Option('tenant', Whole(1, 2, off=True), 'A number.')",
            "Option('other', Text(), 'Another.', flag='--tenant')",
            "Option('tenant', Text(), 'Only this one.', tunable=True)",
            "Option('tenant', Text(), 'Only this one.', variable='ACME_TENANT')",
        ],
    )
    def test_different_options_of_one_name_are_refused_with_both_backfills(self, folder: Path, option: str) -> None:
        add(folder, "one", options="Option('tenant', Text(), 'Only this one.'),")
        add(folder, "two", options=f"{option},")
        known = found(folder)

        assert [each.name for each in known.usable()] == ["one"]
        with pytest.raises(PluginError, match="the backfills one and two declare different options --tenant"):
            known.choose("two")

    def test_a_variable_of_two_options_is_refused_with_both_backfills(self, folder: Path) -> None:
        add(folder, "one", options="Option('tenant', Text(), 'Only this one.', variable='ACME'),")
        add(folder, "two", options="Option('client', Text(), 'Only this one.', variable='ACME'),")

        with pytest.raises(PluginError, match="the backfills one and two declare different options"):
            found(folder).choose("two")

    def test_a_plug_in_cannot_break_the_options_of_our_own(self, folder: Path) -> None:
        add(folder, "acme", options="Option('client_ids', Text(), 'One.'),")

        assert [each.name for each in with_lead_scoring(folder).usable()] == ["lead-scoring"]

    def test_no_name_that_run_takes_for_itself_is_free(self) -> None:
        own = {each.name for each in run.params if isinstance(each, click.Option | click.Argument)}

        assert own - {*KINDS.options()} <= RESERVED
        assert RUN_OPTIONS.keys() <= RESERVED
