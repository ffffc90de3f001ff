"""Hold contract/ against today's code, against the last release and against the changelog.

python .ci/compatibility                     `make lint`: say what is wrong, and what to do
python .ci/compatibility accept              `make contract`: write today's files
python .ci/compatibility release 0.2.0       `make contract RELEASED=0.2.0`, after the tag v0.2.0: they are the promise
"""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from compatibility.check import Project, accept, problems, release, today

    project = Project(Path(__file__).resolve().parents[2])
    match sys.argv[1:]:
        case ["release", version]:
            found = subprocess.run(
                ["git", "rev-parse", f"v{version}^{{commit}}"],
                cwd=project.root,
                capture_output=True,
                text=True,
                check=False,
            )
            if found.returncode:
                sys.exit(f"there is no tag v{version}: set it on the commit of the release first")
            release(project, version, found.stdout.strip())
        case ["accept"]:
            accept(project, today())
        case []:
            pass
        case other:
            sys.exit(f"{' '.join(other)}: expected nothing, accept, or release VERSION")
    if wrong := problems(project, today()):
        sys.exit("\n".join(wrong))
    print(f"contract/ holds, since {project.released}")
