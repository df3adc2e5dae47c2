"""How embcam's built-in weights are made: a ResNet-18 is fitted to what a teacher sees.

python benchmarks/builtin/train.py --teacher squeezenet1_0-imagenet.safetensors --out resnet18.safetensors
python benchmarks/builtin/train.py --teacher resnet50 --steps 200000 --device cuda     # torchvision's name: downloads its weights
python benchmarks/builtin/train.py ... --resume                                         # go on from the last checkpoint

Two stages. With SqueezeNet 1.0 as the teacher, every convolution is first fitted in closed form (`transplant.py`), which takes about ten
minutes on two cores; any other teacher starts from random weights. Then the network is distilled on drawn pictures, the larger ones last.
Beside the result lie the losses (.csv) and a checkpoint (.state).
"""
import argparse
import csv
import hashlib
import random
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from pictures import Scenes, finish, photos
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm
from transplant import SqueezeNet, Transplant, calibrate, channels_last, even_out

from embcam.embedding import Backbone, recorded


class Torchvision:
    "Any network of torchvision with ImageNet weights: the map of its last stage, averaged over the student's cells."

    def __init__(self, name, device):
        backbone = Backbone(name, "imagenet", device=device)
        self.network, self.layer = backbone.network, backbone.target_layers[-1]

    @torch.no_grad()
    def result(self, x):
        with recorded(self.network, [self.layer]) as seen: self.network(x)
        return F.adaptive_avg_pool2d(seen[self.layer].float(), x.shape[-1]//32).permute(0, 2, 3, 1)


def resnet18(path=None):
    "torchvision's ResNet-18 without its last layer, in the layout that is fast on CPU."
    network = torchvision.models.resnet18()
    network.fc = nn.Identity()
    if path: network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in load_file(path).items()})
    return network.to(memory_format=torch.channels_last)


