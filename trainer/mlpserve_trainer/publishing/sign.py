"""Sign a version with an elliptic-curve key (OpenSSF Model Signing), for servers that require it."""

from collections.abc import Callable
from pathlib import Path

from mlpserve.artifact import SIGNATURE
from mlpserve_trainer.errors import ConfigError


def signer(private_key: Path) -> Callable[[Path], None]:
    """Return a function that signs all files of a folder, and writes the signature to `model.sig` in it.

    Args:
        private_key: PEM file, not encrypted.

    Raises:
        ConfigError: the library is not installed, or the key cannot be used.
    """
    try:
        from model_signing import hashing, signing
    except ModuleNotFoundError as error:
        raise ConfigError("--sign-key needs: pip install 'mlpserve[signing]'") from error
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"--sign-key {private_key}: {error}; expected a PEM private key on an elliptic curve, for example from "
            "openssl ecparam -name prime256v1 -genkey -noout"
        ) from error

    def sign(folder: Path) -> None:
        signature = folder / SIGNATURE
        config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[signature.name])).sign(folder, signature)

    return sign
