"""The password of SASL, from wherever the settings say."""

from streamrec.errors import ConfigError
from streamrec.settings import KafkaSettings


def password(settings: KafkaSettings) -> str | None:
    """The password of SASL, from the settings or from its file (without the line end).

    Raises
    ------
    ConfigError
        If the file cannot be read.

    Examples
    --------
    >>> password(KafkaSettings()) is None
    True
    """
    if settings.sasl_password_file is None:
        return None if settings.sasl_password is None else settings.sasl_password.get_secret_value()
    try:
        return settings.sasl_password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"kafka.sasl_password_file {settings.sasl_password_file}: {error}") from None
