import pytest
import torch

from attnreg.regulation.edit import PromptColumns
from attnreg.regulation.grouping import add_to_targets, group_logits, membership, per_image, target_mass
from attnreg.types import AttnregError

CPU = torch.device("cpu")
PROMPTS = (PromptColumns(((1, 2), (4,))), PromptColumns(((5,), (0, 3))))


@pytest.fixture
def logits():
    return torch.randn(2, 3, 10, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def members():
    return membership(PROMPTS, 6, torch.float64, CPU)


def test_groups_are_log_sum_exps_up_to_a_constant_per_pixel(logits, members):
    grouped = group_logits(logits.softmax(-1), members).unflatten(0, (2, 3))
    for image, groups in enumerate([[[1, 2], [4], [0, 3, 5]], [[5], [0, 3], [1, 2, 4]]]):
        for index, columns in enumerate(groups):
            expected = logits[image, :, :, columns].logsumexp(-1) - logits[image].logsumexp(-1)
            torch.testing.assert_close(grouped[image, :, index], expected)


def test_lifting_the_tokens_lifts_the_group(logits, members):
    edit = torch.randn(6, 2, 10, dtype=torch.float64)
    probabilities = add_to_targets(logits, edit, members).softmax(-1)
    grouped = group_logits(logits.softmax(-1), members)
    lifted = torch.cat([grouped[:, :-1] + edit, grouped[:, -1:]], 1).softmax(1)
    torch.testing.assert_close(group_logits(probabilities, members).exp(), lifted)
    expected = lifted[:, :-1].unflatten(0, (2, 3)).mean((1, 3))
    torch.testing.assert_close(target_mass(probabilities, members), expected)


def test_the_edit_lands_on_target_columns_only(logits, members):
    edit = torch.ones(6, 2, 10, dtype=torch.float64) * torch.tensor([2.0, 3.0], dtype=torch.float64)[:, None]
    added = add_to_targets(logits, edit, members) - logits
    torch.testing.assert_close(added[0, 0, 0], torch.tensor([0, 2, 2, 0, 3, 0], dtype=torch.float64))
    torch.testing.assert_close(added[1, 0, 0], torch.tensor([3, 0, 0, 3, 0, 2], dtype=torch.float64))


def test_per_image_is_the_mean_over_heads():
    torch.testing.assert_close(per_image(torch.arange(6.0), 2), torch.tensor([1.0, 4.0]))


def test_refuses_what_does_not_fit():
    with pytest.raises(AttnregError, match=r"same number of targets.*\[1, 2\]"):
        membership((*PROMPTS, PromptColumns(((1,),))), 6, torch.float32, CPU)
    with pytest.raises(AttnregError, match=r"below 5.*\(5,\)"):
        membership(PROMPTS, 5, torch.float32, CPU)


@pytest.mark.parametrize("targets", [(), ((),), ((1,), ()), ((1,), (1,)), ((2, 2),), ((-1,),)])
def test_columns_refuse_nonsense(targets):
    with pytest.raises(AttnregError, match="targets: expected"):
        PromptColumns(targets)
