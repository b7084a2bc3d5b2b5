"""Which photographs an epoch visits: properties that hold for every catalogue."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from data import EpochBatches, balanced_subset

labels = st.lists(st.integers(0, 6), min_size=1, max_size=200).map(lambda values: np.array(values, np.int32))


@settings(deadline=None)
@given(labels, st.integers(1, 40), st.integers(0, 1000))
def test_balanced_subset_takes_the_smaller_of_the_limit_and_the_count_of_every_class(labels, per_class, seed):
    subset = balanced_subset(labels, per_class, seed)
    assert len(set(subset.tolist())) == len(subset) and (np.diff(subset) > 0).all()
    for label in set(labels.tolist()):
        assert (labels[subset] == label).sum() == min(per_class, (labels == label).sum())


def test_balanced_subset_keeps_every_image_of_a_small_class():
    labels = np.array([0] * 100 + [1] * 30 + [2] * 5)
    subset = balanced_subset(labels, 30)
    assert set(range(100, 135)) <= set(subset.tolist()) and len(subset) == 65


def test_balanced_subset_is_a_function_of_its_seed():
    labels = np.repeat(np.arange(10), 50)
    assert (balanced_subset(labels, 30, 1) == balanced_subset(labels, 30, 1)).all()
    assert (balanced_subset(labels, 30, 1) != balanced_subset(labels, 30, 2)).any()


def test_balanced_subset_draws_every_image_of_a_large_class_equally_often():
    labels = np.zeros(20, np.int64)
    counts = np.bincount(np.concatenate([balanced_subset(labels, 5, seed) for seed in range(4000)]), minlength=20)
    # each count is binomial(4000, 1/4); the sum of squares over 20 of them has 19 degrees of freedom
    assert ((counts - 1000) ** 2 / 750).sum() * 19 / 20 < 43.8  # 99.9th percentile of chi-square


@pytest.mark.parametrize("per_class", [0, -1])
def test_balanced_subset_refuses_less_than_one(per_class):
    with pytest.raises(InputError, match="at least 1 photograph a class"):
        balanced_subset(np.zeros(3, np.int32), per_class)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(2, 70), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_visits_every_image_once_in_batches_of_nearly_equal_size(n, batch_size, seed, epoch):
    batches = EpochBatches(np.arange(n) * 3, batch_size, seed)
    batches.epoch = epoch
    drawn = list(batches)
    sizes = [len(batch) for batch in drawn]
    assert len(drawn) == len(batches) == -(-n // batch_size)
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    assert sorted(draw.index for batch in drawn for draw in batch) == [3 * place for place in range(n)]
    assert {draw.epoch for batch in drawn for draw in batch} == {epoch}


def test_an_epoch_resumed_at_a_batch_goes_on_with_that_batch():
    batches = EpochBatches(np.arange(100), 8, seed=1)
    batches.epoch = 2
    whole = list(batches)
    batches.start = 5
    assert list(batches) == whole[5:]


def test_every_epoch_and_seed_has_an_order_of_its_own():
    def order(seed, epoch):
        batches = EpochBatches(np.arange(50), 10, seed)
        batches.epoch = epoch
        return tuple(draw.index for batch in batches for draw in batch)

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16
    assert order(1, 1) == order(1, 1)
