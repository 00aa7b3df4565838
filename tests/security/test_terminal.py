"""Names of strangers on a terminal: whatever they contain, what is written is printable text."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import sys
import unicodedata
from collections.abc import Callable
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from flows.cli import console, main
from flows.cli.progress import ProgressBoard
from flows.cli.screens import attribution, audits, comparisons, kinds, machine, store
from flows.cli.sql.table import show_rows
from flows.registry.registry import Entry
from flows.registry.state import ReleaseState
from flows.registry.store_status import StoreStatus
from flows.results.audit_result import AuditResult
from flows.results.kinds_found import KindFound
from flows.selfcheck.by_layers import SelfCheck, Trial
from flows.selfcheck.judged import CopiesSelfCheck, CopiesTrial, Kind
from flows.sweep import SweepReport
from flows.text import one_line, terminal_text
from storage.errors import InputError
from tests.paths import ROOT
from tests.storage.results.test_tables import row

CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
HIDDEN = [0x34F, 0x115F, 0x180E, 0x200B, 0x200C, 0x200D, 0x2028, 0x2029, 0x2060, 0x3164, 0xAD, 0xFE0F, 0xFEFF, 0xE0101]
NOT_TEXT = [0xDFFF, 0xD800, 0xE000, 0xFFFE, 0xFFFF, 0x378, 0x10FFFF]
HOSTILE = "".join(map(chr, (*CONTROLS, *HIDDEN, *NOT_TEXT))) + "[/][red]\x1b]0;x\x07:bomb:\\"


def bad(text: str) -> set[str]:
    """The characters of a text that could drive a terminal, or that deceive."""
    wrong = {chr(code) for code in (*CONTROLS, *HIDDEN, *NOT_TEXT)} - {"\n"}
    return {c for c in text if c in wrong or (unicodedata.category(c)[0] == "C" and c != "\n")}


def outcome() -> AuditResult:
    texts = ("release", "version", "run", "verdict", "sentence", "fit_sentence", "invalid_reason", "audit_id")
    made = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    numbers = {"copy_rate": 0.1, "copy_rate_low": 0.0, "copy_rate_high": 0.2, "images": 5, "rejected": 1}
    audit = {**row("audits"), **dict.fromkeys(texts, HOSTILE), **numbers, "created_at": made}
    scores = [row("scores", layer=i, informative=i > 0, a_low=0.1, a_high=0.2, p_adjusted=0.5) for i in range(3)]
    checks = [row("checks", name=HOSTILE, severity="note", sentence=HOSTILE, remedy=HOSTILE, passed=False)]
    names = dict.fromkeys(("image_key", "train_key", "view"), HOSTILE)
    copies = [row("copies", **names, rank=i, identical=i == 1, listed=True) for i in range(1, 8)]
    return AuditResult(audit, scores, checks, copies, {HOSTILE: KindFound(1, 1, 1)})


def answer() -> Any:
    candidate = dict.fromkeys(("posterior", "closed", "curve_posterior", "p_value"), 0.5)
    return SimpleNamespace(
        verdict="unknown",
        sentence=HOSTILE,
        unknown=0.5,
        needed=7,
        curve_weight=0.0,
        candidates=[SimpleNamespace(maker=HOSTILE, processing=HOSTILE, **candidate)] * 12,
    )


def attributed() -> Any:
    names = ("published_similarity", "frechet", "mean_distance", "probe_log_p")
    scores = {name: {HOSTILE: 1.0} for name in names}
    return SimpleNamespace(
        answer=answer(),
        enrolled_as=[HOSTILE],
        baselines=SimpleNamespace(**scores, probe_layer=1, probe_missing=[HOSTILE]),
        trials=1,
        trials_right=1,
        runs_compared=False,
    )


def stressed() -> Any:
    return SimpleNamespace(plain=attributed(), perturbed={"jpeg": attributed()}, same=lambda _: False, sentence=HOSTILE)


def compared() -> Any:
    numbers = {name: [0.1] for name in ("difference", "low", "high", "p_adjusted")}
    return SimpleNamespace(
        first=outcome(),
        second=outcome(),
        layers=[1],
        comparison=SimpleNamespace(**numbers),
        drift=SimpleNamespace(distance=[0.1]),
        sentence=HOSTILE,
        drift_sentence=HOSTILE,
    )


def checked() -> Any:
    trial = Trial(HOSTILE, 0.1, 3, True, 0.1, 0.0, 0.2, {1: 0.5}, None, HOSTILE)
    return SelfCheck([trial], {5: None}, 1, 1)


def checked_kinds() -> CopiesSelfCheck:
    sizes = ((0, 0), (0, 9), (1, 9))
    trials = [CopiesTrial(HOSTILE, planted, images, HOSTILE, 1, 1, 1, (), False, HOSTILE) for planted, images in sizes]
    return CopiesSelfCheck(trials, [Kind(HOSTILE, 1, 1, 1, 1, HOSTILE, 1, 1, 0.1, ())], None, {5: None}, 1, 1, 1, 1)


def enrolled() -> Any:
    return SimpleNamespace(release=HOSTILE, run=HOSTILE, images=1, parts=1, layers=1)


def reference() -> dict[str, Any]:
    numbers = {"train_images": 1, "held_out_images": 1, "contaminated": 0, "forward_images": 1}
    checks = [{"passed": False, "name": HOSTILE, "sentence": HOSTILE}]
    return {"reference": HOSTILE, **numbers, "layers": [HOSTILE], "rejects": [], "checks": checks}


def entries() -> list[Entry]:
    return [Entry(HOSTILE, ReleaseState("failed", HOSTILE), outcome().audit), Entry(HOSTILE, ReleaseState("stale"))]


def status() -> StoreStatus:
    return StoreStatus([outcome().audit], [HOSTILE], [HOSTILE], [HOSTILE])


def swept() -> SweepReport:
    error = InputError(HOSTILE, HOSTILE)
    told = {HOSTILE: HOSTILE}
    return SweepReport([outcome()], {HOSTILE: error}, told, told, {HOSTILE: [HOSTILE]})


def report() -> Any:
    return SimpleNamespace(outcomes=[outcome()], failures={HOSTILE: InputError(HOSTILE, HOSTILE)})


def demo() -> Any:
    lists = {name: [HOSTILE] for name in ("attributed", "pictures", "next_commands")}
    return SimpleNamespace(outcomes=[outcome()], **lists)


def finding() -> Any:
    return SimpleNamespace(status="fail", name=HOSTILE, found=HOSTILE, remedy=HOSTILE)


def services() -> Any:
    fields = {"name": HOSTILE, "where": HOSTILE, "ready": True}
    return [SimpleNamespace(pid=pid, **fields) for pid in (None, 7)]


def stages() -> None:
    logger = logging.getLogger("flows.hostile")
    with ProgressBoard() as board:
        for done in (0, 2):
            board.report(SimpleNamespace(stage=HOSTILE, done=done, total=2, skipped=0, unit="images"))  # type: ignore[arg-type]
        logger.warning("%s was left out", HOSTILE)
        try:
            raise RuntimeError(HOSTILE)
        except RuntimeError:
            logger.exception("%s could not be audited", HOSTILE)


SCREENS: dict[str, Callable[[], object]] = {
    "audit": lambda: audits.show_report(report(), 3, [HOSTILE]),
    "demo": lambda: audits.show_demo(demo(), 3),
    "reference": lambda: audits.show_reference(reference()),
    "attribute": lambda: attribution.show_attribution(attributed()),
    "attribute --stress": lambda: attribution.show_stress(stressed()),
    "enrol": lambda: attribution.show_enrolled([enrolled()]),
    "compare": lambda: comparisons.show_comparison(compared()),
    "selfcheck": lambda: comparisons.show_selfcheck(checked()),
    "selfcheck by kind": lambda: kinds.show_kinds(checked_kinds()),
    "doctor": lambda: machine.show_finding(finding()),
    "stack status": lambda: machine.show_services(services()),
    "status": lambda: store.show_status(HOSTILE, status()),
    "releases": lambda: store.show_registry(entries(), HOSTILE),
    "sweep": lambda: store.show_sweep(swept(), 3),
    "sql": lambda: show_rows(pa.table({"a": [HOSTILE.encode("utf-8", "replace").decode()]}), sys.stdout),
    "sql, wide": lambda: show_rows(pa.table({HOSTILE[:60] + str(i): ["\x9b1m\u202e"] for i in range(40)}), sys.stdout),
    "an error": lambda: console.print_error(InputError(HOSTILE, HOSTILE), as_json=False),
    "an error as JSON": lambda: console.print_error(InputError(HOSTILE, HOSTILE), as_json=True),
    "a wrong option": lambda: main.run(["audit", f"--{HOSTILE}"]),
    "a wrong command": lambda: main.run([HOSTILE]),
    "progress": stages,
}


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_is_printable(
    screen: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERPRINT_VERBOSE", "1")  # with tracebacks
    console.clean_logs()
    try:
        SCREENS[screen]()
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert text.strip()
    assert bad(text) == set()
    assert "\N{BOMB}" not in text


def test_json_changes_no_value() -> None:
    text = console.json_text({"a": HOSTILE})
    assert json.loads(text) == {"a": HOSTILE}
    assert bad(text) == set()


def test_a_console_cleans_what_was_not_cleaned_before() -> None:
    sink = StringIO()
    out = console.output(file=sink, force_terminal=True, color_system="standard", width=200)
    out.print(f"[red]{HOSTILE[:40]}\x9b[/]", soft_wrap=True)
    assert bad(re.sub(r"\x1b\[[0-9;]*m", "", sink.getvalue())) == set()
    assert "\x1b[31m" in sink.getvalue()  # its own colours stay


@pytest.mark.parametrize("clean", [terminal_text, one_line])
def test_every_character(clean: Callable[[str], str]) -> None:
    for code in range(sys.maxunicode + 1):
        assert bad(clean(chr(code))) == set()
    assert terminal_text("日本語 ü é 🐢\n") == "日本語 ü é 🐢\n"


def test_there_is_no_other_way_to_the_terminal() -> None:
    """Whoever prints does it through `flows.cli.console`, or writes what holds no text of a stranger."""
    own = {
        "flows/cli/console.py",
        "flows/cli/sql/shell.py",  # its own words; names of columns that the code fixes
        "flows/cli/entry.py",  # a sentence of its own
        "flows/cli/main.py",  # the version
        "flows/cli/commands/stack.py",  # quoted for a shell
    }
    writes = re.compile(
        r"^(?! *(>>>|print\(audit))[^#\"'`\n]*(\bConsole\(|(?<![.\w])print\(|\b(stdout|stderr)\.write|\becho\()",
        re.MULTILINE,
    )
    found = {
        str(path.relative_to(ROOT))
        for folder in ("actors", "flows", "layerprint", "storage")
        for path in (ROOT / folder).rglob("*.py")
        if writes.search(path.read_text(encoding="utf-8"))
    }
    assert found - own <= {"actors/ray_job/server.py", "flows/doctor/machine_checks.py", "flows/runtime/machine.py"}
