"""`--price`: what is beyond its range is refused in one line, wherever it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import InHere
from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.registry import PolicyError, make_policy


@pytest.mark.parametrize("price", ["0", "-1", "1e-323", "9e-7", "1.1e6", "inf", "nan"])
def test_a_price_out_of_range_is_one_line(price: str, tmp_path: Path, in_here: InHere) -> None:
    path = tmp_path / "trace.parquet"
    write_trace(trace_of([(5, 0, 1), (9, 0, 1)]), path)
    for words in (
        ("evaluate", path, "--price", price),
        ("serve", "--port", 0, "--price", price),
        ("retrain", "--log", path, "--store", tmp_path / "store", "--price", price),
    ):
        code, out, err = in_here(*words)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert "rice" in err
        assert "1e-06" in err
    with pytest.raises(PolicyError, match="1e-06 to 1e"):
        make_policy("learned", model=Model(), price=float(price))
