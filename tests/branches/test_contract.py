"""Every branch on every method: losses, gradients where they belong, state, refusals, bf16, a compiled encoder.

Alone: pytest tests/branches/test_contract.py
"""

import io

import pytest
import torch
from torch import nn

from probekit.branches.base import Branch, attach, branches_of, needs_masks
from probekit.branches.lcr import LCR
from probekit.branches.lewel import LEWEL
from probekit.branches.xcorr import XCorr
from probekit.methods.base import Method
from probekit.methods.momentum import MomentumMethod
from probekit.models.encoder import Features
from probekit.registry import BRANCHES, METHODS, VARIANTS, branch_named, get
from probekit.restore.build import build_method
from probekit.settings import method_options
from probekit.train.health import OWN_LOSS
from tests.branches.attached import configured, epoch, forward, only, step_of

NAMES = [*BRANCHES, *VARIANTS]
KINDS: dict[str, type[Branch]] = {name: get(BRANCHES, "branch", branch_named(name)[0]) for name in NAMES}
POOLS = [name for name in NAMES if KINDS[name].pool is not Branch.pool]
LOSSES = [name for name in NAMES if KINDS[name].loss is not Branch.loss]
WITHOUT = [name for name in NAMES if name not in LOSSES]
ATTACHED = [(m, b) for m in METHODS for b in LOSSES if KINDS[b].needs <= get(METHODS, "method", m).provides]


def kinds(method: Method) -> dict[str, set[str]]:
    """Names of parameters: of the target network, the encoder, the branches and the heads."""
    named: dict[str, set[str]] = {"target": set(), "encoder": set(), "branches": set(), "heads": set()}
    for name, _ in method.named_parameters():
        part = name.split(".")[0]
        named[part if part in named else "heads"].add(name)
    return named


def with_gradient(method: Method) -> set[str]:
    return {name for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "branch"), ATTACHED)
def test_losses_are_finite_and_gradients_are_where_they_belong(name: str, branch: str) -> None:
    step = step_of(configured(name, branch))
    method, attached = step.method, only(step.method)
    names = kinds(method)
    own = {n.removeprefix(f"branches.{attached.name}.") for n in names["branches"]}
    batch = forward(step)
    loss = attached.loss(batch)
    assert (loss.shape, loss.dtype) == ((), torch.float32)
    assert torch.isfinite(loss)
    assert loss > 0
    assert all(not v.requires_grad and torch.isfinite(v) for v in attached.logs.values())

    loss.backward(retain_graph=True)
    learning = {"compact.weight", "compact.bias"} if isinstance(attached, LCR) else set()
    fitted = {f"branches.{attached.name}.{n}" for n in own - learning}
    found = with_gradient(method)
    # All of the encoder but its attention pooling, which the map does not pass.
    reached = {n for n in names["encoder"] if not n.startswith("encoder.pooling")}
    used = {id(p) for head in attached.uses for p in head.parameters()}
    coupled = {n for n, p in method.named_parameters() if id(p) in used}
    assert bool(coupled) == isinstance(attached, LEWEL), "the projection says where to pool"
    assert found == fitted | reached | coupled, "and no other head, no target"
    total = sum(float(p.grad.abs().sum()) for n, p in method.named_parameters() if n in fitted and p.grad is not None)
    assert (total > 0) == bool(fitted)

    method.zero_grad(set_to_none=True)
    step._gradients(torch.arange(8), step.images[:8])
    pools = isinstance(attached, LCR) and attached.train_pool != "encoder"
    trained = reached if pools else names["encoder"]  # the branch pools in the encoder's place
    if attached.weight or pools:  # all of it but a branch that is neither fitted nor pools
        trained = trained | names["branches"]
    assert with_gradient(method) == trained | names["heads"]
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in method.parameters())
    if isinstance(method, MomentumMethod):
        assert names["target"]


@pytest.mark.parametrize("branch", WITHOUT)
@pytest.mark.parametrize("name", METHODS)
def test_a_branch_without_a_loss_leaves_loss_and_gradients_to_the_method(name: str, branch: str) -> None:
    step = step_of(configured(name, branch))
    assert not only(step.method).resting
    loss, made = step._gradients(torch.arange(8), step.images[:8])
    assert torch.equal(loss, made.loss)
    names = kinds(step.method)
    assert with_gradient(step.method) == names["encoder"] | names["heads"]
    step(torch.arange(8), step.images[:8])
    assert not [logged for logged in step.names if logged.startswith((branch, OWN_LOSS))]


POOLING = ["lcr-dual-pooling", "lcr-sam-bilinear", "lcr-bilinear"]


