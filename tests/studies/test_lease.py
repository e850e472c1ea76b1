"""Leases: who may write, and when a worker counts as lost."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from studies.lease import Hold, Identity, LeaseLost, Watch, new_lease, read_lease, write_lease


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trial" / "lease.json"


def taken(path, worker="a", before=None):
    lease = new_lease(Identity(worker, f"job-{worker}", 0, "host"), before, lost=before is not None)
    path.parent.mkdir(exist_ok=True)
    write_lease(path, lease)
    return lease


def test_a_held_lease_moves_and_keeps_its_token(path):
    lease = taken(path)
    with Hold(path, lease, beat=0.02):
        time.sleep(0.3)
    found = read_lease(path)
    assert found.token == lease.token
    assert found.counter >= 5
    assert 0.2 < found.seconds < 1.0


def test_who_has_lost_the_token_can_do_nothing_and_hears_of_it(path):
    lease = taken(path)
    with Hold(path, lease, beat=0.02) as hold:
        after = taken(path, "b", lease)
        assert hold.lost.wait(2.0)
        with pytest.raises(LeaseLost), hold.owned():
            raise AssertionError
        with pytest.raises(LeaseLost):
            hold.release()
    assert read_lease(path) == after


def test_the_next_attempt_counts_losses_and_keeps_the_time(path):
    lease = taken(path)
    with Hold(path, lease, beat=60.0) as hold:
        time.sleep(0.05)
        hold.release()
    before = read_lease(path)
    assert before.released
    after = new_lease(before.owner, before, lost=True)
    assert (after.attempt, after.losses, after.stuck, after.released) == (2, 1, 1, False)
    assert after.seconds == before.seconds > 0.04
    assert after.token != before.token


def test_losses_are_forgotten_once_the_trial_gets_on(path):
    lease = taken(path, before=taken(path, before=taken(path)))
    with Hold(path, lease, beat=60.0) as hold:
        hold.reach(2)
        assert (read_lease(path).losses, read_lease(path).stuck) == (2, 0)
    again = taken(path, before=read_lease(path))
    with Hold(path, again, beat=60.0) as hold:
        hold.reach(2)  # no further than the attempt before
        assert read_lease(path).stuck == 1


def test_only_a_later_start_of_the_same_job_succeeds():
    first, other = Identity("a", "1_0", 0, "host"), Identity("b", "1_1", 0, "host")
    requeued, copy = replace(first, worker="c", restarts=1), replace(first, worker="d")
    assert requeued.succeeds(first)
    assert not any(one.succeeds(another) for one, another in [(first, requeued), (copy, first), (requeued, other)])


def test_a_lease_that_stands_still_expires_after_the_grace(path):
    lease, watch = taken(path), Watch(grace=10.0, poll=1.0)
    times = [watch.expired(path, lease, float(now)) for now in range(13)]
    assert times.index(True) == 10


def test_one_that_moves_does_not(path):
    watch, lease = Watch(grace=3.0, poll=1.0), taken(path)
    for now in range(20):
        assert not watch.expired(path, replace(lease, counter=now), float(now))
    assert watch.alive(path, 19.0)
    assert not watch.alive(path, 25.0)


def test_time_in_which_the_file_was_not_read_does_not_count(path):
    """The watcher was suspended, or the file system hung: nobody can be blamed for that."""
    lease, watch = taken(path), Watch(grace=10.0, poll=1.0)
    assert not watch.expired(path, lease, 0.0)
    assert not watch.expired(path, lease, 3600.0)
    assert not watch.expired(path, lease, 7200.0)


def test_a_lease_that_has_moved_since_long_ago_need_not_be_alive(path):
    """Who looks only between its own trials sees another counter each time, also of a worker that died in between."""
    first = taken(path)
    watch, later = Watch(grace=10.0, poll=1.0), replace(first, counter=7)
    watch.expired(path, first, 0.0)
    watch.expired(path, later, 100.0)
    assert not watch.alive(path, 100.0)
    watch.expired(path, replace(first, counter=8), 101.0)
    assert watch.alive(path, 101.0)
