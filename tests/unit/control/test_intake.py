"""Messages that are wrong, many of them, and what the log says; floods in general; and the watchdog's judgement."""

from gorouter_py.control.intake import LINES_PER_S, Intake
from gorouter_py.control.registry import Limits, Registry
from gorouter_py.control.supervise import STUCK_S, Watchdog
from gorouter_py.control.throttle import Throttle
from tests.unit.control.fakes import FakeLog, FakeNames, FakeTable


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def bench() -> tuple[Intake, FakeTable, FakeLog, Clock]:
    table, log, clock = FakeTable(), FakeLog(), Clock()
    return Intake(Registry(table, FakeNames(), log, Limits()), log, clock), table, log, clock


GOOD = b'{"host":"10.0.0.1","port":80,"uris":["a.test"]}'


def test_register_and_unregister() -> None:
    intake, table, _, _ = bench()
    intake.take("router.register", GOOD)
    assert table.shown() == [("a.test", "10.0.0.1:80")]
    intake.take("router.unregister", GOOD)
    assert table.shown() == []


def test_of_other_subjects_only_the_shape_is_looked_at() -> None:
    intake, table, log, _ = bench()
    intake.take("router.start", b'{"id":"0-x","hosts":["10.0.0.1"],"minimumRegisterIntervalInSeconds":20}')
    intake.take("router.greet", b"")
    assert (intake.invalid, log.lines) == (0, [])
    intake.take("router.active_apps", b"\x78\x9c no json")
    assert (intake.invalid, table.held) == (1, {})
    assert [line["subject"] for line in log.said("validation-error")] == ["router.active_apps"]


def test_a_withdrawal_is_logged_as_it_came() -> None:
    intake, _, log, _ = bench()
    intake.take("router.unregister", GOOD)
    assert log.said("unregister-route") == [{"message": GOOD.decode()}]


def test_a_bad_message_is_logged_with_payload_and_subject() -> None:
    intake, _, log, _ = bench()
    intake.take("router.register", b'{"host":"h","port":"80"}')
    (line,) = log.said("validation-error")
    assert line["subject"] == "router.register"
    assert line["payload"] == '{"host":"h","port":"80"}'
    assert "int" in str(line["error"])


def test_a_flood_is_counted_not_written() -> None:
    intake, _, log, clock = bench()
    for _ in range(1000):
        intake.take("router.register", b"garbage \xff" * 1000)
    assert len(log.said("validation-error")) == LINES_PER_S
    assert intake.invalid == 1000
    assert all(len(str(line["payload"])) <= 2048 for line in log.said("validation-error"))
    clock.now += 1
    intake.take("router.register", b"x")
    assert log.said("validation-error")[-1]["suppressed"] == 1000 - LINES_PER_S


def test_a_defect_behind_the_registry_does_not_end_the_subscription() -> None:
    intake, table, log, _ = bench()

    def broken(*_: object, **__: object) -> int:
        raise RuntimeError("table is broken")

    table.add = broken  # type: ignore[method-assign, assignment]
    intake.take("router.register", GOOD)
    assert "RuntimeError: table is broken" in str(log.said("message-not-handled")[0]["error"])


def test_throttle_admits_again_in_the_next_second() -> None:
    clock = Clock()
    throttle = Throttle(2, clock)
    assert [throttle.admit() for _ in range(4)] == [0, 0, None, None]
    clock.now += 0.99
    assert throttle.admit() is None
    clock.now += 0.02
    assert [throttle.admit(), throttle.admit()] == [3, 0]
    assert throttle.suppressed == 3


def test_the_watchdog_finds_the_worker_that_stands_still() -> None:
    watchdog = Watchdog(0.0)
    assert watchdog.stuck([10, 10], 0.0) == []
    for second in range(1, int(STUCK_S)):
        assert watchdog.stuck([10 + second, 10], float(second)) == []
    assert watchdog.stuck([99, 10], STUCK_S) == [1]


def test_the_watchdog_forgives_when_this_process_itself_was_stopped() -> None:
    watchdog = Watchdog(0.0)
    watchdog.stuck([1, 1], 0.0)
    assert watchdog.stuck([1, 1], 1000.0) == []
    assert watchdog.stuck([1, 2], 1001.0) == []
