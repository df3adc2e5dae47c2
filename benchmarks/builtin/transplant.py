"""A ResNet-18 out of SqueezeNet 1.0 without gradients: every convolution is fitted by ridge regression, from what the student really
sees so far to what the teacher sees there. Each fit starts from the student's own features, so errors do not multiply.

Both networks have one large convolution and then sixteen more: eight fire modules (squeeze, expand) here, eight blocks (two 3x3
convolutions) there. Where the student's grid is coarser than the teacher's, the four phases of the finer map are stacked as channels ("x4"):

| block | middle | out | grid |
| --- | --- | --- | --- |
| conv1 | | 64 of the 96 filters, copied | 112 |
| layer1.0, layer1.1 | squeeze 2, 3, and copies of what came in | 64 of expand 2, 3 | 56 |
| layer2.0 | squeeze 4 x4 | 128 of expand 4, pooled | 28 |
| layer2.1 | squeeze 5, and copies | 128 of expand 5 | 28 |
| layer3.0 | squeeze 6 x4, 16 of expand 6 x4 | squeeze 7 x4, the same of expand 6 x4 | 14 |
| layer3.1 | 64 of expand and squeeze 7 x4 | squeeze 8 x4 | 14 |
| layer4.0 | 128 of expand 8, pooled, x4 | squeeze 9 x4, a first guess of half the result | 7 |
| layer4.1 | 128 of expand and squeeze 9 x4 | expand 9, averaged over the cell | 7 |

Copies of what came in let the second convolution take the skip connection out again.
"""
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from tqdm.auto import tqdm

PLACES = {56: 100, 28: 100, 14: 90, 7: 49}  # places of each picture that a regression uses, by the side of the grid


def channels_last(m):
    "(n, c, h, w) to (n, h, w, c)."
    return m.permute(0, 2, 3, 1).contiguous()