@pytest.mark.parametrize("branch", POOLING)
@pytest.mark.parametrize("name", ["moco-v2", "byol", "dino"])
def test_a_target_network_pools_through_a_copy_of_the_branch_that_follows(name: str, branch: str) -> None:
    step = step_of(configured(name, branch, method__momentum=0.75))
    method, views = step.method, torch.rand(6, 1, 32, 32)
    assert isinstance(method, MomentumMethod)
    copies = method.target["branches"]
    assert isinstance(copies, nn.ModuleDict)
    copy, online = copies["lcr"], only(method)
    assert isinstance(copy, LCR)
    assert not [p for p in copy.parameters() if p.requires_grad]
    torch.testing.assert_close(method.encode_target(views).pooled, method.encode(views).pooled)  # both begin alike
    expected = {key: p.detach().clone() for key, p in copy.named_parameters()}
    for batch in torch.arange(24).view(3, 8):
        tau = float(method.tau())
        step(batch, step.images[batch])
        for key, p in online.named_parameters():
            expected[key] = tau * expected[key] + (1 - tau) * p.detach()
    torch.testing.assert_close(dict(copy.named_parameters()), expected)
    assert not torch.equal(copy.filters.weight, online.filters.weight)
    feature_map = method.target["encoder"](views).map
    a = torch.einsum("kd,ndhw->nkhw", copy.filters.weight.flatten(1), feature_map)
    if branch == "lcr-dual-pooling":
        a = a.amax(1)
        a = (a - a.amin((1, 2), keepdim=True)) / (a.amax((1, 2), keepdim=True) - a.amin((1, 2), keepdim=True))
        pooled = torch.einsum("nhw,ndhw->nd", a / a.sum((1, 2), keepdim=True), feature_map)
    else:
        assert copy.compact is not None
        pooled = copy.compact(torch.einsum("nkhw,ndhw->nkdhw", a.relu(), feature_map).mean((3, 4)).flatten(1))
    torch.testing.assert_close(method.encode_target(views).pooled, pooled)
    assert list(method.kept_branches) == [copy if method.kept == "target.encoder" else online]


def test_a_target_network_copies_no_branch_that_leaves_its_features_alone() -> None:
    method = build_method(configured("moco-v2", "lcr", "xcorr", method__keep="target"), channels=1)
    assert isinstance(method, MomentumMethod)
    assert not list(method.target["branches"].children())
    assert [branch.name for branch in method.kept_branches] == ["lcr", "xcorr"]


@pytest.mark.parametrize("name", ["simclr", "moco-v2", "swav"])
def test_a_cut_branch_leaves_the_encoder_to_the_method(name: str) -> None:
    step = step_of(configured(name, "lcr", branch__lcr__cut=True))
    only(step.method).loss(forward(step)).backward()
    assert with_gradient(step.method) == {"branches.lcr.filters.weight"}


@pytest.mark.parametrize("name", [name for name in METHODS if name != "reconstruction"])
def test_a_step_trains_method_and_both_branches(name: str) -> None:
    """In bf16: finite, and every parameter that is trained moves."""
    step = step_of(configured(name, "lcr", "xcorr", train__precision="bf16"))
    before = {n: p.detach().clone() for n, p in step.method.named_parameters()}
    scalars = step(torch.arange(8), step.images[:8])
    assert torch.isfinite(scalars).all()
    assert {"lcr kl", "lcr no target", "xcorr mu", "xcorr cls", "xcorr accuracy"} <= set(step.names)
    moved = {n for n, p in step.method.named_parameters() if not torch.equal(p, before[n])}
    names = kinds(step.method)
    assert {n for n in names["branches"] if n.endswith("weight")} <= moved
    assert len(moved & names["encoder"]) > 0.8 * len(names["encoder"])


@pytest.mark.parametrize("branch", [name for name in BRANCHES if "embedding_loss" in KINDS[name].needs])
def test_a_method_without_a_loss_of_the_embedding_is_refused_by_name(branch: str) -> None:
    settings = {"reconstruction": {}, "conrec": {"method__contrastive": 0.0}}
    for name, options in settings.items():
        with pytest.raises(ValueError, match=f"a loss of the embedding for branch '{branch}', found ") as error:
            build_method(configured(name, branch, **options), channels=1)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("branch", [name for name in BRANCHES if "map" in KINDS[name].needs])
def test_an_encoder_without_a_map_is_refused_by_name(branch: str) -> None:
    method = build_method(configured("simclr"), channels=1)
    method.encoder.has_map = False
    with pytest.raises(ValueError, match=f"a feature map for branch '{branch}', found "):
        attach(method, get(BRANCHES, "branch", branch)(method.encoder, **method_options(get(BRANCHES, "", branch))))


@pytest.mark.parametrize("branch", BRANCHES)
def test_what_a_branch_says_of_itself(branch: str) -> None:
    kind = KINDS[branch]
    assert kind.name == branch
    assert kind.about
    assert kind.paper
    assert kind.__doc__
    assert "\n" not in kind.about
    assert ("weight" in method_options(kind)) == (branch in LOSSES)


