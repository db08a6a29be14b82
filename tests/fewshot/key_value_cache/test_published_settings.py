"""The tables of the authors' settings, and the axes of their searches."""

import pytest

from fewshot.key_value_cache.published_settings import APE_RUNS, RN50_CHANNELS, TIP_ADAPTER_RUNS, search_axis

DATA_SETS = (
    "imagenet",
    "caltech101",
    "dtd",
    "eurosat",
    "fgvc_aircraft",
    "flowers102",
    "food101",
    "oxford_pets",
    "stanford_cars",
    "sun397",
    "ucf101",
)
"""The order of the columns below."""
TIP_ADAPTER = {
    "max_beta": (7, 12, 13, 12, 30, 50, 10, 7, 20, 12, 7),
    "max_alpha": (3, 5, 13, 10, 30, 50, 10, 3, 10, 10, 3),
    "start_alpha": (1.17, 3, 2, 2, 5, 10, 1.17, 1.17, 3, 1.17, 3),
    "epochs": (20, 20, 20, 100, 20, 20, 20, 20, 20, 20, 20),
}
APE = {
    "max_beta": (7, 7, 7, 30, 20, 7, 7, 7, 10, 10, 10),
    "max_alpha": (7, 7, 7, 5, 10, 7, 7, 7, 7, 7, 7),
    "max_gamma": (0.5, 1, 1, 1.5, 1, 1, 1, 1, 1, 1, 1.5),
    "start_alpha": (2, 1, 3, 1, 5, 3, 0.8, 2, 1, 1, 2),
    "channels": (500, 800, 400, 700, 800, 700, 700, 800, 500, 800, 700),
    "trained_channels": (500, 900, 700, 900, 900, 800, 900, 800, 800, 800, 800),
    "similarity_weight": (0.7, 0.5, 0.5, 0.9, 0.1, 0.4, 0.3, 0.7, 0.6, 0.7, 0.3),
    "learning_rate": (1e-4, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-3, 1e-4, 1e-3),
    "epsilon": (1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 2e-3, 5e-3, 1e-3, 2e-3),
    "epochs": (20, 30, 20, 200, 30, 60, 30, 30, 30, 30, 30),
}


@pytest.mark.parametrize(("runs", "published"), [(TIP_ADAPTER_RUNS, TIP_ADAPTER), (APE_RUNS, APE)])
def test_each_column_is_that_of_the_configuration_files(runs, published):
    assert runs.keys() == set(DATA_SETS)
    for name, column in published.items():
        assert [getattr(runs[data_set], name) for data_set in DATA_SETS] == list(column), name


def test_a_kept_channel_is_one_of_the_rn50():
    assert all(0 < run.channels <= run.trained_channels <= RN50_CHANNELS for run in APE_RUNS.values())


def test_an_axis_begins_at_a_tenth_and_leaves_out_its_end():
    axis = search_axis(7.0, steps=20)
    assert len(axis) == 20
    assert axis[:2] == pytest.approx([0.1, 0.445])
    assert axis[-1] == pytest.approx(7.0 - 0.345)
