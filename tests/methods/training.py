"""Steps of a method with the optimizer of its own rates."""

from probekit.methods.base import Method
from probekit.train.optim import Schedule, build_optimizer, set_rates
from probekit.views.recipes import Views
from tests.methods.batches import noisy_views

BATCHES, EPOCHS = 3, 4


class Training:
    """Steps of a method with the optimizer of its own rates."""

    def __init__(self, method: Method, *, optimizer: str = "sgd", decay: str = "all") -> None:
        self.method = method
        method.plan(batches=BATCHES, epochs=EPOCHS)
        self.optimizer = build_optimizer(
            method, name=optimizer, lr=0.1, momentum=0.9, weight_decay=0.01, decay=decay, rates=method.rates()
        )
        self.schedule = Schedule(peak=0.1, name="cosine", warmup=0, total=BATCHES * EPOCHS)
        self.done = 0

    def step(self, views: Views | None = None) -> float:
        set_rates(self.optimizer, self.schedule, self.done)
        self.optimizer.zero_grad()
        loss = self.method.step(noisy_views(seed=self.done, local=2) if views is None else views).loss
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.method.after_step()
        self.done += 1
        return loss.item()