@pytest.mark.parametrize("branch", NAMES)
@pytest.mark.parametrize("name", ["conrec", "moco-v2", "dino"])
def test_state_survives_a_file(name: str, branch: str) -> None:
    step = step_of(configured(name, branch))
    step(torch.arange(8), step.images[:8])
    file = io.BytesIO()
    torch.save(step.method.state_dict(), file)
    file.seek(0)
    other = build_method(configured(name, branch), channels=1)
    other.load_state_dict(torch.load(file, weights_only=True))
    image = torch.rand(2, 1, 32, 32)
    step.method.eval(), other.eval()
    mine, theirs = only(step.method), only(other)
    kept = [key for key in step.method.state_dict() if key.startswith(f"branches.{mine.name}.")]
    if needs_masks(KINDS[branch]):  # which the dataset has
        assert not kept
        theirs.take_masks(lambda name: mine.masks)
    else:
        assert kept
    assert mine.resting == theirs.resting
    torch.testing.assert_close(dict(theirs.named_buffers()), dict(mine.named_buffers()), rtol=0, atol=0)
    if branch in POOLS:
        a, b = mine.pool(step.method.encode(image)), theirs.pool(other.encode(image))
        assert torch.equal(a, b)


@pytest.mark.parametrize("branch", POOLS)
def test_a_map_is_at_least_0_and_weighs_the_embedding(branch: str) -> None:
    method = build_method(configured("simclr", branch), channels=1).eval()
    features: Features = method.encoder(torch.rand(3, 1, 32, 32))
    weights, pooled = only(method).maps(features), only(method).pool(features)
    assert weights.shape == (3, *features.map.shape[2:])
    assert weights.min() >= 0
    share = weights / weights.sum((1, 2), keepdim=True)
    torch.testing.assert_close(pooled, (features.map * share[:, None]).sum((2, 3)))


def test_a_method_begins_with_a_branch_as_without_it() -> None:
    for name in ("conrec", "moco-v2"):
        alone = build_method(configured(name), channels=1).state_dict()
        with_both = build_method(configured(name, "lcr", "xcorr"), channels=1).state_dict()
        assert all(torch.equal(with_both[key], value) for key, value in alone.items())
        other = build_method(configured(name, "xcorr"), channels=1).state_dict()
        assert torch.equal(other["branches.xcorr.attention.weight"], with_both["branches.xcorr.attention.weight"])


def test_a_compiled_backbone_gives_the_eager_losses_and_gradients() -> None:
    """Within 1e-4 of the largest: compiled kernels may sum in another order.

    The pooling stays outside: LCR asks for the gradient of the loss in the map, between the two.
    """
    try:
        torch.compile(nn.Linear(2, 2), backend="aot_eager")(torch.ones(1, 2))
    except Exception as error:
        pytest.skip(f"this torch cannot compile here: {error}")
    found = []
    for compiled in (False, True):
        step = step_of(configured("conrec", "lcr", "xcorr"))
        if compiled:
            step.method.encoder.backbone.compile(backend="aot_eager")
        torch.manual_seed(3)
        loss, batch = step._gradients(torch.arange(8), step.images[:8])
        own = {n: p.grad for n, p in step.method.named_parameters() if p.grad is not None}
        found.append((loss, batch.logs, own))
    (eager, logs, gradients), (loss, their_logs, theirs) = found
    torch.testing.assert_close(loss, eager, rtol=1e-4, atol=1e-5)
    assert logs.keys() == their_logs.keys()
    torch.testing.assert_close(their_logs, logs, rtol=1e-3, atol=1e-4)
    assert gradients.keys() == theirs.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(theirs[key], gradient, rtol=0, atol=1e-4 * float(gradient.abs().max()) + 1e-6)


def test_together_both_learn() -> None:
    """Their own losses fall over 60 steps; clusters are the two textures, and the classifier tells them apart.

    With more weight on the mask than in the paper: else the classifier decides where the attention lies.
    """
    own = {"branch__xcorr__clusters": 2, "branch__xcorr__mu": 5.0, "branch__xcorr__cls": 0.1}
    step = step_of(configured("simclr", "lcr", "xcorr", branch__lcr__weight=1.0, optimizer__lr=2e-3, **own))
    xcorr = step.method.branches["xcorr"]
    assert isinstance(xcorr, XCorr)
    textures = torch.arange(len(step.images)) % 2
    xcorr.centroids = torch.eye(2)
    xcorr.begin_epoch(epoch(lambda: torch.eye(2)[textures] + 0.01))
    assert torch.equal(xcorr.labels, textures)
    table = torch.stack([step(i, step.images[i]) for i in torch.arange(24).view(3, 8).repeat(20, 1)])
    columns = dict(zip(step.names, table.T, strict=True))
    losses = {"lcr": columns["lcr kl"], "xcorr": 5 * columns["xcorr mu"] + 0.1 * columns["xcorr cls"]}
    for branch, loss in losses.items():
        assert loss[-12:].mean() < 0.85 * loss[:12].mean(), branch
    assert columns["xcorr accuracy"][-12:].mean() > 0.6


def test_both_branches_see_the_same_map_and_keep_their_own_losses() -> None:
    """Attached together each has the loss that it has alone: neither changes what the other is given."""
    losses: dict[tuple[str, ...], dict[str, float]] = {}
    for names in (("lcr",), ("xcorr",), ("lcr", "xcorr")):
        step = step_of(configured("simsiam", *names))
        batch = forward(step)
        losses[names] = {b.name: float(b.loss(batch).detach()) for b in branches_of(step.method)}
    assert losses["lcr", "xcorr"] == losses["lcr",] | losses["xcorr",]
