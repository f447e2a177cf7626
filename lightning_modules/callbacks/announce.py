"""Prints metrics during training, for demos without plots."""

from lightning.pytorch import Callback, LightningModule, Trainer


class AnnounceMetrics(Callback):
    """Prints the ``val/...`` metrics of samples, one line after each validation, above the progress bar."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the metrics that other callbacks have just logged."""
        measured = {
            name.removeprefix("val/"): value.item()
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/") and "-" in name
        }
        if not trainer.is_global_zero or not measured:
            return
        values = ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
        show = trainer.progress_bar_callback.print if trainer.progress_bar_callback else print
        show(f"after {trainer.global_step} batches: {values}")