def draw(scenes, n, size):
    "n pictures: three quarters composed scenes, one quarter places of photographs."
    return torch.cat([scenes(n - n//4, size), finish(photos(n//4, size))])


class Pool:
    "Pictures as the fixed part of the student sees them, with what the teacher sees there; each is used about `reuse` times."

    def __init__(self, fixed, scenes, teacher, size, room, reuse):
        self.fixed, self.scenes, self.teacher, self.size, self.reuse = fixed, scenes, teacher, size, reuse
        self.oldest, self.owed = 0, 0.
        looks = [self.look(32) for _ in tqdm(range(room//32), desc=f"first pictures of {size} px")]
        self.seen, self.wanted = (torch.cat(parts) for parts in zip(*looks))

    @torch.no_grad()
    def look(self, n):
        x = draw(self.scenes, n, self.size).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16): return channels_last(self.fixed(x)).bfloat16(), self.teacher.result(x)

    def batch(self, n):
        self.owed += n/self.reuse
        while self.owed >= 32:
            where = (torch.arange(32) + self.oldest) % len(self.seen)
            self.seen[where], self.wanted[where] = self.look(32)
            self.oldest, self.owed = (self.oldest + 32) % len(self.seen), self.owed - 32
        i = torch.randint(0, len(self.seen), (n,))
        return self.seen[i].permute(0, 3, 1, 2), self.wanted[i].float()


class Student(nn.Module):
    "The part of the network that learns, and the units in which its channels are the teacher's."

    def __init__(self, learned, pool):
        super().__init__()
        self.learned, wanted = learned, pool.wanted.float()
        with torch.no_grad(), torch.autocast(wanted.device.type, torch.bfloat16):
            seen = channels_last(learned(pool.seen[:160].permute(0, 3, 1, 2))).float()
        same = seen.shape[-1] == wanted.shape[-1]
        self.head = nn.Identity() if same else nn.Linear(seen.shape[-1], wanted.shape[-1])
        unit = (seen*wanted[:160]).sum((0, 1, 2))/((seen**2).sum((0, 1, 2)) + 1e-9) if same else torch.ones(wanted.shape[-1])
        self.unit = nn.Parameter(unit)
        self.register_buffer("spread", wanted.std((0, 1, 2)) + .05*wanted.std())
        self.register_buffer("pooled_spread", wanted.mean((1, 2)).std(0) + .01*wanted.std())
        self.register_buffer("pooled_mean", wanted.mean((0, 1, 2)))

    def losses(self, seen, wanted):
        "Of the map, of the embedding, and of the embedding's direction."
        with torch.autocast(wanted.device.type, torch.bfloat16): got = channels_last(self.learned(seen))
        got = self.head(got.float())*self.unit
        p, t = ((m.mean((1, 2)) - self.pooled_mean)/self.pooled_spread for m in (got, wanted))
        return torch.stack([F.smooth_l1_loss(got/self.spread, wanted/self.spread), F.smooth_l1_loss(p, t), (1 - F.cosine_similarity(p, t)).mean()])


def parts(network, transplanted):
    "The part that stays as it was fitted, and the blocks that learn: (fixed, [(block, share of the learning rate)])."
    stem = [network.conv1, network.bn1, network.relu, network.maxpool, network.layer1]
    late = [(network.layer2, .5), (network.layer3, .7), (network.layer4, 1.)]
    return (nn.Sequential(*stem), late) if transplanted else (nn.Identity(), [(nn.Sequential(*stem), 1.)] + [(block, 1.) for block, _ in late])


def save(network, path):
    "float16 safetensors under torchvision's names, whole or not at all; returns the SHA-256."
    state = {name: (t.half() if t.is_floating_point() else t).contiguous().cpu() for name, t in network.state_dict().items()}
    if overflown := [name for name, t in state.items() if t.is_floating_point() and not t.isfinite().all()]: raise ValueError(f"{overflown[0]} does not fit into float16.")
    part = Path(path).with_suffix(".part")
    save_file(state, part, metadata={"format": "pt"})
    part.replace(path)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def start(a):
    "The network to distil, the teacher, and whether every layer is fitted already."
    if Path(a.teacher).suffix != ".safetensors": return resnet18().train(), Torchvision(a.teacher, a.device), False
    teacher, fitted = SqueezeNet(load_file(a.teacher)), Path(a.start or Path(a.out).with_suffix(".fitted.safetensors"))
    if not fitted.exists():
        scenes = Scenes(a.sheets)
        pictures = torch.cat([draw(scenes, 40, 224).bfloat16() for _ in tqdm(range(a.pictures//40), desc="pictures")])
        transplant = Transplant(resnet18().eval(), teacher, pictures)
        transplant.fit()
        calibrate(transplant.network, pictures[:192])
        even_out(transplant.network)
        save(transplant.network, fitted)
    return resnet18(fitted).eval(), teacher, True


def distil(a):
    "Stage two: drawn pictures, the teacher's last map, AdamW with a falling rate, averaged weights."
    network, teacher, transplanted = start(a)
    fixed, blocks = parts(network.to(a.device), transplanted)
    scenes, state = Scenes(a.sheets), Path(a.out).with_suffix(".state")
    size = a.sizes[0][0]
    pool = Pool(fixed, scenes, teacher, size, a.room, a.reuse)
    student = Student(nn.Sequential(*(block for block, _ in blocks)), pool)
    fixed.requires_grad_(False)
    heads = [student.unit, *student.head.parameters()]
    groups = [dict(params=[p for p in block.parameters() if (p.ndim > 1) == big], weight_decay=1e-4*big, share=share) for block, share in blocks for big in (True, False)]
    optimiser = torch.optim.AdamW([*groups, dict(params=heads, weight_decay=0., share=1.)], lr=a.rate)
    learned = list(student.learned.parameters())
    mean, step = [p.detach().clone() for p in learned], 0
    if a.resume and state.exists():
        kept = torch.load(state, map_location=a.device, weights_only=True)
        student.load_state_dict(kept["student"]), optimiser.load_state_dict(kept["optimiser"])
        mean, step = kept["mean"], kept["step"]
    log = open(Path(a.out).with_suffix(".csv"), "a" if step else "w", newline="")
    table, recent = csv.writer(log), []
    if not step: table.writerow(["step", "images", "size", "map", "pooled", "direction"])
    for step in tqdm(range(step, a.steps), initial=step, total=a.steps, desc="distilling"):
        wanted_size = next(s for s, until in a.sizes if step < until*a.steps)
        if wanted_size != size: size, pool = wanted_size, Pool(fixed, scenes, teacher, wanted_size, a.room*2//3, a.reuse)
        for group in optimiser.param_groups: group["lr"] = group["share"]*a.rate*min(1, (step + 1)/30)*max(.03, 1 - step/a.steps)
        losses = student.losses(*pool.batch(a.batch))
        optimiser.zero_grad()
        losses.sum().backward()
        nn.utils.clip_grad_norm_(learned, 1.)
        optimiser.step()
        torch._foreach_lerp_(mean, [p.detach() for p in learned], 1 - min(.99, (step + 1)/(step + 10)))
        recent.append(losses.detach())
        if len(recent) == 20:
            table.writerow([step + 1, (step + 1)*a.batch, size, *(f"{v:.4f}" for v in torch.stack(recent).mean(0).tolist())])
            log.flush()
            recent = []
        if (step + 1) % a.keep == 0:
            torch.save(dict(student=student.state_dict(), optimiser=optimiser.state_dict(), mean=mean, step=step + 1), state.with_suffix(".part"))
            state.with_suffix(".part").replace(state)
    for p, m in zip(learned, mean): p.data.copy_(m)
    if not transplanted: calibrate(network.eval(), draw(scenes, 192, 224))
    return save(network, a.out)


def sizes(text):
    "160:.55,224:1 is 160 px until 55 % of the steps, then 224 px."
    return [(int(size), float(until)) for size, until in (part.split(":") for part in text.split(","))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="safetensors of squeezenet1_0, or torchvision's name of a network")
    parser.add_argument("--out", default="resnet18.safetensors")
    parser.add_argument("--start", help="weights to distil, such as an earlier result, instead of the closed form")
    parser.add_argument("--pictures", type=int, default=1800, help="for the closed form")
    parser.add_argument("--steps", type=int, default=1400, help="of distillation")
    parser.add_argument("--sizes", type=sizes, default="160:.55,224:1", help="sides of the pictures, and the share of the steps until which they are used")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--room", type=int, default=960, help="pictures kept at a time")
    parser.add_argument("--reuse", type=float, default=3, help="how often each is used")
    parser.add_argument("--sheets", type=int, default=384, help="textures and prints to compose scenes of")
    parser.add_argument("--keep", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    a = parser.parse_args()
    torch.manual_seed(a.seed), random.seed(a.seed), torch.set_default_device(a.device)
    print(distil(a), a.out)


if __name__ == "__main__": main()
