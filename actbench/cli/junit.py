"""JUnit's XML, which CI services read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One test case: its kind is pass, failure or error; the type says which sort of failure, the text what there is to say."""

    group: str
    name: str
    kind: str
    type: str
    text: str
    details: Sequence[str] = ()


def as_junit(suite: str, cases: Sequence[Case], seconds: float) -> str:
    """A suite of test cases as XML."""
    counts = {"tests": len(cases), **{f"{kind}s": sum(case.kind == kind for case in cases) for kind in ("failure", "error")}}
    facts = {"name": suite, **{name: str(count) for name, count in counts.items()}, "time": f"{seconds:.3f}"}
    root = ElementTree.Element("testsuites")
    parent = ElementTree.SubElement(root, "testsuite", {name: in_xml(fact) for name, fact in facts.items()})
    for case in cases:
        node = ElementTree.SubElement(parent, "testcase", classname=in_xml(case.group), name=in_xml(case.name))
        node.set("time", f"{seconds / len(cases):.3f}")
        if case.kind == "pass":
            ElementTree.SubElement(node, "system-out").text = in_xml(case.text)
            continue
        trouble = ElementTree.SubElement(node, case.kind, type=case.type, message=in_xml(case.text))
        trouble.text = in_xml("\n".join([case.text, *case.details]))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def in_xml(text: str) -> str:
    """A text without letters that XML cannot hold."""
    return NOT_IN_XML.sub("?", text)
