"""The paper's pipeline on a folder of photographs with defect masks.

python benchmarks/defects.py FOLDER [--backbone squeezenet1_0] [--weights FILE] [--seeds 5] [--cache DIR]

Prints the held-out AUC ROC (one-vs-rest) for each seed, the similarities of TZZ, TOZ and TRR per class (Table 2), how their order
depends on the scale of the embedding, and the pixel AUC of the maps of each strategy and layer against the masks, beside that of
|e|^2, which knows nothing of the classifier.
"""
import argparse
import sys

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from embcam import TOZ, TRR, TZZ, Backbone, EmbeddingClassifier, Explainer, load_folder
from embcam.explanation import similarity_table
from embcam.judging.metrics import pixel_auc
from embcam.maps import EnergyTarget
from embcam.model import auc_roc
from embcam.ranking import impute, similarity


def map_scores(classifier, rankings, images):
    "Pixel AUC of every defective image, strategy and layer."
    energy, rows = Explainer(classifier, ranking=classifier.selection_, target=EnergyTarget(), method="gradcam"), []
    for sample, source, ranking in zip(tqdm(images, desc="maps"), images.images, rankings):
        if sample.mask is None or not sample.mask.any(): continue
        for ex in [*Explainer.paper(classifier, ranking=ranking).strategies(source), energy(source)]:
            rows += [(sample.name, ex.target_name, layer, pixel_auc(m, sample.mask)) for layer, m in ex.maps.items()]
    return pd.DataFrame(rows, columns=["name", "target", "layer", "auc"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache")
    args = parser.parse_args()
    images, backbone = load_folder(args.folder), Backbone(args.backbone, args.weights, cache=args.cache or True)
    print(images, backbone, sep="\n")
    runs = []
    for seed in range(args.seeds):
        train, test = images.split(test_size=.25, seed=seed)
        classifier = EmbeddingClassifier(backbone, random_state=seed).fit(train)
        runs.append((auc_roc(test.labels, classifier.predict_proba(test), classifier.classes_), classifier, test))
    aucs = [auc for auc, *_ in runs]
    print(f"AUC ROC (one-vs-rest), seeds 0 to {args.seeds - 1}: mean {np.mean(aucs):.4f}, each {', '.join(f'{a:.4f}' for a in aucs)}")

    _, classifier, test = runs[0]
    explainer, embeddings = Explainer.paper(classifier), classifier.embed(test)
    rankings = [explainer.rank(e) for e in tqdm(embeddings, desc="ranking")]
    def reference(e, ranking, s): return impute(e, ranking.features[:explainer.n_top], classifier.selected_, s, explainer.random_state)
    values = [(label, s.name, similarity(reference(e, ranking, s), e))
              for e, ranking, label in zip(embeddings, rankings, test.labels) for s in (TOZ, TZZ, TRR)]
    frame = pd.DataFrame(values, columns=["class", "strategy", "similarity"])
    print("\nsimilarities, seed 0", similarity_table(None, frame).round(3).to_string(), sep="\n")
    for scale in .03, .3, 1, 3:
        means = {s: np.mean([similarity(reference(e, ranking, s), e) for e, ranking in zip(embeddings*scale, rankings)]) for s in (TOZ,
            TZZ, TRR)}
        print(f"embedding x {scale:<4}", " < ".join(f"{s} {means[s]:.3f}" for s in sorted(means, key=means.get)))
    print(f"top 13 features that matter by being absent: {np.mean([ranking.absent[:13].mean() for ranking in rankings]):.0%}")
    aucs = map_scores(classifier, rankings, test)
    print(f"\npixel AUC against the masks, {aucs.name.nunique()} images, seed 0",
          aucs.pivot_table(index="target", columns="layer", values="auc").round(3).to_string(), sep="\n")


if __name__ == "__main__": sys.exit(main())
