"""How long threads wait for a processor, alone and beside other programs: what `d2lvae.engine.threads.Neighbours` goes by.

    python benchmarks/neighbours.py        (half a minute on an otherwise idle machine)

ConvVAE + ConvDisc on 1,024 drawn faces, a few epochs, first alone and then beside one endless loop.
"""

import subprocess
import sys
import tempfile

import d2lvae
from d2lvae.engine import threads

EPOCHS = 4


def train(images, results_dir):
    """Images/s and the share of its time that threads waited, medians of the epochs but the first."""
    looks = []
    advice = threads.Neighbours.advice

    def spied(self):
        then, before = self.began
        words = advice(self)
        looks.append((self.began[1] - before) / (self.began[0] - then))
        return words

    threads.Neighbours.advice = spied
    try:
        config = d2lvae.Config(
            num_train=len(images.train), epochs=EPOCHS, disc_weight=10.0, results_dir=results_dir
        )
        run = d2lvae.fit(d2lvae.ConvVAE(256, 16), images, config, d2lvae.ConvDisc(16))
    finally:
        threads.Neighbours.advice = advice
    speeds = [record["images_per_second"] for record in run.history[1:]]
    return sorted(speeds)[len(speeds) // 2], sorted(looks[1:])[len(speeds) // 2]


def main():
    images = d2lvae.load_faces("drawn", 1_024)
    with tempfile.TemporaryDirectory() as folder:
        alone = train(images, f"{folder}/alone")
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            beside = train(images, f"{folder}/beside")
        finally:
            neighbour.kill()
            neighbour.wait()
    for name, (speed, share) in (("alone", alone), ("beside an endless loop", beside)):
        print(f"{name}: {speed:,.0f} images/s, threads waited {share:.0%} of the time")


if __name__ == "__main__":
    main()
