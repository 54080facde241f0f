"""CarRacing: pictures, expert and score, with the environment itself as the judge."""

import numpy as np
import pytest

from relukit import InvalidInput

pytest.importorskip("gymnasium", reason="gymnasium is not installed (pip install relukit[gallery])")
pytest.importorskip("Box2D", reason="Box2D is not installed (pip install relukit[gallery])")


def test_the_expert_drives_a_track_whose_return_the_environment_counts():
    from relukit.gallery.car_racing._circuit import episode, make

    env = make()
    total, frames, wanted = episode(env, 501, None)
    assert total > 800 and len(frames) == len(wanted) <= 250
    assert env.tile_visited_count / len(env.track) > 0.95
    assert total == pytest.approx(1000 * env.tile_visited_count / len(env.track) - 0.1 * round(env.t * 50 - 1), abs=0.4)


def test_pictures_show_the_road_dark_and_keep_the_speed_only():
    from relukit.gallery.car_racing._circuit import episode, make, picture

    env = make()
    _, frames, _ = episode(env, 501, lambda both: np.zeros(2))
    assert frames.shape[1:] == (2, 48, 48) and frames.dtype == np.uint8
    last = frames[-1, 0]
    assert last[:40].std() > 10  # road and grass differ
    state = np.zeros((96, 96, 3), np.uint8)
    state[84:, :, 1] = 255
    small = picture(state)
    assert not small[42:, 14:].any() and not small[42:, :5].any() and small[42:, 5:14].all()


@pytest.mark.slow
def test_a_brief_training_is_saved_scored_and_set_beside_the_expert(tmp_path):
    from relukit.gallery.car_racing import score, train

    train(tmp_path, tmp_path, seeds=1, quick=True)
    answer = score(tmp_path, [], seed=3, count=1)
    assert answer["rows"] == 1 and -150 < answer["metrics"]["mean_return"] < 950
    assert answer["baselines"]["expert_that_knows_the_track"]["mean_return"] > 700
    with pytest.raises(InvalidInput, match="no files"):
        score(tmp_path, [tmp_path / "training.json"])
    with pytest.raises(InvalidInput, match="seed"):
        score(tmp_path, [], seed=0)
