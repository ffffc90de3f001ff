"""Remote files through fsspec (s3://, gs://, …), with clear errors."""

from typing import Any

from mlpserve_client.scoring.errors import ScoringError


class MissingError(ScoringError):
    """The file or folder does not exist."""


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def filesystem(path: str) -> Any:
    """The file system of a URL.

    Raises:
        ScoringError: its package is not installed, or the protocol is unknown.
    """
    scheme = path.split("://", 1)[0]
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ModuleNotFoundError as error:
        raise ScoringError(
            f"{path}: {error.name} is not installed; {scheme}:// needs: pip install 'mlpserve[s3]'"
        ) from error
    except (ImportError, ValueError) as error:
        raise ScoringError(f"{path}: {error}") from error


def asked(path: str, ask: Any) -> Any:
    """Call `ask(path)` and translate its errors.

    Raises:
        MissingError: the file or folder does not exist.
        ScoringError: the store cannot be reached.
    """
    try:
        return ask(path)
    except FileNotFoundError as error:
        raise MissingError(f"{path}: no such file or folder") from error
    except Exception as error:  # every protocol's library raises its own errors
        raise ScoringError(f"{path}: cannot be reached ({type(error).__name__}: {reason(error)})") from error


def reason(error: Exception) -> str:
    """An error's message, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
