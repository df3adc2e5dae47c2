"""Do the built-in weights draw better maps than the same network untrained?

python benchmarks/builtin/maps.py FOLDER
python benchmarks/builtin/maps.py logos

The paper's maps (TZZ, top 13, Grad-CAM) of held-out defects, by a forest on either network: pixel AUC against the masks at every layer,
and the paired difference at each network's best layer, with a 95 % bootstrap interval over pictures.
"""
import argparse
import sys
import warnings

from embcam.classify import EmbeddingClassifier, auc_roc
from embcam.data import load_folder, make_logos
from embcam.embedding import Backbone
from embcam.evaluate import bootstrap, compare
from embcam.explain import Explainer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a folder with masks, or 'logos'")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", ".*untrained")
    images = make_logos(880, seed=0) if args.folder == "logos" else load_folder(args.folder)
    train, test = images.split(test_size=.25, seed=args.seed)
    defects, explainers = test[[i for i in range(len(test)) if (mask := test[i].mask) is not None and mask.any()]], {}
    for name, weights in ("builtin", "builtin"), ("untrained", None):
        classifier = EmbeddingClassifier(Backbone("resnet18", weights), random_state=args.seed).fit(train)
        print(f"{name}: AUC ROC {auc_roc(test.labels, classifier.predict_proba(test), classifier.classes_):.4f}")
        explainers[name] = Explainer.paper(classifier, args.seed, trust=False)
    found = compare(explainers, defects, ["pixel_auc"], None).frame
    table = found.pivot_table(index="image", columns=["explainer", "layer"], values="value")
    print(table.mean().unstack().round(3).to_string())
    best = {name: table[name].mean().idxmax() for name in explainers}
    difference = table["builtin", best["builtin"]] - table["untrained", best["untrained"]]
    low, high = bootstrap(difference.to_numpy()[:, None])[:, 0]
    print(f"best layers {best}: {difference.mean():+.3f} ({low:+.3f} to {high:+.3f}) on {len(difference)} pictures")


if __name__ == "__main__": sys.exit(main())
