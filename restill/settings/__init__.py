"""Every knob, with its unit and its reason; the only reader of the environment.

Values come from, first found wins: arguments, `RESTILL_…` environment variables, `restill.toml`, the defaults below.
"""

import os
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from restill.errors import ConfigurationError
from restill.settings.data import (
    BatchRuleSettings,
    ColumnSettings,
    DataSettings,
    FormatSettings,
    GitSettings,
    RowRuleSettings,
    RuleName,
    Severity,
)
from restill.settings.judging import GateSettings, LatencySettings
from restill.settings.learning import DistillationSettings, StudentSettings
from restill.settings.running import LogSettings, MetricsSettings, RunSettings
from restill.settings.serving import ServingSettings
from restill.settings.stack import StackSettings
from restill.settings.stores import RegistrySettings, StorageSettings
from restill.settings.teaching import ScoringSettings, TeacherSettings
from restill.settings.telling import ApprovalSettings, NotificationSettings

__all__ = [
    "ApprovalSettings",
    "BatchRuleSettings",
    "ColumnSettings",
    "DataSettings",
    "DistillationSettings",
    "FormatSettings",
    "GateSettings",
    "GitSettings",
    "LatencySettings",
    "LogSettings",
    "MetricsSettings",
    "NotificationSettings",
    "RegistrySettings",
    "RowRuleSettings",
    "RuleName",
    "RunSettings",
    "ScoringSettings",
    "ServingSettings",
    "Settings",
    "Severity",
    "StackSettings",
    "StorageSettings",
    "StudentSettings",
    "TeacherSettings",
    "find_root",
    "load_settings",
]

CONFIG_FILE = "restill.toml"


class Settings(BaseSettings):
    """The whole configuration of one project folder."""

    model_config = SettingsConfigDict(
        env_prefix="RESTILL_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    root: Path = Field(default_factory=Path.cwd, description="Project folder: holds restill.toml, data.dvc and data/.")
    data: DataSettings = DataSettings()
    teacher: TeacherSettings = TeacherSettings()
    scoring: ScoringSettings = ScoringSettings()
    student: StudentSettings = StudentSettings()
    distillation: DistillationSettings = DistillationSettings()
    latency: LatencySettings = LatencySettings()
    gates: GateSettings = GateSettings()
    registry: RegistrySettings = RegistrySettings()
    storage: StorageSettings = StorageSettings()
    serving: ServingSettings = ServingSettings()
    stack: StackSettings = StackSettings()
    run: RunSettings = RunSettings()
    logs: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    approval: ApprovalSettings = ApprovalSettings()
    notifications: NotificationSettings = NotificationSettings()

    @property
    def state_dir(self) -> Path:
        """Return the folder for what this machine keeps: embedded server, caches, checkpoints, reports."""
        return self.root / ".restill"

    @property
    def sample_dir(self) -> Path:
        """Return the folder that sample files are written to: the incoming one, if it is on this machine."""
        is_elsewhere = self.data.incoming.startswith("s3://")
        return self.state_dir / "sample" if is_elsewhere else self.root / self.data.incoming

    @property
    def digest_cache(self) -> Path:
        """Return the file that remembers digests of large local files."""
        return self.state_dir / "cache" / "digests.json"

    @property
    def logits_cache(self) -> Path:
        """Return the local mirror of the teacher scores."""
        return self.state_dir / "cache" / "logits"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then environment, then the project's restill.toml."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, find_root() / CONFIG_FILE)


def find_root() -> Path:
    """Return `RESTILL_ROOT`, else the nearest folder upward that holds restill.toml, else the current folder."""
    if named := os.environ.get("RESTILL_ROOT"):
        return Path(named).resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / CONFIG_FILE).is_file()), here)


def load_settings() -> Settings:
    """Read the configuration of the project around the current folder.

    Raises: ConfigurationError naming each wrong key or value and where it belongs.
    """
    try:
        settings = Settings(root=find_root())
        return _from_root(settings)
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigurationError(
            f"The configuration is not valid: {'; '.join(lines)}.",
            hint=f"Correct {find_root() / CONFIG_FILE} or the RESTILL_… variable. All keys: restill config show.",
        ) from error
    except ValueError as error:  # tomllib's own error: the file is not TOML
        raise ConfigurationError(f"{find_root() / CONFIG_FILE} is not valid TOML: {error}.") from error


def _from_root(settings: Settings) -> Settings:
    """Make paths relative to the project, wherever the command is called."""
    root, teacher, registry = settings.root, settings.teacher, settings.registry
    if teacher.path is not None:
        teacher = teacher.model_copy(update={"path": root / teacher.path})
    if registry.signing_key is not None:
        registry = registry.model_copy(update={"signing_key": root / registry.signing_key})
    if registry.trusted_keys:
        registry = registry.model_copy(update={"trusted_keys": tuple(root / path for path in registry.trusted_keys)})
    stack = settings.stack
    if stack.deployments is not None:
        stack = stack.model_copy(update={"deployments": root / stack.deployments})
    return settings.model_copy(update={"teacher": teacher, "registry": registry, "stack": stack})
