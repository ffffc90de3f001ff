"""Whether a version was signed with a key that is trusted here (OpenSSF Model Signing, an elliptic-curve key pair)."""

from pathlib import Path

from mlpserve_server.errors import ArtifactError, ConfigError
from mlpserve_server.store import Version

SIGNATURE = "model.sig"


def verify(version: Version, public_key: str) -> None:
    """Check the signature over every file of a version.

    Args:
        version: the artifact.
        public_key: PEM file.

    Raises:
        ConfigError: the library is not installed, or the key cannot be read.
        ArtifactError: the signature is missing, or not made with this key over these files.
    """
    try:
        from model_signing import verifying
    except ModuleNotFoundError as error:
        raise ConfigError("--require-signature needs: pip install 'mlpserve[signing]'") from error
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=Path(public_key))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--require-signature {public_key}: {error}; expected a PEM public key") from error
    signature = version.folder / SIGNATURE
    if not signature.is_file():
        raise ArtifactError(f"{version.folder} is not signed; publish it with: mlpserve-train --sign-key PRIVATE_KEY")
    try:
        config.verify(version.folder, signature)
    except Exception as error:
        # The library's and its libraries' errors share no base below Exception; any of them means "not verified".
        raise ArtifactError(
            f"{version.folder}: its signature is not one by {public_key} over these files: {str(error)[:200]}"
        ) from error
