from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from mdsys.feed.orders import Permit, Refuse
from mdsys.feed.permits import CONNECT, MESSAGE, NotPermitted, Permits
from tests.feeds import run


class Told(list[tuple[str, dict[str, Any]]]):
    def __call__(self, event: str, **fields: Any) -> None:
        self.append((event, fields))


def test_leave_brings_the_secret_and_its_use_and_end_are_told_once() -> None:
    async def main() -> None:
        told = Told()
        permits = Permits(told)
        asking = asyncio.create_task(permits.ask(CONNECT, 3, first=True))
        await asyncio.sleep(0)
        assert told == [
            ("permit", {"id": 1, "what": "connect", "connection": 3, "count": 1, "first": True})
        ]
        permits.granted(Permit(1, {"key": "hush-hush"}))
        grant = await asking
        assert grant.secret == {"key": "hush-hush"}
        assert "hush" not in repr(grant)
        for _ in range(2):
            grant.used()
            grant.ended()
        assert told[1:] == [("used", {"id": 1}), ("ended", {"id": 1})]
        assert grant.secret == {}

    run(main())


def test_answers_find_their_askers_in_any_order() -> None:
    async def main() -> None:
        permits = Permits(Told())
        asking = [asyncio.create_task(permits.ask(CONNECT, n)) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        permits.granted(Permit(3, {"key": "three"}))
        permits.refused(Refuse(2, "no key"))
        permits.granted(Permit(1, {"key": "one"}))
        assert (await asking[0]).secret == {"key": "one"}
        with pytest.raises(NotPermitted, match="no key"):
            await asking[1]
        assert (await asking[2]).secret == {"key": "three"}

    run(main())


def test_answer_to_nothing_that_was_asked_is_passed_over() -> None:
    told = Told()
    permits = Permits(told)
    permits.granted(Permit(7))
    permits.refused(Refuse(8, "no"))
    assert told == []


@pytest.mark.parametrize("what", [CONNECT, MESSAGE])
@pytest.mark.parametrize("late", [True, False])
def test_leave_that_nobody_waits_for_any_more_is_taken_back_at_once(what: str, late: bool) -> None:
    async def main() -> None:
        told = Told()
        permits = Permits(told)
        asking = asyncio.create_task(permits.ask(what, 3))
        await asyncio.sleep(0)
        if late:
            asking.cancel()
            await asyncio.sleep(0)
            assert told[1:] == [("ended", {"id": 1})]
            permits.granted(Permit(1, {"key": "k"}))
        else:  # both in one turn of the loop
            permits.granted(Permit(1, {"key": "k"}))
            asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        assert asking.cancelled()
        assert told[1:] == [("ended", {"id": 1})]

    run(main())
