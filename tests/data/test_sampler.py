"""Laws of the training order: nothing twice, nothing lost, the same updates for any number of ranks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data.sampler import EpochBatches
from mvit_video.errors import InputError
from mvit_video.world import World

Update = list[int]


def updates(
    num_samples: int,
    batch: int,
    ranks: int,
    accumulate: int = 1,
    epoch: int = 0,
    consumed: int = 0,
    seed: int = 0,
) -> list[Update]:
    """The samples of each update over all ranks, in the order of a single rank."""
    per_rank = []
    for rank in range(ranks):
        order = EpochBatches(num_samples, batch, World(rank, ranks), seed, accumulate)
        order.set_position(epoch, consumed)
        micro_batches = list(order)
        assert len(micro_batches) == len(order)
        assert all(at == epoch for micro in micro_batches for at, _ in micro)
        per_rank.append([[index for _, index in micro] for micro in micro_batches])
    in_order = [list(itertools.chain(*shares)) for shares in zip(*per_rank, strict=True)]
    return [
        list(itertools.chain(*in_order[start : start + accumulate]))
        for start in range(0, len(in_order), accumulate)
    ]


sizes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 40))


@given(sizes=sizes, epoch=st.integers(0, 9))
def test_any_number_of_ranks_makes_the_same_updates(sizes: tuple, epoch: int) -> None:
    ranks, accumulate, per_part, spare = sizes
    batch = ranks * accumulate * per_part
    num_samples = batch + spare
    alone = updates(num_samples, batch, 1, epoch=epoch)
    assert updates(num_samples, batch, ranks, accumulate, epoch) == alone


@given(sizes=sizes, epoch=st.integers(0, 9), seed=st.integers(-5, 5))
def test_an_epoch_holds_each_sample_at_most_once(sizes: tuple, epoch: int, seed: int) -> None:
    ranks, accumulate, per_part, spare = sizes
    batch = ranks * accumulate * per_part
    num_samples = batch + spare
    found = updates(num_samples, batch, ranks, accumulate, epoch, seed=seed)
    seen = list(itertools.chain(*found))
    assert len(set(seen)) == len(seen) == num_samples // batch * batch
    assert set(seen) <= set(range(num_samples))
    assert all(len(update) == batch for update in found)


@given(sizes=sizes, done=st.integers(0, 40), other_ranks=st.integers(1, 4))
def test_a_resumed_epoch_goes_on_where_it_was_left(
    sizes: tuple, done: int, other_ranks: int
) -> None:
    ranks, accumulate, per_part, spare = sizes
    batch = ranks * accumulate * per_part * other_ranks
    num_samples = batch + spare
    whole = updates(num_samples, batch, ranks, accumulate, epoch=3)
    done = min(done, len(whole))
    rest = updates(num_samples, batch, other_ranks, epoch=3, consumed=done * batch)
    assert rest == whole[done:]


@given(sizes=sizes, places=st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_what_is_left_of_an_epoch_can_be_shuffled_anew(sizes: tuple, places: list[int]) -> None:
    ranks, accumulate, per_part, spare = sizes
    batch = ranks * accumulate * per_part
    whole = list(itertools.chain(*updates(7 * batch + spare, batch, 1)))
    places = [place * batch for place in places]
    order = EpochBatches(7 * batch + spare, batch, World(), 0)
    order.set_position(0, 0, places)
    anew = [index for update in order for _, index in update]
    assert len(set(anew)) == len(anew) == (7 * batch + spare) // batch * batch
    assert anew[: min(places)] == whole[: min(places)]
    order.set_position(0, places[-1], places)  # where the run goes on
    assert [index for update in order for _, index in update] == anew[places[-1] :]


def test_each_return_to_a_place_gives_another_order() -> None:
    order = EpochBatches(60, 4, World(), 0)
    found = []
    for times in range(4):
        order.set_position(2, 8, [8] * times)
        found.append(str(list(order)))
    assert len(set(found)) == 4


@given(share=st.integers(1, 4), ranks=st.integers(1, 4), accumulate=st.integers(1, 3))
def test_neighbours_meet_on_a_rank(share: int, ranks: int, accumulate: int) -> None:
    batch = 2 * share * ranks * accumulate
    (alone,) = EpochBatches(batch, batch, World(), 0)
    pairs = {tuple(alone[i : i + 2]) for i in range(0, batch, 2)}
    found = set()
    for rank in range(ranks):
        for part in EpochBatches(batch, batch, World(rank, ranks), 0, accumulate):
            found |= {tuple(part[i : i + 2]) for i in range(0, len(part), 2)}
    assert found == pairs


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [updates(50, 5, 1, epoch=epoch, seed=seed) for epoch in range(3) for seed in range(3)]
    assert len({str(order) for order in orders}) == 9
    assert updates(50, 5, 1, epoch=1, seed=2) == orders[5]


def test_list_order_without_shuffling() -> None:
    order = EpochBatches(7, 2, World(), seed=0, shuffle=False)
    assert [[index for _, index in batch] for batch in order] == [[0, 1], [2, 3], [4, 5]]
    assert order.steps_per_epoch == 3


def test_batches_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(InputError, match=r"TRAIN.BATCH_SIZE 16, .* among 3 ranks"):
        EpochBatches(100, 16, World(0, 3), seed=0)
    with pytest.raises(InputError, match=r"2 ranks x SOLVER.ACCUMULATE_STEPS 4.* multiple of 8"):
        EpochBatches(100, 12, World(0, 2), seed=0, accumulate_steps=4)
    with pytest.raises(InputError, match=r"has 10 videos.*at most 10 \(it is 16\)"):
        EpochBatches(10, 16, World(), seed=0)
