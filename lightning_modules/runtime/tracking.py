"""Records a run in a folder and in Weights & Biases.

``Tracking`` always keeps a run's curves and hyperparameters under ``runs/<name>/`` (callbacks that render samples
write their PNG files there too), and sends the same to Weights & Biases: online if there is a key and a network,
else as an offline run that ``wandb sync`` uploads later. It never prompts, and waits for the server at most twenty
seconds.
"""

import json
import os
import shutil
from argparse import Namespace
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from lightning_modules.parts.files import replace_file
from lightning_modules.runtime.metrics_table import MetricsTable
from lightning_modules.runtime.resuming import CLI_KEYS
from lightning_modules.runtime.run_folder import HYPERPARAMETERS, TABLE, set_aside

INIT_TIMEOUT_SECONDS = 20


class Tracking(Logger):
    """Writes a run to ``<save_dir>/<name>/`` and to Weights & Biases.

    The folder holds ``metrics.csv`` (one row per log call), ``hyperparameters.json``, ``wandb/`` and, by
    Lightning's default, ``checkpoints/`` and the images of callbacks. A resumed run continues the same files, from the
    batch of its checkpoint on, and the same W&B run. A new run of the same name first moves the earlier run into a
    folder ``earlier-1`` inside, so that the plain names are those of the newest.

    Successive runs in one process are separate: opening a run closes the previous one.

    Args:
        name: Name of the run and of its folder.
        project: The W&B project.
        save_dir: Folder that holds the folders of runs.
        mode: ``"online"`` (falls back to offline), ``"offline"``, or ``"disabled"`` for no W&B at all.
            The environment variable ``WANDB_MODE`` has precedence.
        log_checkpoint: Also upload the checkpoints to W&B, as artifacts, when the run ends.
        id: W&B's id of a run to continue; resuming from a checkpoint sets it to the id in the checkpoint.

    Raises:
        ValueError: If ``mode`` is unknown or ``name`` is not a plain folder name.

    Example:
        >>> trainer = Trainer(logger=Tracking("wgan_gp.ring8"))                     # doctest: +SKIP
    """

    _open_one: ClassVar["Tracking | None"] = None

    def __init__(
        self,
        name: str,
        project: str = "generative-zoo",
        save_dir: str = "runs",
        mode: Literal["online", "offline", "disabled"] = "online",
        log_checkpoint: bool = False,
        id: str | None = None,
    ) -> None:
        super().__init__()
        if mode not in ("online", "offline", "disabled"):
            raise ValueError(f"mode={mode!r} must be 'online', 'offline' or 'disabled'.")
        if name in ("", "..") or name != Path(name).name:
            raise ValueError(f"name={name!r} names the run's folder: it must be a name without separators.")
        self.project = project
        self.mode = mode
        self.log_checkpoint = log_checkpoint
        self.run_id = id
        self._run_name = name
        self._folder = Path(save_dir) / name
        self._config: dict[str, Any] = {}
        self._resumed = False
        self._batches: int | None = None
        self._resumed_from: Path | None = None
        self._table: MetricsTable | None = None
        self._wandb: WandbLogger | None = None

    @property
    def name(self) -> str:
        """Empty: Lightning appends it to ``save_dir``, which is the run's folder already."""
        return ""

    @property
    def version(self) -> str:
        """Empty, for the same reason; W&B's id is ``run_id``."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._folder)

    @property
    def log_dir(self) -> str:
        """The run's folder."""
        return str(self._folder)

    @property
    def wandb(self) -> WandbLogger | None:
        """Lightning's W&B logger of this run; ``None`` where W&B is disabled or before the first record.

        It is opened with the first record, when the id of the run in a resumed checkpoint is known. It is not
        called ``experiment``, because Lightning would access it, and so open it, too early.
        """
        return self._wandb

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Records hyperparameters, nested ones under names with dots; may be called before training."""
        self._config.update(flatten(vars(params) if isinstance(params, Namespace) else params))
        if self._table is not None:
            self._write_config()

    @rank_zero_only
    def save(self) -> None:
        """Opens the run if it is not open; Lightning calls this after reading a checkpoint to resume from."""
        self._open()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Records scalars; ``step`` counts batches."""
        self._open().append({"step": step, **metrics})
        if self._wandb is not None:
            self._wandb.log_metrics(metrics, step)

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, caption: list[str] | None = None) -> None:
        """Sends images to W&B.

        Args:
            key: Name of the panel, ``"samples"``.
            images: PIL images, or anything else that ``wandb.Image`` takes.
            step: Batches trained so far.
            caption: One line per image.
        """
        self._open()
        if self._wandb is not None:
            captions = {} if caption is None else {"caption": caption}
            self._wandb.log_image(key, images, step, **captions)

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Notes checkpoints that will be uploaded as artifacts."""
        if self._wandb is not None:
            self._wandb.after_save_checkpoint(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Uploads checkpoints to W&B if ``log_checkpoint`` is set; the run stays open for a test after training."""
        if self._wandb is not None:
            self._wandb.finalize(status)

    @rank_zero_only
    def close(self) -> None:
        """Ends the W&B run now; otherwise it ends with the process, or when the next run in the process opens."""
        if self._wandb is not None:
            self._wandb.experiment.finish()
        self._wandb = self._table = None
        self._resumed, self._batches, self._resumed_from = True, None, None  # later records belong to the same run

    def resume(self, run_id: str | None, batches: int | None = None, path: Any = None) -> None:
        """Continues the run that a checkpoint was written by.

        Args:
            run_id: W&B's id of that run; ``None`` if it had none.
            batches: Batches that the checkpoint was trained on: rows of the table after them are removed.
            path: The checkpoint's file; if it is another run's, such as ``earlier-1/checkpoints/last.ckpt``, this run
                continues a copy of its table, and the run that is here is moved aside.
        """
        if self._table is None:
            self._resumed = True
            self._batches = batches
            self._resumed_from = None if path is None else Path(path)
            self.run_id = run_id or self.run_id

    def _open(self) -> "MetricsTable":
        if self._table is None:
            if Tracking._open_one is not None:
                Tracking._open_one.close()
            Tracking._open_one = self
            self._folder.mkdir(parents=True, exist_ok=True)
            other = self._other_run()
            if not self._resumed or other is not None:
                set_aside(self._folder)
            if other is not None:
                shutil.copyfile(other / TABLE, self._folder / TABLE)
            self._table = MetricsTable(self._folder / TABLE, self._batches)
            self._wandb = self._open_wandb()
            if self._wandb is not None:
                self.run_id = self._wandb.version
            self._write_config()
        return self._table

    def _other_run(self) -> Path | None:
        """Returns the folder of the run that is resumed if it is another than this one, such as ``earlier-1``."""
        if self._resumed_from is None:
            return None
        folder = self._resumed_from.resolve().parent.parent  # of <folder>/checkpoints/last.ckpt
        return folder if (folder / TABLE).is_file() and folder != self._folder.resolve() else None

    def _write_config(self) -> None:
        path = self._folder / HYPERPARAMETERS
        replace_file(path, (json.dumps(self._config, indent=2, default=str) + "\n").encode())
        if self._wandb is not None and self._config:
            self._wandb.log_hyperparams(self._config)

    def _open_wandb(self) -> WandbLogger | None:
        mode = os.environ.get("WANDB_MODE", self.mode).replace("dryrun", "offline")
        if mode == "disabled":
            return None
        try:
            from wandb.errors import CommError, UsageError
        except ModuleNotFoundError:
            rank_zero_info(f"wandb is not installed: curves and images are in {self._folder} only.")
            return None

        reason = "as asked"
        if mode == "online" and not has_key():
            mode, reason = "offline", "there is no API key (`wandb login`)"
        if mode == "online":
            try:
                return self._started("online")
            except (UsageError, CommError) as error:
                reason = f"it could not be reached ({str(error).splitlines()[0]})"
        logger = self._started("offline")
        folder = Path(logger.experiment.dir).parent
        rank_zero_info(f"W&B offline, {reason}; `wandb sync {folder}` uploads the run later.")
        return logger

    def _started(self, mode: Literal["online", "offline"]) -> WandbLogger:
        import wandb

        run = wandb.init(
            name=self._run_name,
            project=self.project,
            id=self.run_id,
            resume="allow",
            mode=mode,
            dir=str(self._folder.resolve()),  # W&B's own process writes it, perhaps from another working directory
            settings=wandb.Settings(init_timeout=INIT_TIMEOUT_SECONDS, console="off", silent=True),
        )
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return WandbLogger(experiment=run, save_dir=str(self._folder), log_model=self.log_checkpoint)


def has_key() -> bool:
    """Returns whether W&B finds an API key in the environment or in ``.netrc``.

    Requires wandb. It is checked beforehand, because ``wandb.init`` would prompt for a key on a terminal.
    """
    import wandb

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    # The public server was renamed; wandb still accepts a key stored under its former name.
    public = [wandb.Settings().base_url, "https://api.wandb.ai"]
    servers = [os.environ["WANDB_BASE_URL"]] if "WANDB_BASE_URL" in os.environ else public
    for path in map(Path, [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]):
        try:
            known = netrc(path.expanduser()).hosts
        except (NetrcParseError, OSError):
            continue
        if any(urlsplit(server).netloc in known for server in servers):
            return True
    return False


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns ``{"a": {"b": 1}}`` as ``{"a.b": 1}``; what LightningCLI adds for itself is left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key in CLI_KEYS:
            continue
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
