"""Studies of economy, climate and images: promises that hold by construction, and results on the data where they are."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

import relukit
from relukit.gallery.borrowing_limit import _solve
from relukit.gallery.borrowing_limit.study import kinks

DATA = Path(os.environ.get("RELUKIT_DATA", "absent"))
needs = lambda folder: pytest.mark.skipif(not (DATA / folder).exists(), reason=f"RELUKIT_DATA/{folder} is absent")


def small_model() -> _solve.Calibration:
    return _solve.Calibration(0.95, 1.02, 2.0, 0.0, np.array([0.5, 1.5]), np.array([[0.8, 0.2], [0.2, 0.8]]))


def value_iteration_kink(model: _solve.Calibration, state: int) -> float:
    """Where saving starts, by brute value iteration on a grid: shares nothing with the solver."""
    assets = 6 * np.linspace(0, 1, 500) ** 2
    value = np.zeros((2, 500))
    for _ in range(500):
        future = model.beta * model.transition @ value
        cash = model.R * assets[None] + model.income[:, None]
        spent = cash[:, :, None] - assets
        value = np.where(spent > 0, -1 / np.maximum(spent, 1e-12), -1e9).__add__(future[:, None, :]).max(2)
    cash = np.linspace(0.3, 2.0, 400)
    spent = cash[:, None] - assets
    choice = np.where(spent > 0, -1 / np.maximum(spent, 1e-12), -1e9) + model.beta * model.transition[state] @ value
    return float(cash[np.argmax(choice.argmax(1) > 0)])


def test_policy_respects_the_limit_exactly_and_its_kink_is_that_of_value_iteration():
    model = small_model()
    policy = _solve.solve(model, 24, 0, 6.0, 300)
    cash = np.linspace(0.01, 20, 3000)
    for state in range(2):
        network = relukit.load(policy.chain(state))
        saving = network(cash[:, None])[:, 0]
        assert (saving >= 0).all()
        assert (cash - saving > 0).all()
        np.testing.assert_allclose(saving, policy.save(state, cash), atol=1e-9)
        assert (saving[cash < kinks(policy)[state]] == 0).all()
    assert kinks(policy)[1] == pytest.approx(value_iteration_kink(model, 1), rel=0.02)


@needs("consumption_savings")
def test_kinks_agree_with_the_reference():
    file = DATA / "consumption_savings" / "egm_reference_0.json"
    values = json.loads(file.read_text())
    policy = _solve.solve(_solve.Calibration.of(values), seed=3, top=40.0)
    np.testing.assert_allclose(kinks(policy), values["kink_cash_on_hand"], rtol=0.005)


@pytest.mark.parametrize(
    ("calibration", "table", "said"),
    [
        ("{", "", "no calibration in JSON"),
        ('{"beta": 0.9}', "", "lacks R, g, amin"),
        (None, "a,b\n1,2\n", "2 income states"),
        (None, "a,b,c\n1,2,x\n1,2,3\n", "b.csv"),
        (None, None, "b.csv is not beside"),
        ({"beta": "x"}, "", "could not convert"),
        ({"beta": 1.0}, "", "beta R below 1"),
        ({"transition": [[0.8, 0.2]]}, "", r"shape \(2, 2\) and 2 kinks, got \(1, 2\)"),
        ({"transition": [[0.8, 0.1], [0.2, 0.8]]}, "", "sum to 1"),
        ({"amin": math.nan}, "", "not finite"),
    ],
)
def test_a_damaged_calibration_is_refused_with_the_reason(calibration, table, said, tmp_path):
    from relukit.gallery.borrowing_limit import study

    whole = {"beta": 0.95, "R": 1.02, "g": 2, "amin": 0, "income": [0.5, 1.5], "transition": [[0.8, 0.2], [0.2, 0.8]]}
    whole |= {"kink_cash_on_hand": [0.5, 1.0], "euler_log10_mean": -8}
    text = calibration if isinstance(calibration, str) else json.dumps(whole | (calibration or {}))
    (tmp_path / "b.json").write_text(text)
    if table is not None:
        (tmp_path / "b.csv").write_text(table)
    with pytest.raises(relukit.UnreadableFile, match=said):
        study.score(tmp_path, [tmp_path / "b.json"])


@pytest.mark.parametrize("seeds", [0, -1, "ten"])
def test_a_number_of_starts_is_a_number(seeds, tmp_path):
    from relukit.gallery.borrowing_limit import study

    with pytest.raises(relukit.InvalidInput, match="--seeds expects"):
        study.score(tmp_path, [tmp_path / "b.json"], seeds=seeds)


@pytest.mark.parametrize("amin", [0.0, -0.2])
def test_euler_errors_stay_small_where_few_states_make_sharp_kinks_of_second_order(amin):
    income, stay = np.array([0.45, 0.9, 1.8]), np.array([[0.6, 0.35, 0.05], [0.2, 0.6, 0.2], [0.05, 0.35, 0.6]])
    beta, R, g = 0.93, 1.04, 1.5
    policy = _solve.solve(_solve.Calibration(beta, R, g, amin, income, stay), 64, 1, 40.0)
    cash = np.linspace(0.05, 40.0, 900) + amin
    spend = lambda k, m: m - amin - relukit.load(policy.chain(k))(m[:, None])[:, 0]
    for j in range(3):
        c = spend(j, cash)
        free = cash - amin - c > 1e-10
        tomorrow = R * (cash - c)[free]
        marginal = beta * R * sum(stay[j, k] * spend(k, tomorrow + income[k]) ** -g for k in range(3))
        error = np.abs(marginal ** (-1 / g) / c[free] - 1)
        assert error.max() < 10**-3.3 and np.log10(np.maximum(error, 1e-16)).mean() < -4.5


def test_flood_loss_rises_with_depth_and_value_and_stays_below_the_value():
    from relukit.gallery.catastrophe import _model

    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(400, 5))) * [8, 3, 1, 1, 1]
    chain = _model.fit(x, rng.uniform(size=400), np.ones(400), seed=0, epochs=2)
    assert _model.monotone(chain)
    network = relukit.load(chain)
    loss = lambda z: np.exp(z[:, 1]) * _model.ratio(network, z)[:, 0]
    for column in (0, 1):
        more = x.copy()
        more[:, column] += rng.uniform(0, 2, 400)
        assert (loss(more) >= loss(x) * (1 - 1e-12)).all()
    assert (loss(x) <= np.exp(x[:, 1]) * (1 + 1e-12)).all()
    turned = {**chain, "W4": -chain["W4"]}
    assert not _model.monotone(turned)


def test_feet_from_a_column_of_feet_and_inches():
    from relukit.gallery.catastrophe._claims import feet

    np.testing.assert_allclose(
        feet(np.array([4.0, 12.0, 36.0, -24.0, 12.0]), np.array([2012, 2012, 2012, 2012, 1985])), [4, 1, 3, -2, 12]
    )
    later = np.full(40, 2023)
    inches = np.linspace(2, 60, 40)
    np.testing.assert_allclose(feet(inches, later), inches / 12)  # a year of inches alone shows itself
    np.testing.assert_allclose(feet(inches / 12, later), inches / 12)
    np.testing.assert_allclose(feet(inches[:5], later[:5]), inches[:5])  # five readings show nothing


def test_attack_stays_inside_its_radius_and_flips():
    import torch

    from relukit.gallery.images import _model

    module = torch.nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        module.bias.zero_()
    # by hand: x0 - x1 = 0.2 closes when both move by 0.1
    found = _model.attack(module, np.array([0.6, 0.4, 0.5], np.float32), np.array([0.05, 0.09, 0.11, 0.2]))
    assert 0.1 <= found <= 0.11 + 1e-6


def small_payments(count: int = 400, seed: int = 0):
    import pandas as pd

    rng = np.random.default_rng(seed)
    shops = np.array(["corner food", "asda 123", "bp fuel", "book barn", "Café Ünïté", ""])
    return pd.DataFrame({
        "date": np.datetime64("2016-01-01") + rng.integers(0, 100, count), "amount": rng.gamma(1, 30, count).round(2) * rng.choice([1, 1, 1, -1], count),
        "merchant": shops[rng.integers(0, len(shops), count)], "directorate": rng.choice(["Local Services", "Adult & C"], count),
        "category": rng.choice(["Food", "Fuel", "Books"], count),
    })  # fmt: skip


@pytest.fixture(scope="module")
def sorted_study(tmp_path_factory):
    """A tiny trained sorter, saved as the study saves its own."""
    from relukit.gallery.retail_index import _memory, _model, _text

    folder, table = tmp_path_factory.mktemp("retail"), small_payments()
    names = _text.categories(table)
    y = _text.labels(table, names)
    memory, told = _memory.learn(table, y, len(names))
    net = _model.fit(_text.tokens(table), told, y, len(names), seed=0, epochs=1)
    np.savez(folder / "sort_0.npz", names=np.array(names), **net)
    memory.save(folder / "memory.npz")
    return folder, net, names


@pytest.mark.parametrize(
    ("written", "month"),
    [
        (["2017-07-03", "2017-07-31 09:30"], [7, 7]),
        (["03/07/2017", "31/07/2017"], [7, 7]),
        (["03/07/2017", "04/07/2017"], [7, 7]),  # either is possible: the day comes first
        (["07/03/2017", "07/31/2017"], [7, 7]),
        (["2017-07-03T00:00:00Z", ""], [7]),
        (["3 July 2017", "31 July 2017"], [7, 7]),
    ],
)
def test_payments_of_other_offices_are_read_whole(written, month, tmp_path):
    import pandas as pd

    from relukit.gallery.retail_index import _text

    table = small_payments(len(written)).assign(date=written, amount=["1,234.50", "-2"])
    table.to_csv(tmp_path / "t.csv", index=False)
    found = _text.read(tmp_path / "t.csv")
    assert found.date.dt.month.tolist() == month and found.date.dt.tz is None
    assert found.amount.tolist() == [1234.5, -2.0][: len(month)]
    pd.DataFrame(table.assign(date=pd.Timestamp("2017-07-03", tz="UTC"), amount=5)).to_parquet(tmp_path / "t.parquet")
    assert _text.read(tmp_path / "t.parquet").date.tolist() == [pd.Timestamp("2017-07-03")] * 2


def test_card_spending_without_a_date_is_said_so(tmp_path):
    from relukit.gallery.retail_index import _series

    (tmp_path / "c.csv").write_text("date,spend_all\nsome day,0.1\n2022-01-02,.\n")
    with pytest.raises(relukit.UnreadableFile, match="no row with a date and a number"):
        _series.read_cards([tmp_path / "c.csv"])
    (tmp_path / "c.csv").write_text("date,spend_all\n02/01/2022,0\n03/01/2022,0\n")  # US: the month first
    assert _series.read_cards([tmp_path / "c.csv"]).index.month.tolist() == [2, 3]


def test_first_layer_is_a_product_with_the_token_matrix_and_equals_its_tables(sorted_study):
    import pyarrow as pa

    from relukit.gallery.retail_index import _memory, _model, _text
    from relukit.gallery.retail_index.volume import Scorer, columns, saved_memory

    folder, net, _ = sorted_study
    other = small_payments(300, seed=5)
    rows = _text.tokens(other)
    W = np.zeros((rows.shape[1], net["W0"].shape[1]))
    W[net["tokens"]] = net["W0"]
    memory = saved_memory(folder)
    told = _memory.inputs_of(memory, other)
    hidden = np.maximum(rows.toarray() @ W + told @ net["M"] + net["b0"], 0)
    scores = np.maximum(hidden @ net["W1"].T + net["b1"], 0) @ net["W2"].T + net["b2"]
    expected = np.exp(scores - scores.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(_model.probabilities(net, rows, told), expected, atol=1e-5)
    scorer = Scorer(net, memory)
    for part in (other[:100], other[100:], other[:50]):  # tables grow over batches
        b = columns(pa.RecordBatch.from_pandas(part[list(_text.COLUMNS)], preserve_index=False))
        found = scorer.probabilities(b["merchant"], b["directorate"], b["amount"], part.date.dt.month.to_numpy())
        np.testing.assert_allclose(found, expected[part.index], atol=1e-5)


def test_a_network_with_another_number_of_tokens_is_refused(sorted_study, tmp_path):
    from relukit._errors import UnreadableFile
    from relukit.gallery.retail_index.volume import saved

    folder, net, names = sorted_study
    found, same = saved(folder, 0)
    assert same == names and np.array_equal(found["W1"], net["W1"])
    np.savez(tmp_path / "sort_0.npz", names=np.array(names), **{**net, "features": np.array(2**17)})
    with pytest.raises(UnreadableFile, match="run retail-index` again"):
        saved(tmp_path, 0)


def test_memory_tells_only_of_months_before_and_by_their_shares():
    import pandas as pd

    from relukit.gallery.retail_index import _memory

    months = pd.date_range("2016-01-15", periods=24, freq="MS")
    table = pd.DataFrame({"date": months, "merchant": ["corner food"] * 24, "directorate": ["A"] * 24, "amount": 1.0})
    y = np.array([0] * 12 + [1] * 12)
    memory, told = _memory.learn(table, y, 2)
    # the first input pair is the logarithm of the directorate's shares, shrunk by hand to (1/2, 1/2) with the weight of 20 payments
    share = lambda before: np.log((sum(0.5 ** (k / 12) * (np.eye(2)[y[before - k]]) for k in range(before + 1)) + 10) / (sum(0.5 ** (k / 12) for k in range(before + 1)) + 20) + 1e-3)  # fmt: skip
    for k in range(12, 24):  # its own label and those of the same month are not among what it is told
        assert any(np.allclose(told[k, :2], share(k - g), atol=1e-5) for g in range(1, 7))
    np.testing.assert_allclose(memory.inputs(["corner food"], ["a"])[0, :2], share(23), atol=1e-5)
    # a changed future changes nothing
    other, then = _memory.learn(table, np.where(np.arange(24) >= 20, 0, y), 2)
    np.testing.assert_array_equal(then[:21], told[:21])
    assert not np.array_equal(other.counts["D"], memory.counts["D"])


def test_like_names_are_found_and_none_is_like_itself():
    from relukit.gallery.retail_index._memory import Names
    from relukit.gallery.retail_index._text import name_rows

    names = np.array(sorted(["acme hotel leeds", "acme hotel york", "bread shop", "petrol garage"]))
    asked = np.array(["acme hotel hull", *names])
    near = Names.of(names).likeness(asked, name_rows(asked)).toarray()
    assert set(np.flatnonzero(near[0])) == {0, 1}
    assert near[1:].diagonal().max() == 0
    assert near[1, 1] == pytest.approx(near[2, 0], rel=1e-5) and near[1, 1] > 0


def test_median_total_gives_one_huge_payment_to_its_likely_category():
    from relukit.gallery.retail_index.study import totals

    p, month = np.array([[0.7, 0.3], *[[0.5, 0.5]] * 999]), np.full(1000, 100, np.int8)
    mean, median = (t[100:] for t in totals(p, np.array([1e6, *[1.0] * 999]), month))
    np.testing.assert_allclose(mean, [[0.7e6 + 499.5, 0.3e6 + 499.5]])
    np.testing.assert_allclose(median, [[1e6 + 499.5, 499.5]], atol=60)  # 999 tosses: deviation 16


def test_payments_of_one_merchant_hear_each_other_and_others_stay_as_they_are():
    import pandas as pd

    from relukit.gallery.retail_index.study import agreed

    table = pd.DataFrame({
        "merchant": ["Shop", "shop", "SHOP", "inn", None], "amount": [10.0, 9.0, 4000.0, 10.0, 10.0],
    })  # fmt: skip
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [0.5, 0.5]])
    told = agreed(p, table)
    np.testing.assert_allclose(told.sum(1), 1)
    np.testing.assert_allclose(told[3:], p[3:], atol=2e-3)  # nobody to hear
    ratio = lambda q: np.log(q[:, 0] / q[:, 1])
    own = ratio(p + 1e-3)
    shop, near = own[:3].mean(), own[:2].mean()  # 10 and 9 are of like size, 4,000 is not
    np.testing.assert_allclose(ratio(told)[:3], 0.6 * own[:3] + 0.2 * shop + 0.2 * np.array([near, near, own[2]]))
    turned = agreed(p[::-1], table[::-1])
    np.testing.assert_allclose(turned[::-1], told)


def test_rare_categories_are_not_forgotten():
    from relukit.gallery.retail_index.study import even

    # by hand: shares 0.91 and 0.09; 0.52 / 0.91^0.2 = 0.530 < 0.48 / 0.09^0.2 = 0.777, while 0.9 stays
    many = np.concatenate([np.tile([[0.95, 0.05]], (90, 1)), [[0.52, 0.48]] * 10])
    np.testing.assert_array_equal(even(many), [0] * 90 + [1] * 10)
    np.testing.assert_array_equal(even(np.array([[0.52, 0.48]])), [0])  # one payment alone: its likeliest


def test_monthly_totals_do_not_depend_on_the_order_of_the_payments():
    from relukit.gallery.retail_index.study import totals

    rng = np.random.default_rng(0)
    p, month = rng.dirichlet(np.ones(4), 2000), rng.integers(0, 3, 2000)
    amount = rng.lognormal(3, 1, 2000) * rng.choice([1, -0.1], 2000)
    mean, median = totals(p, amount, month)
    shuffled = rng.permutation(2000)
    for one, other in zip((mean, median), totals(p[shuffled], amount[shuffled], month[shuffled]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    # against plain draws of every payment
    drawn = (rng.random((4000, 2000, 1)) >= p.cumsum(1)[None, :, :-1]).sum(-1)
    plain = np.stack(
        [np.median([np.bincount(d[month == k], amount[month == k], 4) for d in drawn], 0) for k in range(3)]
    )
    spread = np.stack(
        [np.std([np.bincount(d[month == k], amount[month == k], 4) for d in drawn[:400]], 0) for k in range(3)]
    )
    assert (np.abs(median - plain) < 0.15 * spread).all()


def test_daily_sums_do_not_depend_on_how_files_are_cut(sorted_study, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from relukit.gallery.retail_index import volume

    folder, _, _ = sorted_study
    table = small_payments(500, seed=2)
    table.to_parquet(tmp_path / "all.parquet")
    for k in range(3):
        table.iloc[k::3].to_csv(tmp_path / f"part{k}.csv.gz", index=False)
    whole = volume.aggregate(folder, [tmp_path / "all.parquet"])
    with ThreadPoolExecutor(2) as pool:
        parts = volume.aggregate(folder, [tmp_path / f"part{k}.csv.gz" for k in range(3)], pool)
    assert list(whole.category) == list(parts.category)
    np.testing.assert_allclose(whole[["spent", "payments"]], parts[["spent", "payments"]], rtol=1e-5, atol=1e-4)
    assert whole.payments.sum() == pytest.approx(500, rel=1e-5)
    assert whole.spent.sum() == pytest.approx(table.amount.sum(), rel=1e-5)
    with pytest.raises(relukit.InvalidInput, match="twice"):
        volume.aggregate(folder, [tmp_path / "all.parquet"] * 2)


def test_store_counts_each_payment_once_and_whole_files_only(sorted_study, tmp_path, monkeypatch):
    from relukit.gallery.retail_index import store

    folder, _, _ = sorted_study
    table = small_payments(200, seed=3)
    fares = table.iloc[[0, 0, 0]]  # three equal payments in one file are three
    first, second = tmp_path / "a.csv", tmp_path / "b.parquet"
    import pandas as pd

    pd.concat([table[:120], fares]).to_csv(first, index=False)
    table[100:].to_parquet(second)  # 20 rows of it were in the first file
    kept = store.Store(tmp_path / "s.duckdb", folder)
    assert kept.add([first])[0]["new"] == 123
    assert kept.add([first])[0]["new"] == 0

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(store, "daily_sums", stopped)
        with pytest.raises(KeyboardInterrupt):
            kept.add([second])
    assert kept.counted() == 123
    kept.close()
    again = store.Store(tmp_path / "s.duckdb", folder)
    assert again.add([second])[0]["new"] == 80
    assert again.counted() == 203
    spent = again.daily().spent.sum()
    again.close()
    assert spent == pytest.approx(table.amount.sum() + 3 * table.amount[0], rel=1e-5)


def test_chain_index_by_hand():
    import pandas as pd

    from relukit.gallery.retail_index import chain_index

    months = pd.period_range("2015-01", "2016-12", freq="M")
    prices = pd.DataFrame({"a": [1.0] * 12 + [2.0] * 12, "b": [1.0] * 24}, index=months)
    # volumes: a 10, then 11; b 30, then 33: ten percent more of each whatever the price of a does
    values = pd.DataFrame({"a": [10.0] * 12 + [22.0] * 12, "b": [30.0] * 12 + [33.0] * 12}, index=months)
    np.testing.assert_allclose(chain_index(values, prices), [100.0] * 12 + [110.0] * 12)
    np.testing.assert_allclose(chain_index(values), [100.0] * 12 + [100 * 55 / 40] * 12)
    gap = values.copy()
    gap.iloc[3] = np.nan
    found = chain_index(gap)
    assert np.isnan(found.iloc[3])
    np.testing.assert_allclose(found.drop(found.index[3])[-12:], 137.5)


def test_adjustment_takes_a_known_season_off():
    import pandas as pd

    from relukit.gallery.retail_index import seasonally_adjusted

    months = pd.period_range("2012-01", "2017-12", freq="M")
    trend = np.exp(np.linspace(4.6, 5.0, 72))
    season = np.exp(0.2 * np.sin(2 * np.pi * np.arange(72) / 12))
    adjusted = seasonally_adjusted(pd.Series(trend * season, months))
    np.testing.assert_allclose(adjusted, trend, rtol=0.01)


def test_map_knows_ranges_and_can_be_replaced(tmp_path):
    from relukit.gallery.retail_index import _index

    default = _index.read_map(None)
    assert _index.consumer_category("5411", default) == "groceries"
    assert _index.consumer_category("3301", default) == "travel"
    assert _index.consumer_category("Vehicle Fuel", default) == "fuel"
    assert _index.consumer_category("9999", default) == "other"
    own = tmp_path / "map.csv"
    own.write_text("code,category\n5000-5999,shops\n5411,food\n")
    mine = _index.read_map(own)
    assert [_index.consumer_category(c, mine) for c in ("5411", "5412", "Books")] == ["food", "shops", "other"]
    own.write_text("code,category\n1,a\n1,b\n")
    with pytest.raises(relukit.UnreadableFile, match="twice"):
        _index.read_map(own)


def test_weekly_and_daily_readings_mean_the_same():
    import pandas as pd

    from relukit.gallery.retail_index import _series

    days = pd.date_range("2022-01-01", "2022-06-30")
    line = pd.Series(np.linspace(0, 18, len(days)), days)
    daily, weekly = _series.monthly_mean(line), _series.monthly_mean(line[::7])
    assert list(daily.index) == list(weekly.index)
    np.testing.assert_allclose(daily[:-1], weekly[:-1], atol=0.02)
    hole = line.drop(line["2022-03-05":"2022-03-28"].index)
    assert pd.Period("2022-03") not in _series.monthly_mean(hole).index


def test_nowcast_uses_nothing_from_later_months():
    import pandas as pd

    from relukit.gallery.retail_index import _nowcast

    rng = np.random.default_rng(0)
    months = pd.period_range("2000-01", "2022-12", freq="M")
    official = pd.Series(rng.normal(0.4, 1, len(months)), months)
    cards = (0.9 * official + rng.normal(0, 0.4, len(months)))[-30:]
    reader = _nowcast.measure(cards, official)
    assert reader.elasticity == pytest.approx(0.9, abs=0.15)
    network = relukit.load(_nowcast.fit(reader, official, seed=0, epochs=2))
    test = list(months[-10:])
    found = _nowcast.walk([network], reader, cards, official, test)
    later = official.copy()
    later[test[4] :] += 50
    changed = _nowcast.walk([network], reader, cards, later, test)
    np.testing.assert_array_equal(found[:5].drop(columns="scale"), changed[:5].drop(columns="scale"))
    assert not np.allclose(found.nowcast[5:], changed.nowcast[5:])
    truth = official[test].to_numpy()
    assert (
        _nowcast.metrics(found.nowcast.to_numpy(), truth)["rmse"] < 0.7 * _nowcast.metrics(np.zeros(10), truth)["rmse"]
    )


def test_loss_is_proven_monotone_by_verify_and_a_broken_network_is_not():
    from relukit.gallery.catastrophe import _model, proof

    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=(200, 6)))
    chain = _model.fit(x, rng.uniform(size=200), np.ones(200), seed=0, epochs=1)
    assert proof.monotone(chain, x)["proven"]
    broken = {k: v.copy() for k, v in chain.items()}
    broken["W3"][5, 7] *= -1
    found = proof.monotone(broken, x)
    assert not found["proven"]
    assert (found["failed"]["layer"], found["failed"]["unit"]) == (3, 5)


def test_size_of_an_event_counts_a_claim_once():
    import pandas as pd

    from relukit.gallery.catastrophe._claims import crowd

    own = pd.DataFrame(
        {
            "event": ["a", "a", "b"],
            "county": ["a1", "a2", "b1"],
            "zip": ["x", "y", "z"],
            "date": "d",
            "value": [1.0, 2.0, 3.0],
        }
    )
    known = pd.concat([own[:1], own[:1].assign(value=9.0)])
    np.testing.assert_allclose(np.exp(crowd(own, known))[:, :2], [[3, 2], [3, 1], [1, 1]])


@pytest.fixture(scope="module")
def floods(tmp_path_factory):
    from relukit.gallery.catastrophe.study import train

    out = tmp_path_factory.mktemp("floods")
    train(DATA / "catastrophe", out, seeds=1, quick=True)
    return out


@needs("catastrophe")
def test_claims_and_storms_score_the_same_in_one_file_and_in_several(floods, tmp_path):
    import pandas as pd

    from relukit.gallery.catastrophe.study import score

    claims = pd.read_csv(DATA / "catastrophe" / "nfip_claims_sample_dev.csv.gz", low_memory=False)
    parts = {
        "claims": claims[claims.yearOfLoss == 2017],
        "storms": pd.read_csv(DATA / "catastrophe" / "us_hurricanes_named_to_1999.csv"),
    }
    several = []
    for name, table in parts.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        for k in range(2):
            several.append(tmp_path / f"{name}{k}.csv")
            table.iloc[k::2].to_csv(several[-1], index=False)
    one = score(floods, [tmp_path / f"{name}.csv" for name in parts])
    more = score(floods, several[::-1])
    assert one["rows"] == more["rows"] > 72
    for key in ("rmse", "gini", "total_ratio", "coverage", "rmse_ln"):
        assert one["metrics"][key] == pytest.approx(more["metrics"][key], rel=1e-9), key
    assert one["baselines"]["pressure_alone"] == pytest.approx(more["baselines"]["pressure_alone"])
    with pytest.raises(relukit.UnreadableFile, match="give claims or storms"):
        score(floods, [])


@needs("catastrophe")
def test_expected_loss_of_a_portfolio_rises_with_water_and_wind(floods, tmp_path, monkeypatch):
    from relukit.gallery.catastrophe import expected_loss

    homes = [{"value": 2e5, "latitude": 29.8, "longitude": -95.4}, {"value": 3e5, "material": "masonry", "floors": 2}]
    losses = [
        expected_loss(homes, {"depth": d, "wind": w}, floods)["loss"] for d, w in ((0, 0), (4, 0), (4, 50), (12, 90))
    ]
    for less, more in zip(losses, losses[1:], strict=False):
        assert (more >= less).all()
    assert (losses[-1] <= [2e5, 3e5]).all()
    assert (losses[0] > 0).all()
    with pytest.raises(relukit.InvalidInput, match="each of 2 buildings"):
        expected_loss(homes, {"depth": [1.0, 2.0, 3.0]}, floods)
    with pytest.raises(relukit.UnreadableFile, match=r"gallery run catastrophe --out .*nowhere"):
        expected_loss(homes, {"depth": 1.0}, tmp_path / "nowhere")
    # as the command lays it: one folder per study in --out, and in the user's cache
    (tmp_path / "relukit" / "gallery").mkdir(parents=True)
    (tmp_path / "relukit" / "gallery" / "catastrophe").symlink_to(floods)
    total = expected_loss(homes, {"depth": 4, "wind": 50}, floods)["total"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert expected_loss(homes, {"depth": 4, "wind": 50})["total"] == total
    assert expected_loss(homes, {"depth": 4, "wind": 50}, tmp_path / "relukit" / "gallery")["total"] == total


def test_hurricanes_are_read_with_gaps_and_the_line_ignores_one_storm_nobody_met(tmp_path):
    from relukit.gallery.catastrophe import _storms

    assert _storms.states("NC,NY;CT,NH.ME ") == ["NC", "NY", "CT", "NH", "ME"] and _storms.states("FL,FL") == ["FL"]
    file = tmp_path / "storms.csv"
    file.write_text(
        "Year,LF.WindsMPH,LF.PressureMB,LF.times,AffectedStates,NDAM2014\n2001,120,,1,FL,100\n2002,,955,2,TX,50\n"
        "2003,,,,,10\n2004,90,980,1,LA,0\n"
    )
    x, y = _storms.read(file)
    assert x.shape == (3, 7) and np.isfinite(x).all()  # a storm without damage has no logarithm
    np.testing.assert_allclose(y, np.log([100, 50, 10]))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = x @ [1.0, 2.0, 0.0] + 5 + 0.1 * rng.normal(size=60)
    y[7] -= 9
    np.testing.assert_allclose(_storms.robust_line(x, y), [1, 2, 0, 5], atol=0.1)
    chain = _storms.fit(x, y, 0, bags=3)
    assert np.corrcoef(relukit.load(chain)(x)[:, 0], y)[0, 1] > 0.8
    (tmp_path / "other.csv").write_text("NDAM2014,Year\n3,2001\n")
    with pytest.raises(relukit.UnreadableFile, match=r"LF\.PressureMB"):
        _storms.read(tmp_path / "other.csv")


def test_claims_files_with_gaps_are_read_or_refused_with_what_is_missing(tmp_path):
    from relukit.gallery.catastrophe import _claims, _storms

    rows = "yearOfLoss,dateOfLoss,waterDepth,occupancyType,buildingPropertyValue,buildingDamageAmount\n"
    (tmp_path / "few.csv").write_text(
        rows + "2022,2022-09-28,3,1,200000,50000\n2022,2022-09-28,,1,100000,250000\n2022,2022-09-28,1,4,1,1\n"
    )
    table = _claims.read(tmp_path / "few.csv")
    x = _claims.inputs(table)
    assert len(x) == 2 and np.isfinite(x).all()
    np.testing.assert_allclose(_claims.target(table), [0.25, 1.0])  # nothing beyond the value
    np.testing.assert_allclose(x[:, 0], [8.0, 5.0])  # feet above -5; a missing depth counts as none
    (tmp_path / "none.csv").write_text(rows + "2022,2022-09-28,1,4,1000,1\n")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(relukit.UnreadableFile, match="none of 1 rows"):
        _claims.read(tmp_path / "none.csv")
    with pytest.raises(relukit.UnreadableFile, match="buildingDamageAmount"):
        _claims.read(tmp_path / "other.csv")
    with pytest.raises(relukit.UnreadableFile, match="not a CSV"):
        _storms.is_storms(tmp_path / "empty.csv")


def test_wind_network_equals_its_table_and_is_straight_between():
    from relukit.gallery.catastrophe.climada import wind_network
    from relukit.gallery.catastrophe.portfolio import wind_ratio

    whole = np.arange(0.0, 121.0)
    fine = np.linspace(0, 120, 961)
    found = wind_network("masonry")(fine[:, None])[:, 0]
    np.testing.assert_allclose(found, np.interp(fine, whole, wind_ratio(whole, "masonry")), atol=1e-12)


def test_without_climada_the_error_says_what_to_install():
    import importlib.util

    from relukit.gallery.catastrophe.climada import impact_function, wind_network

    if importlib.util.find_spec("climada") is not None:
        pytest.skip("climada is here")
    with pytest.raises(relukit.MissingExtra, match="libgdal-dev"):
        impact_function(wind_network(), 0.0, 120.0)
    two = relukit.load({"W0": np.ones((1, 2)), "b0": np.zeros(1)})
    with pytest.raises(relukit.InvalidInput, match="one intensity"):
        impact_function(two, 0.0, 1.0)


@pytest.mark.slow
def test_climada_agrees_with_its_own_curve_on_its_demo(tmp_path):
    pytest.importorskip("climada.engine", exc_type=ImportError)
    from relukit.gallery.catastrophe import climada

    found = climada.demo(tmp_path / "florida.png")
    ours, theirs = found["ReLU, wood"], found["CLIMADA"]
    assert ours["annual"] == pytest.approx(theirs["annual"], rel=0.02)
    np.testing.assert_allclose(ours["loss"][-20:], theirs["loss"][-20:], rtol=0.02)
    assert found["ReLU, masonry"]["annual"] < ours["annual"]
    assert (tmp_path / "florida.png").stat().st_size > 1e4


def test_band_for_later_months_holds_nine_of_ten_quiet_ones_whatever_a_crisis_did():
    import pandas as pd

    from relukit.gallery.retail_index._sales import _scale

    months = pd.period_range("2020-01", periods=21, freq="M")
    walked = pd.DataFrame({"low": -3.0, "nowcast": 0.0, "high": 2.0, "scale": 2.0}, index=months)
    truth = pd.Series([0.1 * k for k in range(20)] + [50.0], index=months)  # the last is a crisis
    # at scale 1 the upper side is 1 wide: nine tenths of 0, 0.1, ..., 1.9 are below 1.71
    assert _scale(walked, truth) == pytest.approx(1.71)
    assert _scale(walked, -truth) == pytest.approx(1.71 / 1.5)
    assert _scale(walked[:5], truth[:5]) == 1.0


@pytest.mark.parametrize("count", [1, 2, 3, 25, 170])
def test_months_below_the_chart_do_not_collide(count):
    pytest.importorskip("matplotlib")
    import pandas as pd
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from relukit.gallery.retail_index.figures import _months

    figure = Figure(figsize=(8.8, 2))  # axes as wide as those of the chart
    axes, months = figure.subplots(), pd.period_range("2016-11", periods=count, freq="M")
    axes.plot(months.to_timestamp(), range(count))
    _months(axes, months, 16)
    FigureCanvasAgg(figure).draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert boxes and all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:]))
    assert axes.get_xticklabels()[0].get_text().split("\n")[-1] in {"2016", "2017"}
