"""The only training loop. It knows `Method` and `Branch`, and no concrete one of either."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn

from probekit import ranks
from probekit.branches.base import Epoch, active_branches
from probekit.config import Config
from probekit.data.split import DeviceSplit, Images, StreamedImages
from probekit.device import more_room, told
from probekit.methods.base import Method
from probekit.models.encoder import Encoder, Features, save_encoder
from probekit.models.extract import eval_mode, read_all, read_shared
from probekit.output.console import stop_on_signals
from probekit.restore.build import restore_rng, rng_state, save_checkpoint, stream_seed
from probekit.run import Run
from probekit.train.evaluate import Monitor, Projecting
from probekit.train.health import RANK, CollapseError, complaints
from probekit.train.live import Display
from probekit.train.optim import Schedule, rates_on_device, scaled_rate, set_rates
from probekit.train.pace import READ_AFTER, Pace
from probekit.train.progress import NonFiniteLossError, Progress
from probekit.train.step import RecordedStep, build_step, fastest_step
from probekit.visible import one_line

WAITS = 0.1  # of the time, from which waiting for images is worth a line; ours


class Trainer:
    """Trains a method on a split.

    `fail_on_collapse`: whether to stop, with everything saved, when the embeddings of all images are alike. `method`:
    on the device, branches attached; `header`: for the encoder's file: what the reader must know beside the
    architecture.
    """

    def __init__(
        self,
        *,
        config: Config,
        method: Method,
        run: Run,
        train: DeviceSplit,
        monitor: Monitor,
        header: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self.config, self.method, self.run = config, method, run
        self.train, self.monitor, self.header = train, monitor, header
        self.device = train.images.device
        self.batches = len(train) // config.train.batch_size  # the rest is dropped, as in the authors' code
        assert self.batches > 0
        self._seed_dropout()
        labels = train.split.labels
        self.labels = torch.from_numpy(labels).to(self.device) if labels is not None and labels.ndim == 1 else None
        method.plan(batches=self.batches, epochs=config.train.epochs)
        self.eager_step = build_step(config, method, train.images, train.split.labels)
        self.optimizer, self.generator = self.eager_step.optimizer, self.eager_step.generator
        self.step = fastest_step(self.eager_step, say)
        settings = config.optimizer
        self.schedule = Schedule(
            peak=scaled_rate(settings.lr, scaling=settings.scaling, batch_size=config.train.batch_size),
            name=settings.schedule,
            warmup=settings.warmup_epochs * self.batches,
            total=config.train.epochs * self.batches,
            final=settings.final,
            first=settings.first,
        )
        self.progress = Progress()
        self.buffer: list[Tensor] = []
        self.pace = Pace()
        self.say, self.said_waiting = say, False
        self.fail_on_collapse, self.said = False, set[str]()

    @property
    def encoder(self) -> Encoder:
        """What is scored and kept."""
        return cast(Encoder, self.method.get_submodule(self.method.kept))

    @property
    def monitored(self) -> nn.Module:
        """What the monitor scores: the encoder, or what the loss compares of it."""
        if self.config.train.monitored == "embedding":
            return self.encoder
        assert self.method.projection is not None  # `build_method` has refused it
        return Projecting(self.encoder, self.method.projection)

    @property
    def step_count(self) -> int:
        """Steps done."""
        return self.progress.epoch * self.batches + self.progress.batch

    def fit(self, display: Display) -> bool:
        """Trains to the last epoch.

        Returns False if a signal stopped it; everything is saved either way. A NonFiniteLossError if the loss is no
        longer a number; the last good checkpoint stands.
        """
        with stop_on_signals(passed_on=ranks.size() > 1) as stopped:
            while self.progress.epoch < self.config.train.epochs:
                if not self._train_epoch(display, stopped):
                    self.save()
                    return False
                self._finish_epoch(display)
        return True

    def _train_epoch(self, display: Display, stopped: list[int]) -> bool:
        self.method.train()
        if self.progress.batch == 0:  # a resumed epoch has begun already; what it began is in the checkpoint
            self._begin_epoch()
        if isinstance(self.train.images, StreamedImages):
            self.train.images.waited = 0.0  # the monitor and what began the epoch have read them too
        size = self.config.train.batch_size
        started, first = time.monotonic(), self.progress.batch
        order = list(map(ranks.mine, torch.split(self._order(), size)[first : self.batches]))
        given = self.eager_step.feed(order, epoch=self.progress.epoch, first=first)
        for batch, (index, images) in enumerate(given, first):
            self.advance(index, images)
            self.progress.batch = batch + 1
            due = self.pace.due(len(self.buffer), stopped, last=batch + 1 == self.batches)
            if due.stop or due.read:
                self._read_buffer()
            if due.stop:
                return False
            if due.read:
                done = (batch + 1 - first) * size
                display.progress(
                    epochs_done=self.step_count / self.batches,
                    means={k: v / self.progress.batch for k, v in self.progress.sums.items()},
                    rate=done / (time.monotonic() - started),
                    lr=self.schedule.at(self.step_count - 1),
                )
                self._say_if_waiting(time.monotonic() - started)
            if due.save:
                self.save()
        return True

    def _begin_epoch(self) -> None:
        images, settings, room = self.train.images, self.config.train, more_room(self.config.train.batch_size)
        epoch = Epoch(
            done=self.progress.epoch,
            of=settings.epochs,
            embed=self._project_all,
            read=lambda read: read_shared(
                images, lambda own: read_all(self.method.encoder, own, read, precision=settings.precision)
            ),
            size=(images.shape[-2], images.shape[-1]),
            labels=self.labels,
            say=self.say,
        )
        for branch in active_branches(self.method):
            with told(f"the features of all images, which {branch.name} reads,", self.device, room):
                found = branch.begin_epoch(epoch)
            self.progress.begun |= {f"{branch.name} {name}": value for name, value in found.items()}

    def advance(self, index: Tensor, images: Tensor) -> None:
        """Makes one step on `index` `[B]` and what is given of its images; its scalars wait on the device."""
        set_rates(self.optimizer, self.schedule, self.step_count)
        self.buffer.append(self.step(index, images))

    def _say_if_waiting(self, elapsed: float) -> None:
        """Once, if the images come more slowly than the steps take them."""
        images = self.train.images
        if self.said_waiting or not isinstance(images, StreamedImages):
            return
        share = images.waited / elapsed
        if share > WAITS and elapsed > READ_AFTER:
            self.said_waiting = True
            self.say(
                f"the images come more slowly than the steps take them: {share:.0%} of the time is spent waiting for "
                f"them. They are read from the {self.train.placement}; more cores, or smaller images, would help"
            )

    def _finish_epoch(self, display: Display) -> None:
        done, step = self.progress, self.step_count
        done.epoch, done.batch = done.epoch + 1, 0
        line: dict[str, Any] = {"epoch": done.epoch, "step": step}
        line |= {name: total / self.batches for name, total in done.sums.items()}
        line |= done.begun
        line["lr"] = self.schedule.at(step - 1)  # not what `advance` set: a run may resume when all steps are done
        done.sums, done.begun = {}, {}
        last = done.epoch == self.config.train.epochs
        # After epochs 1, 21, 41, ... as in the authors' code, and after the last, which they never score.
        due = last or (done.epoch - 1) % self.config.train.eval_every == 0
        scores, best = self._evaluate() if due else ({}, [])
        line |= scores
        ranks.from_first(lambda: self.run.append_metrics(line))
        display.epoch(line, scored=due)
        found = complaints(line, self.method, epochs=self.config.train.epochs)
        for kind, text in found.items():
            if kind not in self.said:
                self.say(f"warning: {text}")
        self.said |= found.keys()
        keep = self.config.train.keep_every
        if keep and (last or done.epoch % keep == 0):  # before the checkpoint from which a killed run goes on
            ranks.from_first(lambda: save_encoder(self.run.kept(done.epoch), self.encoder, self._encoder_info()))
        if due:
            self.save(*best)
        if self.fail_on_collapse and "collapse" in found:
            if not due:
                self.save()
            raise CollapseError(f"{found['collapse']}. All is saved, and --fail-on-collapse was typed")

    def _evaluate(self) -> tuple[dict[str, float], list[str]]:
        """The scores, and the names of the checkpoints that this is the best epoch for."""
        self._check_weights()  # before the monitor, whose complaint about features would not say what to try
        with told("the embeddings that are scored", self.device, more_room(self.config.train.batch_size)):
            scores = self.monitor.score(self.monitored)
        accuracies = {"val": scores.val, "test": scores.test}
        found = {name: value for name, value in accuracies.items() if value is not None}
        better: dict[str, float] = {}
        for name, value in found.items():
            best = f"best_{name}"
            if value >= self.progress.best.get(best, -math.inf):  # ties: the later one, as the paper
                better[best] = value
        self.progress.best |= better
        return found | ({} if scores.rank is None else {RANK: scores.rank}), list(better)

    def save(self, *best: str) -> None:
        """Writes these checkpoints and `last`, the encoder's own file, and into run.json whether the step is recorded.

        A NonFiniteLossError if a weight is no longer a number, which the last loss did not show.
        """
        self._check_weights()
        states = ranks.collected(rng_state(self.device, self.generator))

        def write() -> None:
            # `last` comes last: a killed run goes on from it, and writes no best one again.
            self._write([*best, "last"], states)
            save_encoder(self.run.encoder, self.encoder, self._encoder_info())
            self.run.update(recorded=isinstance(self.step, RecordedStep) and self.step.graph is not None)

        ranks.from_first(write)
        self.pace.saved_at = time.monotonic()

    def _check_weights(self) -> None:
        if not all(bool(torch.isfinite(p).all()) for p in self.method.parameters()):
            raise NonFiniteLossError(
                f"expected finite weights, found others after step {self.step_count}; {self._try()}"
            )

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts the run back to where a checkpoint left it, bit for bit.

        A ValueError if the checkpoint is of the other kind of device, or holds another state than this run's.
        """
        try:
            self._restore(saved)
        except (TypeError, RuntimeError, LookupError, AttributeError) as error:
            found = one_line(error)[:200]
            raise ValueError(f"expected the state of {self.run.name} in its checkpoint, found: {found}") from error
        if ranks.is_first():
            self.run.keep_metrics(self.progress.epoch)
            # A kill may have come between the writing of the checkpoint and of the encoder.
            save_encoder(self.run.encoder, self.encoder, self._encoder_info())

    def _restore(self, saved: dict[str, Any]) -> None:
        self.method.load_state_dict(saved["method"])
        self.optimizer.load_state_dict(saved["optimizer"])
        rates_on_device(self.optimizer, self.device)
        states = [saved["rng"], *saved.get("other_ranks", [])]
        same = len(states) == ranks.size()
        restore_rng(states[ranks.rank() if same else 0], self.device, self.generator)
        progress = Progress(**saved["progress"])
        wrong = [name for name, value in asdict(progress).items() if type(value) is not type(getattr(Progress(), name))]
        if wrong or (progress.batch and "loss" not in progress.sums):
            raise TypeError(f"no {', '.join(wrong) or 'sum of losses'}")
        self.progress = progress
        if not same:  # as many streams of their own as there are processes now
            self._seed_dropout(self.step_count)

    def _write(self, names: Sequence[str], states: Sequence[dict[str, Any]]) -> None:
        content: dict[str, Any] = {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": states[0],
            **({"other_ranks": list(states[1:])} if states[1:] else {}),
            "progress": asdict(self.progress),
            "encoder_header": {"spec": self.encoder.spec, "kept": self.method.kept, **self._encoder_info()},
        }
        save_checkpoint([self.run.checkpoints / f"{name}.pt" for name in names], content)

    def _encoder_info(self) -> dict[str, Any]:
        return {**self.header, "epoch": self.progress.epoch}

    def _seed_dropout(self, *begun: int) -> None:
        """Dropout draws from the global state, which checkpoints keep; each of several processes drops others."""
        own: list[int] = [ranks.rank()] if ranks.rank() else []
        torch.manual_seed(stream_seed(self.config.seed, "dropout", *own, *begun))

    def _order(self) -> Tensor:
        """This epoch's order of the images: a function of (seed, epoch), so that resuming needs no state."""
        shuffle = torch.Generator().manual_seed(stream_seed(self.config.seed, "order", self.progress.epoch))
        return torch.randperm(len(self.train), generator=shuffle)

    def _read_buffer(self) -> None:
        self.pace.read_at = time.monotonic()
        if not self.buffer:
            return
        # Not `averaged`: the last bits of a mean would depend on how many steps are read at once.
        table = ranks.gathered(torch.stack(self.buffer)[None]).mean(0)
        first = self.step_count - len(self.buffer)
        self.buffer = []
        self.progress.add(self.eager_step.names, table.tolist(), first, self._try())

    def _try(self) -> str:
        return f"try --set optimizer.lr={self.config.optimizer.lr / 10:g} or --precision fp32"

    @torch.no_grad()
    def _project_all(self, view: int | None = None) -> Tensor:
        """The projections of all images, `[N, P]`, in eval mode, without augmentation; as large as views are.

        Float32, of a pass in the run's precision: nothing is measured here. `view`: the number of a random view of each
        image, which is projected in its place; the draws have a stream of their own.
        """
        project = self.method.projection or nn.Identity()
        size: int | None = self.config.views.max_size
        encode: Callable[[Tensor], Features] = self.encoder
        images = self.train.images
        if view is not None:
            seed = stream_seed(self.config.seed, "bank", self.progress.epoch, view)
            generator = torch.Generator(self.device).manual_seed(seed)
            encode, size = (lambda x: self.encoder(self.eager_step.first_views(x, generator))), None
            images = self.eager_step.first_crops(seed)

        def read(images: Images) -> Tensor:
            # Batch by batch, as embeddings may be longer than projections.
            projected = lambda features: project(features.pooled.float()).float()  # noqa: E731
            return read_all(encode, images, projected, max_size=size, precision=self.config.train.precision)

        with eval_mode(self.method):  # each process draws the views of all images, as one would
            found = read_shared(images, read) if view is None else read(images)
        return found.to(self.device)
