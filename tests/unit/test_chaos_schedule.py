"""A fault campaign's schedule is a pure function of its seed."""

import itertools

from chaos.faults import PLAYERS
from chaos.schedule import KINDS, draw


def test_seed_replays_its_schedule() -> None:
    assert [draw(seed) for seed in range(20)] == [draw(seed) for seed in range(20)]
    assert draw(1) != draw(2)


def test_every_kind_of_fault_occurs_within_50_seeds() -> None:
    drawn = {fault.kind.name for seed in range(1, 51) for fault in draw(seed).faults}

    assert drawn == {kind.name for kind in KINDS}


def test_every_kind_of_fault_has_a_player() -> None:
    assert set(PLAYERS) == {kind.name for kind in KINDS}


def test_excluded_kind_leaves_the_seeds_other_faults_unchanged() -> None:
    without = frozenset({"postgres: disk full"})

    for seed in range(50):
        kept = tuple(fault for fault in draw(seed).faults if fault.kind.name not in without)
        assert draw(seed, without=without).faults == kept


def test_overlapping_faults_hit_different_parts() -> None:
    for seed in range(50):
        faults = draw(seed).faults
        for before, fault in itertools.pairwise(faults):
            assert fault.anchor != "start" or before.kind.part != fault.kind.part
