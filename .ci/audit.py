"""Known vulnerabilities of what `make setup` installs: `make audit`.

Fails on any that .ci/audit-allowed.txt does not list. A machine that cannot ask the advisory database says so and goes
on: an audit that cannot be made must not stop a build that needs no network.
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALLOWED = HERE / "audit-allowed.txt"


def main() -> None:
    site_packages, *pip_audit = sys.argv[1:]
    command = [*pip_audit, "--path", site_packages, "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(result.stdout)["dependencies"]
    except ValueError:
        reason = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"audit: NOT MADE, the advisory database cannot be asked: {reason[:200]}")
        return
    allowed = {line.split()[0] for line in ALLOWED.read_text().splitlines() if line and not line.startswith("#")}
    found: set[str] = set()
    audited, failed = 0, False
    for package in packages:
        audited += "vulns" in package
        for vulnerability in package.get("vulns", []):
            names = {vulnerability["id"], *vulnerability["aliases"]}
            found |= names
            if not names & allowed:
                failed = True
                fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
                print(f"audit: {package['name']} {package['version']}: {vulnerability['id']}, mended in {fixed}")
    if audited and (stale := allowed - found):
        failed = True
        print(f"audit: {ALLOWED.name} lists {', '.join(sorted(stale))}, which nothing has any longer; remove them")
    if not audited:
        print(f"audit: NOT MADE, the index that was asked has no advisories for any of {len(packages)} packages")
        return
    print(f"audit: {audited} of {len(packages)} packages looked up, the others are not in the database")
    sys.exit(failed)


if __name__ == "__main__":
    main()
