"""Panoptic quality by panopticapi's rules, to compare with."""

import collections

import numpy as np


def quality_by_sets(images, categories):
    """PQ, SQ and RQ by category as panopticapi defines them, on maps of ids where 0 is void."""
    of = {k: collections.Counter() for k in categories}
    for found, true, valid in images:
        # What is none of the categories is known all the same, so it has an id but no segment.
        true_ids = np.where(valid, np.where(true.number > 0, true.number, 1000), 0)
        pairs = list(zip(true_ids.ravel().tolist(), found.number.ravel().tolist(), strict=True))
        both = collections.Counter(pairs)
        of_true = collections.Counter(t for t, _ in pairs)
        of_found = collections.Counter(f for _, f in pairs)
        true_ones = {t: int(true.category[t]) for t in of_true if t not in (0, 1000)}
        found_ones = {f: int(found.category[f]) for f in of_found if f}
        true_matched, found_matched = set(), set()
        for (t, f), pixels in both.items():
            if t not in true_ones or f not in found_ones or true_ones[t] != found_ones[f]:
                continue
            iou = pixels / (of_true[t] + of_found[f] - pixels - both[0, f])
            if iou > 0.5:
                of[true_ones[t]].update(tp=1, iou=iou)
                true_matched.add(t)
                found_matched.add(f)
        for t in true_ones.keys() - true_matched:
            of[true_ones[t]]["fn"] += 1
        for f in found_ones.keys() - found_matched:
            if both[0, f] / of_found[f] <= 0.5:
                of[found_ones[f]]["fp"] += 1
    expected = {"pq": [], "sq": [], "rq": []}
    for n in of.values():
        whole = n["tp"] + n["fp"] / 2 + n["fn"] / 2
        expected["pq"].append(n["iou"] / whole if whole else np.nan)
        expected["sq"].append(n["iou"] / n["tp"] if n["tp"] else 0.0 if whole else np.nan)
        expected["rq"].append(n["tp"] / whole if whole else np.nan)
    return of, expected
