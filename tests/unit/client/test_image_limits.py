"""Images that are decoded at once share a budget of memory; what one costs is estimated before it is decoded."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support import hostile_images

from seresnext_client.image_limits import Cost, InvalidImage, Limits, MemoryBudget, Reason
from seresnext_client.preprocessing import OpenedImage

TIMEOUT_S = 10


def test_reservations_never_exceed_the_budget() -> None:
    budget, lock, held, most = MemoryBudget(100), threading.Lock(), [0], [0]

    def hold(amount: int) -> None:
        with budget.reserve(amount):
            with lock:
                held[0] += amount
                most[0] = max(most[0], held[0])
            with lock:
                held[0] -= amount

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [1, 30, 60, 100, 7, 50] * 200))
    assert 0 < most[0] <= 100


def test_a_large_reservation_is_not_overtaken() -> None:
    budget, order = MemoryBudget(100), list[int]()
    pause = threading.Event()

    def hold(amount: int) -> None:
        with budget.reserve(amount):
            order.append(amount)

    with budget.reserve(60):
        large = threading.Thread(target=hold, args=(90,))
        large.start()
        while not budget.waiting:
            pause.wait(0.001)
        small = threading.Thread(target=hold, args=(10,))
        small.start()
        small.join(0.05)
        assert not order  # 10 would fit
    large.join(TIMEOUT_S)
    small.join(TIMEOUT_S)
    assert order == [90, 10]


def test_more_than_the_budget_waits_for_all_of_it() -> None:
    budget = MemoryBudget(100)
    with budget.reserve(1000):
        pass
    with budget.reserve(100):  # all of it is free again
        pass


def test_a_failure_gives_the_reservation_back() -> None:
    budget = MemoryBudget(100)
    with pytest.raises(ZeroDivisionError), budget.reserve(100):
        _ = 1 // 0
    with budget.reserve(100):
        pass


@pytest.mark.parametrize(
    ("cost", "file_bytes", "allowed"),
    [
        (Cost(0, 0.99), 34, True),
        (Cost(0, 1.01), 34, False),
        (Cost(0, 1.9), 2_000_000, True),
        (Cost(0, 1.9), 1_000_000, False),
        (Cost(0, 2.1), 60_000_000, False),  # 50 million pixels at 25 million a second
        (Cost(800 << 20, 0.1), 34, True),
        (Cost(1000 << 20, 0.1), 34, False),
    ],
)
def test_an_image_pays_for_its_time_in_bytes_and_for_its_memory_in_the_budget(
    cost: Cost, file_bytes: int, allowed: bool
) -> None:
    if allowed:
        Limits().check_cost(cost, file_bytes)
        return
    with pytest.raises(InvalidImage) as caught:
        Limits().check_cost(cost, file_bytes)
    assert caught.value.reason is Reason.TOO_COSTLY


def test_the_shares_make_up_the_budget() -> None:
    limits = Limits(max_decode_bytes=1_000_000_007)
    assert limits.quick_memory + limits.waiting_memory + limits.slow_memory == limits.max_decode_bytes


PEAK = """
import sys
from pathlib import Path
from PIL import Image
from seresnext_client.preprocessing import OpenedImage

def peak():  # of this program; that of getrusage begins with the parent's
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

Image.init()
image = OpenedImage(Path(sys.argv[1]).read_bytes())
before = peak()
image.pixels()
print(peak() - before)
"""
COSTLY = ("png of gray and alpha", "jpeg of 60 scans", "gif", "tiff of floats", "webp of rgba, 20 Mpx")


@pytest.mark.parametrize("name", [name for name in (*COSTLY, "avif of rgba, 25 Mpx") if name in hostile_images.HOSTILE])
def test_decoding_takes_no_more_memory_than_estimated(name: str, tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(hostile_images.HOSTILE[name]())
    estimate = OpenedImage(file.read_bytes()).cost.memory
    finished = subprocess.run([sys.executable, "-c", PEAK, file], capture_output=True, text=True, timeout=60)
    assert estimate / 4 < int(finished.stdout) < estimate
