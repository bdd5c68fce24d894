"""Train the classifier of this folder on scikit-learn's own wine data, and save it without pickle.

    pip install 'headgate[sklearn]'
    python examples/wine/train.py

The same versions of scikit-learn and numpy give the same model.
"""

from __future__ import annotations

from pathlib import Path

import skops.io
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 20
HERE = Path(__file__).parent


def train() -> tuple[Pipeline, float]:
    """The fitted pipeline, and its accuracy on the quarter of the data that it was not fitted on."""
    wine = load_wine(as_frame=True)
    labels = wine.target_names[wine.target]
    fitted_on, held_out, fitted_labels, true_labels = train_test_split(
        wine.data, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(fitted_on, fitted_labels)
    return model, float(model.score(held_out, true_labels))


def main() -> None:
    model, accuracy = train()
    skops.io.dump(model, HERE / "model.skops")
    print(f"saved model.skops; accuracy on held-out rows: {accuracy:.3f}")


if __name__ == "__main__":
    main()