def phases(m):
    "The four phases of a map as channels: (n, h, w, c) to (n, h/2, w/2, 4c)."
    n, h, w, c = m.shape
    return m.reshape(n, h//2, 2, w//2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h//2, w//2, 4*c)


class SqueezeNet:
    "The teacher, padded so that its cells lie where the student's lie: the picture by 5 and 2, the pools by 1."

    def __init__(self, state):
        network = torchvision.models.squeezenet1_0()
        network.load_state_dict(state)
        self.features = network.features.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        for module in list(self.features)[3:]:
            if isinstance(module, nn.MaxPool2d): module.padding, module.ceil_mode = 1, False

    @torch.no_grad()
    def maps(self, x):
        "Pre-activations (n, h, w, c): squeeze2 to 9, expand2 to 9 (4 and 8 as the pool after them sees them), the pooled conv1, the result."
        out, fire = {}, 2
        with torch.autocast(x.device.type, torch.bfloat16):
            x = self.features[:3](F.pad(x, (5, 2, 5, 2)).to(memory_format=torch.channels_last))
            out["conv1"] = x
            for module in list(self.features)[3:]:
                if isinstance(module, nn.MaxPool2d):
                    x = module(x)
                    continue
                squeezed = module.squeeze(x)
                expanded = torch.cat([module.expand1x1(squeezed.relu()), module.expand3x3(squeezed.relu())], 1)
                x = expanded.relu()
                out[f"squeeze{fire}"], out[f"expand{fire}"] = squeezed, F.max_pool2d(expanded, 3, 2, 1) if fire in (4, 8) else expanded
                fire += 1
            out["result"] = F.avg_pool2d(x.float(), 2).bfloat16()
        return {name: channels_last(m) for name, m in out.items()}

    def result(self, x): return self.maps(x)["result"]


def telling(candidates, response, k):
    "The k columns of candidates that together best tell the response, best first (forward selection)."
    c, r = ((v - v.mean(0))/(v.std(0) + 1e-6) for v in (candidates.double(), response.double()))
    C, D, chosen = c.T @ c/len(c), c.T @ r/len(c), []
    free = torch.ones(len(C), dtype=torch.bool)
    for _ in range(k):
        size = C.diagonal().clamp(min=1e-4)
        i = ((D**2).sum(1)/size*free).argmax().item()
        chosen.append(i)
        free[i] = False
        column, row = C[i].clone(), D[i].clone()
        C, D = C - torch.outer(column, column)/size[i], D - torch.outer(column, row)/size[i]
    return torch.tensor(chosen)


class Places:
    "Random places of each picture's output map."

    def __init__(self, n, side):
        p = torch.stack([torch.randperm(side*side)[:PLACES[side]] for _ in range(n)])
        self.y, self.x, self.n = p//side, p % side, torch.arange(n)[:, None]

    def __call__(self, m, stride=1): return m[self.n, self.y*stride, self.x*stride].flatten(0, 1).float()

    def patches(self, m, stride=1):
        "The 3 x 3 surroundings, (rows, 9c)."
        padded, c = F.pad(m, (0, 0, 1, 1, 1, 1)), m.shape[-1]
        out = torch.empty(self.y.numel(), 9*c)
        for k in range(9): out[:, k*c:(k + 1)*c] = padded[self.n, self.y*stride + k//3, self.x*stride + k % 3].flatten(0, 1)
        return out


def fit(name, X, T, base=0., penalty=1e-3, rounds=3):
    """W, b with relu(X W + b + base) near relu(T), by ridge regression; where T is negative any negative value will do, so such targets
    are moved to the prediction and the fit is repeated. X is overwritten. The last tenth of the rows is for the score."""
    n = len(X)*9//10
    mean, spread = X[:n].mean(0), X[:n].std(0) + 1e-5
    X.sub_(mean).div_(spread)
    gram = X[:n].T @ X[:n]/n
    gram.diagonal().add_(penalty)
    factor, Y = torch.linalg.cholesky(gram), T - base
    for again in range(rounds + 1):
        offset = Y[:n].mean(0)
        W = torch.cholesky_solve(X[:n].T @ (Y[:n] - offset)/n, factor)
        P = X @ W + offset + base
        if again < rounds: Y = torch.where(T < 0, P.clamp(max=0), T) - base
    p, t = P[n:].relu(), T[n:].relu()
    known = 1 - (p - t).pow(2).sum(0)/((t - t.mean(0)).pow(2).sum(0) + 1e-9)
    tqdm.write(f"{name:12} {X.shape[1]:5} values to {T.shape[1]:4}: R2 {known.mean():.3f} after ReLU, least {known.min():.2f}")
    W = W/spread[:, None]
    return W, offset - mean @ W


def put(conv, norm, W, b):
    "Write a fit into a convolution and its batch norm."
    side = conv.kernel_size[0]
    conv.weight.data.copy_(W.reshape(side, side, conv.in_channels, conv.out_channels).permute(3, 2, 0, 1))
    norm.running_mean.zero_(), norm.running_var.fill_(1), norm.weight.data.fill_((1 + norm.eps)**.5), norm.bias.data.copy_(b)


def apply(function, *maps, chunk=50):
    "A function of channel-first maps over (n, h, w, c) maps, by chunks, in bfloat16."
    with torch.no_grad(), torch.autocast(maps[0].device.type, torch.bfloat16):
        return torch.cat([channels_last(function(*(m[i:i + chunk].permute(0, 3, 1, 2) for m in maps))).bfloat16() for i in range(0, len(maps[0]), chunk)])


def unit(T):
    "By this a channel's target is divided; the second is for channels that are hardly ever on."
    return torch.maximum(T.relu().std(0) + .02*T.relu().std(), .05*T.std(0)) + 1e-6


class Transplant:
    "Fit a ResNet-18 to a SqueezeNet, layer by layer, on some pictures (n, 3, 224, 224)."

    def __init__(self, network, teacher, pictures): self.network, self.teacher, self.pictures = network, teacher, pictures

    def select(self, n=200):
        "Which of the teacher's channels are worth having: those that tell the next squeeze."
        rows = {}
        for i in range(0, min(n, len(self.pictures)), 25):
            for name, m in self.teacher.maps(self.pictures[i:i + 25].float()).items():
                at = torch.randint(0, m.shape[1]*m.shape[2], (len(m), 150))
                rows.setdefault(name, []).append(m.flatten(1, 2)[torch.arange(len(m))[:, None], at].flatten(0, 1).float())
        t = {name: torch.cat(parts) for name, parts in rows.items()}
        active = {name: m.relu() for name, m in t.items()}
        own = {k: torch.cat([active[f"expand{k}"], active[f"squeeze{k}"]], 1) for k in (7, 9)}
        self.chosen = {f"expand{k}": telling(active[f"expand{k}"], t[f"squeeze{k + 1}"], width) for k, width in {2: 64, 3: 64, 4: 128, 5: 128, 6: 16, 8: 128}.items()}
        self.chosen |= {"conv1": telling(t["conv1"], t["squeeze2"], 64), "middle7": telling(own[7], t["squeeze8"], 64), "middle9": telling(own[9], active["expand9"], 128)}

    def look(self):
        "What the teacher sees in all pictures, as far as it is needed."
        seen = {}
        for i in tqdm(range(0, len(self.pictures), 25), desc="teacher"):
            m = self.teacher.maps(self.pictures[i:i + 25].float())
            for k in (7, 9): m[f"middle{k}"] = torch.cat([m.pop(f"expand{k}"), m[f"squeeze{k}"]], -1)
            del m["conv1"]
            for name, part in m.items(): seen.setdefault(name, []).append(part[..., self.chosen[name]] if name in self.chosen else part)
        self.target = {name: torch.cat(parts) for name, parts in seen.items()}

    def stem(self):
        "conv1 is copied; every channel is brought to about the same size."
        net, first, chosen = self.network, self.teacher.features[0], self.chosen["conv1"]
        net.conv1.weight.data.copy_(first.weight[chosen])
        net.bn1.running_mean.zero_(), net.bn1.running_var.fill_(1), net.bn1.weight.data.fill_((1 + net.bn1.eps)**.5), net.bn1.bias.data.copy_(first.bias[chosen])
        def see(x): return net.maxpool(net.bn1(net.conv1(x)).relu())
        pixels = self.pictures.permute(0, 2, 3, 1)
        size = apply(see, pixels[:200]).float().std((0, 1, 2))
        net.conv1.weight.data /= size[:, None, None, None]
        net.bn1.bias.data /= size
        self.state = apply(see, pixels)

    def middle(self, name, target, copies=0):
        "A block's first convolution: to target's channels, and copies of the strongest channels that come in. Returns which these are."
        block, places = self.network.get_submodule(name), Places(len(target), target.shape[1])
        T = places(target)
        W, b = fit(f"{name} conv1", places.patches(self.state, block.conv1.stride[0]), T/unit(T))
        kept = self.state[:100].float().pow(2).mean((0, 1, 2)).topk(copies).indices.sort().values
        c = self.state.shape[-1]
        copy = torch.zeros(9*c, copies)
        copy[4*c + kept, torch.arange(copies)] = 1
        put(block.conv1, block.bn1, torch.cat([W, copy], 1), torch.cat([b, torch.zeros(copies)]))
        self.between = apply(lambda h: block.bn1(block.conv1(h)).relu(), self.state)
        return kept

    def out(self, name, target, taken_out=(), loud=4.):
        "A block's second convolution, with the branch beside it; where the skip stays, it shall be small beside the target."
        block, places = self.network.get_submodule(name), Places(len(target), target.shape[1])
        T, X, branch = places(target), places.patches(self.between), block.downsample
        T = T/unit(T)
        if branch is None:
            louder = torch.full((T.shape[1],), loud)
            louder[torch.as_tensor(taken_out, dtype=torch.long)] = 1.
            W, b = fit(f"{name} conv2", X, T*louder, base=places(self.state))
        else:
            W, b = fit(f"{name} conv2", torch.cat([X, places(self.state, 2)], 1), T)
            put(*branch, W[X.shape[1]:], torch.zeros_like(b))
        put(block.conv2, block.bn2, W[:X.shape[1]], b)
        self.state = apply(lambda m, h: (block.bn2(block.conv2(m)) + (h if branch is None else branch(h))).relu(), self.between, self.state)

    @torch.no_grad()
    def fit(self):
        "All layers, from the picture to the embedding."
        self.select(), self.look(), self.stem()
        t = self.target
        for k, name in (2, "layer1.0"), (3, "layer1.1"): self.out(name, t[f"expand{k}"], self.middle(name, t[f"squeeze{k}"], 48))
        self.middle("layer2.0", phases(t["squeeze4"])), self.out("layer2.0", t["expand4"])
        self.out("layer2.1", t["expand5"], self.middle("layer2.1", t["squeeze5"], 96))
        some = phases(t["expand6"])
        self.middle("layer3.0", torch.cat([phases(t["squeeze6"]), some], -1)), self.out("layer3.0", torch.cat([phases(t["squeeze7"]), some], -1))
        self.middle("layer3.1", phases(t["middle7"])), self.out("layer3.1", phases(t["squeeze8"]))
        self.middle("layer4.0", phases(t["expand8"])), self.out("layer4.0", torch.cat([phases(t["squeeze9"]), t["result"][..., 256:]], -1))
        self.middle("layer4.1", phases(t["middle9"])), self.out("layer4.1", t["result"], range(256, 512), loud=2.)


@torch.no_grad()
def calibrate(network, pictures):
    "Give every batch norm its true mean and variance, without changing what the network does."
    norms, sums = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)], {}
    def note(norm, inputs, output): sums.setdefault(norm, []).append(torch.stack([inputs[0].float().mean((0, 2, 3)), inputs[0].float().pow(2).mean((0, 2, 3))]))
    hooks = [norm.register_forward_hook(note) for norm in norms]
    for some in pictures.split(32): network(some.float().to(memory_format=torch.channels_last))
    for hook in hooks: hook.remove()
    for norm in norms:
        mean, square = torch.stack(sums[norm]).mean(0)
        variance, slope = (square - mean**2).clamp(min=1e-6), norm.weight/(norm.running_var + norm.eps).sqrt()
        norm.bias.data += slope*(mean - norm.running_mean)
        norm.weight.data = slope*(variance + norm.eps).sqrt()
        norm.running_mean, norm.running_var = mean, variance


@torch.no_grad()
def even_out(network):
    "Give each channel of each convolution weights of the usual size, which its batch norm undoes: for float16, and for one learning rate."
    modules = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d))]
    for conv, norm in zip(modules[::2], modules[1::2]):
        factor = (2/conv.weight[0].numel())**.5/conv.weight.flatten(1).std(1).clamp(min=1e-6)
        factor = torch.minimum(factor, 1e3/(norm.running_var + 1e-9).sqrt())
        conv.weight *= factor[:, None, None, None]
        norm.running_mean *= factor
        norm.running_var *= factor**2
