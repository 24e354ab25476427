"""`train|evaluate|time [attack|moderation] --data DIRECTORY`: writes the model, or measures it."""

import argparse
from pathlib import Path

import numpy as np

from tools.train_guardrails.attack_training import build_attack_corpus
from tools.train_guardrails.evaluation import (
    measure_attack,
    measure_moderation,
    print_attack,
    print_moderation,
)
from tools.train_guardrails.moderation_training import build_moderation_corpus
from tools.train_guardrails.shipping import (
    MODEL_FILE,
    train_attack_heads,
    train_moderation_heads,
    write_model,
)
from tools.train_guardrails.timing import print_times


def main() -> None:
    """Trains what ships, or measures it on sources held out."""
    parser = argparse.ArgumentParser(prog="tools.train_guardrails", description=__doc__)
    parser.add_argument("command", choices=("train", "evaluate", "time"))
    parser.add_argument("part", nargs="?", choices=("attack", "moderation", "all"), default="all")
    parser.add_argument("--data", type=Path, required=True, help="the directory with the labelled texts")
    parser.add_argument("--model", type=Path, default=MODEL_FILE, help="the file to write")
    arguments = parser.parse_args()
    if arguments.command == "time":
        print_times(arguments.data)
        return
    training = arguments.command == "train"

    arrays = {}
    if training and arguments.model.exists():
        with np.load(arguments.model, allow_pickle=False) as before:
            arrays = {name: before[name] for name in before.files}
    if arguments.part != "moderation":
        attacks = build_attack_corpus(arguments.data)
        attack_figures = measure_attack(attacks)
        print_attack(attack_figures)
        if training:
            arrays |= train_attack_heads(attacks, attack_figures)
    if arguments.part != "attack":
        texts = build_moderation_corpus(arguments.data)
        figures = measure_moderation(texts)
        print_moderation(figures)
        if training:
            arrays |= train_moderation_heads(texts, figures)
    if training:
        write_model(arguments.model, arrays)
        print(f"\nwrote {arguments.model}: {arguments.model.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
