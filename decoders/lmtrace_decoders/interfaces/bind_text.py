"""What was recognised in a waveform, written as a binding."""

from __future__ import annotations

from collections.abc import Sequence

from lmtrace_decoders.interfaces.recognise import Candidate


def toml(name: str, found: Sequence[Candidate], signals: int) -> str:
    """Return the binding of every link found; other views of the same traffic follow as comments."""
    if not found:
        return f"# {name}: no bus was recognised among {signals} signals\n"
    lines = [f"# {name}: {len(found)} link{'s' * (len(found) > 1)} among {signals} signals", ""]
    for number, candidate in enumerate(found):
        lines += _link(f"pcie{number}", candidate)
        shown = {candidate.convention.name}
        for other in candidate.alternatives:
            lines.append(f"# another view of the traffic of pcie{number}, not used: {other.title}")
            if other.convention.name not in shown:
                shown.add(other.convention.name)
                lines += [f"#     {line}" for line in _link(f"pcie{number}", other)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _link(name: str, candidate: Candidate) -> list[str]:
    judgement = candidate.judgement
    lines = [f"# {candidate.title}: confidence {judgement.confidence:.2f}"]
    lines += [f"# {remark}" for remark in judgement.remarks]
    clock = candidate.clock
    lines += [
        f"[link.{name}]",
        f"convention = {quoted(candidate.convention.name)}",
        f"clock = {quoted(clock.name)}" if clock else '# clock = "…"   no clock was found',
        'side = "auto"           # "endpoint" or "root-port": who writes the doorbells; auto: the traffic decides',
    ]
    if len(candidate.convention.straddles) > 1:
        choice = ", ".join(quoted(one) for one in candidate.convention.straddles)
        lines.append(f'straddle = "auto"       # {choice}; auto: the traffic decides')
    for setting, choices in candidate.convention.settings.items():
        if choices[0] != "auto":
            continue
        listed = ", ".join(quoted(one) for one in choices)
        lines.append(f"{setting} = {quoted(choices[0])}    # {listed}")
    for stream, roles in candidate.streams.items():
        lines.append(f"[link.{name}.{stream}]    # {candidate.convention.streams[stream].text}")
        lines += [f"{role} = {quoted(signal.name)}" for role, signal in roles.items()]
    return lines


def quoted(text: str) -> str:
    """Return a TOML basic string."""
    out = []
    for c in text:
        if c in '"\\':
            out.append("\\" + c)
        elif c < " " or c == "\x7f":
            out.append(f"\\u{ord(c):04X}")
        else:
            out.append(c)
    return '"' + "".join(out) + '"'
