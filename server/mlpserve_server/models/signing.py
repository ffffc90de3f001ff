"""Whether a version was signed with a key that is trusted here (OpenSSF Model Signing, an elliptic-curve key pair)."""

from pathlib import Path

from mlpserve import temporary
from mlpserve.artifact import SIGNATURE
from mlpserve_server.errors import ArtifactError, ConfigError
from mlpserve_server.store import files
from mlpserve_server.store.folder import Version
from mlpserve_server.store.manifest import LARGEST_SIGNATURE


def verify(version: Version, public_key: str) -> None:
    """Check the signature over every file of a version.

    Args:
        version: the artifact.
        public_key: PEM file.

    Raises:
        ConfigError: the library is not installed, or the key cannot be read.
        ArtifactError: the signature is missing, or not made with this key over these files.
        StoreError: a file cannot be read, for a reason that is not the file's.
    """
    try:
        from model_signing import verifying
    except ModuleNotFoundError as error:
        raise ConfigError("--require-signature needs: pip install 'mlpserve[signing]'") from error
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=Path(public_key))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--require-signature {public_key}: {error}; expected a PEM public key") from error
    try:
        signature = files.read(version.folder, SIGNATURE, LARGEST_SIGNATURE)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{version.folder} is not signed; publish it with: mlpserve-train --sign-key PRIVATE_KEY"
        ) from error
    except OSError as error:
        raise files.explained(error, version.folder / SIGNATURE) from error
    wrong = f"{version.folder}: its signature is not one by {public_key} over these files: "
    if (unlisted := version.unlisted()) is not None:
        raise ArtifactError(f"{wrong}{unlisted[:200]!r} was added")
    # What is signed must be what is served, so a copy of that is checked: the folder may change meanwhile, and the
    # library reads whatever lies in it, pipes and devices too.
    with temporary.folder("signed") as copy:
        try:
            for name, content in version.parts():
                path = Path(copy, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            Path(copy, SIGNATURE).write_bytes(signature)
        except OSError as error:
            raise ConfigError(f"--require-signature needs a writable temporary folder (TMPDIR): {error}") from error
        try:
            config.verify(Path(copy), Path(copy, SIGNATURE))
        except Exception as error:
            # The library's and its libraries' errors share no base below Exception; any means "not verified".
            raise ArtifactError(f"{wrong}{str(error)[:200]}") from error
