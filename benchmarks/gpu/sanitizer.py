"""What compute-sanitizer says: its verdict on our kernels, or why it has none.

Two things must be there before a run counts as clean: the tool's own summary, and the mark that `every_op.py` prints
when it has gone through everything. A tool that saw no fault in a program that died has checked nothing.
"""

from __future__ import annotations

import re

from .record import FAILED, NOT_RUN, PASSED

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
DONE = "every op ran"
SUMMARY = re.compile(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (\d+) (?:errors?|hazards?)", re.MULTILINE)
REFUSALS = (
    "Device not supported",
    "Unable to find injection",
    "not supported on",
    "Target application terminated before first instrumented API call",
    "Failed to initialize",
    "No attachable process found",
    "LibraryNotLoaded",
    "Insufficient privileges",
)
MESSAGES = 5  # that are kept


def command(tool: str, sanitizer: str, target: list[str]) -> list[str]:
    """How the tool is called. The API's own return codes are not looked at: torch tries what may fail."""
    options = ["--tool", tool, "--error-exitcode", "9", "--report-api-errors", "no", "--print-limit", "20"]
    return [sanitizer, *options, *target]


def verdict(tool: str, code: int | None, output: str) -> dict[str, object]:
    """Status, reason and the first messages of one run; `code` is None where its time ran out."""
    found = SUMMARY.findall(output)
    messages = _messages(output)
    if found and any(int(n) for n in found):
        faults = sum(map(int, found))
        first = messages[0] if messages else "no message"
        return {"status": FAILED, "reason": f"{tool}: {faults} fault(s): {first}", "details": messages}
    refusal = next((line.strip("= ") for line in output.splitlines() if any(r in line for r in REFUSALS)), None)
    if refusal is not None:
        return {"status": NOT_RUN, "reason": f"{tool} refuses: {refusal}", "details": messages}
    if code is None:
        return {"status": NOT_RUN, "reason": "out of time", "details": messages}
    if DONE not in output:
        last = (output.strip().splitlines() or ["no output"])[-1]
        return {"status": FAILED, "reason": f"the ops did not run to their end: {last[:300]}", "details": messages}
    if not found:
        return {"status": NOT_RUN, "reason": f"{tool} gave no summary", "details": messages}
    if code != 0:
        return {
            "status": FAILED,
            "reason": f"{tool}: exit code {code} without a fault in the summary",
            "details": messages,
        }
    ran = re.search(rf"{DONE}.*", output)
    return {"status": PASSED, "reason": "", "details": ran[0] if ran else ""}


def _messages(output: str) -> list[str]:
    """The first lines that name a fault, each with the line that says in which kernel."""
    lines = [line.strip() for line in output.splitlines() if line.startswith("=========")]
    texts = [line.strip("= ") for line in lines]
    found = []
    for index, text in enumerate(texts):
        if re.match(r"(Invalid|Uninitialized|Error:|Warning:|Barrier error|Race|Potential|Address)", text):
            where = next((t for t in texts[index + 1 : index + 4] if t.startswith(("at ", "and "))), "")
            found.append(f"{text} {where}".strip()[:300])
    return found[:MESSAGES]
