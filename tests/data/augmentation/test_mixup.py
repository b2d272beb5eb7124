"""Mixup and CutMix: what 10,000 draws look like, and that pixels, labels and shares agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mvit_video.data.augmentation.mixup import Mix, Mixup, mix_clips, mix_labels, partners
from mvit_video.errors import InputError

DRAWS = 10_000


def draw_many(mixup: Mixup, batch: int = 2) -> list[Mix]:
    return [mixup.draw(np.random.default_rng(seed), batch, 224, 224) for seed in range(DRAWS)]


def test_the_published_mix_switches_evenly_and_follows_its_beta_distributions() -> None:
    mixes = draw_many(Mixup())
    mixed_up = np.array([m.share[0] for m in mixes if m.box[0] is None])
    cut = [m for m in mixes if m.box[0] is not None]
    assert abs(len(cut) / DRAWS - 0.5) < 0.02
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert abs(mixed_up.mean() - 0.5) < 0.02 and abs(mixed_up.var() - 1 / (4 * 2.6)) < 0.005
    shares = np.array([m.share[0] for m in cut])
    pasted = np.array([m.box[0][2] * m.box[0][3] for m in cut]) / 224**2
    np.testing.assert_allclose(shares, 1 - pasted, atol=1e-12)
    # Borders cut boxes of side r down to r - r^2 / 4 on average, in height and in width; with r^2 uniform that leaves
    # 0.3208 of the frame.
    assert abs(pasted.mean() - 0.3208) < 0.012


def published_cutmix_share(rng: np.random.Generator, size: int) -> float:
    """The arithmetic of SlowFast's get_cutmix_bbox, restated."""
    side = int(size * np.sqrt(1 - rng.beta(1.0, 1.0)))
    row, column = rng.integers(0, size), rng.integers(0, size)
    y1, y2 = np.clip(row - side // 2, 0, size), np.clip(row + side // 2, 0, size)
    x1, x2 = np.clip(column - side // 2, 0, size), np.clip(column + side // 2, 0, size)
    return 1.0 - (y2 - y1) * (x2 - x1) / float(size * size)


def test_the_distribution_of_cutmix_shares_is_that_of_the_published_code() -> None:
    rng = np.random.default_rng(1)
    published = np.sort([published_cutmix_share(rng, 224) for _ in range(DRAWS)])
    ours = np.sort([m.share[0] for m in draw_many(Mixup(alpha=0.0))])
    assert np.abs(published - ours).mean() < 0.015  # distance of the two distributions


def test_probabilities_are_kept() -> None:
    mixes = draw_many(Mixup(probability=0.3, switch_probability=0.2))
    mixed = [m for m in mixes if m.share[0] < 1]
    assert abs(len(mixed) / DRAWS - 0.3) < 0.02
    assert abs(np.mean([m.box[0] is not None for m in mixed]) - 0.2) < 0.03


def test_batch_mode_draws_once_and_elem_mode_for_every_clip() -> None:
    rng = np.random.default_rng(0)
    assert len(set(Mixup().draw(rng, 8, 64, 64).share)) == 1
    each = Mixup(mode="elem").draw(rng, 64, 64, 64)
    assert len(set(each.share)) > 60
    assert 10 < sum(box is not None for box in each.box) < 54


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0, "cutmix_alpha": 0},
        {"alpha": -1},
        {"probability": 1.2},
        {"switch_probability": -0.1},
    ],
)
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match="MIXUP"):
        Mixup(**wrong)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), batch=st.integers(1, 7), mode=st.sampled_from(["batch", "elem"]))
def test_the_label_share_is_the_share_of_pixels(seed: int, batch: int, mode: str) -> None:
    """Clips that are constant and equal to their number: what is in a mixed clip can be counted."""
    clips = torch.arange(batch).float().view(-1, 1, 1, 1, 1).expand(-1, 3, 2, 16, 24).clone()
    mix = Mixup(mode=mode, probability=0.9).draw(np.random.default_rng(seed), batch, 16, 24)
    mixed = mix_clips(clips.clone(), mix)
    targets = mix_labels(torch.arange(batch), batch, mix)
    expected = (targets * torch.arange(batch)).sum(1)
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3, 4)), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(targets.sum(1), torch.ones(batch))
    assert torch.equal(mixed[:, :, :1].expand_as(mixed), mixed)  # the same in every frame


def test_cutmix_pastes_the_partners_pixels_in_one_box() -> None:
    clips = torch.randn(4, 3, 5, 12, 10)
    mix = Mix((0.75,) * 4, ((2, 3, 6, 5),) * 4)
    mixed = mix_clips(clips.clone(), mix)
    expected = clips.clone()
    expected[..., 2:8, 3:8] = clips[[1, 0, 3, 2]][..., 2:8, 3:8]
    assert torch.equal(mixed, expected)


def test_mixup_adds_the_partner_in_its_share() -> None:
    clips = torch.randn(5, 3, 2, 4, 4, dtype=torch.float64)
    mixed = mix_clips(clips.clone(), Mix((0.3,) * 5, (None,) * 5))
    # The last of an odd number has no partner.
    torch.testing.assert_close(mixed, clips * 0.3 + clips[[1, 0, 3, 2, 4]] * 0.7)


def test_partners_are_the_same_clips_of_neighbouring_videos() -> None:
    assert partners(4) == [1, 0, 3, 2]
    assert partners(5) == [1, 0, 3, 2, 4]
    assert partners(8, clips_per_video=2) == [2, 3, 0, 1, 6, 7, 4, 5]
    assert partners(6, clips_per_video=2) == [2, 3, 0, 1, 4, 5]
    assert partners(2, clips_per_video=2) == [0, 1]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99),
    ranks=st.integers(1, 3),
    pairs=st.integers(1, 2),
    clips=st.integers(1, 2),
    mode=st.sampled_from(["batch", "elem"]),
)
def test_ranks_mix_their_shares_as_one_rank_mixes_the_batch(
    seed, ranks, pairs, clips, mode
) -> None:
    each = 2 * pairs * clips
    batch = torch.randn(ranks * each, 3, 1, 8, 8)
    labels = torch.arange(ranks * each)
    mix = Mixup(mode=mode).draw(np.random.default_rng(seed), ranks * each, 8, 8)
    whole = mix_clips(batch.clone(), mix, clips)
    targets = mix_labels(labels, ranks * each, mix, clips)
    for rank in range(ranks):
        own, share = slice(rank * each, (rank + 1) * each), mix.part(rank * each, each)
        assert torch.equal(mix_clips(batch[own].clone(), share, clips), whole[own])
        assert torch.equal(mix_labels(labels[own], ranks * each, share, clips), targets[own])


def test_the_loss_of_a_mixed_batch_is_the_mix_of_the_losses() -> None:
    logits = torch.randn(4, 7, dtype=torch.float64)
    labels = torch.tensor([1, 0, 6, 2])
    mix = Mix((0.3, 0.9, 0.5, 1.0), (None,) * 4)
    share = torch.tensor(mix.share, dtype=torch.float64)

    def loss(of: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, of, label_smoothing=0.1, reduction="none")

    expected = (share * loss(labels) + (1 - share) * loss(labels[[1, 0, 3, 2]])).mean()
    found = F.cross_entropy(logits, mix_labels(labels, 7, mix).double(), label_smoothing=0.1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
