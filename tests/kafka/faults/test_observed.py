"""F22: many who scrape at once, and some who never finish their question."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Event as Flag

import pytest
from bad_streams import Page, files, free_port, threads
from stage import Stage, events

SCRAPERS = 50
SLOW = 50


@contextmanager
def storm(page: Page) -> Iterator[list[float]]:
    """Scrapers, each asking again as soon as it has its answer, while the block runs; their waits, s."""
    waits, over = list[float](), Flag()

    def scrape() -> None:
        while not over.is_set():
            began = time.monotonic()
            code, text = page.get("/metrics")
            assert code == 200 and b"streamrec_applied_events" in text
            waits.append(time.monotonic() - began)

    with ThreadPoolExecutor(SCRAPERS) as pool:
        scrapers = [pool.submit(scrape) for _ in range(SCRAPERS)]
        try:
            yield waits
        finally:
            over.set()
        for scraper in scrapers:
            scraper.result()


@contextmanager
def slow_askers(port: int) -> Iterator[None]:
    """Connections that send half a question and wait."""
    with ExitStack() as stack:
        for _ in range(SLOW):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            one.sendall(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        yield


def test_f22_a_storm_of_scrapes_and_slow_askers_stop_nothing_and_leak_nothing(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    stage.produce(events(1500))
    member = stage.daemon("a", http__port=port)
    stage.wait_until_applied()
    page = Page(port)
    assert page.get("/forecast/u1")[0] == 200
    time.sleep(0.5)
    before = threads(member.pid), files(member.pid)
    with slow_askers(port), storm(page) as waits:
        began = time.monotonic()
        stage.produce(events(1500, seed=1, start=1.75e9))
        stage.wait_until_applied(60)
        seconds = time.monotonic() - began
        assert page.get("/livez")[0] == 200 and page.get("/readyz")[0] == 200
        assert page.get("/forecast/u1")[0] == 200
        assert len(waits) > SCRAPERS
    until = time.monotonic() + 10
    while (threads(member.pid), files(member.pid)) > before and time.monotonic() < until:
        time.sleep(0.1)
    after = threads(member.pid), files(member.pid)
    assert after[0] <= before[0] and after[1] <= before[1], (before, after)
    stage.end()
    stage.check()
    p99 = sorted(waits)[int(0.99 * len(waits))]
    with capsys.disabled():
        print(f"\nF22: 1500 events in {seconds:.1f} s beside {len(waits)} scrapes of {SCRAPERS} at once, "
              f"99 % of them answered within {p99:.2f} s")  # fmt: skip
