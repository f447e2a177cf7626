"""Says the measured numbers while training goes on; the demo's audience has no plot to look at."""

from lightning.pytorch import Callback, LightningModule, Trainer


class AnnounceMeasures(Callback):
    """Prints ``val/...`` measures of samples, one line after each validation, above the progress bar."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints what the measuring callbacks have just logged."""
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
