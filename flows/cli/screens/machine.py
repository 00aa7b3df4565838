"""The screens of `doctor` and `stack status`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flows.cli.console import output, print_marked, safe

if TYPE_CHECKING:  # importing these would load Ray for --help
    from flows.doctor.checks import Finding
    from flows.local_stack.stack import ServiceState

FINDING_STYLE = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_finding(finding: Finding) -> None:
    """Print one finding of `layerprint doctor` with its remedy."""
    out = output()
    mark, style = f"{finding.status:4}", FINDING_STYLE[finding.status]
    print_marked(out, mark, style, f"{finding.name}: {finding.found}", indent=5)
    if finding.remedy:
        print_marked(out, "     →", "bold", finding.remedy, indent=7)


def show_services(services: Iterable[ServiceState]) -> None:
    """Print what `layerprint stack status` found."""
    out = output()
    for service in services:
        if service.pid is None:
            out.print(f"[yellow]down[/]      {safe(service.name)}")
        else:
            state = "[green]ready[/]    " if service.ready else "[bold red]no answer[/]"
            where = f"process {service.pid:<8} {safe(service.where)}"
            out.print(f"{state} {safe(service.name):15} {where}", soft_wrap=True)
