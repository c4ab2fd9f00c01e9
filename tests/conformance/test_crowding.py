"""Many who ask at the same moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

AT_ONCE = 20


def all_at_once(ask: Any) -> list[int]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [pool.submit(ask) for _ in range(AT_ONCE)]
        return sorted(answer.result().status_code for answer in answers)


def test_simultaneous_starts_end_in_one_stream(api: Any) -> None:
    for _ in range(3):
        assert all_at_once(api.start) == [200] + [503] * (AT_ONCE - 1)
        assert api.status()["active_streams"] == 1
        assert api.stop().status_code == 200


def test_simultaneous_starts_end_in_as_many_streams_as_there_is_room_for(several: Any) -> None:
    assert all_at_once(several.start) == [200] * 3 + [503] * (AT_ONCE - 3)
    assert several.status()["active_streams"] == 3


def test_simultaneous_stops_end_in_none(api: Any) -> None:
    api.start()
    codes = all_at_once(api.stop)
    assert 200 in codes
    assert set(codes) <= {200, 400}
    assert api.health() == "IDLE"


def test_simultaneous_updates_are_all_taken(api: Any) -> None:
    api.start()
    codes = all_at_once(partial(api.post, "/stream/params", json={"a": 1}))
    assert codes == [200] * AT_ONCE


def test_starts_and_stops_among_each_other_leave_a_service_that_works(api: Any) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(api.start if index % 2 else api.stop) for index in range(60)]
        codes = {each.result().status_code for each in asked}
    assert codes <= {200, 400, 503}
    api.clear()
    assert api.start().status_code == 200
