import math

import pytest
import torch

from attnreg.regulation.basis import gaussian_basis
from attnreg.types import AttnregError, Grid

GRIDS = [Grid(*sides) for sides in [(1, 1), (1, 7), (2, 2), (4, 4), (8, 8), (12, 12), (16, 16), (24, 32), (16, 64)]]
each_grid = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.height}x{grid.width}")


def slow_basis(grid: Grid, rows: int, columns: int) -> torch.Tensor:
    """The definition, one number at a time, for a given number of centres."""

    def bell(position, index, side, count):
        cell = side / count
        return math.exp(-((position - ((index + 0.5) * cell - 0.5)) ** 2) / (2 * (cell / 2) ** 2))

    table = []
    for row in range(rows):
        for column in range(columns):
            values = []
            for y in range(grid.height):
                for x in range(grid.width):
                    here = bell(y, row, grid.height, rows) * bell(x, column, grid.width, columns)
                    down = sum(bell(y, other, grid.height, rows) for other in range(rows))
                    across = sum(bell(x, other, grid.width, columns) for other in range(columns))
                    values.append(math.pi / 2 * here / (down * across))
            table.append(values)
    return torch.tensor(table, dtype=torch.float64)


@pytest.mark.parametrize(
    ("grid", "rows", "columns"),
    [((1, 1), 1, 1), ((4, 4), 4, 4), ((12, 12), 8, 8), ((16, 16), 8, 8), ((12, 24), 6, 11), ((4, 16), 4, 16)],
)
def test_equals_the_definition(grid, rows, columns):
    grid = Grid(*grid)
    torch.testing.assert_close(gaussian_basis(grid, dtype=torch.float64), slow_basis(grid, rows, columns))


@each_grid
def test_covers_every_pixel_alike(grid):
    basis = gaussian_basis(grid, dtype=torch.float64)
    torch.testing.assert_close(basis.sum(0), torch.full((grid.pixels,), math.pi / 2, dtype=torch.float64))
    # How far descent can move each pixel: in the corner of a 16 x 16 map 3000 times less with the published basis.
    reach = basis.square().sum(0)
    assert reach.max() <= 4 * reach.min()


def farthest(some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """How far the function of `some` that is least like any of `others` is from the nearest of them."""
    difference = some.flatten(1)[:, None] - others.flatten(1)
    return difference.abs().amax(-1).amin(1).max()


@each_grid
@pytest.mark.parametrize("axis", [1, 2])
def test_mirrored_maps_have_mirrored_functions(grid, axis):
    basis = gaussian_basis(grid, dtype=torch.float64).unflatten(1, grid)
    mirrored = basis.flip(axis)
    assert farthest(mirrored, basis) < 1e-9


def test_transposed_maps_have_transposed_functions():
    upright, flat = (
        gaussian_basis(Grid(*sides), dtype=torch.float64).unflatten(1, sides) for sides in [(24, 32), (32, 24)]
    )
    assert upright.shape[0] == flat.shape[0]
    assert farthest(upright.mT, flat) < 1e-9


def test_is_about_as_fine_as_the_published_one():
    assert gaussian_basis(Grid(16, 16)).shape == (64, 256)
    assert gaussian_basis(Grid(64, 64)).shape == (64, 4096)
    assert gaussian_basis(Grid(16, 16), spacing=0.25).shape == (16, 256)


def test_is_a_normal_tensor_even_if_made_in_inference_mode():
    gaussian_basis.cache_clear()
    with torch.inference_mode():
        basis = gaussian_basis(Grid(3, 5))
    assert not basis.is_inference()


@pytest.mark.parametrize(("grid", "spacing"), [((0, 4), 0.1), ((4, 4), 0.0), ((4, 4), 1.5), ((4, 4), float("nan"))])
def test_refuses_nonsense(grid, spacing):
    with pytest.raises(AttnregError, match="expected"):
        gaussian_basis(Grid(*grid), spacing)


@each_grid
def test_no_value_is_so_small_that_a_processor_stumbles(grid):
    basis = gaussian_basis(grid)
    assert ((basis == 0) | (basis > 1e-13)).all()
