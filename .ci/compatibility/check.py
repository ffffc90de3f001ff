"""What is wrong between today's code, the files of contract/, the last release and the changelog."""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from compatibility import answers, artifact, client_api, commands, descriptors, metrics
from compatibility.facts import Change, Subject

SUBJECTS = tuple(each.SUBJECT for each in (descriptors, artifact, commands, metrics, client_api, answers))
SHOWN = 12  # changes in a message


@dataclass(frozen=True)
class Project:
    """The files that a check reads.

    Attributes:
        root: of the repository.
    """

    root: Path

    @property
    def version(self) -> Version:
        """Of today."""
        return Version(tomllib.loads((self.root / "pyproject.toml").read_text())["project"]["version"])

    @property
    def released(self) -> Version:
        """Of the last release."""
        return Version(json.loads((self.root / "contract/release.json").read_text())["version"])

    @property
    def unreleased(self) -> str:
        """What the changelog says of the time after the last release."""
        text = (self.root / "CHANGELOG.md").read_text()
        return text.partition(f"\n## [{self.released}]")[0]

    def accepted(self, subject: Subject) -> str:
        """What contract/ holds."""
        path = self.root / "contract" / subject.file
        return path.read_text() if path.exists() else ""

    def promised(self, subject: Subject) -> str:
        """What the last release had."""
        return (self.root / "contract/released" / subject.file).read_text()


def today() -> dict[str, str]:
    """The content of each file as it is to be now."""
    return {subject.file: subject.describe() for subject in SUBJECTS}


def problems(project: Project, contents: Mapping[str, str]) -> list[str]:
    """Sentences, each with what is wrong and what to do; none if all is well."""
    found = []
    for subject in SUBJECTS:
        content = contents[subject.file]
        found += _since_the_release(project, subject, content)
        if changes := subject.changes(project.accepted(subject), content):
            found.append(
                f"contract/{subject.file} is not what {subject.what} are now:{_listed(changes)}\n"
                "  If that is meant, run `make contract` and commit the file; otherwise restore what it was."
            )
    return found


def _since_the_release(project: Project, subject: Subject, content: str) -> list[str]:
    """Whether version and changelog own up to what differs from the last release."""
    changes = subject.changes(project.promised(subject), content)
    breaking = [change for change in changes if change.breaks]
    found = []
    needed = next_version(project.released, breaking=bool(breaking))
    if changes and project.version.release < needed.release:
        whom = f"This breaks who relies on {subject.what} of" if breaking else f"{subject.what} have grown since"
        what = "Restore it, or, if that is meant" if breaking else "If that is meant"
        found.append(
            f"{whom[0].upper()}{whom[1:]} {project.released}:{_listed(breaking or changes)}\n"
            f"  {what}, set the version in pyproject.toml to {needed} at least, write a line into CHANGELOG.md under "
            "[Unreleased], and run `make contract`."
        )
    if silent := [change for change in changes if not change.named_in(project.unreleased)]:
        found.append(
            f"CHANGELOG.md says nothing under [Unreleased] of what has changed in {subject.what} since "
            f"{project.released}:{_listed(silent)}\n"
            f"  Write a line that names it: {', '.join(dict.fromkeys(change.names[0] for change in silent))}."
        )
    return found


def next_version(released: Version, *, breaking: bool) -> Version:
    """The lowest version that may follow: below 1.0 the second number says that something breaks."""
    major, minor, micro = (*released.release, 0, 0)[:3]
    if not breaking:
        return Version(f"{major}.{minor}.{micro + 1}")
    return Version(f"{major + 1}.0.0" if major else f"0.{minor + 1}.0")


def _listed(changes: list[Change]) -> str:
    lines = [f"\n    {'breaking: ' if change.breaks else ''}{change}" for change in changes[:SHOWN]]
    return "".join(lines) + (f"\n    … and {len(changes) - SHOWN} more" if len(changes) > SHOWN else "")


def accept(project: Project, contents: Mapping[str, str]) -> None:
    """Write contract/."""
    (project.root / "contract").mkdir(exist_ok=True)
    for file, content in contents.items():
        (project.root / "contract" / file).write_text(content)


def release(project: Project, version: str, commit: str) -> None:
    """Make what contract/ holds now the promise of a release.

    Raises:
        SystemExit: it is not today's version, or the changelog has no section for it.
    """
    if not re.search(rf"^## \[{re.escape(version)}\]", (project.root / "CHANGELOG.md").read_text(), re.MULTILINE):
        raise SystemExit(f"CHANGELOG.md has no section [{version}]; expected the version of a release")
    folder = project.root / "contract/released"
    folder.mkdir(parents=True, exist_ok=True)
    for subject in SUBJECTS:
        (folder / subject.file).write_text(project.accepted(subject))
    facts = json.dumps({"version": version, "commit": commit}, indent=2)
    (project.root / "contract/release.json").write_text(facts + "\n")
